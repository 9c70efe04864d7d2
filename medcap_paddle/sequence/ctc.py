"""Connectionist temporal classification (Graves et al., ICML 2006): a text from the numbers of every step.

A path [T] names a symbol or the blank (0) for each of T steps. `collapse` makes a text of it: equal neighbours become
one, then blanks go. The probability of a text is the sum over all its paths. A text is a tuple of symbols 1 .. C - 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import paddle
import paddle.nn.functional as F

from ..runtime.files import MedcapError

BLANK = 0
Text = tuple[int, ...]


def collapse(path: Sequence[int]) -> Text:
    """The text of a path."""
    return tuple(int(symbol) for symbol, _ in groupby(path) if symbol != BLANK)


def steps_needed(text: Sequence[int]) -> int:
    """The fewest steps that can hold `text`: a blank parts equal neighbours."""
    return len(text) + sum(a == b for a, b in zip(text, text[1:], strict=False))


def greedy(log_p: np.ndarray) -> Text:
    """The text of the most probable path of log probabilities [T, C]; not always the most probable text."""
    return collapse(log_p.argmax(1))


def prefix_beam(log_p: np.ndarray, width: int = 16, rare: float = -np.inf) -> tuple[Text, float]:
    """The most probable text of log probabilities [T, C], and the log of its probability.

    Of each prefix the paths that end in a blank and those that do not are summed apart (Graves et al., section 3.2;
    Hannun et al., 2014, algorithm 1). After each step the `width` best prefixes stay; symbols whose log
    probability in a step is below `rare` do not prolong any. Exact where nothing is dropped.
    """
    beams: dict[Text, tuple[float, float]] = {(): (0.0, -np.inf)}  # log of: the last step is a blank, it is not
    for step in log_p:
        ends = defaultdict(lambda: [-np.inf, -np.inf])
        likely = [int(k) for k in np.flatnonzero(step >= rare) if k != BLANK]
        for prefix, (blank, symbol) in beams.items():
            both = np.logaddexp(blank, symbol)
            ends[prefix][0] = np.logaddexp(ends[prefix][0], both + step[BLANK])
            for k in likely:
                before = both
                if prefix and prefix[-1] == k:  # only a blank lets it appear again; else it is the same one, longer
                    ends[prefix][1] = np.logaddexp(ends[prefix][1], symbol + step[k])
                    before = blank
                longer = ends[(*prefix, k)]
                longer[1] = np.logaddexp(longer[1], before + step[k])
        best = sorted(ends, key=lambda prefix: np.logaddexp(*ends[prefix]), reverse=True)[:width]
        beams = {prefix: (ends[prefix][0], ends[prefix][1]) for prefix in best}
    text = max(beams, key=lambda prefix: np.logaddexp(*beams[prefix]))
    return text, float(np.logaddexp(*beams[text]))


def loss(logits: paddle.Tensor, texts: Sequence[Sequence[int]]) -> paddle.Tensor:
    """-log of the probability of each text [B] under logits [T, B, C].

    Paddle's own takes logits and applies the softmax itself. It gives 0 for a text that no path of T steps can hold,
    ends the process where all texts are empty, and its "mean" divides by the length of an empty one: so here the first
    is a MedcapError, the second is summed by hand, and there is no mean.
    """
    steps, rows, _ = logits.shape
    for text in texts:
        if steps_needed(text) > steps:
            raise MedcapError(f"{steps} steps cannot hold a text of {len(text)} symbols: use a wider line")
    lengths = [len(text) for text in texts]
    if not any(lengths):
        return -F.log_softmax(logits, -1)[:, :, BLANK].sum(0)
    labels = np.zeros([rows, max(lengths)], "int32")
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = text
    numbers = (paddle.to_tensor(n, dtype="int64") for n in ([steps] * rows, lengths))
    return F.ctc_loss(logits, paddle.to_tensor(labels), *numbers, blank=BLANK, reduction="none").reshape([rows])
