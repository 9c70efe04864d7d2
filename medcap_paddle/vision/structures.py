"""What masks show, and what follows from what: the union of both lungs is known where each lung is.

A collection may know less than another: `tb_cxr` has one mask of both lungs, `jsrt` one of each. A network has a
channel for each part and none for a union; the logit of a union follows from those of its parts, so that a mask of
the union teaches both parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import paddle
from paddle import nn

# sides are the patient's: the left lung is on the right of the picture
UNIONS = {"lungs": ("right_lung", "left_lung")}
PIECES = {"heart": 1, "right_lung": 1, "left_lung": 1, "lungs": 2, "clavicles": 2}  # connected parts of a structure


def outputs(structures: Iterable[str]) -> list[str]:
    """These structures and the unions that follow from them, in order of names."""
    names = set(structures)
    return sorted(names | {union for union, parts in UNIONS.items() if names.issuperset(parts)})


def channels(names: Sequence[str]) -> list[str]:
    """Those of `names` that need a channel of their own."""
    return [name for name in names if not set(names).issuperset(UNIONS.get(name, (name, "")))]


def complete(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The masks of an image, bool [H, W] by name, with the unions that follow from them."""
    given = {name: parts for name, parts in UNIONS.items() if name not in masks and masks.keys() >= set(parts)}
    return masks | {name: np.logical_or.reduce([masks[part] for part in parts]) for name, parts in given.items()}


def cleaned(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same masks without specks: of each structure the `PIECES` largest connected parts; a union is that of its
    parts where all are drawn.
    """
    found = {name: largest(mask, PIECES[name]) if name in PIECES else mask for name, mask in masks.items()}
    unions = {name for name, parts in UNIONS.items() if found.keys() >= {name, *parts}}
    whole = complete({name: mask for name, mask in found.items() if name not in unions})
    return {name: whole[name] for name in masks}


def largest(mask: np.ndarray, count: int = 1) -> np.ndarray:
    """The `count` largest parts of a mask bool [H, W] whose pixels touch by a side."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    return np.isin(parts, 1 + np.argsort(-sizes, kind="stable")[:count])


class Structured(nn.Layer):
    """A network with a channel for each of `channels(names)` -> logits [B, C, H, W] of all `names`, in their order."""

    def __init__(self, network: nn.Layer, names: Sequence[str]):
        super().__init__()
        self.network, self.names, self.own = network, tuple(names), channels(names)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        logits = self.network(images)
        return paddle.stack([self._logit(logits, name) for name in self.names], 1)

    def _logit(self, logits: paddle.Tensor, name: str) -> paddle.Tensor:
        if name in self.own:
            return logits[:, self.own.index(name)]
        a, b = (logits[:, self.own.index(part)] for part in UNIONS[name])
        # p = 1 - (1 - p_a)(1 - p_b), as a logit: log(e^a + e^b + e^(a + b)). `paddle.logsumexp` is slow on a CPU.
        ends = a, b, a + b
        most = paddle.maximum(paddle.maximum(*ends[:2]), ends[2])
        return most + paddle.add_n([(end - most).exp() for end in ends]).log()
