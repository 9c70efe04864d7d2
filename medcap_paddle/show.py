"""Pictures for the notebooks. Every function returns a closed matplotlib figure, which a notebook shows once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import MedcapError
from .image import read

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
GRAY = "#8c8c8c"


def _axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple:
    """A figure and its axes [rows, columns], without the lines that carry no information."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=90)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    plt.close(figure)  # else the notebook shows it a second time
    return figure, axes


def _plain(text: str) -> str:
    """Text of a collection as it is: between two dollars matplotlib reads a formula, and stops at a wrong one."""
    return text.replace("$", r"\$")


def _show(ax, picture: str | Path | np.ndarray) -> None:
    try:
        ax.imshow(picture if isinstance(picture, np.ndarray) else read(picture), cmap="gray", vmin=0, vmax=255)
    except MedcapError:
        ax.text(0.5, 0.5, "cannot be read", ha="center", color=GRAY)


def radiographs(paths: Sequence[str | Path | np.ndarray], titles: Sequence[str] = (), columns: int = 4) -> Figure:
    """Images (files, or pixels [H, W]) side by side, `columns` in a row, each under its title."""
    columns = min(columns, len(paths))
    rows = -(-len(paths) // columns)
    figure, axes = _axes(3 * columns, 3.3 * rows, rows, columns)
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, path) in enumerate(zip(axes.flat, paths, strict=False)):
        _show(ax, path)
        ax.set_title(_plain(titles[i]) if titles else "", fontsize=10)
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
    ax.annotate(
        f"{cut} ids", (cut, 0.55), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points"
    )
    ax.set(xlabel="tokens of a report", ylabel="% of the split", xlim=(0, 120))
    ax.legend(frameon=False, fontsize=9)
    return figure


def tags(reports: pd.DataFrame, top: int = 20) -> Figure:
    """The MeSH headings that most studies carry; "normal" in gray."""
    headings = [{term.split("/")[0] for term in mesh.split(";") if term} for mesh in reports["mesh"]]
    counts = Counter(heading for study in headings for heading in study).most_common(top)
    names, studies = zip(*reversed(counts), strict=True) if counts else ((), ())
    figure, [[ax]] = _axes(7, 0.6 + 0.2 * len(names))
    colors = [GRAY if name.lower() == "normal" else COLORS["train"] for name in names]
    bars = ax.barh(range(len(names)), [100 * n / len(reports) for n in studies], color=colors)
    ax.bar_label(bars, [f"{n:,}" for n in studies], padding=3, fontsize=8)
    ax.set_yticks(range(len(names)), list(map(_plain, names)), fontsize=9)
    ax.margins(x=0.08)
    ax.set(xlabel="% of studies")
    return figure


def areas(auc: dict[str, float]) -> Figure:
    """How well a linear probe reads each finding: one bar a finding, the worst at the bottom, chance at 0.5."""
    names, values = zip(*sorted(auc.items(), key=lambda item: item[1]), strict=True)
    figure, [[ax]] = _axes(7, 0.8 + 0.17 * len(names))
    ax.barh(range(len(names)), [v - 0.5 for v in values], left=0.5, color=COLORS["train"])
    ax.axvline(sum(values) / len(values), color=GRAY, ls="--", lw=1)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xlabel="AUC on unseen studies (dashed: mean)", xlim=(min(0.5, *values), 1), ylim=(-0.7, len(names) - 0.3))
    return figure


def curves(history: pd.DataFrame | None = None) -> Figure:
    """Perplexity of each epoch on train and val, the best epoch marked."""
    from matplotlib.ticker import LogLocator

    figure, [[ax]] = _axes(7, 3)
    ax.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    if history is None:
        return figure
    for split in ("train", "val"):
        if history[f"{split}_perplexity"].notna().any():
            ax.plot(history.epoch, history[f"{split}_perplexity"], "o-", ms=3, color=COLORS[split], label=split)
    if history.val_perplexity.notna().any():
        best = history.loc[history.val_perplexity.idxmin()]
        label = f"best: {best.val_perplexity:.2f}, epoch {best.epoch:.0f}"
        ax.plot(best.epoch, best.val_perplexity, "o", ms=9, mfc="none", color="black", label=label)
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.legend(frameon=False)
    return figure


def reading(studies: Sequence[tuple[Sequence[str | Path], str, Sequence[tuple[str, str]]]], width: int = 98) -> Figure:
    """What was written under what: for each study (paths, reference, [(title, prediction), ...]).

    At most two views of a study are shown. Words that a prediction shares with the reference are green.
    """
    from textwrap import wrap

    line = 0.19  # inches
    texts = [[("reference", reference), *predictions] for _, reference, predictions in studies]
    heights = [max(2.5, line * sum(len(wrap(text, width)) + 1.6 for _, text in blocks)) for blocks in texts]
    figure, axes = _axes(14, sum(heights), len(studies), 1)
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    for ax, height, blocks, (paths, reference, _) in zip(axes.flat, heights, texts, studies, strict=True):
        ax.axis("off")
        for i, path in enumerate(paths[:2]):
            view = ax.inset_axes([0.175 * i, 0.02, 0.17, 0.96])
            _show(view, path)
            view.axis("off")
        shared, y = set(reference.split()), 1.0 - 0.8 * line / height
        for title, text in blocks:
            ax.text(0.37, y, _plain(title), transform=ax.transAxes, va="baseline", fontsize=10, weight="bold")
            for words in wrap(text, width) or ["(nothing)"]:
                y -= line / height
                column = 0
                for word in words.split(" "):
                    known = title != "reference" and word in shared and word != "."
                    ax.text(
                        0.37 + 0.0059 * column, y, word, transform=ax.transAxes, va="baseline", family="monospace",
                        fontsize=9.5, color="#1b7a3d" if known else "black", parse_math=False,
                    )  # fmt: skip
                    column += len(word) + 1
            y -= 1.6 * line / height
    return figure


NAMES = {"cider": "CIDEr", "bleu4": "BLEU-4", "clinical_macro_f1": "clinical F1 (of 13)"}


def intervals(metrics: dict[str, dict], names: Sequence[str] = ("cider",)) -> Figure:
    """Forest plot: figures of every run with their 95% intervals, the run with the best first figure on top."""
    runs = sorted(metrics, key=lambda run: metrics[run]["figures"][names[0]]["value"])
    figure, [axes] = _axes(4.2 * len(names), 0.9 + 0.3 * len(runs), 1, len(names))
    for ax, name in zip(axes, names, strict=True):
        for y, run in enumerate(runs):
            entry = metrics[run]["figures"][name]
            ax.plot([entry["low"], entry["high"]], [y, y], color=COLORS["train"], lw=2)
            ax.plot(entry["value"], y, "o", color=COLORS["train"])
            ax.annotate(f"{entry['value']:.3f}", (entry["value"], y), (0, 5), textcoords="offset points", ha="center")
        ax.set_yticks(range(len(runs)), runs if ax is axes[0] else [])
        ax.set(xlabel=f"{NAMES.get(name, name)}, 95% interval", ylim=(-0.5, len(runs) - 0.2))
        ax.margins(x=0.12)
        ax.grid(axis="x", alpha=0.3)
    return figure


def _grouped(rows: dict[str, dict[str, float]], label: str, width: float, height: float) -> Figure:
    """Grouped horizontal bars: {group: {run: value}}."""
    figure, [[ax]] = _axes(width, height)
    runs = list(dict.fromkeys(run for values in rows.values() for run in values))
    palette = [*COLORS.values(), "#c44e52", "#8172b3", "#937860", "#da8bc3", "#ccb974", GRAY]
    for i, run in enumerate(runs):
        places = [y + 0.8 * (i + 0.5) / len(runs) - 0.4 for y in range(len(rows))]
        values = [group.get(run, 0) for group in rows.values()]
        ax.barh(places, values, 0.75 / len(runs), label=run, color=palette[i % len(palette)])
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set(xlabel=label)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def strata(metrics: dict[str, dict], name: str = "cider") -> Figure:
    """One figure of every run in every stratum."""
    rows: dict[str, dict[str, float]] = {}
    for run, content in metrics.items():
        for stratum, part in content.get("strata", {}).items():
            rows.setdefault(f"{stratum} ({part['studies']})", {})[run] = part["figures"][name]["value"]
    return _grouped(rows, NAMES.get(name, name), 9, 0.8 + 1.1 * len(rows))


def recall(metrics: dict[str, dict]) -> Figure:
    """Recall of every observation that at least one reference affirms, with the number of those references."""
    rows: dict[str, dict[str, float]] = {}
    for run, content in metrics.items():
        for observation, row in content["classes"].items():
            if row["positives"]:
                rows.setdefault(f"{observation} ({row['positives']:.0f})", {})[run] = row["recall"]
    return _grouped(rows, "recall", 9, 0.8 + 0.45 * len(rows))
