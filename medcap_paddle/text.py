"""The text of a report, cleaned: the tokens that models learn to write and that every score compares."""

from __future__ import annotations

import re

from .clinical.plain import joined, plain, says_nothing  # noqa: F401
from .runtime.files import MedcapError

_DROPPED = str.maketrans("", "", ".,;:?!*%^&_+=@()[]{}<>\"'/\\")  # the hyphen stays: "x-xxxx" is a word
_ENUMERATION = [mark.format(number) for mark in (". {}. ", " {}. ") for number in "2345"]  # R2Gen keeps 6 and more


def clean(text: str, rules: str = "r2gen") -> str:
    """The tokens of a report, separated by one space; "" for a text without a word. Cleaning twice changes nothing.

    "r2gen" is the rule behind the published IU X-Ray scores (Chen et al., EMNLP 2020, `tokenizers.py` of their code):
    lower case, no enumeration numbers, no punctuation except a "." token after every sentence. "original" is what the
    AI Studio notebook meant to do: letters only. Both read `plain` text. Other `rules` raise MedcapError.
    """
    text = plain(text)
    if rules == "original":
        return " ".join(re.sub("[^a-zA-Z]", " ", text).lower().split())
    if rules != "r2gen":
        raise MedcapError(f'cleaning "{rules}" is unknown: use "r2gen" or "original"')
    if ".." in text:
        text = re.sub(r"\.{2,8}", ".", text)
    text = text.replace("1. ", "")  # also the end of "T11. ", as R2Gen does
    for mark in _ENUMERATION:
        text = text.replace(mark, ". ")
    sentences = text.strip().lower().split(". ")
    tokens = " . ".join(sentence.translate(_DROPPED) for sentence in sentences).split()
    return " ".join([*tokens, "."]) if set(tokens) - {"."} else ""
