"""What a report says of the size of the heart: `heart_size(text)` is one of `SIZES`, or "" where it says nothing."""

from __future__ import annotations

import re

from . import labels

ENLARGED, BORDERLINE, NORMAL = SIZES = ("enlarged", "borderline", "normal")
CARDIOMEGALY = labels.OBSERVATIONS.index("Cardiomegaly")
HEART = re.compile(r"\b(heart|cardiac|cardio\w*)\b")
BETWEEN = re.compile(r"\bborderline\b|\btop[ -]normal\b|\bupper (limits?|normal)\b")
DENIED = re.compile(r"\bnot( \w+)? (enlarged|increased|large)\b")
USUAL = re.compile(r"\b(normal|unremarkable)\b")
FAILURE = re.compile(r"\b(heart|cardiac) failure\b")  # for `labels` a cardiomegaly, but no word of size
NOT_SIZE = re.compile(r"\b(not|abnormal|rhythm|rate|surgery|sounds?)\b")


def heart_size(text: str) -> str:
    """The size that the sentences of a report give the heart; the largest where they differ.

    A sentence with an affirmed cardiomegaly (`labels`) says that it is enlarged; one that denies it, or names the heart
    and calls it normal, that it is not.
    """
    found = {_of_sentence(sentence) for sentence in re.split(r"[.;!?]", text.lower())}
    return next((size for size in SIZES if size in found), "")


def _of_sentence(sentence: str) -> str:
    sentence = FAILURE.sub(" ", sentence)
    known = [part for part in labels.sentences(sentence) if part]
    affirmed = any(CARDIOMEGALY in labels.present(part) for part in known)
    if BETWEEN.search(sentence) and (affirmed or HEART.search(sentence)):
        return BORDERLINE
    if affirmed:
        return ENLARGED
    if any(CARDIOMEGALY in labels.negated(part) for part in known):
        return NORMAL
    if HEART.search(sentence) and DENIED.search(sentence):
        return NORMAL
    usual = HEART.search(sentence) and USUAL.search(sentence) and not NOT_SIZE.search(sentence)
    return NORMAL if usual else ""
