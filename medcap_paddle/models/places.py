"""The places that a decoder looks at: what the encoder says of each place of each view, ready to be attended to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import paddle
from paddle import nn

from .decoder import locked_dropout


class Places(nn.Layer):
    """An array of the encoder, standardised, projected and layer-normalised.

    [B, K, G, D] to places [B, K x G, E], the first view's first, and a mask [B, K x G] of 1 and 0: 0 where the view is
    missing. A view is missing where its array holds nothing but zeros: `dataset` fills up with such views, and no
    encoder gives one. An array [B, K, D] has one place a view.

    `positions` adds a learned vector to each of the G places, the same in every view; without it a place is known by
    what it shows only.
    """

    def __init__(self, shape: Sequence[int], width: int, dropout: float, positions: bool = False):
        """`shape` is that of one view, (G, D) or (D,); `dropout` leaves out channels, in all places of a view alike
        (Tompson et al., CVPR 2015, section 3.2).
        """
        super().__init__()
        *places, channels = shape
        self.dropout = dropout
        self.register_buffer("mean", paddle.zeros([channels]))
        self.register_buffer("deviation", paddle.ones([channels]))
        self.project = nn.Linear(channels, width, bias_attr=False)
        self.norm = nn.LayerNorm(width)
        normal = nn.initializer.Normal(0.0, 0.5)
        self.positions = self.create_parameter([*places, width], default_initializer=normal) if positions else None

    def standardise(self, studies: Sequence[np.ndarray]) -> None:
        """Take mean and deviation of each channel over all places of the train views, [K, ...] a study."""
        mean, deviation = moments(studies)
        self.mean.set_value(mean)
        self.deviation.set_value(deviation)

    def forward(self, array: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        (B, K), D = array.shape[:2], array.shape[-1]
        views = array.reshape([B * K, -1, D])  # [B x K, G, D]
        mask = (views != 0).astype("float32").max([1, 2]).unsqueeze(1).expand(views.shape[:2])
        # Expanded, since broadcasting takes many times as long on a CPU.
        rows = (views - self.mean.expand_as(views)) / self.deviation.expand_as(views)
        rows = self.norm(self.project(locked_dropout(rows, self.dropout, self.training)))
        if self.positions is not None:
            rows = rows + self.positions.expand_as(rows)
        return rows.reshape([B, -1, rows.shape[-1]]), mask.reshape([B, -1])


def strongest(places: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """The largest of each number of [B, N, E] over the places that are there: [B, E]; zeros where there is none."""
    there = (mask > 0).unsqueeze(-1).expand_as(places)
    largest = paddle.where(there, places, paddle.full_like(places, -1e9)).max(1)
    return paddle.where(there.any(1), largest, paddle.zeros_like(largest))


def moments(studies: Sequence[np.ndarray], least: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [D] of each channel over all places of all views, [K, ..., D] a study; no deviation is below
    `least`. One study at a time, since all of them may fill the memory.
    """
    count, total = 0, 0.0
    for rows in _rows(studies):
        count, total = count + len(rows), total + rows.sum(0, dtype="float64")
    mean = total / count
    variance = sum(np.square(rows - mean).sum(0) for rows in _rows(studies)) / count
    return mean.astype("float32"), np.maximum(np.sqrt(variance), least).astype("float32")


def _rows(studies: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The places of each study [n, D], missing views left out."""
    for views in studies:
        there = views.reshape(len(views), -1).any(1)
        yield views[there].reshape(-1, views.shape[-1])
