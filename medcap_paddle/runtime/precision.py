"""Mixed precision: matrix products in bfloat16; weights, moments, softmax and loss stay float32.

bfloat16 has the range of float32, so no loss is scaled (Kalamkar et al. 2019, arXiv 1905.12322).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import paddle

from .files import MedcapError

PRECISIONS = ("float32", "bfloat16")


def supported() -> bool:
    """Whether this device trains in bfloat16. A CPU does not: `paddle.amp.auto_cast` has no effect there."""
    return paddle.device.get_device() != "cpu" and paddle.amp.is_bfloat16_supported()


def check(precision: str) -> None:
    """MedcapError on an unknown precision and on one that the device does not train in."""
    if precision not in PRECISIONS:
        raise MedcapError(f"precision is {precision!r}: use {' or '.join(PRECISIONS)}")
    if precision != PRECISIONS[0] and not supported():
        raise MedcapError(
            f"precision is {precision!r}, in which {paddle.device.get_device()} does not train: use float32, or a GPU "
            f"that computes in it"
        )


def autocast(precision: str) -> AbstractContextManager:
    """The context for a forward pass."""
    if precision == PRECISIONS[0]:
        return nullcontext()
    return paddle.amp.auto_cast(level="O1", dtype=precision)
