"""Masks: the pixels of a structure, bool [H, W], as run lengths and as pictures.

    ImageId,EncodedPixels    read_csv, write_csv: run lengths; an image may have several rows, one per region
    <structure>/<image>.png  read_png, write_png: 1 bit a pixel
    labels.png               read_labels: one number per structure

Run lengths are pairs of numbers. Pixels are counted down the columns: the second pixel lies below the first. Two
conventions are common, and nothing in a cell says which one it follows (`RUN_LENGTHS`):

    "kaggle"  start and length; the first pixel is 1; an image without the structure has an empty cell
    "siim"    gap since the end of the run before, and length; the first gap counts from pixel 0; -1 for none
              (SIIM-ACR Pneumothorax Segmentation 2019, "a relative form of RLE")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ..runtime.files import MedcapError, atomic, read_table, require, write_table
from .film import COLOURS, MAX_PIXELS, PNG

IMAGE, PIXELS = COLUMNS = ["ImageId", "EncodedPixels"]
NONE = ("", "-1")  # no run begins so: both are read in both conventions
Shape = tuple[int, int]  # H, W


class Convention(NamedTuple):
    """How the place of each run is written as a number. Arrays are int64 [runs]."""

    number: Callable[[np.ndarray, np.ndarray], np.ndarray]  # starts, lengths -> the number before each length
    start: Callable[[np.ndarray, np.ndarray], np.ndarray]  # the number before each length, lengths -> starts
    none: str  # the cell of an empty mask


def _before(ends: np.ndarray) -> np.ndarray:
    """The end of the run before each; 0 before the first."""
    return np.concatenate([[0], ends])[:-1]


RUN_LENGTHS = {
    "kaggle": Convention(lambda starts, _: starts + 1, lambda numbers, _: numbers - 1, ""),
    "siim": Convention(
        lambda starts, lengths: starts - _before(starts + lengths),
        lambda gaps, lengths: np.cumsum(gaps) + _before(np.cumsum(lengths)),
        "-1",
    ),
}


@dataclass(frozen=True)
class Runs:
    """A mask as its runs, in rising order and apart: small beside the mask, so a whole table of them fits."""

    starts: np.ndarray  # int64 [runs], counted down the columns, from 0
    lengths: np.ndarray  # int64 [runs]
    shape: Shape

    @classmethod
    def of(cls, mask: np.ndarray) -> Runs:
        """The runs of a mask [H, W], whatever is not 0."""
        if np.ndim(mask) != 2:
            raise MedcapError(f"expected a mask [H, W], got an array of shape {np.shape(mask)}: give one plane of it")
        flat = np.asarray(mask).ravel(order="F") != 0
        ends = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
        return cls(ends[::2], ends[1::2] - ends[::2], tuple(np.shape(mask)))

    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        height, width = self.shape
        steps = np.zeros(height * width + 1, np.int8)
        np.add.at(steps, self.starts, 1)
        np.add.at(steps, self.starts + self.lengths, -1)
        return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(width, height).T

    def write(self, form: str = "siim") -> str:
        """The cell of these runs."""
        if not len(self.starts):
            return _convention(form).none
        pairs = np.stack([_convention(form).number(self.starts, self.lengths), self.lengths], 1)
        return " ".join(map(str, pairs.ravel()))

    @classmethod
    def read(cls, cell: str, shape: Shape, form: str = "siim") -> Runs:
        """The inverse of `write` for an image [H, W]; runs may come in any order.

        MedcapError for anything but whole numbers, an odd count of them, a run that is empty, outside of the image, or
        over another one.
        """
        convention, pixels, cell = _convention(form), shape[0] * shape[1], cell.strip()
        if cell in NONE:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), shape)
        words = cell.split()
        if odd := next((word for word in words if not re.fullmatch("[0-9]+", word)), ""):
            raise MedcapError(f"{odd[:20]!r} is not a whole number from 0 up: write pairs of numbers, or -1 for none")
        if len(words) % 2:
            raise MedcapError(f"{len(words)} numbers are not pairs: the cell lost a number, get the file again")
        far = pixels + 2  # stands for what int64 may not hold, and is outside as well
        numbers = [min(int(word), far) if len(word) < 18 else far for word in words]
        first, lengths = np.array(numbers, np.int64).reshape(-1, 2).T
        if not lengths.all():
            raise MedcapError(f"run {int(np.argmin(lengths)) + 1} has no pixel: leave it out")
        starts = convention.start(first, lengths)
        order = np.argsort(starts, kind="stable")
        starts, lengths = starts[order], lengths[order]
        others = ", ".join(f'"{name}"' for name in RUN_LENGTHS if name != form)
        fix = f'give the size of this image, or read it as {others} and not as "{form}"'
        if starts[0] < 0 or starts[-1] + lengths[-1] > pixels:
            raise MedcapError(f"a run lies outside of the {pixels} pixels of an image [{shape[0]}, {shape[1]}]: {fix}")
        if (over := starts[1:] < (starts + lengths)[:-1]).any():
            raise MedcapError(f"two runs overlap at pixel {starts[1:][over][0]} (from 0): {fix}")
        return cls(starts, lengths, shape)


def encode(mask: np.ndarray, form: str = "siim") -> str:
    """The run lengths of a mask [H, W]."""
    return Runs.of(mask).write(form)


def decode(cell: str, shape: Shape, form: str = "siim") -> np.ndarray:
    """Run lengths as a mask, bool [H, W]; MedcapError as `Runs.read`."""
    return Runs.read(cell, shape, form).mask()


def _convention(form: str) -> Convention:
    if form not in RUN_LENGTHS:
        raise MedcapError(f'no run lengths are called "{form}": use one of {", ".join(RUN_LENGTHS)}')
    return RUN_LENGTHS[form]


# --- tables -----------------------------------------------------------------------------------------------------------


def read_csv(path: str | Path, sizes: Shape | Mapping[str, Shape], form: str = "siim") -> dict[str, Runs]:
    """The runs of every image of a table ImageId, EncodedPixels, in the order of their first rows.

    `sizes`: (H, W) of all images, or by ImageId. The rows of an image, one per region, are joined. MedcapError with
    file and row for a cell that `Runs.read` refuses, an image without a size, and one that has both regions and a row
    that says it has none.
    """
    table = read_table(path, COLUMNS, "give a table with the columns ImageId and EncodedPixels")
    found: dict[str, list[Runs]] = {}
    for row, (image, cell) in enumerate(zip(table[IMAGE], table[PIXELS], strict=True), 1):
        where, image = f"{path}, row {row}", image.strip()
        shape = sizes.get(image) if isinstance(sizes, Mapping) else sizes
        if not image:
            raise MedcapError(f"{where} has no ImageId: name its image, or take the row away")
        if shape is None:
            raise MedcapError(f"{where}: the size of {image} is not known: give its image, or take the row away")
        try:
            runs = Runs.read(cell, tuple(shape), form)
        except MedcapError as error:
            raise MedcapError(f"{where} ({image}): {error}") from error
        regions = found.setdefault(image, [])
        if regions and bool(len(regions[0].starts)) != bool(len(runs.starts)):
            raise MedcapError(f"{where}: {image} has a region in one row and none in another: take one of them away")
        regions.append(runs)
    return {image: _joined(regions) for image, regions in found.items()}


def _joined(regions: list[Runs]) -> Runs:
    """The pixels of any region; regions drawn by several readers may overlap."""
    return regions[0] if len(regions) == 1 else Runs.of(np.any([region.mask() for region in regions], axis=0))


def write_csv(path: str | Path, regions: Iterable[tuple[str, np.ndarray]], form: str = "siim") -> None:
    """A table of (ImageId, mask [H, W]), a row each; an image may come several times, once per region.

    An image without a pixel in any of its masks has one row, which says so.
    """
    import pandas as pd

    cells: dict[str, list[str]] = {}
    for image, mask in regions:
        runs, rows = Runs.of(mask), cells.setdefault(image, [])
        rows += [runs.write(form)] if len(runs.starts) else []
    rows = [(image, cell) for image, found in cells.items() for cell in found or [_convention(form).none]]
    write_table(path, pd.DataFrame(rows, columns=COLUMNS, dtype=str))


# --- pictures ---------------------------------------------------------------------------------------------------------


def write_png(path: str | Path, mask: np.ndarray) -> None:
    """A mask [H, W] as a PNG of 1 bit a pixel, white where it is not 0."""
    with atomic(path) as temporary:
        Image.fromarray(np.asarray(mask) != 0).save(temporary, "PNG")


def read_png(path: str | Path, shape: Shape | None = None) -> np.ndarray:
    """A picture of black and one other colour as a mask, bool [H, W]: what is not black.

    MedcapError for a picture of more colours (a label map, a JPEG's, a radiograph), of none that is black beside
    another, of transparent pixels, or of another size than `shape`.
    """
    pixels = _pixels(path)
    values = np.unique(pixels)
    if len(values) > 2:
        fix = "save it as PNG with two values, or read its structures with read_labels"
        raise MedcapError(f"{path} has {len(values)} values, a mask has two: {fix}")
    if len(values) == 2 and values[0]:
        raise MedcapError(f"{path} has the values {values[0]} and {values[1]}, and none is 0: paint the outside black")
    return _fitting(pixels != 0, shape, path)


def read_labels(path: str | Path, structures: Mapping[str, int], shape: Shape | None = None) -> dict[str, np.ndarray]:
    """A label map as one mask, bool [H, W], per structure, given the number of each; 0 is none of them.

    In a PNG with a palette the numbers are its indices. MedcapError for a number that no structure has.
    """
    pixels = _fitting(_pixels(path, indices=True), shape, path)
    if unknown := sorted({int(value) for value in np.unique(pixels)} - {0, *structures.values()}):
        known = ", ".join(f"{name} {number}" for name, number in structures.items())
        raise MedcapError(f"{path} has the label {unknown[0]}, expected 0 or {known}: name its structure")
    return {name: pixels == number for name, number in structures.items()}


def _fitting(pixels: np.ndarray, shape: Shape | None, path: str | Path) -> np.ndarray:
    if shape is not None and pixels.shape != tuple(shape):
        found, wanted = list(pixels.shape), list(shape)
        raise MedcapError(f"{path} is [H, W] = {found}, its image {wanted}: give the mask of this image")
    return pixels


def _pixels(path: str | Path, indices: bool = False) -> np.ndarray:
    """One whole number a pixel [H, W]: the gray level, the colour, or, with `indices`, the place in the palette."""
    path = require(path, "check the path")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS or getattr(picture, "n_frames", 1) > 1:
                raise ValueError("it is too large, or has several pictures")
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if _is_deep(path):  # PIL keeps the upper 8 bits: 1 of 65,535 would become 0
                raise ValueError("it has 16 bits a colour")
            if picture.mode in ("1", "L", "I", "I;16", "I;16B") or (indices and picture.mode == "P"):
                return np.asarray(picture).astype(np.int64)
            colours = np.asarray(picture.convert("RGBA")).astype(np.int64)  # [H, W, 4]
    except MemoryError:  # not the file's fault
        raise
    except Exception as error:  # decoders raise nearly anything on broken input
        raise MedcapError(f"{path} is not readable as a mask ({error}): save it as PNG of 1 bit a pixel") from error
    red, green, blue, alpha = np.moveaxis(colours, -1, 0)
    if (alpha != 255).any():
        raise MedcapError(f"{path} has transparent pixels, which may be the mask: save it as PNG of 1 bit a pixel")
    if (red == green).all() and (green == blue).all():
        return red
    if indices:
        raise MedcapError(f"{path} is in colour: save its labels as a PNG of gray levels")
    return (red << 16) + (green << 8) + blue


def _is_deep(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(26)
    return head.startswith(PNG) and head[24] == 16 and head[25] in COLOURS
