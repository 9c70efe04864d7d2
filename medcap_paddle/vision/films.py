"""Films: images and masks in the square that a network sees, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .. import image
from ..image import Preprocessing
from .masked import Item
from .square import placement


@dataclass(frozen=True, eq=False)
class Films:
    """Images and masks as the network meets them."""

    images: np.ndarray  # uint8 [N, S, S]
    masks: np.ndarray  # bool [N, C, S, S]
    known: np.ndarray  # bool [N, C]: somebody has drawn it

    def __len__(self) -> int:
        return len(self.images)

    def showing(self, channel: int) -> Films:
        """Those in which the mask of that channel is not empty."""
        kept = self.masks[:, channel].any((1, 2))
        return Films(self.images[kept], self.masks[kept], self.known[kept])


def films(found: Sequence[Item], names: Sequence[str], preprocessing: Preprocessing) -> Films:
    """The films of these items for the structures `names`; MedcapError where a file cannot be read."""
    size = preprocessing.size
    images = np.zeros((len(found), size, size), np.uint8)
    masks = np.zeros((len(found), len(names), size, size), bool)
    known = np.zeros((len(found), len(names)), bool)
    for k, item in enumerate(found):
        pixels, drawn = item.load()
        images[k] = squared(pixels, preprocessing)
        for c, name in enumerate(names):
            if name in drawn:
                known[k, c] = True
                masks[k, c] = squared(drawn[name].astype(np.uint8) * 255, preprocessing) > 127
    return Films(images, masks, known)


def squared(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 [H, W] in its square, uint8 [S, S], as `image.transform` places it."""
    at = replace(preprocessing, mean=(0.0,), std=(1.0,))
    return np.rint(image.transform(pixels, at)[0] * 255).astype(np.uint8)


def restored(square: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of the placement: float32 [S, S] to [H, W], between pixels linear."""
    part = np.ascontiguousarray(square[placement(shape, square.shape[-1])], dtype=np.float32)
    return np.asarray(Image.fromarray(part).resize(shape[::-1], Image.Resampling.BILINEAR))
