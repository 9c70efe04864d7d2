"""Another exposure of another position: what a training of an encoder does to its pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

MIDDLE = 127  # gray level


@dataclass(frozen=True)
class Augmentation:
    """How far a picture may be changed; each amount is drawn evenly."""

    zoom: tuple[float, float] = (0.92, 1.08)
    turn: float = 0.05  # radians, to either side
    shift: float = 0.05  # of the width and of the height
    gamma: float = 0.3  # of its logarithm
    contrast: float = 0.0  # of its logarithm, about MIDDLE
    noise: float = 4.0  # largest deviation, in gray levels
    mirror: bool = False  # half of the pictures: only where no label has a side


GENTLE = Augmentation()


def augment(pixels: np.ndarray, rng: np.random.Generator, how: Augmentation = GENTLE) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3], changed by as much as `how` allows."""
    return augment_masked(pixels, np.zeros((0, *pixels.shape[:2]), bool), rng, how)[0]


def augment_masked(
    pixels: np.ndarray, masks: np.ndarray, rng: np.random.Generator, how: Augmentation = GENTLE
) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 [H, W] or [H, W, 3], and its masks, bool [C, H, W], moved together; only the image changes its
    tones.
    """
    height, width, *colours = pixels.shape
    zoom, turn = rng.uniform(*how.zoom), rng.uniform(-how.turn, how.turn)
    a, b = np.cos(turn) / zoom, np.sin(turn) / zoom
    x, y = (side * (0.5 + rng.uniform(-how.shift, how.shift)) for side in (width, height))
    matrix = (a, b, width / 2 - a * x - b * y, -b, a, height / 2 + b * x - a * y)

    def moved(layer: np.ndarray) -> np.ndarray:
        size, affine = (width, height), Image.Transform.AFFINE
        return np.asarray(Image.fromarray(layer).transform(size, affine, matrix, Image.Resampling.BILINEAR))

    tones = 255 * np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(np.exp(rng.uniform(-how.gamma, how.gamma)))
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0, how.noise))
    noise = noise[..., None] if colours else noise
    if how.contrast:
        tones = MIDDLE + (tones - MIDDLE) * np.float32(np.exp(rng.uniform(-how.contrast, how.contrast)))
    changed = np.clip(tones[moved(pixels)] + noise, 0, 255).astype(np.uint8)
    layers = [moved(mask.astype(np.uint8) * 255) > MIDDLE for mask in masks]
    masks = np.stack(layers) if layers else masks
    if how.mirror and rng.random() < 0.5:
        return changed[:, ::-1], masks[..., ::-1]
    return changed, masks
