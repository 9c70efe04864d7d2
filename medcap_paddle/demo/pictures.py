"""Pictures that matplotlib draws of a reading, as the bytes of a file.

sheet(films, ...)               films and reports of a study on one page to keep, as PNG or PDF
attention(films, reading, t)    for each film, where the decoder looked to write word t: PNG
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from ..drawing import attention as drawing
from ..show import Written
from ..show import reading as drawn
from .films import Film
from .reading import QUEUE, Reading
from .sentences import sentences
from .sentences import written as words
from .words import say

KINDS = {"pdf": "application/pdf", "png": "image/png"}


def sheet(films: Sequence[Film], report: str, written: Sequence[Written], kind: str = "pdf") -> bytes:
    """Of `films` the first two; `report` is the radiologist's, or ""; `written` as `show.reading` has it.

    In English: matplotlib's own letters have no Chinese ones.
    """
    kept = [(title, " ".join(map(str.strip, words(text.split()))), values) for title, text, values in written]
    with QUEUE:
        figure = drawn([([film.pixels for film in films], sentences(report), kept)])
        figure.suptitle(say("en", "not_clinical"), color="#b00020", weight="bold", fontsize=11)
        out = BytesIO()
        figure.savefig(out, format=kind, dpi=150)
    return out.getvalue()


def attention(films: Sequence[Film], reading: Reading, t: int) -> list[bytes]:
    pictures = []
    with QUEUE:
        for film, weights in zip(films, reading.attention[t], strict=True):  # [G]
            out = BytesIO()
            figure = drawing.words(film.pixels, [reading.words[t]], weights[None], columns=1)
            figure.savefig(out, format="png", dpi=200)
            pictures.append(out.getvalue())
    return pictures
