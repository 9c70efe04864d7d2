"""How well a mask covers a reference: Dice, IoU, Hausdorff 95 of two masks bool [H, W], and their means over images.

`OVERLAPS` maps a name to its function. Where a mask is empty:

    both are empty      nothing is missed and nothing is made up: Dice 1, IoU 1, Hausdorff 95 is 0
    one of them is      Dice 0, IoU 0; a Hausdorff distance is undefined: NaN, left out of the mean and counted

The challenge SIIM-ACR counts Dice so. Where most references are empty, a mean over all says little: `means` tells the
mean over the images whose reference is not empty as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..metrics.bootstrap import spreads
from ..runtime.files import MedcapError

Overlap = Callable[[np.ndarray, np.ndarray], float]


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) (Dice, Ecology 1945)."""
    _check(mask, reference)
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


def iou(mask: np.ndarray, reference: np.ndarray) -> float:
    """|A and B| / |A or B| (Jaccard, 1901)."""
    _check(mask, reference)
    union = int((mask | reference).sum())
    return int((mask & reference).sum()) / union if union else 1.0


def hausdorff95(mask: np.ndarray, reference: np.ndarray) -> float:
    """Pixels: the 95th percentile of the distances from one border to the other, the greater of both directions.

    As "Metrics reloaded" (Maier-Hein et al., Nature Methods 2024) has it. Others pool both directions first.
    """
    _check(mask, reference)
    if not mask.any() and not reference.any():
        return 0.0
    if not mask.any() or not reference.any():
        return float("nan")
    from scipy.ndimage import distance_transform_edt

    a, b = border(mask), border(reference)
    directed = distance_transform_edt(~b)[a], distance_transform_edt(~a)[b]
    return float(max(np.percentile(distances, 95) for distances in directed))


def border(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """The pixels of a mask that touch a pixel outside it by a side, and those within `width` steps of it; outside the
    picture is outside the mask.
    """
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, iterations=width)


OVERLAPS: dict[str, Overlap] = {"dice": dice, "iou": iou, "hd95": hausdorff95}


def measure(mask: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Every overlap of two masks bool [H, W]; MedcapError where their sizes differ."""
    return {name: overlap(mask, reference) for name, overlap in OVERLAPS.items()}


def means(rows: Sequence[dict], groups: Sequence[str], number: int = 1000) -> dict[str, dict]:
    """The mean of each overlap over images, with its 95% interval over `groups` (the patient of each image).

    `rows` are those of `measure` with "positive", whether the reference is not empty. Gives {"images", "positive": how
    many of them, name: {"value", "low", "high"}, "undefined": images without a Hausdorff distance}, and beside dice
    "dice_positive" over the positive ones. The percentile bootstrap of `metrics.bootstrap`.
    """
    positive = np.array([row["positive"] for row in rows], bool)
    values = {name: np.array([row[name] for row in rows], float) for name in OVERLAPS}
    values["dice_positive"] = np.where(positive, values["dice"], np.nan)
    facts = {"images": len(rows), "positive": int(positive.sum()), "undefined": int(np.isnan(values["hd95"]).sum())}
    return facts | mean_intervals(values, groups, number)


def mean_intervals(
    values: Mapping[str, np.ndarray], groups: Sequence[str], number: int = 1000
) -> dict[str, dict[str, float | None]]:
    """The mean of each float [N], what is NaN left out, with its 95% interval: {name: {"value", "low", "high"}}."""
    names, group = np.unique(np.asarray(groups, str), return_inverse=True)
    counts = {name: _sums(column, group, len(names)) for name, column in values.items()}
    return {name: spread.as_json() for name, spread in spreads(counts, dict.fromkeys(counts, _ratio), number).items()}


def _sums(column: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Of each group the sum and the number of what is defined, [G, 2]."""
    defined = np.isfinite(column)
    return np.stack([np.bincount(group, weights, groups) for weights in (np.where(defined, column, 0), defined)], 1)


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def _check(mask: np.ndarray, reference: np.ndarray) -> None:
    if mask.shape != reference.shape:
        raise MedcapError(f"a mask of {mask.shape} and a reference of {reference.shape}: give masks of the same size")
