"""Show, attend and tell: before each word, the LSTM looks at the places of the images that its memory asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .attention import AdditiveAttention
from .decoder import DecoderSettings, FastBiasLinear, Inputs, State, locked_dropout
from .places import Places, strongest


class AttentionLSTM(nn.Layer):
    """Show, attend and tell, with soft attention (Xu et al., ICML 2015, sections 3.1.2 and 4.2).

    The vectors of the views start the memory, as the mean of the places does there. At each word the memory asks the
    places of all views, and what it gets, through a gate, is read beside the word and enters the output. The penalty on
    places that are never looked at (equation 14) is left out.
    """

    reads = ("pooled", "grid")
    parts = {"visual": ("views", "places")}

    @dataclass(frozen=True)
    class Settings(DecoderSettings):
        embed: int = 256  # of a word and of a place
        hidden: int = 512
        attention: int = 256  # of the layer that compares a place with the memory
        positions: bool = True  # a place is known by where it is, too
        dropout: float = 0.5
        feature_dropout: float = 0.3  # share of the encoder's channels

    def __init__(self, settings: Settings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        super().__init__()
        self.settings = s = settings
        self.views = Places(shapes["pooled"], s.embed, s.feature_dropout)
        self.places = Places(shapes["grid"], s.embed, s.feature_dropout, s.positions)
        self.start = FastBiasLinear(s.embed, 2 * s.hidden)
        self.look = AdditiveAttention(s.hidden, s.embed, s.attention)
        self.gate = FastBiasLinear(s.hidden, s.embed)
        self.words = nn.Embedding(vocab_size, s.embed, weight_attr=nn.initializer.Normal(0.0, 0.5))
        self.cell = nn.LSTMCell(2 * s.embed, s.hidden)
        self.deep = FastBiasLinear(s.hidden + s.embed, s.embed)
        self.output = FastBiasLinear(s.embed, vocab_size)

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        self.views.standardise(inputs["pooled"])
        self.places.standardise(inputs["grid"])

    def forward(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.read(tokens, self.init_state(inputs))[0]

    def attention(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        """Where the decoder looks to write the word after each of `tokens` [B, T]: weights [B, T, K, G] that sum to 1
        over the places of the views that are there.
        """
        _, weights, _ = self.read(tokens, self.init_state(inputs))
        return weights.reshape([*tokens.shape, *inputs["grid"].shape[1:3]])

    def init_state(self, inputs: Inputs) -> State:
        """2 x [B, H]; keys [B, N, A], places [B, N, E] and mask [B, N] of the N = K x G places."""
        places, mask = self.places(inputs["grid"])
        memory = paddle.tanh(self.start(strongest(*self.views(inputs["pooled"]))))
        return (*memory.chunk(2, -1), self.look.key(places), places, mask)

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        logits, _, state = self.read(token.unsqueeze(1), state)
        return logits.squeeze(1), state

    def read(self, tokens: paddle.Tensor, state: State) -> tuple[paddle.Tensor, paddle.Tensor, State]:
        """Word by word: tokens [B, T] to logits [B, T, V] and weights [B, T, N]."""
        (*memory, keys, places, mask), there, steps = state, state[-1] > 0, []
        words = self.drop(self.words(tokens))
        for word in words.unbind(1):
            context, weights = self.look(memory[0], keys, places, there)
            context = F.sigmoid(self.gate(memory[0])) * context
            _, memory = self.cell(paddle.concat([word, context], -1), tuple(memory))
            steps.append((paddle.concat([memory[0], context], -1), weights))
        seen, weights = (paddle.stack(parts, 1) for parts in zip(*steps, strict=True))
        # What was read, what is remembered and what is seen write together (deep output, equation 7).
        logits = self.output(self.drop(words + self.deep(seen)))
        return logits, weights, (*memory, keys, places, mask)

    def drop(self, sequence: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(sequence, self.settings.dropout, self.training)
