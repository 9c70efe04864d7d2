"""Where a decoder looks while it writes: a radiograph, darkened, and over it the weights of its places, a panel a word.

The weights are those that a decoder's `attention` gives for one view. The encoder saw the film in the middle of a
square (see `image.transform`): the map covers that square, and what lies beside the film is not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..image import read
from .axes import axes as _axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 1.5  # inches
COLUMNS = 9
DARK = 0.45  # how much of its brightness the film keeps
LONG = 15  # letters of a title in small type


def words(film: str | Path | np.ndarray, texts: Sequence[str], weights: np.ndarray, columns: int = COLUMNS) -> Figure:
    """A panel for each of T words; `weights` [T, G] are of the places of a square, row by row.

    One scale for all panels: the greatest weight of any word is opaque. Below a word is the share of its attention that
    lies on this view. ValueError where weights and words do not fit, or G is no square.
    """
    side = round(weights.shape[-1] ** 0.5)
    if weights.shape != (len(texts), side * side):
        raise ValueError(f"weights {weights.shape} for {len(texts)} words: expected ({len(texts)}, a square)")
    pixels = film if isinstance(film, np.ndarray) else read(film)
    height, width = pixels.shape
    border = max(height, width)
    left, top = (width - border) / 2, (height - border) / 2
    rows = -(-len(texts) // columns)
    figure, axes = _axes(PANEL * columns, (PANEL * height / width + 0.45) * rows, rows, columns)
    greatest = max(float(weights.max()), 1e-9)
    for ax in axes.flat:
        ax.axis("off")
    for ax, text, own in zip(axes.flat, texts, weights, strict=False):
        ax.imshow(DARK * pixels, cmap="gray", vmin=0, vmax=255)
        place = own.reshape(side, side) / greatest
        extent = (left, left + border, top + border, top)
        ax.imshow(place, cmap="inferno", vmin=0, vmax=1, alpha=place, extent=extent, interpolation="bilinear")
        ax.set(xlim=(0, width), ylim=(height, 0))
        size = 11 if len(text) < LONG else 8
        ax.set_title(f"{text}\n", fontsize=size, weight="bold", parse_math=False, pad=0)
        ax.text(0.5, 1.02, f"{own.sum():.0%}", fontsize=8, color="#767676", ha="center", transform=ax.transAxes)
    return figure
