"""Where a radiograph lies in the square that a network sees: the one geometry of images and of masks."""

from __future__ import annotations


def placement(shape: tuple[int, int], size: int) -> tuple[slice, slice]:
    """Rows and columns that an image [H, W] takes in a square of `size`: the longer side fills it, the other is in the
    middle.
    """
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    top, left = (size - height) // 2, (size - width) // 2
    return slice(top, top + height), slice(left, left + width)
