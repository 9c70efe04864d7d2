"""Text that is burned into radiographs: found, read, and blackened.

    python -m medcap_paddle.sequence.burned_in IMAGE... [--mask OUT]

prints a table in CSV (image, x, y, width, height, text, confidence; pixels of the image from its upper left corner) and
writes to the folder OUT a PNG of every image with its lines blackened, for a person to check. PNG, JPEG and DICOM; of a
DICOM file no header is copied.

`candidates` proposes lines: strokes that are brighter or darker than what is around them (top-hat and black-hat of
mathematical morphology, from OpenCV), at several thresholds; connected pixels are letters, or words where the letters
touch; those of a height that stand side by side are a line. `reader.Reader` then decides: a candidate in which it reads
nothing, or hesitates, is no line. Text that stands on end, upside down or mirrored is not looked for, and no detector
finds everything: a person must look at what is to leave the house.

The reader that is shipped learnt from letters drawn over patches of films of JSRT (Shiraishi et al., 2000) and NIH
ChestX-ray14 (Wang et al., 2017), by notebook 42; --reader names another one.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .. import image
from ..runtime.files import MedcapError, atomic, cli_errors, shown
from . import reader as readers
from .lines import MARGIN
from .reader import Reader

SIDE = 1024  # pixels of the longer side at which lines are looked for
ENLARGED = 1.5  # at most, of smaller films: letters of 8 pixels touch each other less
LEAST = 7  # pixels: the lowest letter
HIGHEST = 0.09  # of the longer side: the highest letter
WIDEST = 12  # of its height: letters that touch are one
THRESHOLDS = 16, 32, 64, 128  # gray levels between a stroke and what is around it
ALIKE = 0.8  # boxes that share so much of both are one
OVERLAP = 0.3  # of the smaller box: two lines do not share more
SURE = 0.3  # the probability from which a text counts
ALONE = 0.8  # the same for one letter, which many a rib resembles

Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class Line:
    box: Box
    text: str
    confidence: float


def candidates(pixels: np.ndarray) -> list[Box]:
    """Boxes that may be lines of text in a film [H, W], in its own pixels."""
    scale = min(ENLARGED, SIDE / max(pixels.shape))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how) if scale != 1 else pixels
    side = max(small.shape)
    kernel = np.ones([side // 36 | 1] * 2, np.uint8)  # wider than any stroke
    found: list[Box] = []
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        hat = cv2.morphologyEx(small, operation, kernel)
        for threshold in THRESHOLDS:
            found += _joined(_letters(hat > threshold, HIGHEST * side))
    return [tuple(round(n / scale) for n in box) for box in _different(found)]


def _different(boxes: Sequence[Box]) -> list[Box]:
    """Without those that are much the same as one before them."""
    kept: list[Box] = []
    for box in boxes:
        if not kept or _shares(box, np.array(kept)).max() < ALIKE:
            kept.append(box)
    return kept


def _shares(box: Box, others: np.ndarray) -> np.ndarray:
    """The area that a box has in common with each of `others` [n, 4], of what both cover together (Jaccard): [n]."""
    starts, ends = np.maximum(box[:2], others[:, :2]), np.add(box[:2], box[2:])
    common = np.maximum(np.minimum(ends, others[:, :2] + others[:, 2:]) - starts, 0).prod(1)
    return common / (box[2] * box[3] + others[:, 2:].prod(1) - common)


def _letters(mask: np.ndarray, highest: float) -> np.ndarray:
    """Boxes [n, 4] of connected pixels that are as high, as wide and as full as letters, or words, are."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    x, y, width, height, area = stats[1:].T
    full = area / (width * height)
    fits = (height >= LEAST) & (height <= highest) & (width <= WIDEST * height) & (width * 8 >= height)
    return stats[1:][fits & (full > 0.12) & (full < 0.97)][:, :4]


def _joined(letters: np.ndarray) -> list[Box]:
    """Lines of letters, from left to right: the next one has about the height of the last and overlaps its rows, and
    the gap between them is less than that height.
    """
    lines: list[list[np.ndarray]] = []
    for letter in letters[np.argsort(letters[:, 0])]:
        for line in lines:
            if _follows(line[-1], letter):
                line.append(letter)
                break
        else:
            lines.append([letter])
    boxes = []
    for line in map(np.array, lines):
        low, high = line[:, :2].min(0), (line[:, :2] + line[:, 2:]).max(0)
        boxes.append((*map(int, low), *map(int, high - low)))
    return boxes


def _follows(last: np.ndarray, letter: np.ndarray) -> bool:
    gap = letter[0] - (last[0] + last[2])
    height = max(last[3], letter[3])
    shared = min(last[1] + last[3], letter[1] + letter[3]) - max(last[1], letter[1])
    return -0.3 * height < gap < 0.8 * height and shared > 0.7 * height


def cut(pixels: np.ndarray, box: Box, margin: float = MARGIN) -> np.ndarray:
    """The pixels of a box and `margin` of its height around it, as far as the film goes."""
    x, y, width, height = box
    more = max(1, round(margin * height))
    return pixels[max(0, y - more) : y + height + more, max(0, x - more) : x + width + more]


def find(pixels: np.ndarray, reader: Reader, sure: float = SURE) -> list[Line]:
    """Lines of text in a film, uint8 [H, W], from top to bottom; `sure`: see `SURE`.

    Of lines that overlap the one stays of which most letters are sure: a word, not its first half. Its box is the
    largest one in which the same is read, such as the ring around a letter.
    """
    boxes = candidates(pixels)
    read = zip(boxes, reader.read([cut(pixels, box) for box in boxes]), strict=True)
    lines = [Line(box, *reading) for box, reading in read if _certain(*reading, sure)]
    kept: list[Line] = []
    for line in sorted(lines, key=lambda line: len(line.text) * line.confidence, reverse=True):
        same = [k for k, other in enumerate(kept) if _overlap(line.box, other.box) > OVERLAP]
        if not same:
            kept.append(line)
        elif len(same) == 1 and line.text == kept[same[0]].text:
            kept[same[0]] = replace(kept[same[0]], box=max(kept[same[0]].box, line.box, key=_area))
    kept = [replace(line, box=_with_edge(line.box)) for line in kept]
    return sorted(kept, key=lambda line: (line.box[1], line.box[0]))


def _with_edge(box: Box) -> Box:
    """A pixel more on every side: the edge of a stroke is blurred, and part of it lies below the threshold."""
    left, top = max(0, box[0] - 1), max(0, box[1] - 1)
    return left, top, box[0] + box[2] + 1 - left, box[1] + box[3] + 1 - top


def _certain(text: str, confidence: float, sure: float) -> bool:
    """There is a letter or a digit, and little doubt."""
    return any(letter.isalnum() for letter in text) and confidence >= (sure if len(text) > 1 else max(sure, ALONE))


def _area(box: Box) -> int:
    return box[2] * box[3]


def shared(a: Box, b: Box) -> int:
    """Pixels that two boxes have in common."""
    sides = (min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    width, height = (max(0, side) for side in sides)
    return width * height


def _overlap(a: Box, b: Box) -> float:
    """Shared area, of that of the smaller box."""
    return shared(a, b) / min(_area(a), _area(b))


def mask(pixels: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """A copy of the film in which the lines, with their margin, are black."""
    black = pixels.copy()
    for line in lines:
        cut(black, line.box)[...] = 0
    return black


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcap_paddle.sequence.burned_in", description="Find, read and blacken text in radiographs."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or DICOM")
    parser.add_argument("--mask", metavar="OUT", help="folder for PNGs in which the lines are black")
    parser.add_argument(
        "--reader", default=readers.SHIPPED, help="weights of another reader, such as 42_crnn.ipynb writes"
    )
    options = parser.parse_args()
    with cli_errors():
        run(options.images, options.mask, readers.load(options.reader))


def run(paths: Sequence[str], out: str | None, reader: Reader) -> None:
    """The command. MedcapError, before anything is written, where two images would give a PNG of one name or where a
    PNG would take the place of its image.
    """
    targets = {path: Path(out, f"{Path(path).stem}.png") for path in paths} if out else {}
    for path, target in targets.items():
        if list(targets.values()).count(target) > 1 or target.resolve() == Path(path).resolve():
            raise MedcapError(f"{target} would be written from several images or over {path}: choose other folders")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["image", "x", "y", "width", "height", "text", "confidence"])
    for path in paths:
        pixels = image.read(path)
        lines = find(pixels, reader)
        for line in lines:
            table.writerow([shown(str(path)), *line.box, line.text, f"{line.confidence:.3f}"])
        if path in targets:
            with atomic(targets[path]) as temporary:
                Image.fromarray(mask(pixels, lines)).save(temporary, "PNG")


if __name__ == "__main__":
    main()
