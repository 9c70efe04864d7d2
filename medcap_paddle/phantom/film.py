"""The film: a sheet that sums attenuation, the shapes it is given, and its exposure to grey values.

Points are fractions of the picture, x to the right and y down; lines and outlines are arrays [n, 2] of them.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .body import Body

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
def noise(size: int) -> tuple[np.ndarray, np.ndarray]:
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
        fine, coarse = noise(size)
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
