"""A line as another film would have shown it: many pictures from one, with the same text.

Where examples are few, a reader that sees each of them unchanged learns their noise and their fonts by heart.
"""

from __future__ import annotations

import cv2
import numpy as np

SIZE, WIDTH = (-0.5, 0.3), 0.3  # logarithms of the factors
SLANT, TURN = 0.12, 2.0  # deviations: of the shear, and degrees of a short line; half of them for a long one
SHIFT = 0.04  # of the height, to every side
LOWEST, TALLEST = 10, 64  # pixels of a varied line
FAINTEST = 20.0  # gray levels from the darkest to the brightest


def vary(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of a line, uint8 [H, W], another one: other size and slant, thicker or thinner strokes, another exposure."""
    film = _moved(crop, rng).astype(np.float32)
    if rng.random() < 0.5:
        film = _stroked(film, rng)
    if rng.random() < 0.3:
        film = cv2.GaussianBlur(film, (0, 0), 0.3 + len(film) * rng.uniform(0, 0.03))
    return _exposed(film, rng)


def _moved(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Larger or smaller, wider or narrower, slanted, turned and shifted; its edges are continued."""
    height, width = crop.shape
    high = int(np.clip(height * np.exp(rng.uniform(*SIZE)), LOWEST, TALLEST))
    wide = max(6, round(width * high / height * np.exp(rng.uniform(-WIDTH, WIDTH))))
    angle = np.deg2rad(rng.normal(0, TURN if width < 4 * height else TURN / 2))
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turned @ np.array([[1, rng.normal(0, SLANT)], [0, 1]]) @ np.diag([wide / width, high / height])
    offset = np.array([wide, high]) / 2 - matrix @ np.array([width, height]) / 2 + rng.uniform(-SHIFT, SHIFT, 2) * high
    affine = np.column_stack([matrix, offset])
    return cv2.warpAffine(crop, affine, (wide, high), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def _stroked(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes thicker or thinner, part of the way to a pixel, or to two where the line is high."""
    kernel = np.ones([2 + (len(film) > 24)] * 2, np.uint8)
    change = cv2.dilate if rng.random() < 0.5 else cv2.erode
    return film + np.float32(rng.uniform(0.2, 0.9)) * (change(film, kernel) - film)


def _exposed(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma, contrast and slope of light, and noise of at most a twelfth of the contrast: uint8."""
    low, high = float(film.min()), float(film.max())
    light = ((film - low) / max(high - low, 1)) ** np.exp(rng.uniform(-0.4, 0.4))
    down, across = (np.linspace(-1, 1, n) * rng.uniform(-0.15, 0.15) for n in film.shape)
    contrast = np.clip((high - low) * np.exp(rng.uniform(-0.5, 0.3)), FAINTEST, 255)
    light = low + (light + down[:, None] + across) * contrast
    noise = rng.normal(0, rng.uniform(0, min(4, contrast / 12)), film.shape)
    return np.clip(light + noise, 0, 255).astype(np.uint8)
