"""The clinical relevance score that a tutorial on the knowledge Transformer reports, and a bounded form of it.

An entity is an observation that the labeller reads as present (`clinical.labels`), of the 13 besides "No Finding". The
tutorial weighs the precision of entities, with a bonus for the critical terms pneumothorax, effusion and nodule. Its
own weights were not at hand. Ours: with weight w = 1 + BONUS for Pneumothorax, Pleural Effusion and Lung Lesion, else
w = 1, and true positives, false positives and false negatives of each observation summed over the studies,

    precision   sum of w tp / sum of (tp + fp)
    f1          2 sum of w tp / sum of w (2 tp + fp + fn)

**The first has two flaws: it exceeds 1** (a pneumothorax that is there counts 1.5 and costs 1), **and it ignores what
was missed**: who tells one sure finding and leaves out all others is best. Read the second, which is at most 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..clinical.labels import OBSERVATIONS

CRITICAL = ("Pneumothorax", "Pleural Effusion", "Lung Lesion")
BONUS = 0.5
WEIGHTS = np.array([1 + BONUS * (name in CRITICAL) for name in OBSERVATIONS[:-1]])  # [13]

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # tp, fp, fn [..., 14] to [...]


def precision(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """0 to 1 + BONUS; NaN where no prediction has an entity. `fn` changes nothing: that is the flaw."""
    told = (tp + fp)[..., :-1].sum(-1)
    return tp[..., :-1] @ WEIGHTS / np.where(told > 0, told, np.nan)


def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """0 to 1; NaN where neither a reference nor a prediction has an entity."""
    either = (2 * tp + fp + fn)[..., :-1] @ WEIGHTS
    return 2 * (tp[..., :-1] @ WEIGHTS) / np.where(either > 0, either, np.nan)
