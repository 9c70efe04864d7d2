"""DICOM: a radiograph as a hospital stores it, read with pydicom.

What the standard says is done in its order (PS3.3, 2024):

    stored values     the Bits Stored of them; other bits and padding are no picture    C.7.6.3.1, C.7.5.1.1.2
    Modality LUT      a table, or Rescale Slope and Intercept                           C.11.1
    VOI LUT           the first table, else the first window (LINEAR, LINEAR_EXACT,     C.11.2.1.1, .2, .3
                      SIGMOID), else all values that Bits Stored can hold
    MONOCHROME1       the least value is white: turned                                  C.7.6.3.1.2

Where Bits Stored are all of 16 bits, the file does not tell the detector's depth: it is taken from the numbers, as
that of a PNG (`intensity.depth`). Padding becomes black. Uncompressed and RLE need pydicom only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError
from . import intensity

if TYPE_CHECKING:
    from pydicom import Dataset

HEAD = 132  # bytes that tell a DICOM from others
SUFFIXES = (".dcm", ".dicom")
# Of radiographs and of films that were scanned; also of none, as some exports have it.
MODALITIES = ("CR", "DX", "RG", "DR", "XR", "RF", "HC", "SC", "OT", "")
CODECS = {"JPEG 2000": "pylibjpeg pylibjpeg-openjpeg", "JPEG": "pylibjpeg pylibjpeg-libjpeg"}


def is_dicom(head: bytes, path: Path) -> bool:
    """Whether the first `HEAD` bytes are those of a DICOM; older ones have no mark, and their name tells."""
    known = head.startswith((b"\x89PNG", b"\xff\xd8\xff"))
    return head[128:HEAD] == b"DICM" or (path.suffix.lower() in SUFFIXES and not known)


def read(path: Path, limit: int) -> np.ndarray:
    """uint8 [H, W], white is dense. MedcapError where it is damaged, no radiograph, of several frames, without a
    picture, of more than `limit` pixels, or compressed in a way that needs another package.
    """
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break the standard in ways that do not matter here
            data = dcmread(path, force=True)
            _check(data, path, limit)
            _complete(data)
            return _levels(data, _pixels(data, path), path)
    except (MedcapError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises nearly anything
        raise MedcapError(f"{path} is not a readable DICOM ({error}): get it again") from error


def view(path: str | Path) -> str:
    """What a DICOM says of how the film was taken (View Position, C.8.11.5): "PA", "AP", "LL", "RL" ...; "" where it
    does not say, and of other files.
    """
    from pydicom import dcmread

    path = Path(path)
    with path.open("rb") as file:
        if not is_dicom(file.read(HEAD), path):
            return ""
    return str(dcmread(path, force=True, stop_before_pixels=True).get("ViewPosition") or "").strip().upper()


def _check(data: Dataset, path: Path, limit: int) -> None:
    modality = str(data.get("Modality", "") or "").strip().upper()
    if modality not in MODALITIES:
        raise MedcapError(f"{path} is a DICOM of modality {modality}, not a radiograph: give one of CR or DX")
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise MedcapError(f"{path} is a DICOM of {frames} frames: export the one that is meant")
    if "PixelData" not in data:
        raise MedcapError(f"{path} is a DICOM without a picture: give the file that holds its pixels, or get it again")
    if data.Rows * data.Columns > limit:
        size = f"{data.Columns} x {data.Rows}"
        raise MedcapError(f"{path} declares {size} pixels, more than we read: save a smaller copy")


def _complete(data: Dataset) -> None:
    """Give a file without file meta information the transfer syntax that it was read with."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data.file_meta = getattr(data, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _pixels(data: Dataset, path: Path) -> np.ndarray:
    """Whole numbers as they are stored: [H, W], or uint8 or uint16 [H, W, 3] in RGB."""
    from pydicom.pixels.processing import apply_color_lut

    syntax = data.file_meta.TransferSyntaxUID
    try:
        data.pixel_array_options(correct_unused_bits=False)  # see _stored
        pixels = data.pixel_array
    except (RuntimeError, NotImplementedError) as error:  # no decoder, or none that can do it
        package = next((package for kind, package in CODECS.items() if kind in syntax.name), None)
        if not package:
            raise
        what = f"{path} is a DICOM in {syntax.name} that cannot be decoded"
        raise MedcapError(f"{what}: pip install {package}, or export it uncompressed or as PNG ({error})") from error
    return apply_color_lut(pixels, data) if data.PhotometricInterpretation == "PALETTE COLOR" else pixels


def _levels(data: Dataset, pixels: np.ndarray, path: Path) -> np.ndarray:
    """From the stored values to uint8 [H, W]."""
    if pixels.ndim == 3:  # in colour: a scanned film, or a copy of the screen
        return _colour(data, pixels)
    if data.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise MedcapError(f"{path} is a DICOM in {data.PhotometricInterpretation}: export it as PNG")
    stored, low, high = _stored(data, pixels)
    padding = _padding(data, stored)
    if data.BitsStored == data.BitsAllocated == 16:
        low, high = _range_in_use(stored[~padding], low)
    values, low, width = _modality(data, stored, low, high)
    seen = _voi(data, values, low, width, path)
    if data.PhotometricInterpretation == "MONOCHROME1":
        seen = 255 - seen
    return np.where(padding, np.uint8(0), seen)


def _colour(data: Dataset, pixels: np.ndarray) -> np.ndarray:
    bits = 16 if data.PhotometricInterpretation == "PALETTE COLOR" and pixels.itemsize == 2 else data.BitsStored
    return intensity.levels(intensity.luma(pixels), 0, 1 << bits)


def _stored(data: Dataset, pixels: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The values within Bits Stored, int32 [H, W], and the least and the largest that these can hold."""
    bits, high = data.BitsStored, data.get("HighBit", data.BitsStored - 1)
    if not 1 <= bits <= min(data.BitsAllocated, 16) or high < bits - 1:
        raise ValueError(f"Bits Stored {bits}, High Bit {high} of {data.BitsAllocated}")
    values = (pixels.astype(np.int32) >> (high + 1 - bits)) & ((1 << bits) - 1)
    if not data.PixelRepresentation:
        return values, 0, (1 << bits) - 1
    sign = 1 << (bits - 1)
    return (values ^ sign) - sign, -sign, sign - 1


def _padding(data: Dataset, stored: np.ndarray) -> np.ndarray:
    """Which values are none but fill up the rectangle: bool [H, W]."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = data.get("PixelPaddingRangeLimit", first)
    least, largest = sorted((first, last))
    padding = (stored >= least) & (stored <= largest)
    return padding if not padding.all() else np.zeros(stored.shape, bool)


def _range_in_use(stored: np.ndarray, low: int) -> tuple[int, int]:
    """The least and the largest value of the depth in use; around 0 where values are negative."""
    if low == 0 or np.mean(stored < 0) <= intensity.BEYOND:
        return 0, (1 << intensity.depth(stored)) - 1
    bits = intensity.depth(np.where(stored < 0, -1 - stored, stored) * 2)
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _modality(data: Dataset, stored: np.ndarray, low: int, high: int) -> tuple[np.ndarray, float, float]:
    """Values after the Modality LUT, the least of them that there can be, and the width of their range."""
    if tables := data.get("ModalityLUTSequence"):
        values, bits = _table(tables[0], stored)
        return values, 0, 1 << bits
    slope, intercept = _number(data, "RescaleSlope", 1.0), _number(data, "RescaleIntercept", 0.0)
    if slope == 0:
        raise ValueError("Rescale Slope 0")
    least = min(low * slope, high * slope) + intercept
    return stored * slope + intercept, least, (high - low + 1) * abs(slope)


def _voi(data: Dataset, values: np.ndarray, low: float, width: float, path: Path) -> np.ndarray:
    """Values as they are meant to be displayed: uint8, before MONOCHROME1 turns them. `low` and `width` are the range
    without a window.
    """
    if tables := data.get("VOILUTSequence"):
        values, bits = _table(tables[0], np.rint(values).astype(np.int32))
        return intensity.levels(values, 0, 1 << bits)
    centre, window = _number(data, "WindowCenter"), _number(data, "WindowWidth")
    if centre is None or window is None:
        return intensity.levels(values, low, width)
    name = str(data.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    if name not in FUNCTIONS or not window > 0:
        raise MedcapError(f"{path} has a window of width {window:g} and function {name}: export it as PNG")
    return FUNCTIONS[name](values, centre, window)


def _table(item: Dataset, values: np.ndarray) -> tuple[np.ndarray, int]:
    """`values` looked up in a LUT of the standard (C.11.2.1.1), and the bits of its entries."""
    count, first, bits = (int(n) for n in item.LUTDescriptor)
    count = count or 1 << 16
    entries = item.LUTData
    if isinstance(entries, bytes):
        order = "<" if item.original_encoding[1] in (True, None) else ">"
        entries = np.frombuffer(entries, np.uint8 if len(entries) < 2 * count else f"{order}u2")
    entries = np.atleast_1d(np.asarray(entries))[:count]
    if len(entries) < count or not 1 <= bits <= 16:
        raise ValueError(f"a table of {len(entries)} entries, not {count}, of {bits} bits")
    if first > 1 << 15 and values.min() < 0:  # it is signed as the values are
        first -= 1 << 16
    return entries[np.clip(values - first, 0, count - 1)], bits


def _linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """LINEAR begins at c - 0.5 - (w - 1) / 2, LINEAR_EXACT at c - w / 2: the same, and within a level so is the end."""
    return intensity.levels(values, centre - width / 2, width)


def _sigmoid(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return intensity.levels(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -50, 50))), 0, 1)


FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear, "SIGMOID": _sigmoid}


def _number(data: Dataset, name: str, default: float | None = None) -> float | None:
    """An element as a number: the first where there are several views, `default` where it is absent or empty."""
    element = data.get(name)
    if element is None or element == "":
        return default
    return float(element if np.isscalar(element) or not hasattr(element, "__len__") else element[0])
