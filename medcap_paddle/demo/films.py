"""A film as the page has it: its pixels and what is odd about it; a window, an enlargement, a PNG of it.

The page calls it by a name of ours, never by that of a file: names that guests choose go nowhere.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ..image import doubt, read
from ..runtime.drawing import is_drawing
from ..runtime.files import MedcapError
from ..vision import dicom, intensity

LONGER = 1024  # pixels of the longer side that a page is sent
_ALONE = threading.Lock()


@contextmanager
def warned() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings of the block. They are the process's: another guest's film waits, lest it be warned of this one."""
    with _ALONE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@dataclass(frozen=True, eq=False)
class Film:
    name: str
    pixels: np.ndarray  # uint8 [H, W]
    drawn: bool  # it bears the mark of a drawing
    doubts: tuple[str, ...] = ()  # why it may not be as it is meant
    view: str = ""  # as a DICOM tells it

    @classmethod
    def of(cls, path: str | Path, name: str) -> Film:
        """MedcapError, with `name` in place of the path, where the file cannot be read."""
        with warned() as caught:
            try:
                pixels, view = read(path), dicom.view(path)
            except MedcapError as error:
                raise MedcapError(str(error).replace(str(path), name)) from None
        told = [str(one.message).replace(str(path), "").strip() for one in caught if one.category is UserWarning]
        return cls(name, pixels, is_drawing(path), tuple(filter(None, [doubt(pixels), *told])), view)


RANGES = {  # least, most, usual, and the step from one to the next
    "zoom": (1.0, 4.0, 1.0, 0.25),
    "across": (0, 100, 50, 5),  # % of the way from the left edge to the right one; at 50 the middle is seen
    "down": (0, 100, 50, 5),
    "centre": (0, 256, 128, 1),  # of the window, in gray levels
    "width": (2, 512, 256, 2),
}


@dataclass(frozen=True)
class Look:
    """How a film is looked at: numbers within `RANGES`."""

    zoom: float
    across: int
    down: int
    centre: int
    width: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """What is seen of uint8 [H, W]: the part of it, in the window; at the usual numbers all of it."""
        height, width = (max(1, round(side / self.zoom)) for side in pixels.shape)
        top = round((pixels.shape[0] - height) * self.down / 100)
        left = round((pixels.shape[1] - width) * self.across / 100)
        part = pixels[top : top + height, left : left + width]
        return intensity.levels(part, self.centre - self.width / 2, self.width)


def png(pixels: np.ndarray, longer: int = LONGER) -> bytes:
    """uint8 [H, W] as a PNG whose longer side has at most that many pixels."""
    picture, out = Image.fromarray(pixels), BytesIO()
    picture.thumbnail((longer, longer))
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()
