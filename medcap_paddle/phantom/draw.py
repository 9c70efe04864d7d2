"""Chest radiographs drawn from findings: `draw(findings, view, seed)` gives uint8 [size, size].

A picture is a sum of attenuations, as on a film: soft tissue, minus the air of the lungs, plus heart, vessels, bones,
findings and metal; a tone curve, scatter and noise follow. The seed is the patient: the same seed gives the same body
in both views, and a finding changes its own signs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..clinical.findings import Finding
from . import devices, lesions  # noqa: F401  (their painters enter PAINTERS)
from .body import Body, patient, reshape
from .film import Film
from .frontal import draw_frontal
from .lateral import draw_lateral
from .signs import PAINTERS

SIZE = 320


def pose(
    findings: Iterable[Finding],
    view: str = "frontal",
    seed: int = 0,
    size: int = SIZE,
    take: int = 0,
    changes: Mapping[str, object] | None = None,
) -> tuple[Film, Body]:
    """An empty film and the patient before it, as the findings shaped the body; `changes` are attributes of it."""
    body = patient(seed)
    for finding in findings:
        reshape(body, finding)
    body = replace(body, **changes or {})
    return Film(size, body, view, take), body


def draw(
    findings: Iterable[Finding],
    view: str = "frontal",
    seed: int = 0,
    size: int = SIZE,
    take: int = 0,
    changes: Mapping[str, object] | None = None,
) -> np.ndarray:
    """A patient's picture, uint8 [size, size], view "frontal" or "lateral".

    Another `take` is another exposure of the same patient. `changes` are attributes of the `Body` that no finding
    tells, such as a fold of the skin. Where its structures lie, `anatomy.masks` says.
    """
    findings = list(findings)
    film, body = pose(findings, view, seed, size, take, changes)
    (draw_frontal if view == "frontal" else draw_lateral)(film, body)
    for finding in findings:
        if finding.name in PAINTERS[view]:
            PAINTERS[view][finding.name](film, body, finding, body.rng_of(finding))
    return film.expose(body)
