"""Whether reports are in English, by the share of their words that English reports have. Reads language.json and the
words of labels.json.

    english_share(texts)               0 to 1
    require_english(texts, source)     MedcapError where they are in another language

Measured: groups of five reports of IU X-Ray have at least 60%, telegraphic English ("Heart nl. No ptx.") 50%, reports
in German, French, Spanish, Italian, Portuguese, Dutch or Chinese at most 10%.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ..runtime.files import MedcapError
from .labels import vocabulary
from .plain import plain

LEAST = 0.3  # share of words
ENOUGH = 20  # words: fewer say little about their language
SAMPLE = 1000  # reports, spread over the collection
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")  # a character where words have no blanks


@cache
def english_words() -> frozenset[str]:
    """The words that English reports have, and reports in other languages have not."""
    data = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return (frozenset(" ".join(data["words"]).split()) | vocabulary()) - frozenset(data["shared"])


def _words(texts: Sequence[str]) -> list[str]:
    """Their words in lower case, without the marks of removed names."""
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    return [word for text in sample for word in _WORD.findall(plain(text).lower()) if set(word) != {"x"}]


def english_share(texts: Sequence[str]) -> float:
    """The share of the words of `texts` that are among `english_words`, 0 to 1; 1 without a word."""
    words, known = _words(texts), english_words()
    return sum(word in known for word in words) / len(words) if words else 1.0


def require_english(texts: Sequence[str], source: str) -> None:
    """MedcapError where the reports of a collection, as they are in the source, are not in English."""
    texts = [text for text in texts if text.strip()]
    if len(_words(texts)) < ENOUGH or (share := english_share(texts)) >= LEAST:
        return
    raise MedcapError(
        f"the reports of {source} are not in English: {share:.0%} of their words are words of English reports, "
        f"expected at least {LEAST:.0%} (the first begins {texts[0].strip()[:40]!r}). "
        "Cleaning, labels and metrics know English only: translate the reports, or give a collection in English"
    )
