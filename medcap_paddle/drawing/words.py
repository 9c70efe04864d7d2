"""A paragraph whose words are colored by a number each, such as their reliance on the image (`models.reliance`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.19  # inches from one line of text to the next
WIDTH = 98  # letters of a line
FONT = {"family": "monospace", "fontsize": 9.5, "parse_math": False, "color": "black"}
NOTHING = "(nothing)"


class Band(NamedTuple):
    """Words whose number is at least `least`, and below that of the next band."""

    least: float
    label: str
    style: dict[str, str]


# Factors of a probability, in nats. Orange, gray and blue differ for every eye; the strongest differs in weight too.
RELIANCE = (
    Band(-math.inf, "less than half as likely", {"color": "#b35806"}),
    Band(-math.log(2), "about as likely", {"color": "#767676"}),
    Band(math.log(2), "2 to 10 times as likely", {"color": "#2166ac"}),
    Band(math.log(10), "at least 10 times as likely", {"color": "#053061", "weight": "bold"}),
)


def lines(text: str) -> list[str]:
    """Lines of whole words; `NOTHING` where there is no word."""
    return wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False) or [NOTHING]


def paragraph(ax: Axes, x: float, y: float, text: str, values: Sequence[float] | None = None) -> None:
    """The lines of a text below `y`, in inches; each word in the style of the `RELIANCE` of its value, else black.

    ValueError where the values are not as many as the words.
    """
    words = text.split()
    if values is not None and len(values) != len(words):
        raise ValueError(f"{len(values)} values for {len(words)} words")
    styles = [{}] * max(len(words), 1)
    if words and values is not None:
        styles = [RELIANCE[band].style for band in np.digitize(values, [band.least for band in RELIANCE[1:]])]
    for k, line in enumerate(lines(text), 1):
        line = line.split(" ") if words else [line]
        own, styles = styles[: len(line)], styles[len(line) :]
        for style in [style for i, style in enumerate(own) if style not in own[:i]]:
            # All letters are equally wide, bold ones too: a layer for each style fits.
            shown = [word if s == style else " " * len(word) for word, s in zip(line, own, strict=True)]
            ax.text(x, y + k * LINE, " ".join(shown), **FONT | style)


def legend(figure: Figure) -> None:
    """What the styles of `RELIANCE` mean, below the figure."""
    from matplotlib.patches import Patch

    patches = [Patch(color=band.style["color"], label=band.label) for band in RELIANCE]
    place = {"loc": "outside lower right", "ncols": len(patches), "frameon": False}
    texts = figure.legend(handles=patches, title="Against the mean image, this image makes a word", **place)
    for text, band in zip(texts.get_texts(), RELIANCE, strict=True):
        text.set(**band.style)
