"""The lateral view: `draw_lateral` puts a body on a film. The patient faces left, the spine is on the right.

It leaves on the film the sheets of 0 to 1 that findings are painted within: `trunk`, `lungs` per side,
and `both` lungs.
"""

from __future__ import annotations

import numpy as np

from .body import SIGN, Body
from .film import Film, curve, oval, ribbon
from .frontal import draw_texture, edges, vessel_tree

# fmt: off
# The formatter would give every point a line of its own.

def lateral_bottom(body: Body, side: str, x: np.ndarray | float) -> np.ndarray:
    """y of the hemidiaphragm at x of the lateral picture."""
    arch = body.arch[side] / 0.105
    sag = np.interp(x, [0.15, 0.20, 0.27, 0.36, 0.45, 0.55, 0.64, 0.71, 0.76, 0.79, 0.82],
        [0.075, 0.050, 0.020, 0.003, 0.0, 0.014, 0.043, 0.083, 0.122, 0.15, 0.165])
    bump = body.bump[side] * np.exp(-(((np.asarray(x) - 0.36) / 0.10) ** 2))
    return body.dome[side] - 0.012 + arch * sag - bump + 0.06 * (1 - arch)

def spine_lateral(body: Body, y: np.ndarray | float) -> np.ndarray:
    """x of the vertebral bodies."""
    x = np.interp(y, [-0.1, 0.0, 0.12, 0.25, 0.4, 0.55, 0.7, 0.85, 1.1],
        [0.575, 0.59, 0.635, 0.69, 0.728, 0.738, 0.722, 0.69, 0.645])
    return x + 0.035 * body.hunch * (np.exp(-(((np.asarray(y) - 0.38) / 0.2) ** 2)) - 0.35)

def lung_outline_lateral(body: Body, side: str) -> np.ndarray:
    y = np.array([0.10, 0.16, 0.25, 0.36, 0.48, 0.60, 0.70, 0.78])
    back = np.stack([np.interp(y, [0.10, 0.16, 0.25, 0.36, 0.48, 0.60, 0.78],
        [0.60, 0.665, 0.735, 0.785, 0.812, 0.822, 0.815]), y], -1)
    back[:, 0] += 0.035 * body.hunch * np.exp(-(((y - 0.38) / 0.2) ** 2))
    x = np.array([0.805, 0.775, 0.74, 0.68, 0.6, 0.5, 0.4, 0.3, 0.22, 0.17])
    floor = np.stack([x, lateral_bottom(body, side, x)], -1)
    front = [(0.165, 0.66), (0.178, 0.56), (0.205, 0.44), (0.245, 0.33), (0.305, 0.235), (0.38, 0.165), (0.455, 0.105)]
    top = [(0.455, body.apex - 0.01), (0.52, body.apex - 0.035), (0.585, body.apex - 0.02)]
    return np.concatenate([curve([*top, *back[1:]], 4), curve(floor, 4), curve([floor[-1], *front, top[0]], 4)])

def draw_lateral(film: Film, body: Body) -> None:
    soft_tissue(film, body)
    lungs_and_abdomen(film, body)
    heart = heart_and_aorta(film, body)
    airway_and_hila(film, body)
    vessels(film, body, heart)
    draw_texture(film, body)
    bones(film, body)
    vertebrae_lateral(film, body)

def soft_tissue(film: Film, body: Body) -> None:
    """The trunk and the raised arms; sets `film.trunk`."""
    fat, hunch = min(body.fat, 1.6), body.hunch
    chest = body.female * max(body.breast.values())
    front = curve([(0.36, -0.1), (0.365, 0.03), (0.33, 0.13), (0.235, 0.25), (0.165, 0.38),
        (0.125 - 0.045 * chest, 0.52), (0.105 - 0.05 * chest, 0.63), (0.11 - 0.01 * fat, 0.74),
        (0.10 - 0.03 * fat, 0.9), (0.09 - 0.04 * fat, 1.1)])
    back = curve([(0.70, -0.1), (0.715, 0.03), (0.79, 0.13), (0.855 + 0.03 * hunch, 0.28),
        (0.885 + 0.03 * hunch, 0.45), (0.888, 0.62), (0.875 + 0.01 * fat, 0.8), (0.865 + 0.02 * fat, 1.1)])
    trunk = np.concatenate([front, back[::-1]])
    film.trunk = film.mask(trunk, 0.008)
    film.density += film.trunk * np.float32(0.42)
    film.area(trunk, 0.28 + 0.05 * fat, 0.05)
    film.area(oval(0.55, 0.01, 0.27, 0.14), 0.30, 0.045)
    for y in (0.02, -0.03):
        film.area(ribbon(curve([(0.62, 0.16), (0.42, y + 0.03), (0.15, y - 0.03)]), 0.15, 0.12), 0.22, 0.02)

def lungs_and_abdomen(film: Film, body: Body) -> None:
    """Sets `film.lungs` and `film.both`; the retrosternal and retrocardiac spaces are the darkest."""
    film.lungs = {side: film.mask(lung_outline_lateral(body, side), 0.004) for side in SIGN}
    film.both = np.maximum(film.lungs["right"], film.lungs["left"])
    for side in SIGN:
        film.density -= film.lungs[side] * np.float32(0.215 * body.air)
        x = np.linspace(0.14, 0.85, 30)
        belly = np.concatenate([np.stack([x, lateral_bottom(body, side, x)], -1), [[0.86, 1.2], [0.1, 1.2]]])
        film.area(belly, 0.20, 0.004, film.trunk)
    film.area(oval(0.32, 0.33, 0.075, 0.11, 0.45), -0.10 * body.air, 0.035, film.both)
    film.area(oval(0.65, 0.62, 0.075, 0.13, -0.1), -0.12 * body.air, 0.035, film.both)
    rng = body.rng("stomach")
    film.area(oval(rng.uniform(0.42, 0.55), body.dome["left"] + 0.055, rng.uniform(0.05, 0.08),
        rng.uniform(0.018, 0.03), rng.normal(0.1, 0.1), rng), -0.20, 0.008)

def heart_and_aorta(film: Film, body: Body) -> np.ndarray:
    """Returns the outline of the heart, [N, 2]."""
    h = body.heart
    floor = (body.dome["left"] + body.dome["right"]) / 2 + 0.02
    deep = 1 + (h - 1) * 0.8

    def y(value: float) -> float:
        return 0.42 + (value - 0.42) * (floor - 0.42) / 0.305

    heart = curve([(0.43, 0.37), (0.365, y(0.405)), (0.30, y(0.46)), (0.243, y(0.535)), (0.20, y(0.62)),
        (0.187, y(0.70)), (0.23, y(0.745)), (0.40, y(0.75)), (0.51 * deep, y(0.74)), (0.55 * deep, y(0.67)),
        (0.56 * deep, y(0.59)), (0.545 * deep, y(0.51)), (0.525, y(0.44)), (0.49, 0.385), (0.43, 0.37)])
    film.area(heart, 0.26, 0.007, film.both)
    film.area(heart, 0.08, 0.03)
    u = body.unfold
    aorta = curve([(0.385, 0.45), (0.38 - 0.02 * u, 0.37), (0.415 - 0.01 * u, 0.305 - 0.015 * u),
        (0.48, 0.28 - 0.025 * u), (0.56 + 0.01 * u, 0.31 - 0.02 * u), (0.615 + 0.03 * u, 0.40),
        (0.645 + 0.045 * u, 0.52), (0.66 + 0.03 * u, 0.64), (0.655, 0.78)])
    film.area(ribbon(aorta, 0.055 * body.knob, 0.045 * body.knob), 0.06 + 0.05 * min(u, 1.2), 0.005, film.both)
    film.area(curve([(0.36, 0.42), (0.40, 0.25), (0.46, 0.08), (0.60, 0.08), (0.60, 0.3), (0.58, 0.45), (0.45, 0.5),
        (0.36, 0.42)]), 0.07 + 3 * body.wide, 0.02)
    return heart

def airway_and_hila(film: Film, body: Body) -> None:
    film.area(ribbon(curve([(0.49, -0.05), (0.505, 0.10), (0.525, 0.25), (0.54, 0.375)]), 0.034, 0.028), -0.13, 0.006)
    film.area([oval(0.537, 0.405, 0.013), oval(0.533, 0.445, 0.010)], -0.10, 0.004)
    for side, (x0, y0, rx, ry, turn) in {"right": (0.485, 0.425, 0.032, 0.03, 0.3),
        "left": (0.558, 0.40, 0.026, 0.04, -0.7)}.items():
        size = body.hilum[side]
        film.area(oval(x0, y0, rx * size, ry * size, turn), 0.10 * size**2, 0.008)

def vessels(film: Film, body: Body, heart: np.ndarray) -> None:
    clear = 1 - 0.45 * film.mask(heart, 0.006)
    for side, x0, y0 in (("right", 0.485, 0.435), ("left", 0.55, 0.415)):
        trees = [
            vessel_tree(body, side, f"lateral{flip}", np.array([x0, y0]) + [0.012 * flip, 0],
                fan, reach, flip, int(body.branches * 0.6))
            for flip, fan, reach in ((-1.0, (-1.25, 1.1), 0.26), (1.0, (-1.2, 1.45), 0.27))
        ]
        outlines, tones = (np.concatenate(parts) for parts in zip(*trees, strict=True))
        film.area(outlines, 0.10 * body.vessels, 0.002, film.lungs[side] * clear, tones)

def bones(film: Film, body: Body) -> None:
    """Ribs of both sides, a little apart; sternum; scapulae."""
    y0 = np.repeat(0.14 + 0.068 * np.arange(9), 2) + np.tile([0.0, 0.022], 9)
    x0 = np.interp(y0 - np.tile([0.0, 0.022], 9), [0.1, 0.25, 0.48, 0.8],
        [0.68, 0.775, 0.835, 0.84]) + np.tile([0.0, 0.011], 9)
    course = np.array([(-0.05, -0.035), (0, 0), (-0.05, 0.06), (-0.18, 0.125), (-0.34, 0.165), (-0.46, 0.16)])
    bands = ribbon(curve(np.stack([x0, y0], -1)[:, None] + course, 5), 0.018, 0.014)
    film.area(bands, 0.022 * body.bone, 0.002, film.both)
    film.line(edges(bands), 0.004, 0.028 * body.bone, 0.0015, film.both)
    plate = curve([(0.30, 0.215), (0.245, 0.295), (0.195, 0.41), (0.165, 0.52), (0.152, 0.60)])
    plate[:, 0] -= 0.016
    film.area(ribbon(plate, 0.026, 0.018), 0.10 * body.bone, 0.003)
    film.line([plate + [0.012, 0], plate - [0.012, 0]], 0.004, 0.08 * body.bone, 0.0016)
    for shift in (0.0, 0.03):
        film.line(curve([(0.66 + shift, 0.13), (0.72 + shift, 0.24), (0.775 + shift, 0.39)]),
            0.007, 0.06 * body.bone, 0.002)

def vertebrae(body: Body) -> list[tuple[float, float, float, float]]:
    """x, y, half width and height of the vertebral bodies on the lateral picture."""
    out, y, height = [], 0.02, 0.044
    while y < 1.02:
        out.append((float(spine_lateral(body, y)), y, 0.027 + 0.012 * y, height))
        y += height * 1.02
        height *= 1.028
    return out

def vertebrae_lateral(film: Film, body: Body) -> None:
    y = np.linspace(-0.05, 1.05, 30)
    film.area(ribbon(np.stack([spine_lateral(body, y), y], -1), 0.06, 0.085), 0.09 * body.bone, 0.006)
    film.area(ribbon(np.stack([spine_lateral(body, y) + 0.06, y], -1), 0.05, 0.06), 0.05 * body.bone, 0.012)
    boxes, rims = [], []
    for i, (x, y0, half, height) in enumerate(vertebrae(body)):
        tilt = float(spine_lateral(body, y0 + 0.02) - spine_lateral(body, y0 - 0.02)) / 0.04
        h = height * 0.40
        crush = body.wedge if i in (9, 12) else 0.0
        box = np.array([(-half, -h * (1 - 1.3 * crush)), (0, -h * 0.86 * (1 - crush)), (half, -h), (half * 0.9, 0),
            (half, h), (0, h * 0.86), (-half, h * (1 - 0.5 * crush)), (-half * 0.88, 0)])
        box = box @ np.array([[1, -tilt], [tilt, 1]]) + [x, y0]
        boxes.append(box)
        rims.append(np.concatenate([box, box[:1]]))
    film.area(boxes, 0.055 * body.bone, 0.003)
    if body.wedge:
        film.area([boxes[9], boxes[12]], 0.10 + 0.18 * body.wedge, 0.002)
    film.line(rims, 0.005, 0.075 * body.bone, 0.0016)
    draw_spurs(film, body, vertebrae(body), (-1,))

def draw_spurs(film: Film, body: Body, bodies, edges: tuple[int, ...]) -> None:
    """End-plate sclerosis and osteophytes at the vertebral bodies given as x, y, half width, height."""
    if not (body.endplates or body.spurs):
        return
    rng = body.rng("spurs")
    plates, spurs = [], []
    for x, y, half, height in bodies:
        strength = rng.uniform(0.5, 1.0)
        if not 0.32 < y < 0.97:
            continue
        plates += [np.array([(x - half, y + s * height * 0.42), (x + half, y + s * height * 0.42)]) for s in (-1, 1)]
        for edge in edges:
            out = 0.030 * strength * body.spurs
            tip = x + edge * (half + out)
            for s in (-1, 1):
                root = x + edge * half * 0.9
                spurs.append(np.array([(root, y + s * height * 0.22), (tip, y + s * height * 0.56),
                    (root, y + s * height * 0.47)]))
    if body.endplates:
        film.line(plates, 0.009, (0.24 if film.view == "frontal" else 0.17) * body.endplates, 0.0025)
    if body.spurs:
        film.area(spurs, 0.36 if film.view == "frontal" else 0.28, 0.0025)
