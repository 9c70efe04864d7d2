"""Kappa: how far readers agree beyond chance, 1 at most. NaN where they could not have disagreed by chance: every
answer is the same. Of two readers that of Cohen (1960), by scikit-learn; of more that of Fleiss (1971), for whom the
readers of a case need not be the same ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np


def cohen(first: Sequence[str], second: Sequence[str]) -> float:
    """Of the answers of two readers to the same cases."""
    from sklearn.metrics import cohen_kappa_score

    if not len(first):
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 0 / 0
        return float(cohen_kappa_score(list(first), list(second)))


def fleiss(counts: np.ndarray) -> float:
    """Of counts [n, C]: how many readers gave case n the answer C. ValueError where not every case has the same number
    of answers, two at least.
    """
    counts = np.asarray(counts, float)
    readers = set(counts.sum(1))
    if len(readers) > 1 or not min(readers, default=2) > 1:
        raise ValueError(f"cases with {sorted(readers)} answers: every case needs the same number, two at least")
    if not len(counts):
        return np.nan
    [each] = readers
    agreed = ((counts**2).sum(1) - each) / (each * (each - 1))  # of the pairs of readers of a case
    chance = (counts.mean(0) / each) @ (counts.mean(0) / each)
    return float((agreed.mean() - chance) / (1 - chance)) if chance < 1 else np.nan


def kappa(answers: Sequence[Sequence[str]]) -> float:
    """Of the answers of each reader to the same cases: Cohen's of two readers, Fleiss' of more."""
    if len(answers) == 2:
        return cohen(*answers)
    names = sorted({name for own in answers for name in own})
    given = np.array(answers, dtype=object)
    return fleiss(np.stack([(given == name).sum(0) for name in names], 1) if names else np.zeros([0, 0]))
