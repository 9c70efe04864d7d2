"""The run of a segmenter, RUN/: everything that drawing masks needs, and nothing executes when it is opened.

config.json           network, structures, loss, preprocessing, settings; sealed
images.csv            key (digest of the file), folder, image, patient, split: train, tune or val
weights.safetensors   and history.csv, visualdl/: see `runtime.loop`; of the epoch with the best Dice on tune

`pack` makes one file of a run: the weights in float16, and beside them the facts of config.json, the images that were
learnt from, and what must be said about these. `SHIPPED` is such a file: heart, lungs and clavicles.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import encoder, image
from ..image import Preprocessing
from ..runtime import loop
from ..runtime.files import MedcapError, read_sealed, read_table, read_tensors, write_sealed, write_table, write_tensors
from . import overlap, predictor, weights
from .films import restored
from .masked import Item
from .segmenters import SEGMENTERS, Segmenter
from .structures import Structured, channels, cleaned

SHIPPED = Path(__file__).with_name("anatomy.safetensors")
FIX = "train it again: python -m medcap_paddle.vision.segment train"
COLUMNS = ["key", "folder", "image", "patient", "split"]
MANY = 16  # images for which an inference program is worth its export
COLOURS = ((230, 60, 60), (60, 160, 230), (70, 200, 110), (240, 180, 40), (190, 90, 220), (240, 120, 40))
AT_ONCE = 8  # images of a batch: on two cores a fifth faster than one, and as fast as 16
Masks = dict[str, np.ndarray]
Draw = Callable[[np.ndarray], Masks]


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network in evaluation mode."""

    network: Structured
    names: tuple[str, ...]
    preprocessing: Preprocessing
    learnt: dict[str, str]  # "folder/image" of each image of train and tune, by the digest of its file

    def unseen(self, items: list[Item]) -> list[Item]:
        """Those with a mask that this run has not learnt from: neither the file, nor a file of that name in a folder of
        that name, which may be the same picture stored anew.
        """
        names = set(self.learnt.values())
        return [i for i in items if i.masks and i.key() not in self.learnt and i.place not in names]


def save(run_dir: str | Path, name: str, names: list[str], loss: str, how: Segmenter, table: list) -> None:
    """All but the weights; `table` has rows of `COLUMNS`."""
    import pandas as pd

    facts = {"segmenter": name, "structures": names, "loss": loss, "settings": asdict(how.settings)}
    write_sealed(Path(run_dir) / "config.json", facts | {"preprocessing": how.preprocessing.record()})
    write_table(Path(run_dir) / "images.csv", pd.DataFrame(table, columns=COLUMNS))


def pack(run_dir: str | Path, path: str | Path, note: str = "") -> None:
    """The run as one file; `note` says whose images it has learnt from, and on what terms."""
    facts = read_sealed(Path(run_dir) / "config.json", FIX) | {"learnt": _learnt(Path(run_dir)), "note": note}
    tensors, _ = read_tensors(Path(run_dir) / loop.WEIGHTS, FIX)
    write_tensors(path, {name: value.astype(np.float16) for name, value in tensors.items()}, facts)


def load(path: str | Path = SHIPPED) -> Run:
    """Open a run, or the file of one. MedcapError when it is missing, damaged or of another network."""
    path = Path(path)
    if path.is_dir():
        facts = read_sealed(path / "config.json", FIX) | {"learnt": _learnt(path)}
        path = path / loop.WEIGHTS
    else:
        facts = read_tensors(path, FIX)[1]
    if facts.get("segmenter") not in SEGMENTERS:
        raise MedcapError(f"{path} names no segmenter of {', '.join(SEGMENTERS)}: {FIX}")
    names = facts["structures"]
    network = Structured(SEGMENTERS[facts["segmenter"]].build(len(channels(names))), names)
    weights.fill(network, read_tensors(path, FIX)[0], path)
    network.eval()
    preprocessing = Preprocessing.from_record(facts.get("preprocessing"), f"the run {path}", FIX)
    return Run(network, tuple(names), preprocessing, facts["learnt"])


def _learnt(run_dir: Path) -> dict[str, str]:
    table = read_table(run_dir / "images.csv", COLUMNS, FIX)
    table = table[table.split != "val"]
    return dict(zip(table.key, table.folder + "/" + table.image, strict=True))


@contextmanager
def drawer(run: Run, count: int) -> Iterator[Draw]:
    """A function of an image, uint8 [H, W], that gives its masks by structure: bool [H, W], where the logit, linear
    between the pixels that the network saw, exceeds 0; without specks, see `structures.cleaned`.

    `count` images are to come: many are worth the export of an inference program.
    """
    with _together(run, count) as draw:
        yield lambda pixels: draw([pixels])[0]


def drawn(run: Run, films: Iterable[tuple[Any, np.ndarray]], count: int) -> Iterator[tuple[Any, np.ndarray, Masks]]:
    """Pairs of anything and an image, with the masks of `drawer` beside each; computed some at a time."""
    with _together(run, count) as draw:
        films = iter(films)
        while part := list(islice(films, AT_ONCE)):
            for (own, pixels), masks in zip(part, draw([pixels for _, pixels in part]), strict=True):
                yield own, pixels, masks


@contextmanager
def _together(run: Run, count: int) -> Iterator[Callable[[Sequence[np.ndarray]], list[Masks]]]:
    with tempfile.TemporaryDirectory() as folder:
        reader = encoder.build(run.network, "segmenter", "run", run.preprocessing, ("logits",))
        compute = predictor.fast(reader, folder, exact=True)[0] if count >= MANY else predictor.eager(reader)
        compute = predictor.within_memory(compute)

        def masks(pixels: np.ndarray, logits: np.ndarray) -> Masks:
            whole = (restored(square, pixels.shape) > 0 for square in logits)
            return cleaned(dict(zip(run.names, whole, strict=True)))

        def draw(films: Sequence[np.ndarray]) -> list[Masks]:
            logits = compute(np.stack([image.transform(pixels, run.preprocessing) for pixels in films]))["logits"]
            return [masks(*one) for one in zip(films, logits, strict=True)]

        yield draw


def overlay(pixels: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """The image with the border of each mask in a colour of its own, uint8 [H, W, 3]; a union has that of its parts."""
    out, width = np.repeat(pixels[..., None], 3, 2), max(1, round(max(pixels.shape) / 400))
    for k, name in enumerate(channels(list(masks))):
        out[overlap.border(masks[name], width)] = COLOURS[k % len(COLOURS)]
    return out
