"""The frontal view: `draw_frontal` puts a body on a film. The patient's right is on the left.

It leaves on the film the sheets of 0 to 1 that findings are painted within: `trunk`, `belly`, `lungs` and `vessels`
per side, and `both` lungs.
"""

from __future__ import annotations

import numpy as np

from .body import SIGN, Body, mirror
from .film import Film, curve, noise, oval, ribbon

# fmt: off
# The formatter would give every point a line of its own.

def lung_outline(body: Body, side: str) -> np.ndarray:
    angle = body.dome[side] + body.arch[side]
    t = np.array([0.0, 0.015, 0.05, 0.12, 0.22, 0.36, 0.55, 0.75, 0.9, 1.0])
    lateral_wall = np.stack([body.wall(t), body.apex + 0.012 * (1 - t) ** 30 + t * (angle - body.apex)], -1)
    u = np.array([0.985, 0.96, 0.92, 0.86, 0.77, 0.65, 0.5, 0.36, 0.24, 0.17])
    floor = np.stack([u * body.width, body.bottom(side, u)], -1)
    low, high = floor[-1, 1], body.apex
    medial = [(0.055, low - 0.05), (0.055, 0.5), (0.058, 0.36), (0.052, 0.26), (0.06, high + 0.07),
        (0.095, high + 0.018)]
    return np.concatenate([
        mirror(side, curve([(0.112, high + 0.005), *lateral_wall], 4)),
        mirror(side, curve(floor, 4)),
        mirror(side, curve([floor[-1], *medial, (0.112, high + 0.005)], 4)) + [body.shift * 0.7, 0],
    ])

def heart_outline(body: Body) -> np.ndarray:
    h, drop = body.heart, 0.012 * body.axis
    floor = (body.dome["left"] + body.dome["right"]) / 2 + 0.035
    squeeze = (floor - 0.36) / 0.385
    sole = max(body.dome.values()) + 0.05
    left = 1 + (h - 1) * 1.25

    def y(value: float) -> float:
        return 0.36 + (value - 0.36) * squeeze

    points = [
        (-0.058, 0.36), (-0.066, y(0.45)), (-0.098 * h, y(0.53)), (-0.108 * h, y(0.61)), (-0.095 * h, y(0.69)),
        (-0.07, y(0.745)), (0.03, sole), (0.14 * left, max(y(0.765), sole - 0.01)), (0.205 * left, y(0.735 + drop)),
        (0.222 * left, y(0.69 + drop)), (0.205 * left, y(0.62)), (0.165 * left, y(0.545)),
        (0.115 * (1 + left) / 2, y(0.47)), (0.082, y(0.415)), (0.06, 0.36),
    ]
    return curve([(0.5 + x + body.shift, y) for x, y in points], 5)

def aorta_outline(body: Body) -> np.ndarray:
    """The arch and the descending aorta."""
    knob, unfold, s = body.knob, body.unfold, body.shift
    arch = 0.27 - 0.02 * unfold
    aorta = curve([(0.5 + s, arch), (0.55 + s, arch + 0.002), (0.572 + 0.028 * unfold + 0.02 * (knob - 1) + s, 0.305),
        (0.560 + 0.030 * unfold + s, 0.345), (0.548 + 0.034 * unfold + s, 0.42),
        (0.544 + 0.032 * unfold + s, 0.52), (0.535 + 0.014 * unfold + s, 0.62), (0.53, 0.74)])
    return ribbon(aorta, 0.05 * knob, 0.045 * knob)

def mediastinum_outline(body: Body) -> np.ndarray:
    """The column of the spine and of what lies before it."""
    column = np.concatenate([
        curve([(0.5 - 0.05 - body.wide, -0.1), (0.445 - body.wide, 0.1), (0.44 - body.wide * 2, 0.25),
            (0.44 - body.wide, 0.5), (0.43, 0.8), (0.42, 0.84)]),
        curve([(0.55 + body.wide, -0.1), (0.555 + body.wide, 0.1), (0.56 + body.wide * 2, 0.25),
            (0.56 + body.wide, 0.5), (0.57, 0.8), (0.58, 0.84)])[::-1],
    ]) + [body.shift, 0]
    column[:, 0] += 0.7 * (body.spine(column[:, 1]) - 0.5)
    return column

def belly_outline(body: Body) -> np.ndarray:
    """What lies below the diaphragm."""
    u = np.linspace(0, 1.0, 30)
    return np.concatenate([
        mirror("right", np.stack([u * body.width, body.bottom("right", np.minimum(u, 1))], -1))[::-1],
        mirror("left", np.stack([u * body.width, body.bottom("left", np.minimum(u, 1))], -1)),
        mirror("left", [(0.40, 1.2)]),
        mirror("right", [(0.40, 1.2)]),
    ])

def vessel_tree(body: Body, side: str, part: str, root: np.ndarray, fan: tuple[float, float],
    reach: float, flip: float, n: int):
    """Tapering branches from a hilum: outlines [n, 14, 2] and tones [n], the thin ones first."""
    rng = body.rng(f"vessels {part} {side}")
    angle = np.linspace(*fan, n) + rng.normal(0, 0.10, n)
    upper = np.sin(angle) < -0.2
    length = reach * rng.uniform(0.62, 1.0, n) * body.reach * np.where(upper, 0.9, 1.0)
    width = rng.uniform(0.011, 0.017, n) * body.vessels * np.where(upper, body.upper_flow, 1.0)
    start = root + rng.normal(0, 0.010, (n, 2))
    outlines, tones = [], []
    s = np.linspace(0, 1, 7)
    for level in range(3):
        heading = angle[:, None] + rng.normal(0, 0.45, len(angle))[:, None] * s + rng.normal(0, 0.12, (len(angle), 7))
        step = (length / 6)[:, None]
        line = np.stack([np.cos(heading) * step * flip, np.sin(heading) * step], -1)
        line = start[:, None] + np.concatenate([np.zeros_like(line[:, :1]), np.cumsum(line[:, :-1], 1)], 1)
        outlines.append(ribbon(line, width, width * 0.2))
        tones.append(np.clip(width / 0.014, 0.10, 1))
        if level == 2:
            break
        forks = 4 if level == 0 else 2
        at = rng.integers(1, 6, (len(angle), forks))
        rows = np.arange(len(angle))[:, None]
        start = line[rows, at].reshape(-1, 2)
        fork = rng.choice([-1, 1], at.shape) * rng.uniform(0.35, 0.85, at.shape)
        angle = (heading[rows, at] + fork).ravel()
        length = (length[:, None] * rng.uniform(0.3, 0.6, at.shape)).ravel()
        width = (width[:, None] * np.linspace(1, 0.3, 7)[at] * 0.7).ravel()
    return np.concatenate(outlines[::-1]), np.concatenate(tones[::-1]) * 255

def draw_texture(film: Film, body: Body) -> None:
    """The fine unevenness of the lungs; of both views, as it is of the patient."""
    rng = body.rng("texture")
    texture = np.roll(noise(film.size)[1], tuple(int(v) for v in rng.integers(0, film.size, 2)), (0, 1))
    film.density += texture * film.both * np.float32(0.012)

def draw_frontal(film: Film, body: Body) -> None:
    soft_tissue(film, body)
    mediastinum_and_abdomen(film, body)
    lung_air(film, body)
    heart = heart_and_aorta(film, body)
    spine_frontal(film, body)
    airway(film, body)
    hila_and_vessels(film, body, heart)
    draw_texture(film, body)
    ribs_frontal(film, body)
    shoulders(film, body)
    breasts(film, body)
    skin_folds(film, body)

def soft_tissue(film: Film, body: Body) -> None:
    """Torso and neck, arms; sets `film.trunk`."""
    fat = body.fat
    side_line = [(0.085, -0.1), (0.088, 0.02), (0.13, 0.065), (0.24, 0.085), (0.36, 0.095), (0.45, 0.13),
        (0.475, 0.22), (0.435 + 0.02 * fat, 0.36), (0.415 + 0.03 * fat, 0.52), (0.41 + 0.05 * fat, 0.75),
        (0.42 + 0.07 * fat, 1.1)]
    right, left = curve(mirror("right", side_line), 5), curve(mirror("left", side_line), 5)
    torso = np.concatenate([right, left[::-1]])
    film.trunk = film.mask(torso, 0.006)
    film.density += film.trunk * np.float32(0.40)
    film.area(torso, 0.22 + 0.05 * min(fat, 1.5), 0.05)
    for side in SIGN:
        film.area(ribbon(mirror(side, [(0.44, 0.16), (0.5, 0.4), (0.53, 0.75)]), 0.13, 0.10),
            0.55, 0.012, 1 - 0.93 * film.trunk)

def mediastinum_and_abdomen(film: Film, body: Body) -> None:
    """Sets `film.lungs`, `film.both` and `film.belly`."""
    film.lungs = {side: film.mask(lung_outline(body, side), 0.0035) for side in SIGN}
    film.both = film.lungs["right"] + film.lungs["left"]
    film.belly = film.mask(belly_outline(body), 0.005)
    film.density += film.belly * film.trunk * np.float32(0.46)
    film.area(mediastinum_outline(body), 0.30, 0.012, 1 - 0.9 * film.belly)

def lung_air(film: Film, body: Body) -> None:
    """The air of the lungs, the stomach bubble and bowel gas under the left dome."""
    film.density -= film.both * np.float32(0.34 * body.air)
    for side in SIGN:
        x, y = body.spot(side, 0.5, 0.55)
        film.area(oval(x, y, 0.11, 0.26), -0.10 * body.air, 0.05, film.lungs[side])
    rng = body.rng("stomach")
    x, y = 0.5 + body.width * rng.uniform(0.42, 0.6), body.dome["left"] + 0.05 + rng.uniform(0, 0.02)
    film.area(oval(x, y, rng.uniform(0.04, 0.075), rng.uniform(0.018, 0.035), rng.normal(0, 0.15), rng), -0.28, 0.008)

def heart_and_aorta(film: Film, body: Body) -> np.ndarray:
    """Returns the sheet of the heart, float32 [size, size] of 0 to 1."""
    heart = film.mask(heart_outline(body), 0.005)
    film.density += heart * film.both * np.float32(0.42)
    film.area(heart_outline(body), 0.10, 0.03, 1 - film.belly)
    aorta = aorta_outline(body)
    film.area(aorta, 0.22, 0.004, film.both)
    film.area(aorta, 0.06, 0.006)
    knob, unfold, s = body.knob, body.unfold, body.shift
    ascending = curve([(0.47 + s, 0.55), (0.45 + s - 0.012 * unfold, 0.45), (0.447 + s - 0.022 * unfold, 0.38),
        (0.46 + s, 0.29), (0.49 + s, 0.27)])
    film.area(ribbon(ascending, 0.045 * knob), 0.12, 0.006)
    return heart

def airway(film: Film, body: Body) -> None:
    """Trachea and main bronchi."""
    s, carina = body.shift, 0.355
    film.area(ribbon(curve([(0.5, -0.05), (0.5, 0.1), (0.5 + 0.006 + s, 0.25), (0.5 + 0.004 + s, carina)]),
        0.036, 0.032), -0.20, 0.005)
    film.area(ribbon(curve([(0.503 + s, carina - 0.01), (0.47 + s, 0.40), (0.44 + s, 0.45)]), 0.026, 0.018),
        -0.10, 0.006)
    film.area(ribbon(curve([(0.505 + s, carina - 0.01), (0.55 + s, 0.405), (0.585 + s, 0.43)]), 0.024, 0.016),
        -0.10, 0.006)

def hila_and_vessels(film: Film, body: Body, heart: np.ndarray) -> None:
    """Sets `film.vessels`, where vessels are seen: less before the heart, not in a pneumothorax."""
    film.vessels = {side: film.lungs[side] * (1 - 0.65 * heart) for side in SIGN}
    for side in (side for side in SIGN if body.collapse[side]):
        film.vessels[side] *= 1 - film.mask(pleural_space(body, side), 0.003)
    for side in SIGN:
        root = np.array([0.5 + body.shift + SIGN[side] * 0.085, 0.425 if side == "right" else 0.405])
        size = body.hilum[side]
        film.area([oval(root[0], root[1] - 0.02, 0.022 * size, 0.03 * size, SIGN[side] * 0.4),
            oval(root[0] + SIGN[side] * 0.008, root[1] + 0.035, 0.018 * size, 0.045 * size,
            -SIGN[side] * 0.3)], 0.15 * size**2, 0.008)
        reach = body.width * 0.82
        outlines, tones = vessel_tree(body, side, "frontal", root, (-1.45, 1.45), reach, SIGN[side], int(body.branches))
        film.area(outlines, 0.15 * body.vessels, 0.0018, film.vessels[side], tones)

def breasts(film: Film, body: Body) -> None:
    for side in SIGN:
        size = body.female * body.breast[side]
        if size:
            outline = curve(mirror(side, [(0.07, 0.60), (0.10, 0.70), (0.19, 0.775 + 0.02 * size),
                (0.30, 0.76 + 0.02 * size), (0.385, 0.66), (0.39, 0.52), (0.28, 0.45), (0.14, 0.48)]))
            film.area(outline, 0.07 * size, 0.010)
            film.area(outline, 0.05 * size, 0.05)

def column_frontal(body: Body) -> list[tuple[float, float, float, float]]:
    """x, y, half width and height of the vertebral bodies on the frontal picture."""
    out, y, height = [], 0.02, 0.046
    while y < 1.0:
        out.append((float(body.spine(y)), y, 0.029 + 0.012 * y, height))
        y += height
        height *= 1.022
    return out

def spine_frontal(film: Film, body: Body) -> None:
    y = np.linspace(-0.02, 1.02, 40)
    film.area(ribbon(np.stack([body.spine(y), y], -1), 0.062, 0.085), 0.10 * body.bone, 0.006)
    edges, discs, knobs = [], [], []
    for x, y, half, height in column_frontal(body):
        for edge in (-half, half):
            edges.append([(x + edge, y - height * 0.42), (x + edge * 0.88, y), (x + edge, y + height * 0.42)])
        discs.append(np.array([(x - half, y + height * 0.5), (x + half, y + height * 0.5)]))
        knobs.append(oval(x, y + height * 0.25, 0.006, 0.011))
    film.line(curve(edges, 3), 0.005, 0.10 * body.bone, 0.002)
    film.line(discs, 0.010, -0.07, 0.003)
    film.area(knobs, 0.08 * body.bone, 0.003)

def rib_lines(body: Body, side: str) -> tuple[np.ndarray, np.ndarray]:
    """The posterior and the anterior parts of the eleven ribs of a side, as lines [11, 21, 2]."""
    k = np.arange(11)
    height = body.dome[side] + body.arch[side] - body.apex
    y = body.apex - 0.02 + k * (height / 9.6)
    slope = 0.055 + 0.012 * np.minimum(k, 6)
    drop = 0.07 + 0.010 * np.minimum(k, 7)
    wall = body.wall(np.clip((y + slope - body.apex) / height, 0.06, 1)) + 0.006
    low = body.wall(np.clip((y + slope + 0.05 - body.apex) / height, 0.06, 1)) + 0.004
    x = (body.spine(y) - 0.5) * SIGN[side] + 0.045

    def lines(*points):
        return curve(mirror(side, np.stack([np.stack(point, -1) for point in points], 1)), 5)

    back = lines((x, y), (x + (wall - x) * 0.28, y - 0.010), (x + (wall - x) * 0.6, y + slope * 0.22),
                 (x + (wall - x) * 0.86, y + slope * 0.62), (wall, y + slope))
    y = y + slope
    front = lines((wall, y), (low * 0.985, y + 0.035), (low * 0.86, y + drop * 0.75), (low * 0.62, y + drop),
                  (np.maximum(0.13, low * 0.42), y + drop + 0.012))
    return back, front

def ribs_frontal(film: Film, body: Body) -> None:
    width = np.array([0.017] + [0.021] * 10)
    lines = [rib_lines(body, side) for side in SIGN]
    backs = np.concatenate([ribbon(back, width, width * 0.95) for back, _ in lines])
    fronts = np.concatenate([ribbon(front[:8], width[:8] * 0.95, width[:8] * 1.2) for _, front in lines])
    film.area(backs, 0.055 * body.bone, 0.002)
    film.line(edges(backs), 0.004, 0.055 * body.bone, 0.0014)
    film.area(fronts, 0.045 * body.bone, 0.003)
    film.line(edges(fronts), 0.004, 0.025 * body.bone, 0.002)

def edges(bands: np.ndarray) -> np.ndarray:
    """The two long edges of each band, with every second of their (odd number of) points."""
    n = bands.shape[-2] // 2
    return np.concatenate([bands[..., :n:2, :], bands[..., n::2, :]])

def clavicles(body: Body) -> dict[str, np.ndarray]:
    """The outline of each."""
    outlines, rng = {}, body.rng("shoulders")
    for side in SIGN:
        tilt = rng.normal(0, 0.008)
        line = curve(mirror(side, [(0.025, 0.195), (0.09, 0.185 - tilt), (0.17, 0.155 - tilt), (0.25, 0.125 - tilt),
            (0.33, 0.115 - tilt), (0.385, 0.12 - tilt)]))
        outlines[side] = ribbon(line, 0.026, 0.020)
    return outlines

def shoulders(film: Film, body: Body) -> None:
    bones, rims, clavicle = [], [], clavicles(body)
    for side in SIGN:
        bones.append(clavicle[side])
        rims += [*edges(clavicle[side][None])]
        blade = curve(mirror(side, [(0.30, 0.155), (0.355, 0.13), (0.41, 0.155), (0.40, 0.21), (0.385, 0.30),
            (0.375, 0.42), (0.355, 0.44), (0.335, 0.36), (0.312, 0.25), (0.30, 0.155)]))
        film.area(blade, 0.045 * body.bone, 0.004)
        film.line(blade[8:], 0.005, 0.05 * body.bone, 0.002)
        head = mirror(side, [(0.445, 0.165)])[0]
        bones.append(oval(head[0], head[1], 0.038, 0.042))
        shaft = ribbon(curve(mirror(side, [(0.46, 0.17), (0.478, 0.30), (0.50, 0.45), (0.515, 0.62)])), 0.045, 0.032)
        film.area(shaft, 0.05 * body.bone, 0.004)
        rims += [*edges(shaft[None]), oval(head[0], head[1], 0.037, 0.041)]
    film.area(bones, 0.10 * body.bone, 0.003)
    film.line(rims, 0.005, 0.06 * body.bone, 0.0016)

def pleural_space(body: Body, side: str) -> np.ndarray:
    """Where the air of a pneumothorax is: between the chest wall and the lung that came away from it.

    The second half of the points is the edge of the lung.
    """
    if body.apical[side]:
        return apical_space(body, side)
    amount = body.collapse[side]
    t = np.linspace(0, 1, 25)
    angle = body.dome[side] + body.arch[side]
    y = body.apex + t * (angle - body.apex)
    wall = body.wall(t) + 0.01
    inner = wall - (0.035 + 0.10 * amount) * (0.55 + 0.6 * np.exp(-t * 3.0)) * np.clip((1.15 - t) * 2.2, 0.35, 1)
    top = y + (0.05 + 0.08 * amount) * np.exp(-t * 7)
    outer = np.stack([wall, y - 0.03 * np.exp(-t * 9)], -1)
    return mirror(side, np.concatenate([outer, np.stack([np.maximum(inner, 0.1), top], -1)[::-1]]))

def apical_space(body: Body, side: str) -> np.ndarray:
    """As `pleural_space`, of air over the apex only, down to the part `body.apical` of the lung's height."""
    amount, reach = body.collapse[side], body.apical[side]
    height = body.dome[side] + body.arch[side] - body.apex
    gap, drop = 0.007 + 0.055 * amount, 0.007 + 0.078 * amount
    t = reach * np.array([1, 0.75, 0.5, 0.2])
    x = body.wall(t) - gap * np.array([-0.3, 0.35, 0.75, 1])
    y = body.apex + t * height + drop * np.array([0, 0.05, 0.15, 0.5])
    inner = curve([*np.stack([x, y], -1), (0.115, body.apex + drop), (0.045, body.apex + 1.6 * drop)])
    t = np.linspace(0, reach, len(inner) - 1)
    outer = np.stack([body.wall(t) + 0.03, body.apex + t * height - 0.04 * (1 - t / reach)], -1)
    return mirror(side, np.concatenate([[(0.03, body.apex - 0.04)], outer, inner]))

def skin_folds(film: Film, body: Body) -> None:
    """Folds of the back's skin: they thicken towards an edge, which has no line as that of a lung has."""
    for side in (side for side in SIGN if body.fold[side]):
        rng = body.rng(f"skin fold {side}")
        x, lean, top = rng.uniform(0.19, 0.25), rng.uniform(0.0, 0.10), rng.uniform(0.03, 0.22)
        low = rng.uniform(0.55, 0.85)
        edge = curve([(x, top), (x + 0.3 * lean + 0.012, (top + low) / 2), (x + lean, low)])
        wide = np.sqrt(np.sin(np.linspace(0, np.pi, len(edge))).clip(0))  # it runs out at both ends
        for k in range(1, 9):
            band = np.concatenate([edge, (edge - np.stack([0.011 * k * wide, 0 * wide], -1))[::-1]])
            film.area(mirror(side, band), 0.016 * body.fold[side], 0.002, film.trunk)
