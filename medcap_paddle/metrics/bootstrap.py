"""How much a metric would move with another draw of patients: the percentile bootstrap over studies.

A metric is made of counts that are kept for each study, so a resample is a weighting of studies and costs one matrix
product. The resamples are the same for every run of a table: a difference between two runs is a paired one
(Koehn, EMNLP 2004).

A figure that is undefined is NaN here and null in JSON. Of a figure that is undefined in some resamples (a rare finding
that none of the drawn studies has), the interval and p are of the others, and "defined" is their share. Where that is
less than 95%, there is no interval and no p: no interval can hold 95% of the resamples then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Combine = Callable[..., np.ndarray]  # summed counts [R, c] to the values of a metric [R]; see `spreads`
BLOCK = 2_000_000  # weights that are held at a time
ENOUGH = 0.95  # share of the resamples in which a figure must be defined


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass
class Spread:
    """The value of a metric, and its values over the resamples of the studies."""

    value: float
    resampled: np.ndarray | None = None  # [R]; None: the metric has no interval
    by_seed: list[float] | None = None  # of a mean over seeds
    p: float | None = None  # two-sided, against the reference run

    def as_json(self) -> dict:
        """{"value", "low", "high", "defined", "by_seed", "p"}, those that there are; low and high hold 95% of the
        resamples. "value", "low" and "high" are None where they are undefined.
        """
        entry = {"value": self.value if isinstance(self.value, int) else _or_none(self.value)}
        if self.resampled is not None:
            defined = np.isfinite(self.resampled)
            enough = entry["value"] is not None and defined.mean() >= ENOUGH
            interval = np.percentile(self.resampled[defined], (2.5, 97.5)).tolist() if enough else [None, None]
            entry |= dict(zip(("low", "high"), interval, strict=True))
            entry |= {} if defined.all() else {"defined": float(defined.mean())}
        entry |= {"by_seed": [*map(_or_none, self.by_seed)]} if self.by_seed else {}
        return entry | ({} if self.p is None else {"p": self.p})


def resamples(studies: int, number: int) -> Iterator[np.ndarray]:
    """How often each study is drawn [r, studies], r resamples of `number` at a time; always the same ones."""
    rng = np.random.default_rng(0)
    block = max(1, BLOCK // studies)
    for start in range(0, number, block):
        size = min(block, number - start)
        drawn = rng.integers(0, studies, [size, studies]) + studies * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * studies).reshape(size, studies).astype("float32")


def spreads(
    counts: dict[str, np.ndarray], combine: dict[str, Combine], number: int, ordered: Container[str] = ()
) -> dict[str, Spread]:
    """The spread of each metric from its counts [n, c] over `number` resamples.

    Metrics that share an array share its sums. No sum tells a median: `ordered` metrics combine the counts and the
    weights of the studies [R, n] themselves.
    """
    distinct = {id(array): array for name, array in counts.items() if name not in ordered}

    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = {key: weights @ array for key, array in distinct.items()}  # [R, c]
        return {
            name: combine[name](array, weights) if name in ordered else combine[name](sums[id(array)])
            for name, array in counts.items()
        }

    studies = len(next(iter(counts.values())))
    value = values(np.ones([1, studies]))
    drawn = [values(weights) for weights in resamples(studies, number)]
    return {name: Spread(float(value[name][0]), np.concatenate([d[name] for d in drawn])) for name in counts}


def seed_groups(runs: Iterable[str]) -> dict[str, list[str]]:
    """Runs that differ only in their seed: {"lstm, mean of 3 seeds": ["lstm", "lstm_seed1", "lstm_seed2"]}."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(re.sub(r"_seed\d+$", "", run), []).append(run)
    return {f"{name}, mean of {len(seeds)} seeds": seeds for name, seeds in groups.items() if len(seeds) > 1}


def over_seeds(runs: list[dict[str, Spread]]) -> dict[str, Spread]:
    """The mean of each metric over runs that differ in their seed only; its interval is over studies and seeds.

    Each resample of the studies also draws the seeds anew, as many as there are, with replacement.
    """
    means = {}
    for name in [name for name in runs[0] if all(name in run and run[name].resampled is not None for run in runs)]:
        samples, values = np.stack([run[name].resampled for run in runs]), [run[name].value for run in runs]
        seeds, number = samples.shape
        drawn = np.random.default_rng(0).integers(0, seeds, [number, seeds])
        means[name] = Spread(float(np.mean(values)), samples[drawn, np.arange(number)[:, None]].mean(1), values)
    return means


def compare_to(reference: dict[str, Spread], run: dict[str, Spread]) -> None:
    """Set p of each metric of `run`: twice the smaller share of resamples with a difference <= 0 or >= 0."""
    for name, spread in run.items():
        if name not in reference or spread.resampled is None or not np.isfinite(reference[name].value - spread.value):
            continue
        difference = np.round(spread.resampled - reference[name].resampled, 12)  # equal runs differ by nothing
        defined = difference[np.isfinite(difference)]
        if len(defined) >= ENOUGH * len(difference):
            p = 2 * min((defined <= 0).mean(), (defined >= 0).mean())
            spread.p = float(min(1.0, max(p, 1 / len(defined))))
