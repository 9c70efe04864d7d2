"""Devices: the painters of tubes, lines, implants and other things that are not the patient."""

from __future__ import annotations

import numpy as np

from .body import SIGN, mirror
from .film import curve, oval, ribbon
from .signs import paints

# fmt: off
# The formatter would give every point a line of its own.

@paints("pacemaker", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        box = mirror(side, [(0.235, 0.225), (0.285, 0.215), (0.308, 0.24), (0.305, 0.285), (0.265, 0.30),
            (0.235, 0.285)])
        film.area(curve([*box, box[0]], 4), 1.1, 0.0015)
        s, h = body.shift, body.heart
        sx = SIGN[side]
        for tip, offset in (((0.5 + 0.14 * h + s, 0.685), 0.0), ((0.455 + s, 0.565), 0.006)):
            lead = [(0.5 + sx * 0.26, 0.22), (0.5 + sx * 0.2, 0.175 + offset), (0.5 + sx * 0.1, 0.185 + offset),
                (0.46 + s, 0.245), (0.45 + s, 0.36 + offset), (0.445 + s, 0.50), (0.47 + s, 0.60 - 6 * offset), tip]
            film.line(curve(lead), 0.006, 0.55, 0.0012)
            film.area(oval(*tip, 0.008), 0.6, 0.0015)

@paints("pacemaker", view="lateral")
def _(film, body, f, rng):
    film.area(ribbon(curve([(0.245, 0.20), (0.215, 0.25), (0.195, 0.30)]), 0.026), 1.0, 0.0015)
    film.line(curve([(0.25, 0.20), (0.38, 0.17), (0.43, 0.27), (0.44, 0.45), (0.38, 0.60), (0.27, 0.69)]),
        0.006, 0.5, 0.0012)

@paints("central line", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        sx, s = SIGN[side], body.shift
        port = rng.random() < 0.5
        start = [(0.5 + sx * 0.26, 0.275), (0.5 + sx * 0.225, 0.20)] if port else [(0.5 + sx * 0.47, 0.33),
            (0.5 + sx * 0.40, 0.21), (0.5 + sx * 0.30, 0.165)]
        line = curve([*start, (0.5 + sx * 0.14, 0.175), (0.5 + sx * 0.06, 0.215), (0.456 + s, 0.285),
            (0.452 + s, 0.42)])
        film.line(line, 0.007, 0.42, 0.0014)
        if port:
            film.area(oval(*start[0], 0.022, 0.024), 0.50, 0.002)
            film.area(oval(*start[0], 0.011), -0.2, 0.002)

@paints("central line", view="lateral")
def _(film, body, f, rng):
    film.line(curve([(0.24, 0.24), (0.34, 0.15), (0.42, 0.20), (0.435, 0.32), (0.43, 0.43)]), 0.006, 0.40, 0.0014)

@paints("tracheal tube")
def _(film, body, f, rng):
    if film.view == "frontal":
        line = curve([(0.5, -0.05), (0.5, 0.1), (0.503 + body.shift, 0.29)])
    else:
        line = curve([(0.49, -0.05), (0.505, 0.10), (0.527, 0.28)])
    film.line([line - [0.009, 0], line + [0.009, 0]], 0.006, 0.42, 0.0012)
    film.line(line, 0.012, 0.10, 0.002)

@paints("enteric tube")
def _(film, body, f, rng):
    if film.view == "frontal":
        line = [(0.508, -0.05), (0.508, 0.3), (0.515, 0.6), (0.54, 0.76), (0.60, 0.83)]
    else:
        line = [(0.54, -0.05), (0.57, 0.3), (0.62, 0.6), (0.58, 0.8)]
    film.line(curve(line), 0.007, 0.45, 0.0012)

@paints("chest tube", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        line = curve(mirror(side, [(0.48, 0.72), (0.36, 0.66), (0.28, 0.50), (0.20, 0.28), (0.17, 0.20)]))
        film.line([line - [0.008, 0], line + [0.008, 0]], 0.005, 0.42, 0.0012)

@paints("sternal wires")
def _(film, body, f, rng):
    wires = []
    for t in np.linspace(0, 1, 6):
        if film.view == "frontal":
            x, y = 0.5 + body.shift + rng.normal(0, 0.003), 0.22 + 0.36 * t
            wires.append(curve([(x - 0.020, y - 0.009), (x, y + 0.002), (x + 0.020, y - 0.009), (x + 0.019, y + 0.008),
                (x, y), (x - 0.019, y + 0.008), (x - 0.020, y - 0.009)], 3))
        else:
            x, y = float(np.interp(t, [0, 0.3, 1], [0.275, 0.215, 0.14])), 0.225 + 0.36 * t
            wires.append(curve([(x - 0.018, y - 0.004), (x + 0.018, y + 0.004), (x + 0.014, y + 0.014)], 3))
    film.line(wires, 0.006, 0.95, 0.001)

@paints("surgical clips")
def _(film, body, f, rng):
    for side in f.sides:
        across, y, lx, ly = {"abdomen": (0.13, 0.90, 0.36, 0.88), "breast": (0.37, 0.36, 0.14, 0.45)}.get(f.place,
            (0.10, 0.45, 0.50, 0.42))
        centre = np.array([0.5 + SIGN[side] * across, y] if film.view == "frontal" else [lx, ly])
        clips = []
        for _ in range(5):
            p, a = centre + rng.normal(0, 0.020, 2), rng.uniform(0, np.pi)
            step = np.array([np.cos(a), np.sin(a)]) * 0.013
            clips.append(np.array([p - step, p, p + step]))
        film.line(clips, 0.008, 1.5, 0.001)

@paints("shoulder arthroplasty", view="frontal")
def _(film, body, f, rng):
    for side in f.sides:
        film.area([mirror(side, oval(0.443, 0.162, 0.036, 0.040)), ribbon(curve(mirror(side, [(0.458, 0.17),
            (0.478, 0.30), (0.495, 0.42)])), 0.032, 0.016)], 1.1, 0.0015)

@paints("foreign body")
def _(film, body, f, rng):
    for side in f.sides:
        centre = np.array([0.5 + SIGN[side] * 0.24, 0.45] if film.view == "frontal" else [0.62, 0.45])
        film.area([oval(*(centre + rng.normal(0, 0.05, 2)), rng.uniform(0.006, 0.014), rough=rng)
            for _ in range(5)], 1.1, 0.001)

@paints("monitor leads", view="frontal")
def _(film, body, f, rng):
    for x, y in ((0.27, 0.27), (0.73, 0.26), (0.74, 0.66)):
        film.area(oval(x, y, 0.014), 0.8, 0.0012)
        film.line(curve([(x, y), ((x + 0.5) / 2, y + 0.12), (0.52, 0.80), (0.50, 1.05)]), 0.005, 0.35, 0.0012)

@paints("monitor leads", view="lateral")
def _(film, body, f, rng):
    film.line(curve([(0.2, 0.3), (0.18, 0.6), (0.3, 1.0)]), 0.005, 0.35, 0.0012)
    film.area(oval(0.2, 0.3, 0.006, 0.014), 0.8, 0.0012)
