"""Signs: the painters of findings outside the lungs, and the table of all painters.

A painter takes (film, body, finding, random generator). `PAINTERS` has one per view and finding: this module, `lesions`
and `devices` fill it. A finding without a painter only reshapes the body.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..clinical.findings import Finding
from .body import Body, mirror
from .film import Film, curve, oval, ribbon
from .frontal import column_frontal, pleural_space, rib_lines
from .lateral import draw_spurs, lateral_bottom, spine_lateral

# fmt: off
# The formatter would give every point a line of its own.

Painter = Callable[[Film, Body, Finding, np.random.Generator], None]
PAINTERS: dict[str, dict[str, Painter]] = {"frontal": {}, "lateral": {}}

def paints(*names: str, view: str = ""):
    """Register the painter of these findings, in one view or in both."""

    def register(painter: Painter) -> Painter:
        for table in [PAINTERS[view]] if view else PAINTERS.values():
            table.update(dict.fromkeys(names, painter))
        return painter

    return register

# --- pleura and diaphragm ---------------------------------------------------------------------------------------------

def fluid(body: Body, side: str, height: float) -> np.ndarray:
    """Free fluid on the frontal picture: a meniscus that climbs `height` above the costophrenic angle at the wall."""
    u = np.linspace(0.0, 1.05, 28)
    angle = body.dome[side] + body.arch[side]
    level = angle - height * (0.45 + 0.55 * np.minimum(u, 1) ** 4)
    layer = max(height * 1.35 - body.arch[side] * 0.55, 0.004)  # of fluid that covers the dome
    level = np.maximum(level, np.minimum(body.bottom(side, np.minimum(u, 1)), angle) - layer - 0.5 * height * u**6)
    top = np.stack([u * body.width, level], -1)
    return mirror(side, np.concatenate([top, [(body.width * 1.05, angle + 0.03), (0, angle + 0.03)]]))

FLUID = {"blunted costophrenic angle": (0.085, 0.02), "pleural effusion": (0.05, 0.17)}  # its height, and per grade

def fluid_height(f: Finding) -> float:
    least, per_grade = FLUID[f.name]
    return least + per_grade * f.grade

@paints(*FLUID, view="frontal")
def _(film, body, f, rng):
    height = fluid_height(f)
    for side in f.sides:
        film.area(fluid(body, side, height), 0.60, 0.005 if height > 0.11 else 0.003, film.lungs[side])

@paints("pleural effusion", "blunted costophrenic angle", view="lateral")
def _(film, body, f, rng):
    height = 0.10 if f.name != "pleural effusion" else 0.05 + 0.17 * f.grade
    for side in f.sides:
        x = np.linspace(0.45, 0.86, 20)
        angle = lateral_bottom(body, side, 0.80)
        level = angle - height * (0.25 + 0.75 * np.clip((x - 0.5) / 0.32, 0, 1) ** 2) + 0.01
        film.area(np.concatenate([np.stack([x, level], -1), [[0.86, 1.0], [0.45, 1.0]]]), 0.24, 0.006, film.lungs[side])

@paints("pneumothorax", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        space = pleural_space(body, side)
        film.area(space, -0.13, 0.003, film.lungs[side])
        inner = space[len(space) // 2 :]
        film.line(inner, 0.005, 0.20, 0.0014, film.lungs[side])
        lung = film.lungs[side] * (1 - film.mask(space, 0.003))
        film.density += lung * np.float32(0.05 * f.grade)
        if body.apical[side]:
            continue
        angle = body.dome[side] + body.arch[side]
        u = body.width
        film.area(mirror(side, [(u * 0.99, angle - 0.10), (u * 0.97, angle + 0.03), (u * 0.90, angle - 0.01),
            (u * 0.84, angle - 0.06)]), -0.22, 0.006)

@paints("pneumothorax", view="lateral")
def _(film, body, f, rng):
    line = curve([(0.40, 0.20), (0.50, 0.16), (0.62, 0.19), (0.70, 0.27), (0.745, 0.38)]) + [0, 0.03 * f.grade]
    film.line(line, 0.005, 0.14, 0.0014, film.both)
    film.area(np.concatenate([line, [[0.80, 0.3], [0.62, 0.08], [0.42, 0.10]]]), -0.08, 0.004, film.both)

@paints("pleural thickening", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        t = np.linspace(0.0, 0.16, 12) if f.place == "apex" else np.linspace(0.25, 0.97, 25)
        y = body.apex + t * (body.dome[side] + body.arch[side] - body.apex)
        outer = np.stack([body.wall(t) + 0.01, y - 0.02], -1)
        deep = (0.035 + 0.030 * f.grade) * (1 + 0.25 * np.sin(t * 22 + rng.uniform(0, 6)))
        if f.place == "apex":
            cap = np.concatenate([mirror(side, [(0.08, body.apex - 0.02)]), mirror(side, outer),
                mirror(side, outer - np.stack([deep * 0.8, -deep], -1))[::-1], mirror(side,
                [(0.09, body.apex + 0.035)])])
        else:
            cap = mirror(side, np.concatenate([outer, (outer - np.stack([deep * 0.8 + 0.008, 0 * deep], -1))[::-1]]))
        film.area(cap, 0.38, 0.003, film.lungs[side])

@paints("pleural thickening", view="lateral")
def _(film, body, f, rng):
    if f.place == "apex":
        film.area(oval(0.52, 0.11, 0.08, 0.045), 0.24, 0.005, film.both)
    else:
        film.line(curve([(0.80, 0.45), (0.81, 0.6), (0.80, 0.78)]), 0.026, 0.22, 0.003, film.both)

@paints("pleural plaque", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        for down in (0.45, 0.7, 0.95):
            film.area(oval(*body.spot(side, 0.75, down), 0.035, 0.008, rng.normal(0, 0.6), rng), 0.40, 0.002)

@paints("free air", view="frontal")
def _(film, body, f, rng):
    u = np.linspace(0.25, 0.9, 20)
    dome = np.stack([u * body.width, body.bottom("right", u) + 0.006], -1)
    film.area(mirror("right", np.concatenate([dome, (dome + [0, 0.025])[::-1]])), -0.42, 0.003)

@paints("azygos lobe", view="frontal")
def _(film, body, f, rng):
    film.line(curve(mirror("right", [(0.17, body.apex + 0.01), (0.135, 0.2), (0.095, 0.27), (0.065, 0.315)])),
        0.005, 0.20, 0.0014)
    film.area(mirror("right", oval(0.065, 0.32, 0.012, 0.018)), 0.25, 0.003)

@paints("hiatal hernia")
def _(film, body, f, rng):
    r = 0.036 + 0.034 * f.grade
    low = body.dome["left"]
    x, y = (0.525, low + 0.01 - r * 0.7) if film.view == "frontal" else (0.625, low + 0.015 - r * 0.6)
    outline = curve([(x + r * 1.15 * np.cos(a), y + r * np.sin(a) * (1.2 if np.sin(a) > 0 else 1))
        for a in np.linspace(0, 6.283, 17)], 3)
    film.area(outline, 0.20, 0.004)
    level = y + r * 0.05
    gas = outline * 0.84 + np.array([x, y]) * 0.16
    gas = gas[gas[:, 1] < level]
    order = np.argsort(np.arctan2(gas[:, 1] - y, gas[:, 0] - x))
    film.area(gas[order], -0.42, 0.0025)

# --- heart and vessels ------------------------------------------------------------------------------------------------

@paints("aortic calcification", view="frontal")
def _(film, body, f, rng):
    s, u = body.shift, body.unfold
    arc = curve([(0.545 + s, 0.272 - 0.02 * u), (0.575 + s + 0.025 * u, 0.278 - 0.01 * u),
        (0.594 + s + 0.028 * u, 0.305), (0.585 + s + 0.03 * u, 0.34)])
    film.line(arc, 0.009, 0.42 + 0.2 * f.grade, 0.0014)

@paints("aortic calcification", view="lateral")
def _(film, body, f, rng):
    u = body.unfold
    arc = curve([(0.42, 0.285 - 0.02 * u), (0.48, 0.258 - 0.025 * u), (0.56, 0.285 - 0.02 * u),
        (0.615 + 0.03 * u, 0.36)])
    film.line(arc, 0.008, 0.40 + 0.15 * f.grade, 0.0014)
    film.line(curve([(0.665 + 0.045 * u, 0.52), (0.68 + 0.03 * u, 0.64)]), 0.006, 0.3, 0.0014)

@paints("coronary calcification", "coronary stent")
def _(film, body, f, rng):
    stent = f.name == "coronary stent"
    start = np.array([0.565, 0.475] if film.view == "frontal" else [0.36, 0.50])
    line = curve([start, start + [0.025, 0.03], start + [0.042, 0.07]])
    film.line([line + [0.004, 0], line - [0.004, 0]] if stent else line, 0.006, 0.75 if stent else 0.5, 0.0012)

@paints("epicardial fat", view="frontal")
def _(film, body, f, rng):
    x, y = 0.5 + 0.20 * body.heart, body.dome["left"]
    pad = curve([(x - 0.06, y - 0.12), (x + 0.005, y - 0.075), (x + 0.05, y - 0.03), (x + 0.09, y + 0.03),
        (x - 0.06, y + 0.05)])
    film.area(pad, 0.24, 0.006, film.lungs["left"])

@paints("prosthetic valve")
def _(film, body, f, rng):
    ring = oval(*((0.515, 0.55) if film.view == "frontal" else (0.42, 0.53)), 0.034, 0.017, -0.7)
    film.line(np.concatenate([ring, ring[:1]]), 0.009, 1.0, 0.0012)

# --- bones ------------------------------------------------------------------------------------------------------------

def along(line: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray]:
    """Point and direction at a fraction of a line."""
    i = int(at * (len(line) - 2))
    d = line[i + 1] - line[i]
    return line[i], d / np.linalg.norm(d)

@paints("rib fracture", "healed rib fracture", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        first = int(rng.integers(4, 6))
        for rib in rib_lines(body, side)[0][first : first + 2]:
            p, d = along(rib, rng.uniform(0.70, 0.82))
            n = np.array([-d[1], d[0]])
            if f.name == "rib fracture":
                film.line(np.array([p - n * 0.016, p + n * 0.016]), 0.010, -0.22, 0.0015)
                piece = curve([p + d * 0.004 + n * 0.015, p + d * 0.03 + n * 0.012, p + d * 0.07 + n * 0.004])
                film.area(ribbon(piece, 0.018, 0.010), 0.22, 0.002)
                film.area(ribbon(curve([p - d * 0.004, p - d * 0.03, p - d * 0.06]), 0.018, 0.008), 0.14, 0.002)
            else:
                film.area(oval(*p, 0.026, 0.017, np.arctan2(d[1], d[0]), rng), 0.24, 0.003)
                film.line(np.array([p - d * 0.03 + n * 0.014, p + d * 0.0 + n * 0.018, p + d * 0.03 + n * 0.014]),
                    0.005, 0.16, 0.0014)

@paints("rib fracture", "healed rib fracture", view="lateral")
def _(film, body, f, rng):
    for y in (0.40, 0.47):
        film.area(oval(0.80, y, 0.018, 0.012, 1.0, rng), 0.14, 0.002)

@paints("clavicle fracture", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        film.line(mirror(side, [(0.195, 0.12), (0.20, 0.17)]), 0.012, -0.22, 0.002)
        film.line(curve(mirror(side, [(0.20, 0.165), (0.25, 0.150), (0.30, 0.135)])), 0.024, 0.22, 0.002)

@paints("shoulder degeneration", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        film.area(mirror(side, oval(0.41, 0.165, 0.008, 0.03)), 0.30, 0.002)
        film.area([mirror(side, oval(0.43, 0.205, 0.016, 0.010)), mirror(side, oval(0.375, 0.118, 0.016, 0.010))],
            0.28, 0.002)

@paints("degenerative spine", "spondylosis", "osteophytes", view="frontal")
def _(film, body, f, rng):
    draw_spurs(film, body, column_frontal(body), (-1, 1))

@paints("vertebral deformity", view="frontal")
def _(film, body, f, rng):
    for i in (9, 12):
        x, y, half, height = column_frontal(body)[i]
        film.area(np.array([(x - half, y - 0.008), (x + half, y - 0.002), (x + half, y + 0.01),
            (x - half, y + 0.008)]), 0.22, 0.003)

@paints("spinal fusion")
def _(film, body, f, rng):
    low, high = {"thoracic vertebrae": (0.38, 0.68), "lumbar vertebrae": (0.80, 0.98)}.get(f.place, (0.0, 0.10))
    y = np.linspace(low, high, 8)
    if film.view == "frontal":
        rods = [np.stack([body.spine(y) + dx, y], -1) for dx in (-0.020, 0.020)]
        screws = [np.array([(x - 0.030, v), (x + 0.030, v)]) for v in y[::2] for x in [float(body.spine(v))]]
    else:
        front = -0.034 if not f.place or f.place == "cervical vertebrae" else 0.04
        rods = [np.stack([spine_lateral(body, y) + front, y], -1)]
        screws = [np.array([(x + front, v), (x + front * 0.1, v)]) for v in y[::2]
            for x in [float(spine_lateral(body, v))]]
    film.line(rods, 0.010, 0.9, 0.0012)
    film.line(screws, 0.007, 0.7, 0.0012)

# --- soft tissues -----------------------------------------------------------------------------------------------------

@paints("nipple shadow", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        film.area(mirror(side, oval(0.225, 0.665, 0.016)), 0.22, 0.0025)

@paints("breast implants", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        outline = mirror(side, oval(0.225, 0.62, 0.115, 0.11))
        film.area(outline, 0.15, 0.004)
        film.line(np.concatenate([outline, outline[:1]]), 0.006, 0.07, 0.002)

@paints("breast implants", view="lateral")
def _(film, body, f, rng):
    film.area(oval(0.10, 0.56, 0.06, 0.11), 0.25, 0.004)

@paints("subcutaneous emphysema", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        lines = [curve(mirror(side, [(0.375 + 0.012 * k, 0.22 + 0.02 * k), (0.385 + 0.01 * k, 0.4),
            (0.39 + 0.008 * k, 0.62 - 0.03 * k)])) for k in range(4)]
        film.line(lines, 0.008, -0.22, 0.002)
