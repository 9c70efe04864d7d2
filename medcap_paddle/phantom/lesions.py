"""Lesions: the painters of findings in the lungs, at spots or diffuse."""

from __future__ import annotations

import numpy as np

from ..clinical.findings import Finding
from .body import SIGN, Body
from .film import Film, curve, oval, ribbon
from .signs import paints

# fmt: off
# The formatter would give every point a line of its own.

# place -> across and down the lung on the frontal picture, x and y on the lateral one
PLACES = {
    "": (0.50, 0.55, 0.46, 0.50),
    "apex": (0.55, 0.10, 0.50, 0.15),
    "upper lobe": (0.55, 0.28, 0.42, 0.27),
    "middle lobe": (0.40, 0.72, 0.33, 0.60),
    "lingula": (0.55, 0.70, 0.33, 0.58),
    "lower lobe": (0.55, 0.77, 0.68, 0.60),
    "base": (0.50, 0.90, 0.68, 0.70),
    "hilum": (0.12, 0.47, 0.52, 0.42),
    "retrocardiac": (0.10, 0.85, 0.62, 0.64),
}

def spots(film: Film, body: Body, f: Finding, rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Where a lung finding lies on this view: one (side, point) per side, or several when it is scattered."""
    out = []
    scattered = f.place == "scattered"
    places = ("upper lobe", "", "lower lobe", "apex", "base", "middle lobe") if scattered else (f.place,)
    for k, side in enumerate(f.sides):
        # six in all, shared between the lungs they are in
        for place in places[k :: len(f.sides)] if scattered else places:
            across, down, x, y = PLACES[place]
            jitter = rng.normal(0, 0.10 if scattered else 0.05, 2)
            if film.view == "frontal":
                out.append((side, body.spot(side, float(np.clip(across + jitter[0], 0.05, 0.9)),
                    float(np.clip(down + jitter[1] * 0.6, 0.06, 0.95)))))
            else:
                out.append((side, np.array([x + jitter[0] * 0.5, y + jitter[1] * 0.3])))
    return out

def lesion(*names: str):
    """Register one painter of a lung lesion, called per spot, for both views (fainter on the lateral one)."""

    def register(function):
        def painter(film, body, f, rng):
            dim = 1.0 if film.view == "frontal" else 0.7
            for side, point in spots(film, body, f, rng):
                small = 0.6 if f.place == "scattered" else 1.0
                function(film, film.lungs[side], point, f.grade, rng, dim, small)

        paints(*names)(painter)
        return function

    return register

def air_bronchograms(film, lung, point, rng, reach, amount):
    a = rng.uniform(-0.6, 0.6)
    lines = [curve([point - [reach * 0.7, 0], point + [0, reach * 0.15 * s],
        point + [reach * 0.7 * np.cos(a + s), reach * 0.6 * s]]) for s in (-1, 0, 1)]
    film.line(lines, 0.009, -amount, 0.003, lung)

@lesion("opacity")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, (0.06 + 0.03 * g) * small, (0.045 + 0.025 * g) * small, rough=rng),
        (0.17 + 0.15 * g) * dim, 0.018 * small, lung)

@lesion("patchy opacity")
def _(film, lung, p, g, rng, dim, small):
    clumps = [oval(*(p + rng.normal(0, 0.038 * small, 2)), rng.uniform(0.012, 0.026), rough=rng) for _ in range(8)]
    film.area(clumps, (0.17 + 0.15 * g) * dim, 0.006, lung)

@lesion("infiltrate")
def _(film, lung, p, g, rng, dim, small):
    for _ in range(4):
        film.area(oval(*(p + rng.normal(0, 0.035 * small, 2)), 0.05 * small, 0.035 * small, rng.uniform(0, 3), rng),
            (0.07 + 0.065 * g) * dim, 0.010, lung)

@lesion("streaky opacity")
def _(film, lung, p, g, rng, dim, small):
    lines = []
    for k in range(6):
        a = rng.normal(0.0, 0.45)
        start = p + [rng.normal(0, 0.02), (k - 2.5) * 0.013]
        step = np.array([np.cos(a), np.sin(a)]) * rng.uniform(0.045, 0.075) * small
        lines.append(curve([start - step, start + rng.normal(0, 0.005, 2), start + step]))
    film.line(lines, 0.007, (0.11 + 0.12 * g) * dim, 0.003, lung)

def mesh(film, lung, p, spread, count, amount, rng, length=0.022):
    """A net of fine lines around a point."""
    centre = p + rng.normal(0, 1, (count, 2)) * spread
    a = rng.uniform(0, np.pi, count)
    step = np.stack([np.cos(a), np.sin(a)], -1) * rng.uniform(0.5, 1.0, (count, 1)) * length
    middle = centre + rng.normal(0, 0.002, (count, 2))
    film.line(np.stack([centre - step, middle, centre + step], 1), 0.0045, amount, 0.0014, lung)

@lesion("interstitial opacity")
def _(film, lung, p, g, rng, dim, small):
    mesh(film, lung, p, np.array([0.045, 0.045]) * small, int(70 * small), (0.14 + 0.12 * g) * dim, rng)
    film.area(oval(*p, 0.07 * small), 0.05 * dim, 0.03, lung)

@lesion("airspace disease")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, (0.065 + 0.03 * g) * small, (0.05 + 0.025 * g) * small, rough=rng),
        (0.14 + 0.12 * g) * dim, 0.010, lung)
    film.area([oval(*(p + rng.normal(0, 0.04 * small, 2)), 0.02, rough=rng) for _ in range(6)], 0.10 * dim, 0.006, lung)
    air_bronchograms(film, lung, p, rng, 0.05 * small, 0.10 * dim)

@lesion("consolidation")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, (0.08 + 0.03 * g) * small, (0.06 + 0.025 * g) * small, rough=rng),
        (0.24 + 0.12 * g) * dim, 0.006, lung)
    air_bronchograms(film, lung, p, rng, 0.06 * small, 0.14 * dim)

@lesion("pneumonia")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, 0.10 * small, 0.08 * small, rough=rng), 0.10 * dim, 0.02, lung)
    film.area(oval(*p, (0.055 + 0.02 * g) * small, (0.045 + 0.02 * g) * small, rough=rng),
        (0.14 + 0.10 * g) * dim, 0.009, lung)
    air_bronchograms(film, lung, p, rng, 0.04 * small, 0.08 * dim)

@lesion("atelectasis")
def _(film, lung, p, g, rng, dim, small):
    bands = []
    for k in range(2):
        length = (0.045 + 0.03 * g) * rng.uniform(0.8, 1.2) * small
        y = p[1] + (k - 0.5) * 0.034 * small + rng.normal(0, 0.004)
        tilt = rng.normal(0, 0.25) * length
        x = p[0] + rng.normal(0, 0.01)
        bands.append(ribbon(curve([(x - length, y - tilt), (x, y + 0.007), (x + length, y + tilt)]), 0.015, 0.009))
    film.area(bands, (0.15 + 0.14 * g) * dim, 0.0025, lung)

@lesion("scar")
def _(film, lung, p, g, rng, dim, small):
    lines = []
    for _ in range(5):
        a = rng.uniform(0, 2 * np.pi)
        tip = p + np.array([np.cos(a), 0.7 * np.sin(a)]) * rng.uniform(0.035, 0.065) * small
        lines.append(curve([p, (p + tip) / 2 + rng.normal(0, 0.006, 2), tip]))
    film.line(lines, 0.006, (0.26 + 0.16 * g) * dim, 0.0016, lung)
    film.area(oval(*p, 0.014, 0.010, rough=rng), 0.22 * dim, 0.003, lung)

def nodule_outline(point: np.ndarray, grade: float) -> np.ndarray:
    return oval(*point, 0.017 + 0.011 * grade)

@lesion("nodule")
def _(film, lung, p, g, rng, dim, small):
    film.area(nodule_outline(p, g), (0.34 + 0.08 * g) * dim, 0.003, lung)

@lesion("mass")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, (0.032 + 0.022 * g) * small, (0.030 + 0.020 * g) * small, rough=rng), 0.34 * dim, 0.004, lung)

@lesion("cavity")
def _(film, lung, p, g, rng, dim, small):
    r = 0.03 + 0.015 * g
    film.area(oval(*p, r), 0.26 * dim, 0.004, lung)
    film.area(oval(*p, r * 0.65), -0.28 * dim, 0.003, lung)

@lesion("calcified granuloma")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, 0.011 + 0.005 * g, 0.010 + 0.005 * g, rough=rng), 0.75 * dim, 0.0014)

@lesion("bulla")
def _(film, lung, p, g, rng, dim, small):
    outline = oval(*p, 0.045 + 0.03 * g, 0.05 + 0.035 * g, rough=None)
    film.area(outline, -0.16 * dim, 0.004, lung)
    film.line(np.concatenate([outline, outline[:1]]), 0.004, 0.14 * dim, 0.0014, lung)

@paints("granulomatous disease")
def _(film, body, f, rng):
    for place in ("upper lobe", "lower lobe", ""):
        side = ("left", "right")[int(rng.integers(2))]
        for _, p in spots(film, body, Finding("calcified granuloma", side, place), rng):
            film.area(oval(*p, 0.009, 0.008, rough=rng), 0.5, 0.0014)
    nodes(film, ("left", "right"), "hilum", rng, 2)

def nodes(film, sides, place, rng, count):
    for side in sides:
        if film.view == "frontal":
            x, y = (0.5 + SIGN[side] * 0.10, 0.43) if place == "hilum" else (0.5 + SIGN[side] * 0.045, 0.33)
        else:
            x, y = (0.53, 0.43) if place == "hilum" else (0.52, 0.35)
        film.area([oval(x + rng.normal(0, 0.016), y + rng.normal(0, 0.026), 0.012, 0.009, rng.uniform(0, 3), rng)
            for _ in range(count)], 0.5, 0.002)

@paints("calcified lymph nodes")
def _(film, body, f, rng):
    nodes(film, f.sides, f.place or "hilum", rng, 5)

@paints("interstitial markings", "fibrosis", "obstructive disease")
def _(film, body, f, rng):
    frontal, coarse = film.view == "frontal", f.name == "fibrosis"
    amount = {"interstitial markings": 0.15, "fibrosis": 0.14, "obstructive disease": 0.06}[f.name]
    amount *= 0.5 + 0.6 * f.grade
    spread = np.array([0.075, 0.07 if coarse else 0.13])
    for side in SIGN:
        lung = film.lungs[side]
        p = body.spot(side, 0.5, 0.82 if coarse else 0.62) if frontal else np.array([0.52, 0.68 if coarse else 0.5])
        mesh(film, lung, p, spread, 190, amount * (1 if frontal else 0.7), rng, 0.014 if coarse else 0.024)
        if coarse:
            rings = [oval(*(p + rng.normal(0, 1, 2) * [0.07, 0.05]), 0.008) for _ in range(40)]
            film.line([np.concatenate([ring, ring[:1]])[::4] for ring in rings], 0.004, amount, 0.0014, lung)

@paints("bronchovascular markings")
def _(film, body, f, rng):
    for side in SIGN:
        p = body.spot(side, 0.22, 0.52) if film.view == "frontal" else np.array([0.52, 0.45])
        cuffs = [oval(*(p + rng.normal(0, 1, 2) * [0.03, 0.06]), 0.007) for _ in range(6)]
        film.line([np.concatenate([cuff, cuff[:1]])[::4] for cuff in cuffs],
            0.004, 0.10 + 0.08 * f.grade, 0.0014, film.lungs[side])

@paints("pulmonary edema", "pulmonary congestion")
def _(film, body, f, rng):
    haze = 0.24 * f.grade if f.name == "pulmonary edema" else 0.05 * f.grade
    for side in SIGN:
        lung = film.lungs[side]
        if film.view == "frontal":
            x, y = body.spot(side, 0.28, 0.58)
            film.area(oval(x, y, 0.085, 0.17, SIGN[side] * -0.15), haze, 0.045, lung)
            if f.name == "pulmonary edema":
                down = np.linspace(0.62, 0.97, 11) + rng.normal(0, 0.01, 11)
                kerley = [np.array([body.spot(side, rng.uniform(0.85, 0.94), d), body.spot(side, 1.0, d)])
                    for d in down]
                film.line(kerley, 0.005, 0.12 + 0.08 * f.grade, 0.0014, lung)
        else:
            film.area(oval(0.52, 0.47, 0.14, 0.15), haze * 0.5, 0.05, lung)
