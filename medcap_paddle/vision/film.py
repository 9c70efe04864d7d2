"""A film: a radiograph from a file, as uint8 [H, W], white is dense.

PNG and JPEG through PIL, but for PNGs of 16 bits in colour or with alpha, of which PIL keeps the upper 8; DICOM
through pydicom. The content of a file decides, not its name. 8 bits are gray levels as they are, for others see
`intensity`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..runtime.files import MedcapError, require
from . import dicom, doubts, intensity

MAX_PIXELS = 100_000_000  # more is no radiograph: a broken header, or a file made to fill the memory
PNG = b"\x89PNG\r\n\x1a\n"
COLOURS = (2, 4, 6)  # of a PNG: RGB, gray with alpha, RGB with alpha


def read(path: str | Path) -> np.ndarray:
    """A PNG or JPEG of any depth or colour, or a DICOM, as uint8 [H, W].

    MedcapError naming the file when it cannot be read, shows nothing, or holds several pictures.
    """
    path = require(path, "check the path")
    try:
        with path.open("rb") as file:
            head = file.read(dicom.HEAD)
    except OSError as error:
        raise MedcapError(f"{path} is not a readable PNG or JPEG ({error}): replace the file") from error
    pixels = dicom.read(path, MAX_PIXELS) if dicom.is_dicom(head, path) else _picture(path, head)
    if nothing := doubts.no_picture(pixels):
        raise MedcapError(f"{path} {nothing}: replace the file")
    return pixels


def _picture(path: Path, head: bytes) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:  # parses the header only
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise MedcapError(f"{path} declares {width} x {height} pixels, more than we read: save a smaller copy")
            _check_single(picture, path)
            picture.load()
            if head.startswith(PNG) and head[24] == 16 and head[25] in COLOURS:
                return _upright(intensity.to_bytes(_deep_colour(path, picture), path), picture)
            ImageOps.exif_transpose(picture, in_place=True)
            return _gray(picture, path)
    except (MedcapError, MemoryError):  # short memory is not the file's fault
        raise
    except Exception as error:  # decoders raise nearly anything on broken input: OSError, SyntaxError, struct.error ...
        raise MedcapError(f"{path} is not a readable PNG or JPEG ({error}): replace the file") from error


def _check_single(picture: Image.Image, path: Path) -> None:
    """MedcapError for an animation; a warning where a camera keeps a preview behind the photograph."""
    count = getattr(picture, "n_frames", 1)
    if count > 1 and picture.format == "PNG":
        raise MedcapError(f"{path} is an animation of {count} pictures: save the one that is meant")
    if count > 1:
        warnings.warn(f"{path} holds {count} pictures: the first one is read", stacklevel=4)


def _gray(picture: Image.Image, path: Path) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits, gray
        values = np.asarray(picture).astype(np.uint16)
        if "transparency" in picture.info:  # one number means: transparent
            values[values == picture.info["transparency"]] = 0
        return intensity.to_bytes(values, path)
    if picture.has_transparency_data:  # what is transparent is black, the background of a radiograph
        picture = picture.convert("RGBA")
        _check_seen(picture.getchannel("A").getextrema()[1], path)
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def _check_seen(alpha: int, path: Path) -> None:
    if not alpha:
        raise MedcapError(f"{path} is transparent all over and shows nothing: save it without transparency")


def _deep_colour(path: Path, picture: Image.Image) -> np.ndarray:
    """uint16 [H, W] of a PNG that has 16 bits a channel; `picture` is the same file, found whole by PIL."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)  # [H, W, BGR or BGRA]
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[1::-1] != picture.size:
        raise ValueError("16 bits in colour cannot be decoded")
    values = intensity.luma(pixels[..., 2::-1])
    if pixels.shape[2] == 4:  # also where one colour means: transparent
        _check_seen(pixels[..., 3].max(), path)
        return intensity.over_black(values, pixels[..., 3])
    if "transparency" in picture.info:
        values[(pixels[..., 2::-1] == picture.info["transparency"]).all(-1)] = 0
    return values


def _upright(pixels: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Turned as the EXIF data of `picture` say."""
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = picture.getexif().get(0x0112, 1)
    return np.asarray(ImageOps.exif_transpose(turned))
