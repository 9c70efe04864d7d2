"""A picture of anything, in colour where it has colours: uint8 [H, W], or [H, W, 3] (red, green, blue).

A radiograph is gray, and `film` reads it so. A leaf or an eye is known by its colours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..runtime.files import MedcapError
from . import film

COLOURED = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")  # modes of PIL
DEEP = 24  # the byte of a PNG that tells its bits a channel


def read(path: str | Path) -> np.ndarray:
    """A PNG or JPEG as it is, a DICOM as gray; what is transparent is black.

    MedcapError as `film.read` raises it, and for colours of 16 bits a channel.
    """
    gray = film.read(path)  # refuses what is no picture
    with open(path, "rb") as file:
        head = file.read(DEEP + 2)
    if not head.startswith((film.PNG, b"\xff\xd8")):  # a DICOM
        return gray
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        if picture.mode not in COLOURED:
            return gray
        upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright)
    pixels = np.asarray(upright.convert("RGB"))
    if (pixels == pixels[..., :1]).all():
        return gray
    if head.startswith(film.PNG) and head[DEEP] == 16:
        raise MedcapError(f"{path} has colours of 16 bits a channel: save it with 8")
    return pixels


def reduced(path: str | Path, size: int) -> np.ndarray:
    """`read`, made smaller by a whole factor where it is larger than needed for images of `size`."""
    pixels = read(path)
    return np.asarray(Image.fromarray(pixels).reduce(max(1, max(pixels.shape[:2]) // size)))
