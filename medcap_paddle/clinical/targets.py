"""What an image encoder learns to tell, from the MeSH terms of a study.

DRAWN    `findings.LABELS`, the same for every collection: what a drawing can show
NAMED    the findings that a collection names, each a label of its own: "pneumonia", "opacity left", "normal"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .findings import LABELS, RULES, from_mesh, label_vector

MINIMUM = 10  # train studies that must have a label
NORMAL = "normal"
# headings that `RULES` draws as one of their signs; the names of labels
DISEASES = ("tuberculosis", "sarcoidosis", "cystic fibrosis", "heart failure")
EMPTY = ("", "no indexing")  # headings that say nothing of the radiograph


@dataclass(frozen=True)
class Targets:
    labels: Callable[[Iterable[str]], tuple[str, ...]]  # MeSH cells of the train studies -> their labels
    vector: Callable[[str, Sequence[str]], np.ndarray]  # MeSH cell of a study, labels -> float32 [L], 0 or 1


def named(mesh: str) -> set[str]:
    """The labels of one study's terms, joined by ";".

    A finding has its own name, whatever it is drawn like. Where a term states a side, "opacity left" stands beside
    "opacity": the second alone says that the side was not stated. A term without a rule has its heading as a label.
    """
    found = set()
    for term in mesh.split(";"):
        heading = " ".join(term.split("/")[0].lower().split())
        findings = () if heading in DISEASES else from_mesh([term])
        sides = {"bilateral": ("left", "right"), "": ()}
        found |= {finding.name for finding in findings}
        found |= {f"{finding.name} {side}" for finding in findings for side in sides.get(finding.side, (finding.side,))}
        if heading not in EMPTY and (heading in DISEASES or heading not in RULES):
            found.add(heading)
    return found


def frequent(cells: Iterable[str]) -> tuple[str, ...]:
    """The labels that at least MINIMUM of these studies have, and as many have not; in alphabetical order."""
    studies = [named(mesh) for mesh in cells]
    counts = Counter(label for labels in studies for label in labels)
    return tuple(sorted(label for label, n in counts.items() if MINIMUM <= n <= len(studies) - MINIMUM))


def named_vector(mesh: str, labels: Sequence[str]) -> np.ndarray:
    found = named(mesh)
    return np.array([label in found for label in labels], np.float32)


DRAWN = Targets(lambda cells: LABELS, lambda mesh, labels: label_vector(from_mesh(mesh)))
NAMED = Targets(frequent, named_vector)
