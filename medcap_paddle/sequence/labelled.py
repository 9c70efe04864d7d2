"""Lines of burned-in text that were labelled by hand, and how well a detector finds them.

    path,x,y,width,height,text,kind     a line each; path relative to the folder that holds the collections

`kind` is "line" where a person reads it from left to right, else "other": mirrored, turned by more than about 20
degrees, cut off, unclear, or no letter (an arrow). Who finds one of the others makes no error, who misses it neither.
Every line of the films in the file is labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.files import read_table
from .burned_in import Box, Line, shared

COLUMNS = ["path", "x", "y", "width", "height", "text", "kind"]
COVERED, LARGER = 0.7, 4.0  # a line is found by a box that covers so much of it and is at most so many times as large


@dataclass(frozen=True)
class Label:
    box: Box
    text: str
    kind: str


def load(path: str | Path) -> dict[str, list[Label]]:
    """The labels of each film, by its path."""
    films: dict[str, list[Label]] = {}
    for row in read_table(path, COLUMNS, "take it from the repository").to_dict("records"):
        box = tuple(int(row[name]) for name in ("x", "y", "width", "height"))
        films.setdefault(row["path"], []).append(Label(box, row["text"], row["kind"]))
    return films


def is_found(label: Box, found: Box) -> bool:
    area = shared(label, found)
    return area >= COVERED * label[2] * label[3] and found[2] * found[3] <= LARGER * label[2] * label[3]


def score(labels: Sequence[Label], found: Sequence[Line]) -> np.ndarray:
    """Of a film [4]: lines labelled, of them found, of them read exactly; lines found where nothing is labelled."""
    lines = [label for label in labels if label.kind == "line"]
    hits = [[line for line in found if is_found(label.box, line.box)] for label in lines]
    exact = sum(any(line.text == label.text for line in hit) for label, hit in zip(lines, hits, strict=True))
    false = sum(not any(shared(label.box, line.box) for label in labels) for line in found)
    return np.array([len(lines), sum(map(bool, hits)), exact, false], float)
