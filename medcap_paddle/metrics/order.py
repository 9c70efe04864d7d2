"""What no sum over studies tells: how scores are distributed, over weighted studies.

Of scores that are kept as [n, c], the first column counts. `weights` [R, n] says how often each study is drawn.
"""

from __future__ import annotations

import numpy as np

BEST = 0.05  # share of the studies that `top_share` asks for


def _descending(kept: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [n], the best first, with their weights [R, n] and the sums of these up to each study."""
    order = np.argsort(-kept[:, 0], kind="stable")
    drawn = np.asarray(weights, float)[:, order]
    return kept[order, 0], drawn, drawn.cumsum(1)


def weighted_median(kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median score [R]; of an even number of studies the mean of the middle two."""
    scores, _, reached = _descending(kept, weights)
    half = reached[:, -1:] / 2
    middle = (reached >= half).argmax(1), (reached > half).argmax(1)
    return (scores[middle[0]] + scores[middle[1]]) / 2


def top_share(kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of the sum of all scores that the best 5% of the studies hold [R], the last of them in part; NaN where
    the sum is 0.
    """
    scores, drawn, reached = _descending(kept, weights)
    best = np.clip(BEST * reached[:, -1:] - (reached - drawn), 0, drawn)  # [R, n], the part that is among the best
    with np.errstate(invalid="ignore"):
        return (best @ scores) / (drawn @ scores)
