"""An LSTM over words, one word at a time, for writing: no gradient flows.

Paddle's kernel of an LSTM multiplies each word by the input weights anew. Here the products of all words are made once
and looked up; they are made anew when the weights have changed. Half of a step's products are saved.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn


class Stepping:
    """Of `words` [V, E] and an `lstm` from E to H numbers; its state are memories, each [B, layers, H].

    The owner of the two keeps it; it holds no weights of its own.
    """

    def __init__(self, words: nn.Embedding, lstm: nn.LSTM):
        self.words, self.cells = words, [layer.cell for layer in lstm]
        self.seen: list[paddle.Tensor] = []  # the weights that `table` is made of
        self.table = paddle.zeros([0])

    @paddle.no_grad()
    def begin(self, beside: paddle.Tensor) -> paddle.Tensor:
        """What `beside` [B, E], which is added to every word, adds to the gates of each step [B, 4 H]."""
        cell = self.cells[0]
        weights = [self.words.weight, cell.weight_ih]
        if not self.seen or not all(bool(paddle.equal_all(*pair)) for pair in zip(weights, self.seen, strict=True)):
            self.seen = [weight.clone() for weight in weights]
            self.table = paddle.matmul(*weights, transpose_y=True)  # [V, 4 H]
        return _product(beside, cell.weight_ih) + cell.bias_ih + cell.bias_hh

    @paddle.no_grad()
    def step(
        self, token: paddle.Tensor, beside: paddle.Tensor, hidden: paddle.Tensor, memory: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """token [B], beside [B, 4 H] of `begin`; the state after that word."""
        gates, layers = F.embedding(token, self.table) + beside, []
        for cell, h, c in zip(self.cells, hidden.unbind(1), memory.unbind(1), strict=True):
            if layers:
                gates = _product(layers[-1][0], cell.weight_ih) + cell.bias_ih + cell.bias_hh
            i, f, g, o = (gates + _product(h, cell.weight_hh)).chunk(4, -1)
            c = F.sigmoid(f) * c + F.sigmoid(i) * paddle.tanh(g)
            layers.append((F.sigmoid(o) * paddle.tanh(c), c))
        hidden, memory = (paddle.stack(parts, 1) for parts in zip(*layers, strict=True))
        return hidden, memory


def _product(rows: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    return paddle.matmul(rows, weight, transpose_y=True)
