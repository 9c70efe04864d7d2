"""Show and Tell: an LSTM reads the study once and then writes its FINDINGS word by word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .decoder import DecoderSettings, FastBiasLinear, Inputs, State, locked_dropout
from .places import moments
from .stepping import Stepping


class LSTMCaptioner(nn.Layer):
    """Show and Tell (Vinyals et al., CVPR 2015, section 3): the image is the first input of the LSTM.

    Each view is projected on its own and the strongest response over the views is kept, so a finding that only one
    view shows is not averaged away and any number of views fits.

    With `image_every_step` the image stays in sight: findings are long, and an LSTM that saw the image once has
    forgotten it by the third sentence. The image is added to every word read, and what a gate on the memory lets
    through of it to every memory that writes a word (deep output with a gated context: Xu et al., ICML 2015, sections
    3.1.2 and 4.2.1).
    """

    reads = ("pooled",)

    @dataclass(frozen=True)
    class Settings(DecoderSettings):
        embed: int = 512
        hidden: int = 512
        layers: int = 1
        dropout: float = 0.5
        feature_dropout: float = 0.3  # of the image: no finding may hang on a single number
        feature_noise: float = 0.5  # in standard deviations: nor may a study be known by its numbers
        image_every_step: bool = True

    def __init__(self, settings: Settings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        super().__init__()
        self.settings = s = settings
        (D,) = shapes["pooled"]
        self.feature_dropout = nn.Dropout(s.feature_dropout)
        self.register_buffer("mean", paddle.zeros([D]))
        self.register_buffer("deviation", paddle.ones([D]))
        self.image = nn.Linear(D, s.embed)
        # Paddle's own initialisation makes words so small that the first epochs only enlarge them.
        self.words = nn.Embedding(vocab_size, s.embed, weight_attr=nn.initializer.Normal(0.0, 0.5))
        self.lstm = nn.LSTM(s.embed, s.hidden, s.layers, dropout=s.dropout if s.layers > 1 else 0.0)
        if s.image_every_step:
            self.gate = FastBiasLinear(s.hidden, s.embed)
            self.context = FastBiasLinear(s.embed, s.hidden)
        self.output = FastBiasLinear(s.hidden, vocab_size)
        self.stepping = Stepping(self.words, self.lstm)

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        """Mean and deviation of the train features: a rare finding must be as loud as a common one."""
        mean, deviation = moments(inputs["pooled"])
        self.mean.set_value(mean)
        self.deviation.set_value(deviation)

    def encode_image(self, inputs: Inputs) -> paddle.Tensor:
        """pooled [B, K, D] to one vector a study [B, E]."""
        features = inputs["pooled"]
        absent = (features == 0).all(-1, keepdim=True)  # [B, K, 1]
        views = (features - self.mean) / self.deviation
        if self.training and self.settings.feature_noise:
            views = views + self.settings.feature_noise * paddle.randn(views.shape)
        views = self.image(self.feature_dropout(views))
        views = paddle.where(absent, paddle.full([], -1e9), views)
        return reduce(paddle.maximum, views.unbind(1))  # the gradient of max(1) takes ten times as long

    def forward(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        image = self.encode_image(inputs).unsqueeze(1)  # [B, 1, E]
        _, state = self.lstm(image)
        image = image.expand([-1, tokens.shape[1], -1])  # [B, T, E]: broadcasting has a slow gradient
        memory, _ = self.lstm(self.drop(self.embed(tokens, image)), state)
        return self.logits(memory, image)

    def embed(self, tokens: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        words = self.words(tokens)  # [..., E]
        return words + image if self.settings.image_every_step else words

    def logits(self, memory: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        """Memory of the LSTM [..., H] and image [..., E] to logits [..., V]."""
        if self.settings.image_every_step:
            memory = memory + self.context(F.sigmoid(self.gate(memory)) * image)
        return self.output(self.drop(memory))

    def drop(self, sequence: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(sequence, self.settings.dropout, self.training)

    def init_state(self, inputs: Inputs) -> State:
        """2 x [B, layers, H], [B, E], [B, 4 H]: the memory, the image, and what it adds to the gates at every word."""
        image = self.encode_image(inputs)
        _, (hidden, memory) = self.lstm(image.unsqueeze(1))
        beside = self.stepping.begin(image if self.settings.image_every_step else paddle.zeros_like(image))
        # Paddle keeps the layers first, the seam the batch.
        return hidden.transpose([1, 0, 2]), memory.transpose([1, 0, 2]), image, beside

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        hidden, memory, image, beside = state
        hidden, memory = self.stepping.step(token, beside, hidden, memory)
        return self.logits(hidden[:, -1], image), (hidden, memory, image, beside)
