"""Attention: a mean of vectors, each weighed by how well its key answers a query (B studies, N places)."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from ..runtime.files import MedcapError
from .decoder import FastBiasLinear

NEVER = -1e9  # score of a place that is not there


def masked_softmax(scores: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Softmax of scores [..., N] over the places that `mask` allows; the others get 0, and so does a row without any.

    `mask` is boolean and of as many axes; what a masked score is, even no number, changes nothing.
    """
    mask = mask.expand_as(scores)  # first: on a CPU, broadcasting takes three times as long
    weights = F.softmax(paddle.where(mask, scores, paddle.full_like(scores, NEVER)), -1)
    return weights * mask.astype(scores.dtype)


class AdditiveAttention(nn.Layer):
    """The score of a place is v . tanh(U key + W query) (Bahdanau et al., ICLR 2015, appendix A.1.2)."""

    def __init__(self, query: int, place: int, width: int):
        super().__init__()
        self.query = FastBiasLinear(query, width)
        self.key = nn.Linear(place, width, bias_attr=False)  # places [B, N, E] to keys [B, N, A], once a study
        self.score = nn.Linear(width, 1, bias_attr=False)

    def forward(
        self, query: paddle.Tensor, keys: paddle.Tensor, places: paddle.Tensor, mask: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """query [B, Q], keys [B, N, A], places [B, N, E], mask [B, N] to their mean [B, E] and the weights [B, N]."""
        # The query is repeated by a matrix product: the gradient of broadcasting takes ten times as long, on a CPU.
        asked = paddle.matmul(paddle.ones([*keys.shape[:2], 1]), self.query(query).unsqueeze(1))
        weights = masked_softmax(self.score(paddle.tanh(keys + asked)).squeeze(-1), mask)
        return paddle.matmul(weights.unsqueeze(1), places).squeeze(1), weights


class MultiHeadAttention(nn.Layer):
    """Scaled products of queries and keys, in several heads (Vaswani et al., NeurIPS 2017, section 3.2).

    Keys and values are made apart, by `memory`, and so can be kept. They have no bias: softmax would not see a key's.
    MedcapError when `width` is not a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int):
        if width % heads:
            raise MedcapError(f"heads is {heads}, width {width}: choose a width that is a multiple of heads")
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias_attr=False)
        self.keys_values = nn.Linear(width, 2 * width, bias_attr=False)
        self.output = FastBiasLinear(width, width)

    def memory(self, rows: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """rows [B, N, E] to keys and values, [B, heads, N, E / heads] each.

        They are laid out once: a product with a view that only looks transposed copies it each time.
        """
        both = self.keys_values(rows).reshape([*rows.shape[:2], 2, self.heads, -1]).transpose([2, 0, 3, 1, 4])
        return both[0].contiguous(), both[1].contiguous()

    def forward(
        self, rows: paddle.Tensor, keys: paddle.Tensor, values: paddle.Tensor, mask: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """rows [B, T, E] ask a `memory`; mask [B or 1, 1, T or 1, N]. New rows [B, T, E], weights [B, heads, T, N]."""
        queries = self.query(rows).reshape([*rows.shape[:2], self.heads, -1]).transpose([0, 2, 1, 3])
        scores = paddle.matmul(queries * keys.shape[-1] ** -0.5, keys, transpose_y=True)
        weights = masked_softmax(scores, mask)
        return self.output(paddle.matmul(weights, values).transpose([0, 2, 1, 3]).flatten(2)), weights
