"""Where a radiograph lies in the square that a network sees: the one geometry of images and of masks."""

from __future__ import annotations

import numpy as np
from PIL import Image


def placement(shape: tuple[int, int], size: int) -> tuple[slice, slice]:
    """Rows and columns that an image [H, W] takes in a square of `size`: the longer side fills it, the other is in the
    middle.
    """
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    top, left = (size - height) // 2, (size - width) // 2
    return slice(top, top + height), slice(left, left + width)


def squared(
    image: np.ndarray, size: int, padding: float, shrink: Image.Resampling, enlarge: Image.Resampling
) -> np.ndarray:
    """uint8 [H, W], or [H, W, 3] in colour, to float32 [S, S] or [S, S, 3] from 0 to 1."""
    rows, columns = placement(image.shape[:2], size)
    shape = columns.stop - columns.start, rows.stop - rows.start
    small = Image.fromarray(image).resize(shape, shrink if size < max(image.shape[:2]) else enlarge)
    square = np.full((size, size, *image.shape[2:]), padding, np.float32)
    square[rows, columns] = np.asarray(small, np.float32) / 255
    return square
