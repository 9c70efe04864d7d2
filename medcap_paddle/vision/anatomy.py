"""Measurements of masks: the cardiothoracic ratio, the areas of the lungs and their symmetry.

Masks are bool [H, W] of one frontal image, by the names of `structures`; lengths are pixels. What cannot be measured
raises MedcapError, with the reason in words: a ratio from half a heart would look like one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..runtime.files import MedcapError

ENLARGED = 0.5  # of the ratio in adults, on a PA film (Danzer, American Journal of the Medical Sciences 1919)
SMALLEST = 0.01  # of the image: a lung or a heart of fewer pixels is a speck
# Among the 158 reference masks of JSRT the least are .54, .64 and -.002:
LOPSIDED = 0.4  # of the smaller lung's area through the larger one's
BESIDE = 0.5  # of the rows that both lungs have
SHIFTED = -0.02  # of the chest's width: the middle of the heart from that of the chest, to the patient's left
SIDES = ("right_lung", "left_lung")
FIX = "look at the overlay, and measure by hand"


@dataclass(frozen=True)
class Anatomy:
    """What the masks of an image measure."""

    heart: tuple[int, int]  # first column of the heart, and the one after its last
    thorax: tuple[int, int]  # the same of both lungs together
    right_area: int  # pixels
    left_area: int

    @property
    def ratio(self) -> float:
        """The cardiothoracic ratio: greatest width of the heart through that of the thorax."""
        return (self.heart[1] - self.heart[0]) / (self.thorax[1] - self.thorax[0])

    @property
    def symmetry(self) -> float:
        """The smaller lung's area through the larger one's: 1 where both are equal."""
        return min(self.right_area, self.left_area) / max(self.right_area, self.left_area)

    @property
    def right_share(self) -> float:
        """The right lung's area through that of both."""
        return self.right_area / (self.right_area + self.left_area)

    @property
    def enlarged(self) -> bool:
        return self.ratio > ENLARGED


def measure(masks: dict[str, np.ndarray]) -> Anatomy:
    """The measurements of an image's masks "heart", "right_lung" and "left_lung".

    Danzer measures the greatest extent of the heart to the right and to the left of the midline, and the greatest
    inner width of the chest. Both are horizontal, and need not be at the same height. The masks have no ribs: the outer
    edges of both lungs stand for the inner width of the chest. MedcapError where a mask is missing, empty or a speck,
    and where the masks do not lie as on a frontal film.
    """
    for name in ("heart", *SIDES):
        _check(masks, name)
    right, left = (float(np.nonzero(masks[name])[1].mean()) for name in SIDES)
    if right >= left:
        raise MedcapError(f"the right lung is not on the left of the picture: it may be mirrored; {FIX}")
    found = Anatomy(
        extent(masks["heart"]), extent(masks["right_lung"] | masks["left_lung"]), *(int(masks[n].sum()) for n in SIDES)
    )
    _check_frontal(masks, found)
    return found


def _check_frontal(masks: dict[str, np.ndarray], found: Anatomy) -> None:
    """MedcapError where the masks do not lie as on a frontal film."""
    (start, end), heart = found.thorax, found.heart
    if heart[0] < start or heart[1] > end:
        raise MedcapError(f"the heart reaches beyond the lungs (columns {heart}, {found.thorax}): no ratio; {FIX}")
    if found.symmetry < LOPSIDED or _beside(masks) < BESIDE:
        raise MedcapError(f"the lungs do not lie side by side: it is no frontal film, or one lung is hidden; {FIX}")
    middle = np.nonzero(masks["heart"])[1].mean()
    if (middle - (start + end) / 2) / (end - start) < SHIFTED:
        raise MedcapError(f"the heart lies in the right half of the chest: the film may be mirrored; {FIX}")


def _beside(masks: dict[str, np.ndarray]) -> float:
    """The rows that both lungs have through those that either has."""
    right, left = (masks[name].any(1) for name in SIDES)
    return (right & left).sum() / (right | left).sum()


def extent(mask: np.ndarray) -> tuple[int, int]:
    """The first column of a mask that is not empty, and the one after its last."""
    columns = np.flatnonzero(mask.any(0))
    return int(columns[0]), int(columns[-1]) + 1


def _check(masks: dict[str, np.ndarray], name: str) -> None:
    words = name.replace("_", " ")
    if name not in masks:
        raise MedcapError(f"no mask of the {words} is given: use a network that draws it")
    if not masks[name].any():
        raise MedcapError(f"the mask of the {words} is empty: it cannot be measured; {FIX}")
    if (share := masks[name].mean()) < SMALLEST:
        raise MedcapError(f"the mask of the {words} is a speck ({share:.2%} of the image): not measured; {FIX}")
