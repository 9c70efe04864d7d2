"""Lines of text drawn over patches of radiographs, as scanners and technicians burn them in.

    text(rng)                              -> "PORTABLE", "12/03/2019 10:45", "L": what stands on films
    draw(text, font, patch, rng)           -> uint8 [H, W], the line where a detector would cut it out
    fit(crop)                              -> float32 [32, W], what the reader sees; on films as on drawings

The letters are white, gray as lead, or dark on a white plate; with a dark edge, in a ring, stretched, turned by a few
degrees, blurred, with noise and the traces of JPEG; parts of other lines reach in. "" stands for a patch without text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .crnn import HEIGHT

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.- ap"  # symbol k + 1 is letter k; 0 is the blank
WIDEST = 192  # pixels of a line; a longer one is squeezed
MARGIN = 0.2  # of the height of the letters, on every side of a line
MIXED = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"  # no O and no I: among digits nobody tells them from 0 and 1
SIDES, VIEWS = ("L", "R"), ("AP", "PA", "pa", "ap")
WORDS = ("PORTABLE", "ERECT", "SUPINE", "UPRIGHT", "SEMI-ERECT", "LEFT", "RIGHT", "PORT", "DECUB", "SITTING", "MOBILE")
NAMES = ("SMITH", "WANG", "GARCIA", "MUELLER", "KIM", "OKAFOR", "DOE", "JONES", "QUINN", "VOGT", "ZHANG", "FAY", "XU")


NOISE, FAINT = 5.0, 12.0  # gray levels: the noise of a film at most, the contrast of lead at least
SIZE = 40  # pixels of a font before it is brought to its size on the film


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    """A font of matplotlib, which every installation has; "": the one that Pillow brings."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts/ttf")
    return ImageFont.truetype(folder / f"{name}.ttf", SIZE) if name else ImageFont.load_default(SIZE)


def _truetype(name: str) -> Callable[[str], np.ndarray]:
    def render(text: str) -> np.ndarray:
        left, top, right, bottom = _font(name).getbbox(text)
        picture = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
        ImageDraw.Draw(picture).text((1 - left, 1 - top), text, 255, _font(name))
        return _trimmed(np.asarray(picture))

    return render


def _hershey(face: int, thickness: int) -> Callable[[str], np.ndarray]:
    """A font of OpenCV, of strokes (Hershey, 1967)."""

    def render(text: str) -> np.ndarray:
        (width, height), below = cv2.getTextSize(text, face, 1.4, thickness)
        picture = np.zeros([height + below + 20, width + 20], np.uint8)
        cv2.putText(picture, text, (10, height + 10), face, 1.4, 255, thickness, cv2.LINE_AA)
        return _trimmed(picture)

    return render


def _trimmed(ink: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(ink.max(axis) > 60) for axis in (1, 0))
    if not len(rows):
        return np.zeros([SIZE, SIZE], np.uint8)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


_TRUETYPE = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique", "DejaVuSansMono"),
    *("DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "STIXGeneral", "cmss10", "cmtt10", "cmb10"),
)
FONTS: dict[str, Callable[[str], np.ndarray]] = {  # a text to its ink, uint8 [h, w]
    **{name: _truetype(name) for name in _TRUETYPE},
    "Hershey simplex": _hershey(cv2.FONT_HERSHEY_SIMPLEX, 2),
    "Hershey simplex, bold": _hershey(cv2.FONT_HERSHEY_SIMPLEX, 5),
    "Hershey duplex": _hershey(cv2.FONT_HERSHEY_DUPLEX, 3),
    "Hershey triplex": _hershey(cv2.FONT_HERSHEY_TRIPLEX, 2),
    "STIXGeneralBol": _truetype("STIXGeneralBol"),
    "cmr10": _truetype("cmr10"),
    "Hershey complex": _hershey(cv2.FONT_HERSHEY_COMPLEX, 2),
    "Aileron": _truetype(""),
}
UNSEEN = ("STIXGeneralBol", "cmr10", "Hershey complex", "Aileron")  # kept for the test
SEEN = tuple(name for name in FONTS if name not in UNSEEN)


def encode(text: str, alphabet: str = ALPHABET) -> tuple[int, ...]:
    """Symbols of a text; ValueError where the alphabet lacks a letter of it."""
    return tuple(alphabet.index(letter) + 1 for letter in text)


def decode(symbols: Sequence[int], alphabet: str = ALPHABET) -> str:
    return "".join(alphabet[symbol - 1] for symbol in symbols)


def _letters(rng: np.random.Generator, low: int, high: int, alphabet: str = MIXED) -> str:
    return "".join(rng.choice(list(alphabet), rng.integers(low, high + 1)))


def text(rng: np.random.Generator) -> str:
    """A line as on films: a side, a view, words, initials, a time, a date, a name; or letters at random."""
    kinds: dict[str, tuple[float, Callable[[], str]]] = {
        "side": (0.16, lambda: str(rng.choice(SIDES))),
        "view": (0.12, lambda: str(rng.choice(VIEWS))),
        "word": (0.16, lambda: str(rng.choice(WORDS))),
        "words": (0.05, lambda: f"{rng.choice(VIEWS[:2])} {rng.choice(WORDS)}"),
        "initials": (0.14, lambda: _letters(rng, 2, 3, ALPHABET[:26])),
        "time": (0.08, lambda: _time(rng)),
        "date": (0.08, lambda: _date(rng)),
        "date, time": (0.03, lambda: f"{_date(rng)} {_time(rng)}"),
        "name": (0.06, lambda: f"{rng.choice(NAMES)} {_letters(rng, 1, 1, ALPHABET[:26])}"),
        "random": (0.12, lambda: _letters(rng, 1, 8)),
    }
    chances = [chance for chance, _ in kinds.values()]
    return list(kinds.values())[rng.choice(len(kinds), p=chances)][1]()


def _time(rng: np.random.Generator) -> str:
    return f"{rng.integers(0, 24):02}:{rng.integers(0, 60):02}"


def _date(rng: np.random.Generator) -> str:
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1990, 2030)
    forms = f"{day:02}/{month:02}/{year}", f"{day}.{month}.{year % 100:02}", f"{year}-{month:02}-{day:02}"
    return str(rng.choice(forms))


def fit(crop: np.ndarray, narrowest: int = 16) -> np.ndarray:
    """A line of gray values [H, W] as the reader takes it: float32 [32, W'], from -1 to 1 between its 1st and 99th
    percentile. W' is a multiple of 4 from `narrowest` to `WIDEST`; the last column is repeated up to it.
    """
    width = int(np.clip(round(HEIGHT * crop.shape[1] / crop.shape[0]), 4, WIDEST))
    how = cv2.INTER_AREA if crop.shape[0] > HEIGHT else cv2.INTER_LINEAR
    small = cv2.resize(crop, (width, HEIGHT), interpolation=how).astype(np.float32)
    values = np.sort(small, None)
    low, high = values[len(values) // 100], values[-1 - len(values) // 100]
    scaled = np.clip(2 * (small - low) / max(high - low, 8) - 1, -1, 1).astype(np.float32)
    return np.pad(scaled, [(0, 0), (0, max(narrowest, -(-width // 4) * 4) - width)], mode="edge")


def draw(text: str, font: str, patch: np.ndarray, rng: np.random.Generator, narrow: float = 1.0) -> np.ndarray:
    """`text` over `patch` (gray, any size), cut out with about `MARGIN` on every side: uint8 [H, W].

    `narrow` squeezes the letters further. An empty text gives a patch, at times with a ring or a bar across it.
    """
    cap = int(np.exp(rng.uniform(np.log(8), np.log(44))))  # height of a capital on the film
    if not text:
        film = _object(_background(patch, cap * 2, int(cap * rng.uniform(0.8, 6)), rng), rng)
        return _finish(film, cap, rng, NOISE)
    ink = FONTS[font](text)
    low = len(set(text) - set("ap.-: ")) == 0  # small letters fill a line as large ones do
    wide = rng.uniform(0.7, 1.35) * narrow
    small = not low and text != text.upper()  # these are lower than a capital, or reach below the line
    scale = cap / len(FONTS[font]("H") if small else ink)
    size = max(3, round(ink.shape[1] * scale * wide)), max(6, round(ink.shape[0] * scale * (0.8 if low else 1)))
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    margin = cap + 2
    ink = _turned(np.pad(ink, margin), rng.normal(0, 3) if len(text) < 8 else rng.normal(0, 1.2))
    film = _background(patch, *ink.shape, rng)
    ring = _ring(ink.shape, cap, rng) if len(text) == 1 and rng.random() < 0.2 else None
    painted = _painted(film, ink, cap, ring, rng)
    contrast = _contrast(painted, film, ink)
    painted = _neighbours(painted, cap, margin, rng)
    around = ink if ring is None or rng.random() < 0.3 else ring  # a detector takes the letter or its ring
    return _finish(_cut(painted, around, cap, rng), cap, rng, min(NOISE, contrast / 8))


def _contrast(painted: np.ndarray, film: np.ndarray, ink: np.ndarray) -> float:
    """Gray levels by which the letters changed the film."""
    return float((np.abs(painted - film) * ink).sum() / ink.sum())


def _background(patch: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A piece of `patch`, enlarged where it is too small."""
    scale = max(1.0, height / patch.shape[0], width / patch.shape[1])
    large = cv2.resize(patch, None, fx=scale, fy=scale) if scale > 1 else patch
    top, left = (rng.integers(0, have - need + 1) for have, need in zip(large.shape, (height, width), strict=True))
    return large[top : top + height, left : left + width].astype(np.float32)


def _turned(ink: np.ndarray, degrees: float) -> np.ndarray:
    height, width = ink.shape
    return cv2.warpAffine(ink, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height))


def _ring(shape: tuple[int, int], cap: int, rng: np.random.Generator) -> np.ndarray:
    """An oval around a letter, from 0 to 1: [H, W]."""
    centre, high = (shape[1] // 2, shape[0] // 2), cap * rng.uniform(0.8, 1.0)
    axes = max(3, round(high * rng.uniform(0.75, 1.05))), max(3, round(high))
    return cv2.ellipse(np.zeros(shape, np.float32), centre, axes, 0, 0, 360, 1.0, max(1, cap // 12), cv2.LINE_AA)


def _painted(
    film: np.ndarray, ink: np.ndarray, cap: int, ring: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Digital text is white, often with a dark edge; lead is a gray above the film; a plate has dark letters.

    A letter in a ring is white on a black disc.
    """
    kind = "ring" if ring is not None else rng.choice(["white", "edge", "lead", "plate"], p=[0.25, 0.3, 0.25, 0.2])
    if kind == "plate":
        film = film * 0.2 + 0.8 * (plate := rng.uniform(100, 255))
        return film * (1 - ink) + ink * rng.uniform(0, 0.6) * plate
    if kind == "lead":
        painted = film + ink * rng.uniform(25, 230) * (1 - film / 255)
        if _contrast(painted, film, ink) > FAINT:  # on a white film no lead would show
            return painted
    if kind == "ring":
        disc = cv2.dilate((ring > 0.5).astype(np.uint8), np.ones([3, 3], np.uint8), iterations=1 + cap // 20)
        outlines, _ = cv2.findContours(disc, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        film = cv2.drawContours(film.copy(), outlines, -1, 0.0, -1)
        ink = np.maximum(ink, ring)
    elif kind != "white" or film.mean() > 140:  # white on white has an edge
        edge = cv2.dilate(ink, np.ones([3, 3], np.uint8), iterations=1 + cap // 20)
        film = film * (1 - 0.9 * edge)
    return film * (1 - ink) + ink * rng.uniform(200, 255)


def _object(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At times a ring or a bar, as of electrodes and catheters."""
    height, width = film.shape
    light = float(np.clip(film.mean() + rng.uniform(20, 120), 0, 255))
    where = int(rng.integers(0, width)), int(rng.integers(0, height))
    if (kind := rng.integers(0, 4)) == 0:
        cv2.circle(film, where, int(height * rng.uniform(0.1, 0.6)), light, int(rng.choice([-1, 1, 2, 4])))
    elif kind == 1:
        to = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.line(film, where, to, light, int(rng.integers(1, max(2, height // 6))), cv2.LINE_AA)
    return film


def _neighbours(film: np.ndarray, cap: int, margin: int, rng: np.random.Generator) -> np.ndarray:
    """Parts of a line above or below, where there is one: they end before the letters begin."""
    gap = 1 + round(cap * rng.uniform(0, 0.2))
    for rows in (slice(0, margin - gap), slice(film.shape[0] - margin + gap, None)):
        if rng.random() < 0.2:
            ink = FONTS[str(rng.choice(SEEN))](_letters(rng, 2, 6))
            ink = cv2.resize(ink, film.shape[1::-1], interpolation=cv2.INTER_AREA)[rows].astype(np.float32) / 255
            film[rows] = film[rows] * (1 - ink) + ink * rng.uniform(120, 255)
    return film


def _finish(film: np.ndarray, cap: int, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Blur, noise of at most `noise` gray levels, and JPEG, each at times."""
    if rng.random() < 0.5:
        film = cv2.GaussianBlur(film, (0, 0), 0.2 + cap * rng.uniform(0, 0.06))
    film = film + rng.normal(0, rng.uniform(0, noise), film.shape)
    pixels = np.clip(film, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 95))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_GRAYSCALE)
    return pixels


def _cut(film: np.ndarray, ink: np.ndarray, cap: int, rng: np.random.Generator) -> np.ndarray:
    """The box of the letters with a margin that is not the same on every side."""
    rows, columns = (np.flatnonzero(ink.max(axis) > 0.3) for axis in (1, 0))
    top, bottom, left, right = (round(cap * rng.uniform(0.02, 2 * MARGIN)) for _ in range(4))
    return film[
        max(0, rows[0] - top) : rows[-1] + 1 + bottom,
        max(0, columns[0] - left) : columns[-1] + 1 + right,
    ]
