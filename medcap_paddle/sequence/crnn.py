"""CRNN: a line of text from its picture (Shi, Bai and Yao, TPAMI 2017, table 1).

Height 32 to 1 by seven convolutions and four poolings; each column that is left is a step of two bidirectional LSTMs.
Two of the poolings halve the height alone (the paper's 1 x 2): a step is then 4 pixels wide, and narrow letters keep a
step of their own. A line of W pixels has `steps(W)` of them.

The layers are those of the paper; `channels` and `hidden` are smaller (64 and 256 there), for a CPU. Every
convolution but the first is followed by batch normalisation (there: the fifth and the sixth). The output layer sees the
columns beside what the LSTMs say of them, and the LSTMs begin with `WIDE` weights: after 400 batches of 16 lines the
loss of a letter is then 1.1, with either alone 1.8 and 2.6, with neither about 3: little but blanks is written. (Trials
with learning rates of 4e-3, 3e-3, 3e-3 and 1e-3.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
from paddle import nn

from ..runtime.files import MedcapError

HEIGHT = 32
NARROW, SQUARE = (2, 1), (2, 2)  # poolings, height x width
WIDE = 3  # the LSTMs' first weights, of what is usual
MULTIPLES = (1, 2, 4, 4, 8, 8, 8)  # of `channels`, a convolution each


@dataclass(frozen=True)
class CRNNSettings:
    channels: int = 8  # of the first convolution
    hidden: int = 64  # of each LSTM and direction
    pools: tuple[tuple[int, int], ...] = (SQUARE, SQUARE, NARROW, NARROW)  # after convolutions 1, 2, 4 and 6

    @property
    def step(self) -> int:
        """Pixels of a line that a step takes."""
        return math.prod(across for _, across in self.pools)

    def steps(self, width: int) -> int:
        """Columns that are left of a line of `width` pixels: the last convolution, of 2 x 2, takes one more."""
        return width // self.step - 1


class CRNN(nn.Layer):
    """float32 [B, 1, 32, W] to logits [T, B, C]; class 0 is the blank of CTC."""

    def __init__(self, settings: CRNNSettings, classes: int):
        super().__init__()
        self.settings = settings
        layers, before, hidden = [], 1, settings.hidden
        pools = dict(zip((0, 1, 3, 5), settings.pools, strict=True))
        for k, multiple in enumerate(MULTIPLES):
            last, channels = k == len(MULTIPLES) - 1, multiple * settings.channels
            layers.append(nn.Conv2D(before, channels, 2 if last else 3, padding=0 if last else 1))
            layers += [nn.BatchNorm2D(channels)] if k else []
            layers.append(nn.ReLU())
            layers += [nn.MaxPool2D(pools[k], pools[k])] if k in pools else []
            before = channels
        self.convolutions = nn.Sequential(*layers)
        wide = paddle.ParamAttr(initializer=nn.initializer.Uniform(-WIDE / hidden**0.5, WIDE / hidden**0.5))
        how = {"num_layers": 2, "direction": "bidirect", "time_major": True}
        self.lstm = nn.LSTM(before, hidden, weight_ih_attr=wide, weight_hh_attr=wide, **how)
        self.seen = before + 2 * hidden
        self.output = nn.Linear(self.seen, classes)

    def features(self, lines: paddle.Tensor) -> paddle.Tensor:
        """What the output layer sees: [T, B, 8 channels + 2 hidden]."""
        height, width = lines.shape[2:]
        if height != HEIGHT or self.settings.steps(width) < 1:
            raise MedcapError(f"a line of {height} x {width} pixels: use `lines.fit`, which makes them {HEIGHT} high")
        columns = self.convolutions(lines).squeeze(2).transpose([2, 0, 1])  # [T, B, 8 channels]
        return paddle.concat([columns, self.lstm(columns)[0]], -1)

    def forward(self, lines: paddle.Tensor) -> paddle.Tensor:
        return self.output(self.features(lines))
