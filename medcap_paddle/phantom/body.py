"""The patient: the healthy body of a seed, and how findings reshape it before it is drawn.

Lengths are fractions of the picture, x to the right and y down. Frontal: the patient's right is on the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..clinical.findings import Finding

SIGN = {"right": -1.0, "left": 1.0}  # of x on a frontal picture


@dataclass
class Body:
    """One patient's anatomy; findings reshape it before it is drawn."""

    seed: int
    width: float = 0.345  # half the width of the lungs
    apex: float = 0.115
    dome: dict[str, float] = field(default_factory=dict)  # y of each hemidiaphragm
    arch: dict[str, float] = field(default_factory=dict)  # from its dome down to the costophrenic angle
    heart: float = 1.0
    axis: float = 0.0
    knob: float = 1.0
    unfold: float = 0.0  # of the aorta
    wide: float = 0.0  # mediastinum
    shift: float = 0.0  # of the mediastinum, in x
    depth: float = 1.0  # from front to back
    bend: float = 0.0  # scoliosis
    hunch: float = 0.0  # kyphosis
    fat: float = 0.0
    female: bool = False
    bone: float = 1.0
    vessels: float = 1.0
    reach: float = 1.0  # how far out vessels are seen
    branches: float = 10
    upper_flow: float = 0.75
    hilum: dict[str, float] = field(default_factory=dict)
    air: float = 1.0
    bump: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIGN, 0.0))  # eventration
    collapse: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIGN, 0.0))  # pneumothorax
    apical: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIGN, 0.0))  # its reach, if not all
    spurs: float = 0.0
    endplates: float = 0.0
    wedge: float = 0.0
    exposure: float = 0.0
    contrast: float = 1.0
    grain: float = 1.0
    sloppy: float = 1.0
    blurred: float = 0.0
    breast: dict[str, float] = field(default_factory=dict)  # drawn in women only
    fold: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIGN, 0.0))  # of the skin of the back

    def rng(self, part: str) -> np.random.Generator:
        """A random stream of its own for every part, so that a finding does not reshuffle the rest."""
        return np.random.default_rng([self.seed, *part.encode()])

    def rng_of(self, finding: Finding) -> np.random.Generator:
        """The random stream of the painter of a finding."""
        return self.rng(f"{finding.name}{finding.place}{finding.side}")

    def bottom(self, side: str, u: float | np.ndarray) -> np.ndarray:
        """y of the hemidiaphragm at u = distance from the midline over the half width."""
        dome, arch = self.dome[side], self.arch[side]
        sag = np.interp(
            u, [0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.96, 1.0], [0.34, 0.2, 0.07, 0.0, 0.04, 0.22, 0.47, 0.72, 1.0]
        )
        bump = self.bump[side] * np.exp(-(((np.asarray(u) - 0.45) / 0.19) ** 2))
        mid = 0.5 * (self.dome["left"] + self.dome["right"]) - dome  # the domes meet under the heart
        return dome + arch * sag - bump + mid * np.clip(1 - np.asarray(u) / 0.35, 0, 1) ** 1.5

    def wall(self, t: float | np.ndarray) -> np.ndarray:
        """Distance of the chest wall from the midline at t = 0 (apex) to 1 (costophrenic angle)."""
        steps = [0.0, 0.03, 0.1, 0.2, 0.35, 0.55, 0.8, 1.0]
        return self.width * np.interp(t, steps, [0.42, 0.56, 0.72, 0.84, 0.93, 0.985, 1.01, 0.99])

    def spine(self, y: float | np.ndarray) -> np.ndarray:
        """x of the vertebral column."""
        return 0.5 + self.bend * np.sin((np.asarray(y) - 0.05) * 3.6)

    def spot(self, side: str, across: float, down: float) -> np.ndarray:
        """A point of a lung: `across` from hilum 0 to chest wall 1, `down` from apex 0 to diaphragm 1."""
        wall = float(self.wall(down)) * 0.97
        u = 0.075 + across * (wall - 0.075)
        y = self.apex + 0.01 + down * (float(self.bottom(side, u / self.width)) - self.apex - 0.01)
        return np.array([0.5 + SIGN[side] * u, y])


def patient(seed: int) -> Body:
    """The healthy body of a seed."""
    rng = np.random.default_rng([seed, 11])
    body = Body(seed)

    def n(mean: float, spread: float) -> float:
        return float(np.clip(rng.normal(mean, spread), mean - 2 * spread, mean + 2 * spread))

    body.width, body.apex = n(0.345, 0.013), n(0.115, 0.012)
    low = n(0.715, 0.018)
    body.dome = {"right": low - n(0.014, 0.006), "left": low + n(0.014, 0.006)}
    body.arch = {"right": n(0.105, 0.012), "left": n(0.105, 0.012)}
    body.heart, body.axis = n(1.0, 0.05), n(0.0, 0.5)
    body.knob, body.wide = n(1.0, 0.08), n(0.0, 0.003)
    body.depth, body.hunch, body.bend = n(1.0, 0.04), n(0.0, 0.12), n(0.0, 0.0025)
    body.fat, body.female = float(rng.gamma(2.0, 0.2)), bool(rng.random() < 0.52)
    body.bone, body.vessels = n(1.0, 0.1), n(1.0, 0.06)
    body.hilum = {"right": n(1.0, 0.08), "left": n(1.0, 0.08)}
    body.exposure, body.contrast, body.grain = n(0.0, 0.04), n(1.0, 0.08), n(1.0, 0.25)
    body.breast = dict.fromkeys(SIGN, n(1.0, 0.3))
    return body


def mirror(side: str, points) -> np.ndarray:
    """Points given as (distance from the midline, y), on the patient's side."""
    return np.asarray(points, np.float64) * [SIGN[side], 1.0] + [0.5, 0.0]


# --- changes by findings ----------------------------------------------------------------------------------------------


def add(base: float, per_grade: float = 0.0):
    return lambda value, grade: value + (base + per_grade * grade)


def times(base: float, per_grade: float = 0.0):
    return lambda value, grade: value * (base + per_grade * grade)


def become(base: float, per_grade: float = 0.0):
    return lambda value, grade: base + per_grade * grade


# finding -> attributes of the Body that it changes; one kept per side changes on the sides of the finding, else on both
RESHAPED = {
    "cardiomegaly": {"heart": add(0, 0.34)},
    "pericardial effusion": {"heart": add(0, 0.34)},
    "tortuous aorta": {"unfold": add(0, 1.9), "knob": add(0, 0.15)},
    "mediastinal widening": {"wide": add(0, 0.038)},
    "hilar enlargement": {"hilum": add(0, 0.75)},
    "pulmonary congestion": {
        "vessels": times(1, 0.22),
        "upper_flow": become(1),
        "branches": become(14),
        "hilum": add(0, 0.30),
    },
    "pulmonary edema": {"vessels": times(1, 0.3), "upper_flow": become(1.15)},
    "bronchovascular markings": {"vessels": times(1.05, 0.15), "reach": times(1.12), "branches": become(18)},
    "low lung volumes": {"dome": add(-0.045, -0.055), "arch": times(0.9), "heart": times(1.06), "vessels": times(1.12)},
    "hyperinflation": {
        "dome": add(0.035, 0.045),
        "arch": times(0.62, -0.15),
        "heart": times(0.86),
        "depth": add(0, 0.10),
        "air": times(1.08),
    },
    "obstructive disease": {"dome": add(0.02, 0.03), "arch": times(0.7), "heart": times(0.9), "depth": add(0, 0.06)},
    "emphysema": {
        "dome": add(0.02, 0.02),
        "arch": times(0.7),
        "heart": times(0.9),
        "depth": add(0, 0.05),
        "air": times(1.08, 0.14),
        "vessels": times(0.8),
        "reach": times(0.72),
    },
    "flattened diaphragm": {"dome": add(0.055), "arch": times(0.42)},
    "elevated diaphragm": {"dome": add(-0.03, -0.07)},
    "eventration": {"bump": become(0.03, 0.035)},
    "volume loss": {"dome": add(-0.05), "shift": add(0.035)},
    "mediastinal shift": {"shift": add(0.06)},
    "pneumothorax": {"collapse": become(0, 1)},
    "scoliosis": {"bend": become(0.030, 0.050)},
    "kyphosis": {"hunch": add(0.7, 1.1)},
    "degenerative spine": {"endplates": add(0.35, 0.75), "spurs": add(0.25)},
    "spondylosis": {"endplates": add(0.6), "spurs": add(0.3, 0.35)},
    "osteophytes": {"spurs": add(0.6, 0.55)},
    "vertebral deformity": {"wedge": become(0.25, 0.30), "hunch": add(0.3)},
    "osteopenia": {"bone": times(0.5)},
    "pectus": {"shift": add(0.03), "depth": add(-0.09)},
    "mastectomy": {"breast": times(0), "female": become(True)},
    "poor technique": {
        "exposure": add(0.16),
        "contrast": times(0.72),
        "grain": times(3),
        "sloppy": become(2.2),
        "blurred": become(0.004),
    },
}


def reshape(body: Body, finding: Finding) -> None:
    """Give the body the anatomy of a finding."""
    for name, change in RESHAPED.get(finding.name, {}).items():
        value = getattr(body, name)
        if isinstance(value, dict):
            value.update({side: change(value[side], finding.grade) for side in finding.sides or SIGN})
        elif name in ("bend", "shift") and finding.sides:  # to the left or to the right
            towards = SIGN[finding.sides[0]]
            setattr(body, name, towards * change(towards * value, finding.grade))
        else:
            setattr(body, name, change(value, finding.grade))
