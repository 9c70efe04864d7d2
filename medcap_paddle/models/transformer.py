"""A Transformer decoder: each word looks at all words before it and at the places of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

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
        self, rows: paddle.Tensor, before: list[paddle.Tensor], places: paddle.Tensor, mask: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        """T further rows [B, T, E]. Their new content, the keys and values of all rows so far, and the weights of the
        places [B, heads, T, N].

        `before` holds the keys and values of earlier rows, if any; `places` are keys and values too, mask [B, N].
        """
        normal = self.norms[0](rows)
        past = paddle.concat([*before, self.past.memory(normal)], 3)  # [B, 2, heads, t + T, E / heads]
        T, total = rows.shape[1], past.shape[3]
        causal = paddle.tril(paddle.ones([1, 1, T, total]), total - T) > 0
        rows = rows + self.drop(self.past(normal, past, causal)[0])
        seen, weights = self.places(self.norms[1](rows), places, (mask > 0).unsqueeze([1, 2]))
        rows = rows + self.drop(seen)
        return rows + self.drop(self.feed(self.norms[2](rows))), past, weights

    def drop(self, rows: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(rows, self.dropout, self.training)


class TransformerCaptioner(nn.Layer):
    """The decoder of Vaswani et al. (NeurIPS 2017), which attends to the places of all views.

    The vectors of the views are its first row, as the image is the first input of Show and Tell: every word can look
    back at them. Where a word stands is told by sines (section 3.5), so no length is too long.

    The state of a search: the mask [B, N], for each block the keys and values of the places [B, 2, heads, N, E / heads]
    and of the rows so far [B, 2, heads, t, E / heads], one more with each word.
    """

    reads = ("pooled", "grid")

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
        weights = self.teach(inputs, tokens)[1].mean(1)
        return weights.reshape([*tokens.shape, *inputs["grid"].shape[1:3]])

    def init_state(self, inputs: Inputs) -> State:
        image, *seen = self.look(inputs)
        return self.read(image, [], seen)[2]

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        count = len(self.blocks)
        seen, past = state[: 1 + count], state[1 + count :]
        rows, _, state = self.read(self.embed(token.unsqueeze(1)), past, seen)
        return self.logits(rows).squeeze(1), state

    def look(self, inputs: Inputs) -> list[paddle.Tensor]:
        """The first row [B, 1, E]; the mask, and for each block the keys and values of the places."""
        places, mask = self.places(inputs["grid"])
        image = strongest(*self.views(inputs["pooled"])).unsqueeze(1)
        return [image, mask, *(block.places.memory(places) for block in self.blocks)]

    def teach(self, inputs: Inputs, tokens: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """All words at once: rows [B, T, E], weights of the last block [B, heads, T, N]."""
        image, *seen = self.look(inputs)
        rows, weights, _ = self.read(paddle.concat([image, self.embed(tokens)], 1), [], seen)
        return rows[:, 1:], weights[:, :, 1:]

    def read(self, rows: paddle.Tensor, past: State, seen: State) -> tuple[paddle.Tensor, paddle.Tensor, State]:
        """T further rows [B, T, E] through all blocks: rows, weights of the last block, state."""
        (mask, *places), before = seen, [[kept] for kept in past] or [[]] * len(self.blocks)
        start, kept = past[0].shape[3] if past else 0, []
        rows = self.drop(rows + positions(start, *rows.shape[1:]).expand_as(rows))
        for block, earlier, place in zip(self.blocks, before, places, strict=True):
            rows, now, weights = block(rows, earlier, place, mask)
            kept.append(now)
        return self.norm(rows), weights, (mask, *places, *kept)

    def embed(self, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.words(tokens) * self.settings.width**0.5  # section 3.4

    def logits(self, rows: paddle.Tensor) -> paddle.Tensor:
        rows = self.drop(rows)
        return self.output(rows) if self.output else paddle.matmul(rows, self.words.weight, transpose_y=True)

    def drop(self, rows: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(rows, self.settings.dropout, self.training)


def positions(start: int, count: int, width: int) -> paddle.Tensor:
    """[count, width]: sines and cosines of the places from `start` on (Vaswani et al., section 3.5)."""
    wave = np.exp(-np.log(10000.0) * np.arange(0, width, 2) / width)
    angles = np.arange(start, start + count)[:, None] * wave  # [count, width / 2]
    return paddle.to_tensor(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, -1)[:, :width], "float32")
