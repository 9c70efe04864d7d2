"""The text of a report as a page shows it: sentences with capitals, as HTML or as plain text, never as markup.

sentences(text)        "the heart is normal ." to "The heart is normal."
paragraph(text)        the same as HTML
shaded(text, values)   HTML: each word on the color of its value (`models.reliance`), the number on hover
numbers(text, values)  HTML: a table of the words and their values
literal(text)          Markdown that shows the text as it is

Whatever a report holds, "<script>" or "![](...)", is shown as these letters.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence

UPPER = frozenset({"copd", "ct", "ekg", "icd", "ivc", "mri", "picc", "svc"})  # words that are written in capitals
ENDS = (".", "?", "!")
CLOSING = (*ENDS, ",", ";", ":")  # no blank goes before these
FULL = math.log(100)  # the value, in nats, at which a color is strongest
STRONGEST = 0.45  # its share there: black letters keep a contrast of 7 to 1
FOR, AGAINST = (33, 102, 172), (224, 130, 20)  # the image makes a word likelier, or less likely
INK = (17, 17, 17)
Hover = Callable[..., str]


def written(words: Sequence[str]) -> list[str]:
    """Each word as it is written, with the blank that goes before it: as many as there are words."""
    out, begins = [], True
    for word in words:
        shown = word.upper() if word in UPPER else word
        if begins:
            shown = shown[:1].upper() + shown[1:]
        out.append(shown if word in CLOSING or not out else f" {shown}")
        begins = word in ENDS
    return out


def sentences(text: str) -> str:
    return "".join(written(text.split()))


def paragraph(text: str) -> str:
    """HTML."""
    return f"<p class='report'>{html.escape(sentences(text))}</p>"


def small(text: str) -> str:
    """HTML: a remark, as it is."""
    return f"<p class='small'>{html.escape(text)}</p>"


def color(value: float) -> tuple[int, int, int]:
    """The color behind a word: white at 0."""
    share = STRONGEST * min(abs(value) / FULL, 1)
    return tuple(round(255 + share * (part - 255)) for part in (FOR if value > 0 else AGAINST))


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Of two colors, 1 to 21 (WCAG 2.2, "contrast ratio")."""

    def luminance(rgb: tuple[int, int, int]) -> float:
        parts = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in rgb))
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def shaded(text: str, values: Sequence[float], hover: Hover) -> str:
    """HTML; `hover` says a `value`, in nats, and its factor (`times`). ValueError where the values are not as many as
    the words.
    """
    words, pieces = text.split(), []
    for shown, value in zip(written(words), values, strict=True):
        said = html.escape(hover(value=value, times=_times(value)), quote=True)
        mark = f'<span title="{said}" style="background: rgb{color(value)}">{html.escape(shown.strip())}</span>'
        pieces.append(f" {mark}" if shown.startswith(" ") else mark)
    return f"<p class='report'>{''.join(pieces)}</p>"


def numbers(text: str, values: Sequence[float], headings: Sequence[str]) -> str:
    """An HTML table: each word, its value and its factor, for those who cannot hover."""
    rows = [(word, f"{value:+.2f}", f"{_times(value):.2g}") for word, value in zip(text.split(), values, strict=True)]
    head = "".join(f"<th scope='col'>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table class='numbers'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _times(value: float) -> float:
    return math.exp(min(value, 50))


def literal(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])", r"\\\1", " ".join(text.split()))
