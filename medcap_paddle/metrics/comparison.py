"""Runs compared: every metric of each, with intervals, strata, classes and p values, as metrics.json has it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..clinical.labels import given, label, per_class
from . import METRICS, by_class, measure, observations, resampled, unresampled
from .bootstrap import Spread, compare_to, over_seeds, seed_groups
from .pairs import PROTOCOLS, Pairs, align, novel_of, prepare, strata_of

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000


@dataclass
class RunMetrics:
    """The content of a metrics.json; what is None is left out."""

    split: str
    protocol: str
    studies: int
    figures: dict[str, Spread]
    seeds: list[str] | None = None  # the runs of a mean
    notes: list[str] | None = None  # on what could not be computed or is undefined
    strata: dict[str, dict] | None = None
    classes: dict[str, dict[str, float]] | None = None

    def as_json(self) -> dict:
        content = {name: value for name, value in vars(self).items() if value is not None}
        content["figures"] = {
            name: spread.as_json() | {"protocol": METRICS[name].protocol or self.protocol}
            for name, spread in self.figures.items()
        }
        if self.strata:
            content["strata"] = {
                name: part | {"figures": {metric: spread.as_json() for metric, spread in part["figures"].items()}}
                for name, part in self.strata.items()
            }
        return content


def undefined(figures: dict[str, Spread]) -> list[str]:
    """The notes on figures that are undefined, each once."""
    return list(
        dict.fromkeys(METRICS[name].undefined for name, figure in figures.items() if not np.isfinite(figure.value))
    )


def evaluate(
    tables: dict[str, pd.DataFrame],
    protocol: str = "r2gen",
    vocab: Container[str] | None = None,
    train: Iterable[str] = (),
    labels: pd.DataFrame | None = None,
    reference_run: str = "constant",
    split: str = "",
    number: int = RESAMPLES,
) -> dict[str, dict]:
    """metrics.json of each run, and of each mean over seeds. All runs must have the same studies and references.

    With `train` reports there are also strata of the references that are in train verbatim and of the novel ones.
    `labels` (study_id and the 14 observations) replaces our labels of the references. `reference_run` is the run that
    the others are tested against. MedcapError on runs of different studies, see `metrics.pairs` and `labels.given`.
    """
    tables = align(tables)
    references = next(iter(tables.values()))
    truth = label(references.reference) if labels is None else given(labels, references.study_id)
    novel = novel_of(references.reference, train)
    strata = strata_of(truth, novel)
    pairs = [Pairs(table, *prepare(table, protocol, vocab), truth, novel) for table in tables.values()]
    own = PROTOCOLS[protocol].own_metrics
    metrics = {name: metric for name, metric in METRICS.items() if metric.protocol == protocol or not own}
    kept, failures = measure(metrics, pairs)
    out = {}
    for run, counts in zip(tables, kept, strict=True):
        figures = resampled(metrics, counts, number) | unresampled(metrics, counts)
        out[run] = RunMetrics(split, protocol, len(references), figures, notes=[*failures, *undefined(figures)])
        out[run].strata = {
            name: {"studies": int(rows.sum()), "figures": resampled(metrics, counts, number, rows)}
            for name, rows in strata.items()
        }
        if observations in counts:
            out[run].classes = per_class(*by_class(counts[observations].sum(0)))
    for mean, runs in seed_groups(tables).items():
        figures = over_seeds([out[run].figures for run in runs])
        out[mean] = RunMetrics(split, protocol, len(references), figures, seeds=runs, notes=undefined(figures) or None)
    for run in set(out) - {reference_run} if reference_run in out else ():
        compare_to(out[reference_run].figures, out[run].figures)
    return {run: content.as_json() for run, content in out.items()}
