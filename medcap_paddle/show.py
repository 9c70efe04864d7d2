"""Pictures for the notebooks. Every function returns a closed matplotlib figure, which a notebook shows once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .drawing import words
from .drawing.axes import BLUE, COLORS, GRAY
from .drawing.axes import axes as _axes
from .drawing.curves import curves as curves
from .drawing.lstm import lstm_step as lstm_step
from .drawing.words import LINE
from .image import read
from .metrics import HEADLINES, METRICS
from .runtime.files import MedcapError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Written = tuple[str, str, "Sequence[float] | None"]


def _plain(text: str) -> str:
    """Text of a collection as it is: between two dollars matplotlib reads a formula, and stops at a wrong one."""
    return text.replace("$", r"\$")


def _show(ax: Axes, picture: str | Path | np.ndarray) -> None:
    ax.axis("off")
    try:
        ax.imshow(picture if isinstance(picture, np.ndarray) else read(picture), cmap="gray", vmin=0, vmax=255)
    except MedcapError:
        ax.text(0.5, 0.5, "cannot be read", ha="center", color=GRAY)


def radiographs(paths: Sequence[str | Path | np.ndarray], titles: Sequence[str] = (), columns: int = 4) -> Figure:
    """Images (files, or pixels [H, W]) side by side, `columns` in a row, each under its title."""
    columns = min(columns, len(paths))
    rows = -(-len(paths) // columns)
    figure, axes = _axes(3 * columns, 3.3 * rows, rows, columns)
    for ax in axes.flat[len(paths) :]:
        ax.axis("off")
    for i, (ax, path) in enumerate(zip(axes.flat, paths, strict=False)):
        _show(ax, path)
        ax.set_title(_plain(titles[i]) if titles else "", fontsize=10)
    return figure


def reading(studies: Sequence[tuple[Sequence[str | Path], str, Sequence[Written]]]) -> Figure:
    """Reports beside their images: for each study (paths, reference, [(title, prediction, reliance), ...]).

    At most two views of a study are shown. The reliance of each word of a prediction (see `models.reliance`) gives it
    its color; where there is none, all words are black.
    """
    pages = [[("reference", reference, None), *written] for _, reference, written in studies]
    heights = [max(2.5, LINE * sum(len(words.lines(text)) + 1.6 for _, text, _ in page)) for page in pages]
    figure, axes = _axes(14, sum(heights), len(studies), 1)
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    for ax, height, page, (paths, *_) in zip(axes.flat, heights, pages, studies, strict=True):
        ax.axis("off")
        ax.set_ylim(height, 0)  # in inches, from the top
        for i, path in enumerate(paths[:2]):
            _show(ax.inset_axes([0.175 * i, 0.02, 0.17, 0.96]), path)
        y = 0.8 * LINE
        for title, text, reliance in page:
            ax.text(0.37, y, _plain(title), fontsize=10, weight="bold")
            words.paragraph(ax, 0.37, y, text, reliance)
            y += LINE * (len(words.lines(text)) + 1.6)
    if any(reliance is not None for page in pages for *_, reliance in page):
        words.legend(figure)
    return figure


def lengths(reports: pd.DataFrame, cut: int) -> Figure:
    """Tokens per report in every split, and the share that loses its end to `cut` ids (begin token included)."""
    figure, [[ax]] = _axes(7, 3)
    for split, color in COLORS.items():
        tokens = reports.loc[reports["split"] == split, "report"].str.split().str.len()
        if len(tokens):
            label = f"{split}: {len(tokens):,} reports, median {tokens.median():.0f}, {(tokens >= cut).mean():.1%} cut"
            tokens = tokens.clip(upper=119)  # the few longer ones go to the last bar
            weights = [100 / len(tokens)] * len(tokens)
            ax.hist(tokens, bins=range(0, 125, 5), weights=weights, histtype="step", lw=1.6, color=color, label=label)
    ax.axvline(cut, color=GRAY, ls="--", lw=1)
    ax.text(cut + 1, 0.55, f"{cut} ids", transform=ax.get_xaxis_transform())
    ax.set(xlabel="tokens of a report", ylabel="% of the split", xlim=(0, 120))
    ax.legend(frameon=False, fontsize=9)
    return figure


def tags(reports: pd.DataFrame, top: int = 20) -> Figure:
    """The MeSH headings that most studies carry; "normal" in gray."""
    headings = [{term.split("/")[0] for term in mesh.split(";") if term} for mesh in reports["mesh"]]
    counts = dict(reversed(Counter(heading for study in headings for heading in study).most_common(top)))
    figure, [[ax]] = _axes(7, 0.6 + 0.2 * len(counts))
    colors = [GRAY if name.lower() == "normal" else BLUE for name in counts]
    bars = ax.barh(range(len(counts)), [100 * n / len(reports) for n in counts.values()], color=colors)
    ax.bar_label(bars, [f"{n:,}" for n in counts.values()], padding=3, fontsize=8)
    ax.set_yticks(range(len(counts)), list(map(_plain, counts)), fontsize=9)
    ax.margins(x=0.08)
    ax.set(xlabel="% of studies")
    return figure


def auc_per_label(auc: Mapping[str, float]) -> Figure:
    """How well a linear probe reads each finding: one bar a finding, the worst at the bottom, chance at 0.5."""
    names, values = zip(*sorted(auc.items(), key=lambda item: item[1]), strict=True)
    figure, [[ax]] = _axes(7, 0.8 + 0.17 * len(names))
    ax.barh(range(len(names)), [v - 0.5 for v in values], left=0.5, color=BLUE)
    ax.axvline(sum(values) / len(values), color=GRAY, ls="--", lw=1)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xlabel="AUC on unseen studies (dashed: mean)", xlim=(min(0.5, *values), 1), ylim=(-0.7, len(names) - 0.3))
    return figure


def intervals(metrics: dict[str, dict], names: Sequence[str] = HEADLINES[-1:]) -> Figure:
    """Forest plot: figures of every run with their 95% intervals, the run with the best first figure on top."""
    runs = sorted(metrics, key=lambda run: metrics[run]["figures"][names[0]]["value"] or 0)
    figure, [axes] = _axes(4.2 * len(names), 0.9 + 0.3 * len(runs), 1, len(names))
    for ax, name in zip(axes, names, strict=True):
        for y, run in enumerate(runs):
            entry = metrics[run]["figures"][name]
            if entry["value"] is None:  # undefined
                continue
            if entry["low"] is not None:
                ax.plot([entry["low"], entry["high"]], [y, y], color=BLUE, lw=2)
            ax.plot(entry["value"], y, "o", color=BLUE)
            ax.annotate(f"{entry['value']:.3f}", (entry["value"], y), (0, 5), textcoords="offset points", ha="center")
        ax.set_yticks(range(len(runs)), runs if ax is axes[0] else [])
        ax.set(xlabel=f"{METRICS[name].heading or name}, 95% interval", ylim=(-0.5, len(runs) - 0.2))
        ax.margins(x=0.12)
        ax.grid(axis="x", alpha=0.3)
    return figure


def grouped(table: pd.DataFrame, label: str) -> Figure:
    """Grouped horizontal bars: a group for each row of the table, in it a bar for each column."""
    figure, [[ax]] = _axes(9, 0.8 + (0.1 + 0.12 * table.shape[1]) * len(table))
    palette = [*COLORS.values(), "#c44e52", "#8172b3", "#937860", "#da8bc3", "#ccb974", GRAY]
    table.plot.barh(ax=ax, width=0.75, color=palette[: table.shape[1]])
    ax.invert_yaxis()
    ax.set(xlabel=label, ylabel="")
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def forest(figures: Mapping[str, Mapping[str, tuple[float, float, float]]], label: str) -> Figure:
    """Forest plot: for each series a (value, low, high) of every row, the row where the last series is best on top.

    A row without an interval (NaN) has its value only.
    """
    *_, last = figures.values()
    rows = sorted(last, key=lambda row: last[row][0])
    figure, [[ax]] = _axes(7, 0.9 + 0.14 * (1 + len(figures)) * len(rows))
    palette = dict.fromkeys([GRAY, BLUE, *COLORS.values()])  # BLUE is among them
    for k, (series, color) in enumerate(zip(figures, palette, strict=False)):
        y = np.arange(len(rows)) - 0.2 * (k - (len(figures) - 1) / 2)
        value, low, high = np.array([figures[series][row] for row in rows]).T
        ax.hlines(y, low, high, color=color, lw=2)
        ax.plot(value, y, "o", color=color, label=series)
    ax.set_yticks(range(len(rows)), list(map(_plain, rows)), fontsize=9)
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
