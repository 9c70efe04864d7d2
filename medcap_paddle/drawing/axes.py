"""A closed figure of plain axes, and the colors of the splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
BLUE, GRAY, GREEN = COLORS["train"], "#8c8c8c", "#1b7a3d"


def axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure, in inches, and its axes [rows, columns], without the lines that carry no information."""
    from matplotlib import pyplot as plt

    figure, found = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=90)
    for ax in found.flat:
        bare(ax)
    plt.close(figure)  # else the notebook shows it a second time
    return figure, found


def bare(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
