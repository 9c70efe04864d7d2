"""Where the structures of a frontal drawing lie: `masks(findings, seed)` gives a dict of bool [size, size].

The outlines are those that `draw` paints: given the same findings, seed, size, take and changes, they lie on its
picture. A lateral drawing has no masks: the lungs and all that is in them lie over each other there.

    left_lung, right_lung  the field: what is seen through lung, and not through heart, mediastinum or what lies below
                           the diaphragm (as in SCR, van Ginneken et al., Medical Image Analysis 2006), whether it
                           holds lung, air or fluid
    heart                  down to the diaphragm
    clavicles              both
    pneumothorax           air between lung and chest wall, but for what fluid covers
    effusion               free fluid, also before the heart, and the little that blunts a costophrenic angle
    nodule                 each of them

A structure that the patient does not have is a mask without a pixel. The sides are the patient's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..clinical.findings import Finding
from .body import SIGN, Body
from .draw import SIZE, pose
from .film import Film
from .frontal import (
    aorta_outline,
    belly_outline,
    clavicles,
    heart_outline,
    lung_outline,
    mediastinum_outline,
    pleural_space,
)
from .lesions import nodule_outline, spots
from .signs import FLUID, fluid, fluid_height

Structure = Callable[[Film, Body, Sequence[Finding]], np.ndarray]


def masks(
    findings: Iterable[Finding],
    seed: int = 0,
    size: int = SIZE,
    take: int = 0,
    changes: Mapping[str, object] | None = None,
) -> dict[str, np.ndarray]:
    """The mask of each of `STRUCTURES`, bool [size, size], of the frontal drawing of these arguments."""
    findings = list(findings)
    film, body = pose(findings, "frontal", seed, size, take, changes)
    return {name: structure(film, body, findings) for name, structure in STRUCTURES.items()}


def inside(film: Film, outlines) -> np.ndarray:
    """The pixels of which at least half lies within an outline."""
    return film.mask(outlines, 0) >= 0.5


def nothing(film: Film) -> np.ndarray:
    return np.zeros((film.size, film.size), bool)


def field_of(side: str) -> Structure:
    """The field of one lung."""

    def field(film: Film, body: Body, findings: Sequence[Finding] = ()) -> np.ndarray:
        aorta = aorta_outline(body)
        within = aorta[: len(aorta) // 2]  # between the aorta and the spine
        before = [heart_outline(body), mediastinum_outline(body), aorta, within]
        return inside(film, lung_outline(body, side)) & ~inside(film, before)

    return field


FIELDS = {side: field_of(side) for side in SIGN}


def heart(film: Film, body: Body, findings: Sequence[Finding]) -> np.ndarray:
    return inside(film, heart_outline(body)) & ~inside(film, belly_outline(body))


def both_clavicles(film: Film, body: Body, findings: Sequence[Finding]) -> np.ndarray:
    return inside(film, [*clavicles(body).values()])


def effusion(film: Film, body: Body, findings: Sequence[Finding]) -> np.ndarray:
    found = nothing(film)
    for finding in (finding for finding in findings if finding.name in FLUID):
        for side in finding.sides:
            found |= inside(film, fluid(body, side, fluid_height(finding))) & inside(film, lung_outline(body, side))
    return found


def pneumothorax(film: Film, body: Body, findings: Sequence[Finding]) -> np.ndarray:
    found = nothing(film)
    for side in {side for finding in findings if finding.name == "pneumothorax" for side in finding.sides}:
        found |= inside(film, pleural_space(body, side)) & FIELDS[side](film, body)
    return found & ~effusion(film, body, findings)


def nodule(film: Film, body: Body, findings: Sequence[Finding]) -> np.ndarray:
    found = nothing(film)
    for finding in (finding for finding in findings if finding.name == "nodule"):
        for side, point in spots(film, body, finding, body.rng_of(finding)):
            found |= inside(film, nodule_outline(point, finding.grade)) & inside(film, lung_outline(body, side))
    return found


STRUCTURES: dict[str, Structure] = {
    "left_lung": FIELDS["left"],
    "right_lung": FIELDS["right"],
    "heart": heart,
    "clavicles": both_clavicles,
    "pneumothorax": pneumothorax,
    "effusion": effusion,
    "nodule": nodule,
}
