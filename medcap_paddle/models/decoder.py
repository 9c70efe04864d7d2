"""The seam that every decoder keeps (B studies, K views, T words, V words in the vocabulary).

`inputs` are the arrays of a batch by name; a decoder lists in `reads` those it needs, and the data set loads these and
no others. A view that a study does not have is a row of zeros.

    pooled  [B, K, D] float32      one vector a view
    grid    [B, K, G, D] float32   one vector for each place of a view

    nodes, triples                 what is known of a study beside its images, of one view each: see `memory`

Law: stepping through the words gives the logits of `forward`.

A decoder that looks at places may tell where: `attention(inputs, tokens)` gives weights [B, T, K, G], for pictures.
It may name `parts` that learn at rates of their own, and bring an `auxiliary` loss: see `runtime.stages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Protocol

import numpy as np
import paddle
from paddle import nn

Inputs = Mapping[str, paddle.Tensor]
State = tuple[paddle.Tensor, ...]  # batch first: a search selects rows of it
SMALL = {"embed": 32, "hidden": 32, "attention": 32, "width": 32, "heads": 2, "layers": 1, "feed_forward": 64}


@dataclass(frozen=True)
class DecoderSettings:
    """What a decoder's own `Settings` inherit; they are saved under `decoder` in config.json."""

    def without_dropout(self) -> DecoderSettings:
        """The same network without regularisation: every setting that ends in dropout or noise is 0."""
        return replace(self, **{f.name: 0.0 for f in fields(self) if f.name.endswith(("dropout", "noise"))})

    def small(self) -> DecoderSettings:
        """The same network in seconds, for a first look: no size of `SMALL` is greater than there."""
        sizes = {f.name: min(getattr(self, f.name), SMALL[f.name]) for f in fields(self) if f.name in SMALL}
        return replace(self, **sizes)


class Decoder(Protocol):
    """A `paddle.nn.Layer` with these; `models.DECODERS` maps names to the classes."""

    Settings: ClassVar[type[DecoderSettings]]
    reads: ClassVar[tuple[str, ...]]

    def __init__(self, settings: DecoderSettings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        """`shapes` are those of one view of each input, such as {"pooled": (2048,)}."""

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        """Take what the network needs to know of the train inputs, [K, ...] a study; called once, before training."""

    def forward(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        """Teacher forcing: tokens [B, T] to logits [B, T, V] of the words that follow."""

    def init_state(self, inputs: Inputs) -> State:
        """The state before the first word."""

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        """One word further: token [B] to logits [B, V]."""


class FastBiasLinear(nn.Linear):
    """nn.Linear whose bias enters as a matrix product: on a CPU, Paddle sums its gradient over the rows so slowly that
    it costs as much as the gradient of the weights.
    """

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        if not paddle.is_grad_enabled():
            return super().forward(rows)  # the same to the last bit, and faster
        flat = rows.reshape([-1, rows.shape[-1]])
        bias = paddle.matmul(paddle.ones([flat.shape[0], 1]), self.bias.unsqueeze(0))
        return (paddle.matmul(flat, self.weight) + bias).reshape([*rows.shape[:-1], -1])


def locked_dropout(sequence: paddle.Tensor, p: float, training: bool) -> paddle.Tensor:
    """Dropout of [B, T, N] with one mask for all T words of a report (Gal and Ghahramani, NeurIPS 2016, section 4).

    A random number for each word anew would take as long as the LSTM's matrix products.
    """
    if not (training and p):
        return sequence
    mask = nn.functional.dropout(paddle.ones_like(sequence[:, :1]), p)
    return sequence * mask.expand_as(sequence)
