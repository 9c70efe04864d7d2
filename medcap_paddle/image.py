"""Images: a radiograph from a file, and the one transform between a radiograph and a network.

    read(path)                       -> uint8 [H, W], gray (see `vision.film`)
    doubt(image)                     -> why it may not be as it is meant: it looks inverted ...; "" mostly
    transform(image, preprocessing)  -> float32 [3, S, S], what an encoder sees

Encoder training, feature extraction and captioning one's own image all go through `transform`. Each encoder carries
its own `Preprocessing`, whose `record` stands beside its weights and its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from .runtime.files import MedcapError
from .vision.doubts import doubt
from .vision.film import read
from .vision.square import squared

TOLERANCE = 0.002  # of a number in a response; one gray level is 0.004 / std


@dataclass(frozen=True)
class Preprocessing:
    """What `transform` does to a gray image for one encoder."""

    size: int  # S: pixels of the square
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of each channel, where black is 0 and white 1: ImageNet, RGB
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    shrink: str = "BOX"  # a filter of PIL: this one averages the area under each new pixel
    enlarge: str = "BILINEAR"  # here BOX would only repeat pixels
    padding: float = 0.0  # brightness of the border, 0 to 1

    def record(self) -> dict:
        """The settings and the response of `transform`, in types that JSON keeps.

        The response tells what the code does, whatever its settings are called: mean and deviation of each quarter of
        each channel, for a large and for a small made-up picture.
        """
        settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**settings, "response": [number for scale in (2, 0.6) for number in self._response(scale)]}

    def _response(self, scale: float) -> list[float]:
        """24 numbers, for noise under a slope whose longer side is `scale` times that of the result."""
        height, width = int(scale * self.size) + 1, int(0.7 * scale * self.size) + 1
        y, x = np.indices((height, width))
        noise, slope = (3 * x * x + 5 * y * y + 7 * x * y) % 128, (90 * x) // width + (37 * y) // height
        seen, half = transform((noise + slope).astype(np.uint8), self), self.size // 2
        quarters = [seen[:, rows, columns] for rows in _halves(half) for columns in _halves(half)]
        return [round(float(n), 4) for part in quarters for n in (*part.mean((1, 2)), *part.std((1, 2)))]

    @classmethod
    def from_record(cls, record: object, what: str, remedy: str) -> Preprocessing:
        """The inverse of `record`. MedcapError, naming `what` it belongs to, when it is missing or when `transform` no
        longer gives the response that was recorded.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(record, dict) or not record.keys() >= set(names):
            raise MedcapError(f"{what} has no record of its preprocessing: {remedy}")
        preprocessing = cls(**{name: tuple(v) if isinstance(v := record[name], list) else v for name in names})
        if changed := difference(record, preprocessing.record()):
            raise MedcapError(f"{what} was made with another image transform ({changed}): {remedy}")
        return preprocessing


def _halves(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(half, None)


def difference(found: object, expected: dict) -> str:
    """Where the record `found` differs from `expected`, as "size is 224, not 128"; "" where they agree."""
    if not isinstance(found, dict):
        return f"it is {found!r}, not a record"
    for name in sorted((found.keys() | expected.keys()) - {"response"}):
        if found.get(name) != expected.get(name):
            return f"{name} is {found.get(name)!r}, not {expected.get(name)!r}"
    numbers, wanted = (np.asarray(record.get("response", []), float) for record in (found, expected))
    if numbers.shape != wanted.shape or not np.allclose(numbers, wanted, rtol=0, atol=TOLERANCE):
        return "the same settings, but other numbers for the same picture: image.transform has changed"
    return ""


def transform(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 [H, W], or [H, W, 3] in colour, to float32 [3, S, S].

    The longer side becomes S and the shorter is padded: squeezing would change the width of the heart against that of
    the chest, which is a finding, and cropping would cut off the costophrenic angles.
    """
    methods = Image.Resampling[preprocessing.shrink], Image.Resampling[preprocessing.enlarge]
    square = squared(image, preprocessing.size, preprocessing.padding, *methods)
    square = square.transpose(2, 0, 1) if image.ndim == 3 else square
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (square - mean) / std


def prepared(paths: Sequence[str | Path], preprocessing: Preprocessing) -> list[tuple[np.ndarray, str] | MedcapError]:
    """`transform` and `doubt` of each image, or why it cannot be read."""

    def prepare(path: str | Path) -> tuple[np.ndarray, str] | MedcapError:
        try:
            pixels = read(path)
        except MedcapError as error:
            return error
        return transform(pixels, preprocessing), doubt(pixels)

    return [prepare(path) for path in paths]
