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
from .sentences import sentences, written
from .words import say

KINDS = {"pdf": "application/pdf", "png": "image/png"}


def sheet(films: Sequence[Film], report: str, reports: Sequence[Written], kind: str = "pdf") -> bytes:
    """Of `films` the first two; `report` is the reference, or ""; `reports` are of runs, as `show.reading` has them.

    In English: matplotlib's own letters have no Chinese ones.
    """
    kept = [(title, *_together(text, values)) for title, text, values in reports]
    with QUEUE:
        figure = drawn([([film.pixels for film in films], sentences(report), kept)])
        figure.suptitle(say("en", "not_clinical"), color="#b00020", weight="bold", fontsize=11)
        out = BytesIO()
        figure.savefig(out, format=kind, dpi=150)
    return out.getvalue()


def _together(text: str, values: Sequence[float] | None) -> tuple[str, Sequence[float] | None]:
    """Sentences, whose stops have joined the words before them, and the values of the words."""
    pieces = written(text.split())
    kept = [i for i, piece in enumerate(pieces) if not i or piece.startswith(" ")]
    return "".join(pieces), None if values is None else [values[i] for i in kept]


def attention(films: Sequence[Film], reading: Reading, t: int) -> list[bytes]:
    pictures = []
    with QUEUE:
        for film, weights in zip(films, reading.attention[t], strict=True):  # [G]
            out = BytesIO()
            figure = drawing.words(film.pixels, [reading.words[t]], weights[None], columns=1)
            figure.savefig(out, format="png", dpi=200)
            pictures.append(out.getvalue())
    return pictures
