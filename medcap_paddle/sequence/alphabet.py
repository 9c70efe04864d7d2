"""An alphabet grows: a reader learns letters that it has never seen, and keeps those that it knows.

`NewRows` is what learns first: the rows of the output layer that stand for the new letters. Everything else is frozen,
its batch normalisation included. `NewRows.reader` is then a usual reader, which `reader.train` may thaw. `Examples`
and `Rehearsal` are what it learns from: few new lines, and old ones among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from .crnn import CRNN
from .reader import Reader, Source


class NewRows(nn.Layer):
    """Lines [B, 1, 32, W] to logits [T, B, C + n]; its parameters are the n new rows alone."""

    def __init__(self, old: Reader, letters: str):
        """ValueError where a letter is in the alphabet already, or there twice."""
        super().__init__()
        if len(set(old.alphabet + letters)) < len(old.alphabet + letters):
            raise ValueError(f"some of {letters!r} are known already, or there twice")
        self.old = (old,)  # in a tuple: a layer would train what it holds
        self.letters = letters
        self.rows = nn.Linear(old.network.seen, len(letters))

    def forward(self, lines: paddle.Tensor) -> paddle.Tensor:
        network = self.old[0].network
        network.eval()
        with paddle.no_grad():
            features = network.features(lines)
            known = network.output(features)
        return paddle.concat([known, self.rows(features)], -1)

    def reader(self) -> Reader:
        """A reader of both alphabets: the old network with a longer output layer. The old reader stays as it is."""
        old = self.old[0]
        network = CRNN(old.network.settings, len(old.alphabet + self.letters) + 1)
        state = dict(old.network.state_dict())
        for name, axis in (("weight", 1), ("bias", 0)):
            state[f"output.{name}"] = paddle.concat([state[f"output.{name}"], getattr(self.rows, name)], axis)
        network.set_state_dict(state)
        return Reader(network, old.alphabet + self.letters)


@dataclass(frozen=True)
class Examples:
    """A source of lines, as `reader.Source`, that has these only: uint8 [H, W] and text each; `change`d when drawn."""

    pairs: Sequence[tuple[np.ndarray, str]]
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda crop, rng: crop

    def draw(self, seed: Sequence[int]) -> tuple[np.ndarray, str]:
        rng = np.random.default_rng(seed)
        crop, text = self.pairs[rng.integers(len(self.pairs))]
        return self.change(crop, rng), text


@dataclass(frozen=True)
class Rehearsal:
    """A source of new lines, and of old ones with the chance `share`: what is not rehearsed is forgotten."""

    new: Source | Examples
    old: Source | Examples
    share: float = 0.6

    def draw(self, seed: Sequence[int]) -> tuple[np.ndarray, str]:
        source = self.old if np.random.default_rng(seed).random() < self.share else self.new
        return source.draw([*seed, 1])
