"""Films without text, to draw lines on: real ones where they lie beside the collection, else phantoms.

JSRT's films (Shiraishi et al., AJR 2000) bear no text. Of those of NIH (Wang et al., CVPR 2017) the middle is taken,
for its electrodes and wires, of patients from `FIRST` on that are not in cxr_png/: the films whose text is labelled by
hand are of others.
A phantom has its side marker near the edge, which is cut off.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import image
from ..phantom.pretrain import phantoms
from . import burned_in
from .reader import Source

FIRST = "00002600"  # patient of NIH
TESTED = 0.35  # share of the films that are kept for the test


def load(data: str | Path, count: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Films to train on and to test on, `count` together at most, and what they are.

    `data` is the collection of the notebooks; real films are looked for in jsrt/ and nih_cxr/ beside it.
    """
    beside = Path(data).resolve().parent
    paths = sorted([*beside.glob("jsrt/images/*.jpg"), *_later(beside)]) if str(data) else []
    if paths:
        order = np.random.default_rng(seed).permutation(len(paths))[:count]
        films, name = [_without_text(paths[k]) for k in order], "films of JSRT and NIH"
    else:
        pairs, _ = phantoms(range(seed, seed + (count + 1) // 2))
        films, name = [_middle(pixels, 0, 0.1) for pixels, _ in pairs], "phantoms"
    tested = max(1, round(TESTED * len(films)))
    return films[tested:], films[:tested], name


def _later(folder: Path) -> list[Path]:
    others = {path.name[: len(FIRST)] for path in folder.glob("cxr_png/*.png")}
    paths = folder.glob("nih_cxr/images/*.jpg")
    return [path for path in paths if path.name >= FIRST and path.name[: len(FIRST)] not in others]


def _without_text(path: Path) -> np.ndarray:
    pixels = image.read(path)
    return _middle(pixels, 0.35, 0.2) if "nih_cxr" in path.parts else pixels


def _middle(pixels: np.ndarray, top: float, side: float) -> np.ndarray:
    height, width = pixels.shape
    return pixels[round(top * height) :, round(side * width) : round((1 - side) * width)]


def source(films: list[np.ndarray], **how) -> Source:
    """Where lines come from when they are drawn on these films; what a detector takes for text there is shown too."""
    decoys = [burned_in.cut(film, box) for film in films for box in burned_in.candidates(film)]
    return Source(films, decoys=decoys, **how)
