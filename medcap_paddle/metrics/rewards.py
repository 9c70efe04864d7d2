"""What a report is worth in the second training, a report at a time; another one is an entry of `REWARDS`.

A corpus metric will not do: BLEU-4 of one report is mostly 0, so its n-grams from 2 on are counted once more (Lin and
Och, COLING 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..clinical import labels
from . import ngrams

BLEU_WEIGHT = 3.0  # of BLEU-4 beside CIDEr
CLINICAL_WEIGHT = 3.0  # of the F1 of findings beside these: as BLEU-4's, and as little tuned
SMOOTH = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 0])

# References, predictions and the document frequencies of train to a worth each [n].
Reward = Callable[[Sequence[str], Sequence[str], ngrams.DocumentFrequency], np.ndarray]


def cider_bleu4(
    references: Sequence[str], predictions: Sequence[str], frequency: ngrams.DocumentFrequency
) -> np.ndarray:
    counts = ngrams.NGramCounts.of(references, predictions)
    smooth = ngrams.bleu(counts.bleu() + SMOOTH)[:, 3]
    return counts.cider(counts.weights(frequency)) + BLEU_WEIGHT * smooth


def bleu4(references: Sequence[str], predictions: Sequence[str], frequency: ngrams.DocumentFrequency) -> np.ndarray:
    """0 to 1."""
    return ngrams.bleu(ngrams.bleu_counts(references, predictions) + SMOOTH)[:, 3]


def clinical_f1(
    references: Sequence[str], predictions: Sequence[str], frequency: ngrams.DocumentFrequency
) -> np.ndarray:
    """F1 of the 14 observations of each report, 0 to 1. A report always has one ("No Finding"): F1 is defined.

    Slow while sentences are new: the labeler remembers those it has read.
    """
    return labels.scores(*(values.sum(-1) for values in _counted(references, predictions)))["f1"]


def findings_f1(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """F1 of the 13 observations but "No Finding", 0 to 1: 1 where neither report has any, 0 where one of them has."""
    f1 = labels.scores(*(values[:, :-1].sum(-1) for values in _counted(references, predictions)))["f1"]
    return np.where(np.isnan(f1), 1.0, f1)


def cider_bleu4_f1(
    references: Sequence[str], predictions: Sequence[str], frequency: ngrams.DocumentFrequency
) -> np.ndarray:
    worded = cider_bleu4(references, predictions, frequency)
    return worded + CLINICAL_WEIGHT * findings_f1(references, predictions)


def _counted(references: Sequence[str], predictions: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`labels.counts` of the pairs [n, 14]; a text that comes again, as a reference does, is labeled once."""
    texts = list(dict.fromkeys([*references, *predictions]))
    rows = dict(zip(texts, labels.label(texts), strict=True))
    return labels.counts(*(np.stack([rows[text] for text in part]) for part in (references, predictions)))


REWARDS: dict[str, Reward] = {
    "cider_bleu4": cider_bleu4,
    "cider": ngrams.cider,
    "bleu4": bleu4,
    "clinical_f1": clinical_f1,
    "cider_bleu4_f1": cider_bleu4_f1,
}
CONSTANTS: dict[Reward, tuple[float, ...]] = {cider_bleu4_f1: (CLINICAL_WEIGHT,)}  # what else a training depends on
