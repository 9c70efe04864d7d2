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
    counted = labels.counts(labels.label(references), labels.label(predictions))
    return labels.scores(*(values.sum(-1) for values in counted))["f1"]


REWARDS: dict[str, Reward] = {
    "cider_bleu4": cider_bleu4,
    "cider": ngrams.cider,
    "bleu4": bleu4,
    "clinical_f1": clinical_f1,
}
