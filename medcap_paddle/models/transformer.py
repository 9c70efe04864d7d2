"""A Transformer decoder: each word looks at all words before it and at the places of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from ..runtime import distributed
from ..runtime.files import MedcapError
from .attention import MultiHeadAttention
from .decoder import DecoderSettings, FastBiasLinear, Inputs, State, locked_dropout
from .places import Places, strongest


class Block(nn.Layer):
    """Self-attention, attention to the places, feed-forward (Vaswani et al., NeurIPS 2017, section 3.1).

    Each is normalised before and added to what it read: trained in this order, it needs no careful warm-up (Xiong et
    al., ICML 2020).
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.norms = nn.LayerList([nn.LayerNorm(width) for _ in range(3)])
        self.past, self.places = MultiHeadAttention(width, heads), MultiHeadAttention(width, heads)
        self.feed = nn.Sequential(FastBiasLinear(width, feed_forward), nn.ReLU(), FastBiasLinear(feed_forward, width))

    def forward(
        self,
        rows: paddle.Tensor,
        mask: paddle.Tensor,
        keys: paddle.Tensor,
        values: paddle.Tensor,
        *before: paddle.Tensor,
    ) -> tuple[paddle.Tensor, ...]:
        """T further rows [B, T, E]. Their new content, the weights of the places [B, heads, T, N], and the keys and the
        values of all rows so far.

        The mask [B, N], keys and values are those of the places; `before` are those of earlier rows, if any. All are
        tensors, as what computes a block again (`forgetful`) wants it.
        """
        normal = self.norms[0](rows)
        past = self.past.memory(normal)  # 2 x [B, heads, T, E / heads]
        if before:
            past = tuple(paddle.concat(pair, 2) for pair in zip(before, past, strict=True))
        T, total = rows.shape[1], past[0].shape[2]
        causal = paddle.tril(paddle.ones([1, 1, T, total]), total - T) > 0
        rows = rows + self.drop(self.past(normal, *past, causal)[0])
        seen, weights = self.places(self.norms[1](rows), keys, values, (mask > 0).unsqueeze([1, 2]))
        rows = rows + self.drop(seen)
        return rows + self.drop(self.feed(self.norms[2](rows))), weights, *past

    def drop(self, rows: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(rows, self.dropout, self.training)


class TransformerCaptioner(nn.Layer):
    """The decoder of Vaswani et al. (NeurIPS 2017), which attends to the places of all views.

    What is common to all words, from the vectors of the views, is its first row and is added to every other one, so
    that the image stays in sight. Where a word stands is told by sines (section 3.5), so no length is too long.

    The state of a search: what is common [B, 1, E]; the mask [B, N]; for each block the keys and the values of the
    places [B, heads, N, E / heads]; then those of the rows so far [B, heads, t, E / heads], one more with each word.
    """

    reads = ("pooled", "grid")
    parts = {"visual": ("views", "places")}

    @dataclass(frozen=True)
    class Settings(DecoderSettings):
        width: int = 256
        heads: int = 8
        layers: int = 3
        feed_forward: int = 512
        tied: bool = False  # a word is read and written by the same vector (Press and Wolf, EACL 2017)
        positions: bool = True  # a place is known by where it is, too
        dropout: float = 0.3
        feature_dropout: float = 0.3  # share of the encoder's channels
        recompute: bool = False  # a block forgets what it computed and computes it again for its gradient: less memory

    def __init__(self, settings: Settings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        super().__init__()
        self.settings = s = settings
        self.views = Places(shapes["pooled"], s.width, s.feature_dropout)
        self.places = Places(shapes["grid"], s.width, s.feature_dropout, s.positions)
        # Read, a word is as long as its position; written, its logits are small and the first guess is even.
        normal = nn.initializer.Normal(0.0, 0.5 / s.width**0.5)
        self.words = nn.Embedding(vocab_size, s.width, weight_attr=normal)
        blocks = [Block(s.width, s.heads, s.feed_forward, s.dropout) for _ in range(s.layers)]
        self.blocks, self.norm = nn.LayerList(blocks), nn.LayerNorm(s.width)
        self.output = None if s.tied else FastBiasLinear(s.width, vocab_size, weight_attr=normal)

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        self.views.standardise(inputs["pooled"])
        self.places.standardise(inputs["grid"])

    def forward(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.logits(self.teach(inputs, tokens)[0])

    def attention(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        """Where the last block looks to write the word after each of `tokens` [B, T], the mean of its heads: weights
        [B, T, K, G] that sum to 1 over the places of the views that are there.
        """
        B, K, G = inputs["grid"].shape[:3]
        weights = self.teach(inputs, tokens)[1].mean(1)[:, :, : K * G]  # there may be more to look at, after the places
        weights = weights / weights.sum(-1, keepdim=True).clip(min=1e-9).expand_as(weights)
        return weights.reshape([*tokens.shape, K, G])

    def init_state(self, inputs: Inputs) -> State:
        seen = self.look(inputs)
        return self.read(seen[0], (), seen)[2]

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        known = 2 + 2 * len(self.blocks)
        seen, past = state[:known], state[known:]
        rows, _, state = self.read(self.embed(token.unsqueeze(1)), past, seen)
        return self.logits(rows).squeeze(1), state

    def surroundings(self, inputs: Inputs) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        """What is common to all words [B, E], the places to look at [B, N, E], and their mask [B, N]."""
        return strongest(*self.views(inputs["pooled"])), *self.places(inputs["grid"])

    def look(self, inputs: Inputs) -> State:
        """The first part of the state, which no word changes."""
        common, places, mask = self.surroundings(inputs)
        return common.unsqueeze(1), mask, *(part for block in self.blocks for part in block.places.memory(places))

    def teach(self, inputs: Inputs, tokens: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """All words at once: rows [B, T, E], weights of the last block [B, heads, T, N]."""
        seen = self.look(inputs)
        rows, weights, _ = self.read(paddle.concat([seen[0], self.embed(tokens)], 1), (), seen)
        return rows[:, 1:], weights[:, :, 1:]

    def read(self, rows: paddle.Tensor, past: State, seen: State) -> tuple[paddle.Tensor, paddle.Tensor, State]:
        """T further rows [B, T, E] through all blocks: rows, weights of the last block, state."""
        common, mask, *_ = seen
        places, start, kept = seen[2:], past[0].shape[2] if past else 0, ()
        rows = self.drop(rows + positions(start, *rows.shape[1:]).expand_as(rows) + common.expand_as(rows))
        again = self.settings.recompute and self.training and paddle.is_grad_enabled()
        for k, block in enumerate(self.blocks):
            run, pair = forgetful(block) if again else block, slice(2 * k, 2 * k + 2)
            rows, weights, *now = run(rows, mask, *places[pair], *past[pair])
            kept += (*now,)
        return self.norm(rows), weights, (*seen, *kept)

    def embed(self, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.words(tokens) * self.settings.width**0.5  # section 3.4

    def logits(self, rows: paddle.Tensor) -> paddle.Tensor:
        rows = self.drop(rows)
        return self.output(rows) if self.output else paddle.matmul(rows, self.words.weight, transpose_y=True)

    def drop(self, rows: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(rows, self.settings.dropout, self.training)


def forgetful(block: Block) -> Callable[..., tuple[paddle.Tensor, ...]]:
    """The block, which keeps its inputs only and computes the rest again for the gradient (Chen et al. 2016, arXiv
    1604.06174). MedcapError on several ranks: paddle.DataParallel does not see the parameters within.
    """
    if distributed.world()[1] > 1:
        raise MedcapError("recompute works on one rank only: set decoder.recompute to false, or start one process")
    return partial(recompute, block)


def positions(start: int, count: int, width: int) -> paddle.Tensor:
    """[count, width]: sines and cosines of the places from `start` on (Vaswani et al., section 3.5)."""
    wave = np.exp(-np.log(10000.0) * np.arange(0, width, 2) / width)
    angles = np.arange(start, start + count)[:, None] * wave  # [count, width / 2]
    return paddle.to_tensor(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, -1)[:, :width], "float32")
