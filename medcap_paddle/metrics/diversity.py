"""Signs of a model that writes the same for everybody, or repeats itself within a report.

They have no interval: a resample holds some studies twice, and so fewer different reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

DIGITS = {  # 0: a whole number
    "different_reports": 0,
    "different_share": 3,  # of all reports
    "most_frequent_share": 3,  # of all reports
    "length_ratio": 3,  # words of predictions to words of references
    "repeated_trigrams": 3,  # share of the trigrams that their report had before
    "words_used": 0,  # different ones
    "words_in_references": 0,
}


UNDEFINED = "No prediction has three words: the share of repeated trigrams is undefined (-)."


def counts(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """The values of `DIGITS` for all studies together [1, 7]."""
    words, true_words = ([text.split() for text in texts] for texts in (predictions, references))
    trigrams = [list(zip(report, report[1:], report[2:], strict=False)) for report in words]
    number, repeated = sum(map(len, trigrams)), sum(len(report) - len(set(report)) for report in trigrams)
    values = (
        len(set(predictions)),
        len(set(predictions)) / len(predictions),
        max(Counter(predictions).values()) / len(predictions),
        sum(map(len, words)) / sum(map(len, true_words)),
        repeated / number if number else np.nan,
        len(set().union(*words)),
        len(set().union(*true_words)),
    )
    return np.array([values], float)
