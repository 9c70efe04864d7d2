"""Intensity: whole numbers of any depth to the 256 gray levels of a radiograph. One rule for every file.

    8 bits     are gray levels as they are
    16 bits    are v * 257 or v * 256 throughout: the 8 bits v. Else the depth is the least of `DEPTHS` that holds
               all pixels but for `BEYOND` of them, and the upper 8 bits of it are the gray level

The upper bits, since every way to widen 8 bits keeps them: v << 4, v * 16 + 5 and round(v * 4095 / 255) are all v.
Detectors have 10, 12, 14 or 16 bits, and writers keep them in 16. The depth is what was meant; stretching between the
darkest and the brightest pixel is not: a film has no white of its own, and one hot pixel would darken it.
Of 1,398 real films (NIH, Shenzhen, Montgomery, JSRT) the 98th percentile is 147 of 255 at least, far above the 64 from
which a film would be taken for one of two bits less.
"""

from __future__ import annotations

import numpy as np

from ..runtime.files import MedcapError

DEPTHS = (8, 10, 12, 14, 16)  # bits
BEYOND = 0.02  # share of the pixels: hot ones, letters burned in
HALF = 1 << 15
FIX = "export it again with 8 bits, or as the DICOM that it was"


def to_bytes(values: np.ndarray, what: object) -> np.ndarray:
    """uint16 [H, W] of a file that does not tell its depth to uint8 [H, W].

    MedcapError, naming `what`, where the numbers look as if they were signed once.
    """
    high, low = (values >> 8).astype(np.uint8), values.astype(np.uint8)
    if np.array_equal(high, low) or not low.any():
        return high
    outer = values[(values < HALF // 2) | (values >= HALF + HALF // 2)]
    below = np.mean(values >= HALF + HALF // 2)
    if len(outer) >= (1 - BEYOND / 10) * values.size and BEYOND < below < 1 - BEYOND:
        raise MedcapError(f"{what} holds negative numbers as 65,535 and less (none is near 32,768): {FIX}")
    if np.mean((values < HALF) | (values >= HALF + HALF // 2)) <= BEYOND:  # signed numbers with 32,768 added
        values = np.maximum(values, HALF) - HALF
    return levels(values, 0, 1 << depth(values))


def depth(values: np.ndarray) -> int:
    """The bits in use, one of `DEPTHS`, of whole numbers from 0 on."""
    return next((bits for bits in DEPTHS if np.mean(values >= 1 << bits) <= BEYOND), DEPTHS[-1])


def levels(values: np.ndarray, low: float, width: float) -> np.ndarray:
    """`width` values from `low` on to 256 equal levels, those outside to 0 and 255: uint8 of the same shape."""
    level = (values.astype(np.float32) - np.float32(low)) * np.float32(256 / width)
    return np.clip(level + np.float32(1e-4), 0, 255).astype(np.uint8)  # 1e-4: 0.1 has no exact float


def luma(colour: np.ndarray) -> np.ndarray:
    """Red, green, blue, uint8 or uint16 [H, W, 3], to gray [H, W] of the same type, as PIL's convert("L") (BT.601)."""
    red, green, blue = (colour[..., k].astype(np.uint32) for k in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(colour.dtype)


def over_black(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint16 [H, W] as seen before black, the background of a radiograph, through `alpha` of the same shape.

    Opaque is the largest number of the depth that alpha has: a writer of 12 bits may use 4,095.
    """
    largest = int(alpha.max())
    opaque = next((1 << bits) - 1 for bits in DEPTHS if largest < 1 << bits)
    if alpha.min() == opaque:
        return values
    return np.rint(values * (alpha / np.float64(opaque))).astype(values.dtype)
