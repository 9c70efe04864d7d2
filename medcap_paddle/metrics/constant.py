"""The one text that scores best when it is written for every study: the yardstick of a model that sees nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Score = Callable[[Sequence[str], Sequence[str]], np.ndarray]  # references [n] and texts [t] to the score of each text


def best_constant(train: Sequence[str], val: Sequence[str], score: Score, candidates: int = 200) -> str:
    """The one text that scores best on `val` when written for every study.

    Candidates are the most frequent train reports, and a report grown from the most frequent train sentences: each step
    adds the sentence that improves the score most, at the place where it improves the score most.
    """
    reports = [text for text, _ in Counter(train).most_common(candidates)]
    sentences = Counter(part.strip() + " ." for text in train for part in text.split(" .") if part.strip())
    sentences = [text for text, _ in sentences.most_common(candidates // 4)]
    best, text = max(zip(score(val, reports), reports, strict=True))
    grown: list[str] = []
    grown_score = 0.0
    while places := [grown[:i] + [s] + grown[i:] for s in sentences if s not in grown for i in range(len(grown) + 1)]:
        top, parts = max(zip(score(val, [" ".join(place) for place in places]), places, strict=True))
        if top <= grown_score:
            break
        grown, grown_score = parts, top
    return " ".join(grown) if grown_score > best else text
