"""Heart and lungs of a patient's films, beside the words of a report.

`measured(paths)` gives a `Measured` of each film, by the shipped network or a run of one's own: its `sentence` tells
the cardiothoracic ratio, or why there is none, and `doubt(words)` says where a report and the ratio disagree. `picture`
shows the borders of the masks and both widths; `beside` is all of it for `medcap_paddle.generate --anatomy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import image
from ..clinical.heart_size import ENLARGED, NORMAL, heart_size
from ..runtime.drawing import is_drawing
from ..runtime.files import MedcapError, atomic
from . import anatomy, dicom
from .anatomy import Anatomy
from .masked import name_of
from .segmenter_run import Draw, Run, drawer, load, overlay

# Of the ratio: within it of the threshold nothing is said. On 20 films of JSRT that the network had not learnt from,
# its ratio was .013 off on average, and on 19 of them within .04 of that of the reference masks (notebook 22).
UNSURE = 0.04
YELLOW = (250, 220, 60)
SIZES = {
    "enlarged": "enlarged",
    "normal": "not enlarged",
    "near": "too near to judge",
    "ap": "not judged, since the heart looks larger on an AP film",
}


@dataclass(frozen=True, eq=False)
class Measured:
    """A film, what the network drew, and what it measures."""

    path: str
    pixels: np.ndarray  # uint8 [H, W]; [0, 0] where it cannot be read
    masks: dict[str, np.ndarray]  # bool [H, W]
    anatomy: Anatomy | None
    reason: str = ""  # why there is no anatomy
    view: str = ""  # as a DICOM tells it

    @property
    def judged(self) -> str:
        """A key of `SIZES`; "" where nothing is measured."""
        if not self.anatomy:
            return ""
        if self.view == "AP":
            return "ap"
        return "near" if near(self.anatomy.ratio) else "enlarged" if self.anatomy.enlarged else "normal"

    @property
    def sentence(self) -> str:
        if not self.anatomy:
            return f"{self.path}: not measured: {self.reason}"
        size = f"{SIZES[self.judged]} (threshold {anatomy.ENLARGED:.2f} on a PA film)"
        share = f"right lung {self.anatomy.right_share:.0%} of both"
        return f"{self.path}: cardiothoracic ratio {self.anatomy.ratio:.2f}, {size}; {share}"

    def doubt(self, words: str) -> str:
        """See `disagreement`."""
        return disagreement(words, self.anatomy.ratio) if self.anatomy and self.view != "AP" else ""


def near(ratio: float) -> bool:
    return abs(ratio - anatomy.ENLARGED) <= UNSURE


def measured(paths: Sequence[str | Path], run: Run | None = None) -> list[Measured]:
    """Each film measured, or the reason why it is not: it cannot be read, is no frontal film, or its masks fail."""
    with drawer(run or load(), len(paths)) as draw:
        return [_read(Path(path), draw) for path in paths]


def _read(path: Path, draw: Draw) -> Measured:
    try:
        pixels, view = image.read(path), dicom.view(path)
    except MedcapError as error:
        return Measured(str(path), np.zeros([0, 0], np.uint8), {}, None, str(error))
    return of(str(path), pixels, draw, is_drawing(path), view)


def of(name: str, pixels: np.ndarray, draw: Draw, drawn: bool = False, view: str = "") -> Measured:
    """A film, uint8 [H, W], measured with the masks that `draw` makes; `drawn`: it is a drawing; `view` of a DICOM."""
    masks = {}
    try:
        if drawn:
            raise MedcapError("it is a drawing, and the network has learnt from radiographs")
        if view not in ("", "PA", "AP"):
            raise MedcapError(f"it is a film of view {view}, not a frontal one")
        masks = draw(pixels)
        return Measured(name, pixels, masks, anatomy.measure(masks), view=view)
    except MedcapError as error:
        return Measured(name, pixels, masks, None, str(error), view)


def disagreement(words: str, ratio: float) -> str:
    """Where the words of a report and the ratio cannot both be right, a sentence that says so; else ""."""
    said = heart_size(words)
    if near(ratio) or said not in (ENLARGED, NORMAL) or (said == ENLARGED) == (ratio > anatomy.ENLARGED):
        return ""
    found = "above" if said == NORMAL else "below"
    text = f"the words call the heart {said}, but its ratio is {ratio:.2f}, {found} {anatomy.ENLARGED:.2f}"
    return f"{text}: look at the picture before you believe either"


def picture(pixels: np.ndarray, masks: dict[str, np.ndarray], found: Anatomy | None = None) -> np.ndarray:
    """uint8 [H, W, 3]: the film with the border of each mask, and the widths of heart and chest as lines."""
    out = overlay(pixels, masks)
    if found:
        thick = max(1, round(max(out.shape) / 300))
        lungs = masks["right_lung"] | masks["left_lung"]
        for mask, (start, end) in ((masks["heart"], found.heart), (lungs, found.thorax)):
            row = int(np.argmax(mask.sum(1)))
            out[row : row + thick, start:end] = YELLOW
    return out


def beside(paths: Sequence[str | Path], words: str, folder: str | Path) -> list[str]:
    """Lines to print beside the words of a study's report; a picture of each film is written to `folder`."""
    lines = []
    for film in measured(paths):
        lines.append(film.sentence)
        lines += [f"warning: {doubt}"] if (doubt := film.doubt(words)) else []
        if film.masks:
            path = Path(folder) / f"{name_of(film.path)}.png"
            with atomic(path) as temporary:
                Image.fromarray(picture(film.pixels, film.masks, film.anatomy)).save(temporary, "PNG")
            lines.append(f"its picture: {path}")
    return lines
