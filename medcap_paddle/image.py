"""Images: a radiograph from a file, and the one transform between a radiograph and a network.

    read(path)              -> uint8 [H, W], gray
    transform(image, size)  -> float32 [3, size, size], what every encoder sees

Encoder training, feature extraction and captioning one's own image all go through `transform`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .files import MedcapError, require

MAX_PIXELS = 100_000_000  # more is no radiograph: a broken header, or a file made to fill the memory
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)
PREPROCESSING = "gray, aspect kept, area resize, black padding, [0, 1], 3 channels, ImageNet mean and std"


def read(path: str | Path) -> np.ndarray:
    """A PNG or JPEG of any depth or colour as uint8 [H, W]; MedcapError naming the file when it cannot be read."""
    require(path, "check the path")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:  # parses the header only
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise MedcapError(f"{path} declares {width} x {height} pixels, more than we read: save a smaller copy")
            picture.load()
            return _gray(ImageOps.exif_transpose(picture))
    except (MedcapError, MemoryError):  # short memory is not the file's fault
        raise
    except Exception as error:  # decoders raise nearly anything on broken input: OSError, SyntaxError, struct.error ...
        raise MedcapError(f"{path} is not a readable PNG or JPEG ({error}): replace the file") from error


def _gray(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16-bit gray; often only 10 or 12 bits are used, so scale by its own range
        pixels = np.asarray(picture, np.float32)
        pixels -= pixels.min()
        return np.rint(pixels * (255 / max(pixels.max(), 1))).astype(np.uint8)
    if picture.has_transparency_data:  # what is transparent is black, the background of a radiograph
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return np.asarray(picture.convert("L"))


def transform(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W] to float32 [3, size, size].

    The longer side becomes `size` and the shorter is padded with black: squeezing would change the width of the
    heart against that of the chest, which is a finding, and cropping would cut off the costophrenic angles.
    """
    height, width = image.shape
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    # BOX averages the area under each new pixel; enlarging, it would only repeat pixels.
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(image).resize(shape, method), np.float32) / 255
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square = np.zeros((size, size), np.float32)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return (square - MEAN[:, None, None]) / STD[:, None, None]


def prepared(paths: Sequence[str | Path], size: int) -> list[np.ndarray | MedcapError]:
    """`transform` of each image, or why it cannot be read."""

    def prepare(path: str | Path) -> np.ndarray | MedcapError:
        try:
            return transform(read(path), size)
        except MedcapError as error:
            return error

    return [prepare(path) for path in paths]
