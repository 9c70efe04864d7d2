"""Encoder and decoder: one LSTM reads a text, another one writes the answer (B texts, N words read, T words written).

The text is the input "words" [B, N]: the id of a word plus 1, and 0 behind the last word, as `dataset` fills it.
Everything else is as for a captioner: it keeps the seam of `models.decoder`, is trained by teacher forcing, and writes
by `beam_search`. It is not in `models.DECODERS`, whose entries read arrays of features.h5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from ..config import TrainingSettings
from ..dataset import Studies
from ..models.attention import AdditiveAttention
from ..models.decoder import DecoderSettings, FastBiasLinear, Inputs, State, locked_dropout
from ..runtime import loop
from ..runtime.samplers import LengthSampler
from ..train import TeacherForcing

if TYPE_CHECKING:
    import pandas as pd

WORDS = "words"


class Seq2Seq(nn.Layer):
    """Two LSTMs of the same form (Sutskever et al., NeurIPS 2014, section 2).

    Without attention the decoder knows of the text what the encoder remembers after its last word: 2 x layers x hidden
    numbers, however long the text is. With attention each memory that writes a word asks all memories of the encoder
    (additive scores: Bahdanau et al., ICLR 2015, appendix A.1.2), and the answer enters the output beside it. It does
    not enter the LSTM (as in Luong et al., EMNLP 2015, section 3), so that the decoder reads all words in one go.
    """

    reads = (WORDS,)

    @dataclass(frozen=True)
    class Settings(DecoderSettings):
        embed: int = 256
        hidden: int = 256
        layers: int = 2
        attention: int = 256  # of the layer that compares; 0: no attention
        dropout: float = 0.5

    def __init__(self, settings: Settings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        super().__init__()
        self.settings = s = settings
        between = s.dropout if s.layers > 1 else 0.0
        # Both read the same language; row 0 is no word.
        self.words = nn.Embedding(vocab_size + 1, s.embed, weight_attr=nn.initializer.Normal(0.0, 0.5))
        self.encoder = nn.LSTM(s.embed, s.hidden, s.layers, dropout=between)
        self.decoder = nn.LSTM(s.embed, s.hidden, s.layers, dropout=between)
        if s.attention:
            self.look = AdditiveAttention(s.hidden, s.hidden, s.attention)
            self.context = FastBiasLinear(s.hidden, s.hidden)
        self.output = FastBiasLinear(s.hidden, vocab_size)

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        """Words have no scale."""

    def forward(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.read(tokens, self.init_state(inputs))[0]

    def attention(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        """Which words the decoder looks at to write the word after each of `tokens` [B, T]: weights [B, T, N] that sum
        to 1 over the words that are there. ValueError without attention.
        """
        if not self.settings.attention:
            raise ValueError("a model without attention looks at nothing")
        return self.read(tokens, self.init_state(inputs))[1]

    def init_state(self, inputs: Inputs) -> State:
        """2 x [B, layers, H]; with attention also keys [B, N, A], memories [B, N, H] and words [B, N]."""
        words = inputs[WORDS]
        ids = words.astype("int64")
        lengths = (ids > 0).astype("int32").sum(1)
        memories, last = self.encoder(self.drop(self.words(ids)), sequence_length=lengths)
        seen = (self.look.key(memories), memories, words) if self.settings.attention else ()
        return (*_swap(last), *seen)

    def step(self, token: paddle.Tensor, state: State) -> tuple[paddle.Tensor, State]:
        logits, _, state = self.read(token.unsqueeze(1), state)
        return logits.squeeze(1), state

    def read(self, tokens: paddle.Tensor, state: State) -> tuple[paddle.Tensor, paddle.Tensor | None, State]:
        """tokens [B, T] to logits [B, T, V], weights [B, T, N] (None without attention) and the next state."""
        memory, seen = state[:2], state[2:]
        outputs, memory = self.decoder(self.drop(self.words(tokens + 1)), _swap(memory))
        weights = None
        if seen:
            keys, memories, words = seen
            looks = [self.look(query, keys, memories, words > 0) for query in outputs.unbind(1)]
            context, weights = (paddle.stack(parts, 1) for parts in zip(*looks, strict=True))
            outputs = outputs + self.context(context)
        return self.output(self.drop(outputs)), weights, (*_swap(memory), *seen)

    def drop(self, sequence: paddle.Tensor) -> paddle.Tensor:
        return locked_dropout(sequence, self.settings.dropout, self.training)


def _swap(memory: State) -> State:
    """Paddle keeps the layers of an LSTM's memory first, the seam the batch."""
    return tuple(part.transpose([1, 0, 2]) for part in memory)


class ReadingForcing(TeacherForcing):
    """Teacher forcing in batches whose texts to be read, which are the longer ones, are of similar length."""

    def sampler(self, rng: np.random.Generator | None = None) -> LengthSampler:
        read = replace(self.train, tokens=self.train.inputs[WORDS])
        return LengthSampler(read, self.settings.batch_size * self.ranks, rng)


def fit(
    model: Seq2Seq, train: Studies, val: Studies | None, run_dir: str | Path, settings: TrainingSettings
) -> pd.DataFrame:
    """Train a fresh model into `run_dir`; its history. Without `val` the last epoch is kept. See `loop.fit`."""
    return loop.fit(model, ReadingForcing(model, train, val, settings), run_dir, settings)


def build(settings: Seq2Seq.Settings, vocab_size: int, seed: int = 0) -> Seq2Seq:
    """A fresh network; the same seed gives the same weights."""
    paddle.seed(seed)
    return Seq2Seq(settings, {WORDS: ()}, vocab_size)
