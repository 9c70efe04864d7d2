"""Chest radiographs drawn from findings: `draw(findings, view, seed)` gives uint8 [size, size].

A picture is a sum of attenuations, as on a film: soft tissue, minus the air of the lungs, plus heart, vessels, bones,
what the findings add, and metal; a tone curve, scatter and noise follow. The seed is the patient: the same seed gives
the same body in both views, and a finding changes nothing but what it stands for.

Points are fractions of the picture, x to the right and y down. Frontal: the patient's right is on the left.
Lateral: the patient faces left, the spine is on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from .findings import Finding

SIZE = 320
SIGN = {"right": -1.0, "left": 1.0}  # of x on a frontal picture


def draw(
    findings: Iterable[Finding], view: str = "frontal", seed: int = 0, size: int = SIZE, take: int = 0
) -> np.ndarray:
    """A patient's picture, uint8 [size, size]; another `take` is another exposure of the same patient."""
    findings = list(findings)
    body = patient(seed)
    for finding in findings:
        reshape(body, finding)
    film = Film(size, body, view, take)
    (frontal if view == "frontal" else lateral)(film, body)
    for finding in findings:
        if finding.name in PAINTERS[view]:
            rng = body.rng(f"{finding.name}{finding.place}{finding.side}")
            PAINTERS[view][finding.name](film, body, finding, rng)
    return film.expose(body)


# --- the film ---------------------------------------------------------------------------------------------------------


TURNED = np.array([-1.0, 1.0])  # (x, y) -> (-y, x), after swapping


@lru_cache(maxsize=64)
def _steps(n: int) -> np.ndarray:
    return np.linspace(0, 1, n)


@lru_cache(maxsize=16)
def _spline(per: int) -> np.ndarray:
    """Catmull-Rom weights of the four neighbours at `per` steps between two points, [per, 4]."""
    t = (np.arange(per) / per)[:, None]
    return 0.5 * np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )


def curve(points, per: int = 6) -> np.ndarray:
    """A smooth line [..., (n - 1) * per + 1, 2] through points [..., n, 2] (Catmull-Rom)."""
    points = np.asarray(points, np.float64)
    first, last = 2 * points[..., :1, :] - points[..., 1:2, :], 2 * points[..., -1:, :] - points[..., -2:-1, :]
    padded = np.concatenate([first, points, last], -2)
    n = points.shape[-2] - 1
    windows = np.stack([padded[..., k : k + n, :] for k in range(4)], -2)  # [..., n, 4, 2]
    line = (_spline(per) @ windows).reshape(*points.shape[:-2], n * per, 2)
    return np.concatenate([line, points[..., -1:, :]], -2)


def ribbon(line: np.ndarray, start, end=None) -> np.ndarray:
    """The outline [..., 2 n, 2] of a band along a line [..., n, 2], tapering from width `start` to `end`."""
    tangent = np.empty_like(line)
    tangent[..., 1:-1, :] = line[..., 2:, :] - line[..., :-2, :]
    tangent[..., 0, :] = line[..., 1, :] - line[..., 0, :]
    tangent[..., -1, :] = line[..., -1, :] - line[..., -2, :]
    tangent /= np.sqrt((tangent**2).sum(-1, keepdims=True)) + 1e-9
    start, end = (np.asarray(width)[..., None] for width in (start, start if end is None else end))
    half = (start + _steps(line.shape[-2]) * (end - start))[..., None] / 2
    across = tangent[..., ::-1] * TURNED * half
    return np.concatenate([line + across, (line - across)[..., ::-1, :]], -2)


def oval(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0, rough=None) -> np.ndarray:
    """An ellipse; with a generator as `rough`, an irregular one."""
    a = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    r = np.ones_like(a)
    if rough is not None:
        for k in (2, 3, 5, 7):
            r += rough.normal(0, 0.22 / k) * np.cos(k * a + rough.uniform(0, 6.3))
    ex, ey = rx * r * np.cos(a), (ry or rx) * r * np.sin(a)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([x + ex * c - ey * s, y + ex * s + ey * c], -1)


@lru_cache(maxsize=4)
def _noise(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Fine and coarse unit noise that films are grained with, rolled differently for each."""
    rng = np.random.default_rng(7)
    fine = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 0.7)
    coarse = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), size / 130)
    coarse -= cv2.GaussianBlur(coarse, (0, 0), size / 40)
    return fine / fine.std(), coarse / coarse.std()


class Film:
    """A sheet that sums attenuation; shapes are given in fractions, and land where the patient stood."""

    def __init__(self, size: int, body: Body, view: str, take: int):
        self.size, self.view, self.take = size, view, take
        self.density = np.zeros((size, size), np.float32)
        rng = body.rng(f"position {view} {take}")
        angle, scale = rng.normal(0, 0.018) * body.sloppy, rng.normal(1.0, 0.025)
        shift = rng.normal(0, 0.012, 2) * body.sloppy
        self.matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if view != "frontal":
            self.matrix = self.matrix @ np.diag([body.depth, 1.0])
        self.offset = 0.5 + shift - self.matrix @ [0.5, 0.5]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return (points @ self.matrix.T + self.offset) * self.size

    def area(self, outlines, amount: float, soft: float = 0.004, within=None, tones=None, thickness: int = 0) -> None:
        """Add `amount` inside the outline(s), with edges blurred by `soft`, only where the sheet `within` is 1."""
        mask, (x0, y0, x1, y1) = self._mask(outlines, soft, tones, thickness)
        if mask is not None:
            mask = mask * np.float32(amount / 255)
            if within is not None:
                mask *= within[y0:y1, x0:x1]
            self.density[y0:y1, x0:x1] += mask

    def line(self, lines, width: float, amount: float, soft: float = 0.002, within=None) -> None:
        """Add `amount` along the line(s)."""
        if width * self.size < 2.4:  # OpenCV's own lines are the faster ones, but come in whole pixels
            self.area(lines, amount, soft, within, thickness=1 if width * self.size < 1 else 2)
        else:
            lines = [lines] if np.ndim(lines[0]) == 1 else lines
            self.area([ribbon(line, width) for line in lines], amount, soft, within)

    def mask(self, outlines, soft: float = 0.004) -> np.ndarray:
        """The outline(s) as a float sheet of 0 to 1."""
        sheet = np.zeros_like(self.density)
        mask, (x0, y0, x1, y1) = self._mask(outlines, soft)
        if mask is not None:
            sheet[y0:y1, x0:x1] = mask * np.float32(1 / 255)
        return sheet

    def _mask(self, outlines, soft, tones=None, thickness=0):
        """uint8 picture of the outlines in the rectangle they touch; drawn coarsely when the edges are soft anyway."""
        outlines = [outlines] if np.ndim(outlines[0]) == 1 else outlines
        points = self.pixels(np.concatenate(outlines))
        sigma = soft * self.size
        step = 8 if sigma > 7.6 else 4 if sigma > 3.8 else 2 if sigma > 1.9 else 1
        x0, y0 = (max(0, int(v - 3 * sigma - 2)) for v in points.min(0))
        x1, y1 = (min(self.size, int(v + 3 * sigma + 3)) for v in points.max(0))
        if x1 <= x0 or y1 <= y0:
            return None, (0, 0, 0, 0)
        canvas = np.zeros((-(-(y1 - y0) // step), -(-(x1 - x0) // step)), np.uint8)
        corners = np.round(((points - (x0 - 0.5, y0 - 0.5)) / step - 0.5) * 16).astype(np.int32)
        ends = np.cumsum([len(outline) for outline in outlines])
        shapes = [corners[end - len(outline) : end] for end, outline in zip(ends, outlines, strict=True)]
        if thickness:
            cv2.polylines(canvas, shapes, False, 255, thickness, cv2.LINE_AA, 4)
        else:  # one by one: together they would cancel where they overlap
            for shape, tone in zip(shapes, [255] * len(shapes) if tones is None else tones, strict=True):
                cv2.fillPoly(canvas, [shape], float(tone), cv2.LINE_AA, 4)
        # box filters of 3 x 3, each of variance 2 / 3, are faster than a Gaussian
        passes = round((sigma / step) ** 2 * 1.5)
        if passes == 0 and sigma > 0.3:
            canvas = cv2.GaussianBlur(canvas, (3, 3), sigma, borderType=cv2.BORDER_REPLICATE)
        for _ in range(passes):
            canvas = cv2.blur(canvas, (3, 3), borderType=cv2.BORDER_REPLICATE)
        if step > 1:
            canvas = cv2.resize(canvas, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        return canvas[: y1 - y0, : x1 - x0], (x0, y0, x1, y1)

    def expose(self, body: Body) -> np.ndarray:
        """Attenuation to grey values: scatter, tone curve, grain, collimation and marker."""
        size, rng = self.size, body.rng(f"exposure {self.view} {self.take}")
        fine, coarse = _noise(size)
        small = cv2.resize(self.density, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
        scatter = cv2.resize(cv2.GaussianBlur(small, (0, 0), size / 60), (size, size))
        density = self.density * 0.86 + scatter * 0.14 + np.float32(rng.normal(0, 0.025) + body.exposure)
        density -= np.maximum(density - 1.0, 0) * np.float32(0.45)  # the film saturates slowly
        grey = 0.5 + 0.5 * np.tanh((density - 0.66) * np.float32(1.85 * body.contrast * rng.normal(1, 0.04)))
        roll = tuple(int(v) for v in rng.integers(0, size, 2))
        grey += np.roll(fine, roll, (0, 1)) * np.float32(0.008 * body.grain)
        grey += np.roll(coarse, roll[::-1], (0, 1)) * np.float32(0.005)
        if body.blurred:
            grey = cv2.GaussianBlur(grey, (0, 0), body.blurred * size)
        picture = np.clip(grey * 250 + 2, 0, 255).astype(np.uint8)
        if rng.random() < 0.3:  # collimation
            top, bottom, left, right = (rng.uniform(0, 0.02, 4) * size).astype(int)
            picture[:top] = picture[size - bottom :] = 3
            picture[:, :left] = picture[:, size - right :] = 3
        if rng.random() < 0.6:
            left_marker = rng.random() < 0.6
            letter = "L" if left_marker or self.view != "frontal" else "R"
            x = rng.uniform(0.88, 0.93) if left_marker or self.view != "frontal" else rng.uniform(0.03, 0.06)
            place = (int(x * size), int(rng.uniform(0.06, 0.10) * size))
            cv2.putText(
                picture, letter, place, cv2.FONT_HERSHEY_SIMPLEX, size / 640, 245, max(1, size // 200), cv2.LINE_AA
            )
        return picture


# --- the patient ------------------------------------------------------------------------------------------------------


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
    spurs: float = 0.0
    endplates: float = 0.0
    wedge: float = 0.0
    exposure: float = 0.0
    contrast: float = 1.0
    grain: float = 1.0
    sloppy: float = 1.0
    blurred: float = 0.0
    breast: dict[str, float] = field(default_factory=dict)  # drawn in women only

    def rng(self, part: str) -> np.random.Generator:
        """A random stream of its own for every part, so that a finding does not reshuffle the rest."""
        return np.random.default_rng([self.seed, *part.encode()])

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


# fmt: off
# The formatter would give every point a line of its own.

# --- the frontal view -------------------------------------------------------------------------------------------------

def mirror(side: str, points) -> np.ndarray:
    """Points given as (distance from the midline, y), on the patient's side."""
    return np.asarray(points, np.float64) * [SIGN[side], 1.0] + [0.5, 0.0]

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

def frontal(film: Film, body: Body) -> None:
    fat = body.fat
    # soft tissue: torso and neck, arms
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
    # mediastinum and abdomen
    film.lungs = {side: film.mask(lung_outline(body, side), 0.0035) for side in SIGN}
    film.both = film.lungs["right"] + film.lungs["left"]
    column = np.concatenate([
        curve([(0.5 - 0.05 - body.wide, -0.1), (0.445 - body.wide, 0.1), (0.44 - body.wide * 2, 0.25),
            (0.44 - body.wide, 0.5), (0.43, 0.8), (0.42, 0.84)]),
        curve([(0.55 + body.wide, -0.1), (0.555 + body.wide, 0.1), (0.56 + body.wide * 2, 0.25),
            (0.56 + body.wide, 0.5), (0.57, 0.8), (0.58, 0.84)])[::-1],
    ]) + [body.shift, 0]
    u = np.linspace(0, 1.0, 30)
    belly = np.concatenate([
        mirror("right", np.stack([u * body.width, body.bottom("right", np.minimum(u, 1))], -1))[::-1],
        mirror("left", np.stack([u * body.width, body.bottom("left", np.minimum(u, 1))], -1)),
        mirror("left", [(0.40, 1.2)]),
        mirror("right", [(0.40, 1.2)]),
    ])
    film.belly = film.mask(belly, 0.005)
    film.density += film.belly * film.trunk * np.float32(0.46)
    column[:, 0] += 0.7 * (body.spine(column[:, 1]) - 0.5)
    film.area(column, 0.30, 0.012, 1 - 0.9 * film.belly)
    # the air of the lungs
    film.density -= film.both * np.float32(0.34 * body.air)
    for side in SIGN:
        x, y = body.spot(side, 0.5, 0.55)
        film.area(oval(x, y, 0.11, 0.26), -0.10 * body.air, 0.05, film.lungs[side])
    # stomach bubble and bowel gas under the left dome
    rng = body.rng("stomach")
    x, y = 0.5 + body.width * rng.uniform(0.42, 0.6), body.dome["left"] + 0.05 + rng.uniform(0, 0.02)
    film.area(oval(x, y, rng.uniform(0.04, 0.075), rng.uniform(0.018, 0.035), rng.normal(0, 0.15), rng), -0.28, 0.008)
    # heart, great vessels
    heart = film.mask(heart_outline(body), 0.005)
    film.density += heart * film.both * np.float32(0.42)
    film.area(heart_outline(body), 0.10, 0.03, 1 - film.belly)
    knob, unfold = body.knob, body.unfold
    s = body.shift
    arch = 0.27 - 0.02 * unfold
    aorta = curve([(0.5 + s, arch), (0.55 + s, arch + 0.002), (0.572 + 0.028 * unfold + 0.02 * (knob - 1) + s, 0.305),
        (0.560 + 0.030 * unfold + s, 0.345), (0.548 + 0.034 * unfold + s, 0.42),
        (0.544 + 0.032 * unfold + s, 0.52), (0.535 + 0.014 * unfold + s, 0.62), (0.53, 0.74)])
    film.area(ribbon(aorta, 0.05 * knob, 0.045 * knob), 0.22, 0.004, film.both)
    film.area(ribbon(aorta, 0.05 * knob, 0.045 * knob), 0.06, 0.006)
    ascending = curve([(0.47 + s, 0.55), (0.45 + s - 0.012 * unfold, 0.45), (0.447 + s - 0.022 * unfold, 0.38),
        (0.46 + s, 0.29), (0.49 + s, 0.27)])
    film.area(ribbon(ascending, 0.045 * knob), 0.12, 0.006)
    # spine
    spine_frontal(film, body)
    # airway
    carina = 0.355
    film.area(ribbon(curve([(0.5, -0.05), (0.5, 0.1), (0.5 + 0.006 + s, 0.25), (0.5 + 0.004 + s, carina)]),
        0.036, 0.032), -0.20, 0.005)
    film.area(ribbon(curve([(0.503 + s, carina - 0.01), (0.47 + s, 0.40), (0.44 + s, 0.45)]), 0.026, 0.018),
        -0.10, 0.006)
    film.area(ribbon(curve([(0.505 + s, carina - 0.01), (0.55 + s, 0.405), (0.585 + s, 0.43)]), 0.024, 0.016),
        -0.10, 0.006)
    # hila and vessels
    film.vessels = {side: film.lungs[side] * (1 - 0.65 * heart) for side in SIGN}
    for side in (side for side in SIGN if body.collapse[side]):
        film.vessels[side] *= 1 - film.mask(pleural_space(body, side), 0.003)
    for side in SIGN:
        root = np.array([0.5 + s + SIGN[side] * 0.085, 0.425 if side == "right" else 0.405])
        size = body.hilum[side]
        film.area([oval(root[0], root[1] - 0.02, 0.022 * size, 0.03 * size, SIGN[side] * 0.4),
            oval(root[0] + SIGN[side] * 0.008, root[1] + 0.035, 0.018 * size, 0.045 * size,
            -SIGN[side] * 0.3)], 0.15 * size**2, 0.008)
        reach = body.width * 0.82
        outlines, tones = vessel_tree(body, side, "frontal", root, (-1.45, 1.45), reach, SIGN[side], int(body.branches))
        film.area(outlines, 0.15 * body.vessels, 0.0018, film.vessels[side], tones)
    rng = body.rng("texture")
    texture = np.roll(_noise(film.size)[1], tuple(int(v) for v in rng.integers(0, film.size, 2)), (0, 1))
    film.density += texture * film.both * np.float32(0.012)
    ribs_frontal(film, body)
    shoulders(film, body)
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

def shoulders(film: Film, body: Body) -> None:
    bones, rims = [], []
    rng = body.rng("shoulders")
    for side in SIGN:
        tilt = rng.normal(0, 0.008)
        line = curve(mirror(side, [(0.025, 0.195), (0.09, 0.185 - tilt), (0.17, 0.155 - tilt), (0.25, 0.125 - tilt),
            (0.33, 0.115 - tilt), (0.385, 0.12 - tilt)]))
        band = ribbon(line, 0.026, 0.020)
        bones.append(band)
        rims += [*edges(band[None])]
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
    """Where the air of a pneumothorax is: between the chest wall and the lung that came away from it."""
    amount = body.collapse[side]
    t = np.linspace(0, 1, 25)
    angle = body.dome[side] + body.arch[side]
    y = body.apex + t * (angle - body.apex)
    wall = body.wall(t) + 0.01
    inner = wall - (0.035 + 0.10 * amount) * (0.55 + 0.6 * np.exp(-t * 3.0)) * np.clip((1.15 - t) * 2.2, 0.35, 1)
    top = y + (0.05 + 0.08 * amount) * np.exp(-t * 7)
    outer = np.stack([wall, y - 0.03 * np.exp(-t * 9)], -1)
    return mirror(side, np.concatenate([outer, np.stack([np.maximum(inner, 0.1), top], -1)[::-1]]))

# --- the lateral view -------------------------------------------------------------------------------------------------

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

def lateral(film: Film, body: Body) -> None:
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
    # raised arms
    for y in (0.02, -0.03):
        film.area(ribbon(curve([(0.62, 0.16), (0.42, y + 0.03), (0.15, y - 0.03)]), 0.15, 0.12), 0.22, 0.02)
    film.lungs = {side: film.mask(lung_outline_lateral(body, side), 0.004) for side in SIGN}
    film.both = np.maximum(film.lungs["right"], film.lungs["left"])
    for side in SIGN:
        film.density -= film.lungs[side] * np.float32(0.215 * body.air)
        x = np.linspace(0.14, 0.85, 30)
        belly = np.concatenate([np.stack([x, lateral_bottom(body, side, x)], -1), [[0.86, 1.2], [0.1, 1.2]]])
        film.area(belly, 0.20, 0.004, film.trunk)
    # retrosternal and retrocardiac spaces are the darkest
    film.area(oval(0.32, 0.33, 0.075, 0.11, 0.45), -0.10 * body.air, 0.035, film.both)
    film.area(oval(0.65, 0.62, 0.075, 0.13, -0.1), -0.12 * body.air, 0.035, film.both)
    rng = body.rng("stomach")
    film.area(oval(rng.uniform(0.42, 0.55), body.dome["left"] + 0.055, rng.uniform(0.05, 0.08),
        rng.uniform(0.018, 0.03), rng.normal(0.1, 0.1), rng), -0.20, 0.008)
    # heart and great vessels
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
    # airway and hila
    film.area(ribbon(curve([(0.49, -0.05), (0.505, 0.10), (0.525, 0.25), (0.54, 0.375)]), 0.034, 0.028), -0.13, 0.006)
    film.area([oval(0.537, 0.405, 0.013), oval(0.533, 0.445, 0.010)], -0.10, 0.004)
    for side, (x0, y0, rx, ry, turn) in {"right": (0.485, 0.425, 0.032, 0.03, 0.3),
        "left": (0.558, 0.40, 0.026, 0.04, -0.7)}.items():
        size = body.hilum[side]
        film.area(oval(x0, y0, rx * size, ry * size, turn), 0.10 * size**2, 0.008)
    clear = 1 - 0.45 * film.mask(heart, 0.006)
    for side, x0, y0 in (("right", 0.485, 0.435), ("left", 0.55, 0.415)):
        trees = [
            vessel_tree(body, side, f"lateral{flip}", np.array([x0, y0]) + [0.012 * flip, 0],
                fan, reach, flip, int(body.branches * 0.6))
            for flip, fan, reach in ((-1.0, (-1.25, 1.1), 0.26), (1.0, (-1.2, 1.45), 0.27))
        ]
        outlines, tones = (np.concatenate(parts) for parts in zip(*trees, strict=True))
        film.area(outlines, 0.10 * body.vessels, 0.002, film.lungs[side] * clear, tones)
    rng = body.rng("texture")
    texture = np.roll(_noise(film.size)[1], tuple(int(v) for v in rng.integers(0, film.size, 2)), (0, 1))
    film.density += texture * film.both * np.float32(0.012)
    # bones
    y0 = np.repeat(0.14 + 0.068 * np.arange(9), 2) + np.tile([0.0, 0.022], 9)  # of both sides, a little apart
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
    vertebrae_lateral(film, body)

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

# --- what findings change in the anatomy ------------------------------------------------------------------------------

def add(base: float, per_grade: float = 0.0):
    return lambda value, grade: value + (base + per_grade * grade)

def times(base: float, per_grade: float = 0.0):
    return lambda value, grade: value * (base + per_grade * grade)

def become(base: float, per_grade: float = 0.0):
    return lambda value, grade: base + per_grade * grade

# finding -> what of the Body it changes; what a Body has per side changes on the sides of the finding, or on both
RESHAPED = {
    "cardiomegaly": {"heart": add(0, 0.34)},
    "pericardial effusion": {"heart": add(0, 0.34)},
    "tortuous aorta": {"unfold": add(0, 1.9), "knob": add(0, 0.15)},
    "mediastinal widening": {"wide": add(0, 0.038)},
    "hilar enlargement": {"hilum": add(0, 0.75)},
    "pulmonary congestion": {
        "vessels": times(1, 0.22), "upper_flow": become(1), "branches": become(14), "hilum": add(0, 0.30),
    },
    "pulmonary edema": {"vessels": times(1, 0.3), "upper_flow": become(1.15)},
    "bronchovascular markings": {"vessels": times(1.05, 0.15), "reach": times(1.12), "branches": become(18)},
    "low lung volumes": {"dome": add(-0.045, -0.055), "arch": times(0.9), "heart": times(1.06), "vessels": times(1.12)},
    "hyperinflation": {
        "dome": add(0.035, 0.045), "arch": times(0.62, -0.15), "heart": times(0.86),
        "depth": add(0, 0.10), "air": times(1.08),
    },
    "obstructive disease": {"dome": add(0.02, 0.03), "arch": times(0.7), "heart": times(0.9), "depth": add(0, 0.06)},
    "emphysema": {
        "dome": add(0.02, 0.02), "arch": times(0.7), "heart": times(0.9), "depth": add(0, 0.05),
        "air": times(1.08, 0.14), "vessels": times(0.8), "reach": times(0.72),
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
        "exposure": add(0.16), "contrast": times(0.72), "grain": times(3), "sloppy": become(2.2),
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

# --- what findings add ------------------------------------------------------------------------------------------------

Painter = Callable[[Film, Body, Finding, np.random.Generator], None]
PAINTERS: dict[str, dict[str, Painter]] = {"frontal": {}, "lateral": {}}

def paints(*names: str, view: str = ""):
    """Register the painter of these findings, in one view or in both."""

    def register(painter: Painter) -> Painter:
        for table in [PAINTERS[view]] if view else PAINTERS.values():
            table.update(dict.fromkeys(names, painter))
        return painter

    return register

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
        (0.10 + 0.13 * g) * dim, 0.022 * small, lung)

@lesion("patchy opacity")
def _(film, lung, p, g, rng, dim, small):
    clumps = [oval(*(p + rng.normal(0, 0.038 * small, 2)), rng.uniform(0.012, 0.026), rough=rng) for _ in range(8)]
    film.area(clumps, (0.10 + 0.13 * g) * dim, 0.007, lung)

@lesion("infiltrate")
def _(film, lung, p, g, rng, dim, small):
    for _ in range(4):
        film.area(oval(*(p + rng.normal(0, 0.035 * small, 2)), 0.05 * small, 0.035 * small, rng.uniform(0, 3), rng),
            (0.05 + 0.055 * g) * dim, 0.010, lung)

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
    film.line(lines, 0.005, (0.20 + 0.14 * g) * dim, 0.0016, lung)
    film.area(oval(*p, 0.011, 0.008, rough=rng), 0.16 * dim, 0.003, lung)

@lesion("nodule")
def _(film, lung, p, g, rng, dim, small):
    film.area(oval(*p, 0.014 + 0.010 * g), (0.26 + 0.06 * g) * dim, 0.003, lung)

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
    film.area(oval(*p, 0.0095 + 0.004 * g, 0.0085 + 0.004 * g, rough=rng), 0.62 * dim, 0.0014)

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
    nodes(film, body, ("left", "right"), "hilum", rng, 2)

def nodes(film, body, sides, place, rng, count):
    for side in sides:
        if film.view == "frontal":
            x, y = (0.5 + SIGN[side] * 0.10, 0.43) if place == "hilum" else (0.5 + SIGN[side] * 0.045, 0.33)
        else:
            x, y = (0.53, 0.43) if place == "hilum" else (0.52, 0.35)
        film.area([oval(x + rng.normal(0, 0.016), y + rng.normal(0, 0.026), 0.012, 0.009, rng.uniform(0, 3), rng)
            for _ in range(count)], 0.5, 0.002)

@paints("calcified lymph nodes")
def _(film, body, f, rng):
    nodes(film, body, f.sides, f.place or "hilum", rng, 5)

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

# pleura and diaphragm

def fluid(body: Body, side: str, height: float) -> np.ndarray:
    """Free fluid on the frontal picture: a meniscus that climbs `height` above the costophrenic angle at the wall."""
    u = np.linspace(0.0, 1.05, 28)
    angle = body.dome[side] + body.arch[side]
    level = angle - height * (0.45 + 0.55 * np.minimum(u, 1) ** 4)
    layer = max(height * 1.35 - body.arch[side] * 0.55, 0.004)  # of fluid that covers the dome
    level = np.maximum(level, np.minimum(body.bottom(side, np.minimum(u, 1)), angle) - layer - 0.5 * height * u**6)
    top = np.stack([u * body.width, level], -1)
    return mirror(side, np.concatenate([top, [(body.width * 1.05, angle + 0.03), (0, angle + 0.03)]]))

@paints("pleural effusion", "blunted costophrenic angle", view="frontal")
def _(film, body, f, rng):
    height = 0.055 + 0.015 * f.grade if f.name != "pleural effusion" else 0.05 + 0.17 * f.grade
    for side in f.sides:
        film.area(fluid(body, side, height), 0.60, 0.005 if height > 0.08 else 0.003, film.lungs[side])

@paints("pleural effusion", "blunted costophrenic angle", view="lateral")
def _(film, body, f, rng):
    height = 0.07 if f.name != "pleural effusion" else 0.05 + 0.17 * f.grade
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
        deep = (0.025 + 0.025 * f.grade) * (1 + 0.25 * np.sin(t * 22 + rng.uniform(0, 6)))
        if f.place == "apex":
            cap = np.concatenate([mirror(side, [(0.08, body.apex - 0.02)]), mirror(side, outer),
                mirror(side, outer - np.stack([deep * 0.8, -deep], -1))[::-1], mirror(side,
                [(0.09, body.apex + 0.035)])])
        else:
            cap = mirror(side, np.concatenate([outer, (outer - np.stack([deep * 0.8 + 0.008, 0 * deep], -1))[::-1]]))
        film.area(cap, 0.26, 0.003, film.lungs[side])

@paints("pleural thickening", view="lateral")
def _(film, body, f, rng):
    if f.place == "apex":
        film.area(oval(0.52, 0.10, 0.07, 0.035), 0.16, 0.005, film.both)
    else:
        film.line(curve([(0.80, 0.45), (0.81, 0.6), (0.80, 0.78)]), 0.022, 0.14, 0.003, film.both)

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

# heart and vessels

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

# bones

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

# soft tissues

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

# devices

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
