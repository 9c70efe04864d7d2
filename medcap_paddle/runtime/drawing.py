"""The mark of a drawing: a line of text in the PNG, "Software: medcap_paddle phantom", beside its pixels.

A film has no such line, and whatever saves a drawing anew may lose it: what has the mark is a drawing, and what lacks
it counts as none. A copy of the file keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

KEY, VALUE = "Software", "medcap_paddle phantom"  # a keyword that the PNG specification defines


def mark() -> PngInfo:
    """What PIL writes into a PNG as its text."""
    text = PngInfo()
    text.add_text(KEY, VALUE)
    return text


def is_drawing(path: str | Path) -> bool:
    """Whether the file is a PNG that bears the mark; only its header is read. False where it is no picture."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return picture.info.get(KEY) == VALUE
    except Exception:  # decoders raise nearly anything on broken input; who reads the pixels says what is wrong
        return False


def all_drawings(paths: Iterable[str | Path]) -> bool:
    """Whether all pictures bear the mark. A file that is no picture says nothing; where there is no picture: False."""
    found = False
    for path in paths:
        try:
            with Image.open(path) as picture:
                marked = picture.info.get(KEY) == VALUE
        except Exception:  # nothing was learnt from it either
            continue
        if not marked:
            return False
        found = True
    return found
