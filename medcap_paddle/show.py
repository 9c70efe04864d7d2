"""Pictures for the notebooks. Every function returns a closed matplotlib figure, which a notebook shows once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .drawing import words
from .drawing.words import LINE
from .image import read
from .metrics import HEADLINES, METRICS
from .runtime.files import MedcapError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
BLUE, GRAY, GREEN = COLORS["train"], "#8c8c8c", "#1b7a3d"
Written = tuple[str, str, "Sequence[float] | None"]


def _axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure, in inches, and its axes [rows, columns], without the lines that carry no information."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=90)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    plt.close(figure)  # else the notebook shows it a second time
    return figure, axes


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


def lstm_step() -> Figure:
    """One step of `models.lstm`: the LSTM on the left, the gate that shows the image to each memory on the right."""
    figure, [[ax]] = _axes(11, 5)
    ax.set(xlim=(-1.2, 15.8), ylim=(-1.7, 5.5), aspect="equal")
    ax.axis("off")
    ax.fill([1, 8.5, 8.5, 1], [0.1, 0.1, 4.9, 4.9], color="#eef2f8", zorder=0)
    for points in (
        *([(0, 4.2), (9.3, 4.2)], [(0, 0.7), (6.4, 0.7), (6.4, 2.9), (7.3, 2.9)]),  # c on top, x and h below
        *([(1.5, -1.2), (1.5, 0.7)], [(0, -0.5), (1.2, -0.5)]),  # word and image
        *([(2.3, 0.7), (2.3, 3.9)], [(3.7, 0.7), (3.7, 2.9), (4.7, 2.9)], [(5, 0.7), (5, 2.6)], [(5, 3.1), (5, 3.9)]),
        *([(7.6, 4.2), (7.6, 3.2)], [(7.6, 2.7), (7.6, 0.7), (12.4, 0.7)], [(12.7, 0.7), (14.6, 0.7)]),  # h
        *([(10.2, 0.7), (10.2, 2.6)], [(10.2, 4.5), (10.2, 3.2)], [(10.5, 2.9), (12.7, 2.9), (12.7, 1)]),  # the gate
    ):
        ax.plot(*zip(*points, strict=True), color="black", lw=1, zorder=1)
        ax.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "fc": "black"}, zorder=1)
    gates = {(2.3, 1.8): "$f$", (3.7, 1.8): "$i$", (5, 1.8): "$g$", (6.4, 1.8): "$o$", (10.2, 1.8): r"$\beta$"}
    layers = {**gates, (12.7, 2): "$W_v$", (13.6, 0.7): "$W_p$"}
    signs = {(2.3, 4.2): "×", (5, 2.9): "×", (5, 4.2): "+", (7.6, 3.55): r"$\tanh$", (7.6, 2.9): "×"}
    signs |= {(1.5, -0.5): "+", (10.2, 2.9): "×", (12.7, 0.7): "+"}
    names = {(-0.6, 4.2): "$c_{t-1}$", (-0.6, 0.7): "$h_{t-1}$", (9.7, 4.2): "$c_t$", (9.2, 1): "$h_t$"}
    names |= {(1.5, -1.5): "word", (-0.6, -0.5): "image $v$", (10.2, 4.8): "image $v$", (15.2, 0.7): "logits"}
    for texts, style, color in ((layers, "square", "#f6e3b4"), (signs, "circle", "white"), (names, "", "")):
        box = {"boxstyle": style, "fc": color, "ec": "black"} if style else None
        for (x, y), text in texts.items():
            ax.text(x, y, text, ha="center", va="center", fontsize=8 if "tanh" in text else 11, bbox=box)
    return figure


def curves(history: pd.DataFrame | None = None) -> Figure:
    """The figures of every epoch: those of train and val together in one panel, any other in a panel of its own.

    The epoch with the least figure of val is marked where train has it too: its weights are kept.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    panels: dict[str, list[str]] = {"": []} if history is None else {}  # figure -> its columns
    for name in () if history is None else history.columns.difference(["epoch", "seconds"], sort=False):
        panels.setdefault(re.sub("^(train|val)_", "", name), []).append(name)
    figure, [axes] = _axes(7 if len(panels) == 1 else 4.5 * len(panels), 3, 1, len(panels))
    for ax, (label, columns) in zip(axes, panels.items(), strict=True):
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for name in columns:
            split = name.removesuffix(f"_{label}")
            ax.plot(history.epoch, history[name], "o-", ms=3, color=COLORS.get(split, GREEN), label=split)
        if len(columns) > 1:
            least = history.loc[history[f"val_{label}"].idxmin()]
            text = f"best: {least[f'val_{label}']:.2f}, epoch {least.epoch:.0f}"
            ax.plot(least.epoch, least[f"val_{label}"], "o", ms=9, mfc="none", color="black", label=text)
            ax.set_yscale("log")  # the first epoch lies far above the others
            ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
        if columns:
            ax.set_xlim(0.5, len(history) + 0.5)
            ax.legend(frameon=False)
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
    for k, (series, color) in enumerate(zip(figures, (GRAY, BLUE, *COLORS.values()), strict=False)):
        y = np.arange(len(rows)) - 0.2 * (k - (len(figures) - 1) / 2)
        value, low, high = np.array([figures[series][row] for row in rows]).T
        ax.hlines(y, low, high, color=color, lw=2)
        ax.plot(value, y, "o", color=color, label=series)
    ax.set_yticks(range(len(rows)), list(map(_plain, rows)), fontsize=9)
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
