"""The history of a training, epoch by epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..metrics import guards
from .axes import COLORS, GRAY, GREEN, axes, bare

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LARGE, SMALL = 4.5, 3.0, 1.9  # inches: of a panel, heights of a row


def curves(history: pd.DataFrame | None = None) -> Figure:
    """The figures of every epoch: those of train and val together in one panel, any other in a panel of its own.

    The epoch with the least figure of val is marked where train has it too: its weights are kept. The guards of a
    reward (`metrics.guards`) have small panels in a row below.
    """
    from matplotlib import pyplot as plt

    panels: dict[str, list[str]] = {"": []} if history is None else {}  # figure -> its columns
    for name in () if history is None else history.columns.difference(["epoch", "seconds"], sort=False):
        panels.setdefault(re.sub("^(train|val)_", "", name), []).append(name)
    large, small = ([label for label in panels if (label in guards.NAMES) == guard] for guard in (False, True))
    rows = [(labels, height) for labels, height in ((large, LARGE), (small, SMALL)) if labels]
    size = (7 if len(panels) == 1 else WIDTH * max(len(large), 2), sum(height for _, height in rows))
    figure = plt.figure(figsize=size, layout="constrained", dpi=90)
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=[height for _, height in rows])[:, 0]
    for part, (labels, _) in zip(parts, rows, strict=True):
        for ax, label in zip(part.subplots(1, len(labels), squeeze=False)[0], labels, strict=True):
            _panel(ax, label, panels[label], history)
    plt.close(figure)  # else the notebook shows it a second time
    return figure


def steps(series: Mapping[str, Sequence[float]], label: str) -> Figure:
    """A number of every step of a training, on a logarithmic scale, a line for each series."""
    figure, [[ax]] = axes(7, LARGE)
    for (name, values), color in zip(series.items(), (*COLORS.values(), GRAY), strict=False):
        ax.plot(range(1, len(values) + 1), values, "-", lw=1.4, color=color, label=name)
    ax.set(xlabel="step", ylabel=label, yscale="log")
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False)
    return figure


def _panel(ax: Axes, label: str, columns: list[str], history: pd.DataFrame | None) -> None:
    from matplotlib.ticker import MaxNLocator

    bare(ax)
    ax.set(xlabel="epoch", ylabel=label.replace("_", " "))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for name in columns:
        split = name.removesuffix(f"_{label}")
        ax.plot(history.epoch, history[name], "o-", ms=3, color=COLORS.get(split, GREEN), label=split)
    if len(columns) > 1:
        _mark_least(ax, label, history)
    if columns:
        ax.set_xlim(0.5, len(history) + 0.5)
    if columns and label not in guards.NAMES:
        ax.legend(frameon=False)


def _mark_least(ax: Axes, label: str, history: pd.DataFrame) -> None:
    from matplotlib.ticker import LogLocator

    least = history.loc[history[f"val_{label}"].idxmin()]
    text = f"best: {least[f'val_{label}']:.2f}, epoch {least.epoch:.0f}"
    ax.plot(least.epoch, least[f"val_{label}"], "o", ms=9, mfc="none", color="black", label=text)
    ax.set_yscale("log")  # the first epoch lies far above the others
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
