"""The captioner: an LSTM that is shown the study once and then writes its FINDINGS word by word.

The seam that every decoder keeps (B studies, K views, T words, V words in the vocabulary):

    forward(features [B, K, D], tokens [B, T]) -> logits [B, T, V]    teacher forcing
    init_state(features)                       -> state               a tuple of tensors, batch first
    step(token [B], state)                     -> logits [B, V], state

A view that a study does not have is a row of zeros. Law: stepping through the words gives the logits of `forward`.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn


class LSTMCaptioner(nn.Layer):
    """Show and Tell (Vinyals et al., CVPR 2015, section 3): the image is the first input of the LSTM.

    Each view is projected on its own and the strongest response over the views is kept, so a finding that only one
    view shows is not averaged away and any number of views fits.

    With `remind` the image stays in sight: findings are long, and an LSTM that saw the image once has forgotten it by
    the third sentence. The image is added to every word read, and what a gate on the memory lets through of it to
    every memory that writes a word (deep output with a gated context: Xu et al., ICML 2015, sections 3.1.2 and 4.2.1).
    """

    def __init__(
        self,
        feature_dim: int,
        vocab_size: int,
        embed: int = 512,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.5,
        remind: bool = True,
        feature_dropout: float = 0.3,
        feature_noise: float = 0.0,
    ):
        super().__init__()
        self.remind = remind
        self.forget, self.noise = nn.Dropout(feature_dropout), feature_noise
        self.register_buffer("mean", paddle.zeros([feature_dim]))
        self.register_buffer("deviation", paddle.ones([feature_dim]))
        self.image = nn.Linear(feature_dim, embed)
        # Paddle's own initialisation makes words so small that the first epochs only enlarge them.
        self.words = nn.Embedding(vocab_size, embed, weight_attr=nn.initializer.Normal(0.0, 0.5))
        self.lstm = nn.LSTM(embed, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = dropout
        if remind:
            self.gate = Linear(hidden, embed)
            self.context = Linear(embed, hidden)
        self.output = Linear(hidden, vocab_size)

    def standardise(self, features: np.ndarray) -> None:
        """Take mean and deviation from train features [N, D]: a rare finding must be as loud as a common one."""
        self.mean.set_value(features.mean(0))
        self.deviation.set_value(np.maximum(features.std(0), 1e-3))

    def see(self, features: paddle.Tensor) -> paddle.Tensor:
        """features [B, K, D] to one vector a study [B, E]."""
        absent = (features == 0).all(-1, keepdim=True)  # [B, K, 1]
        views = (features - self.mean) / self.deviation
        if self.training and self.noise:
            views = views + self.noise * paddle.randn(views.shape)
        views = self.image(self.forget(views))
        views = paddle.where(absent, paddle.full([], -1e9), views)
        return reduce(paddle.maximum, views.unbind(1))  # the gradient of max(1) takes ten times as long

    def forward(self, features: paddle.Tensor, tokens: paddle.Tensor) -> paddle.Tensor:
        image = self.see(features).unsqueeze(1)  # [B, 1, E]
        _, state = self.lstm(image)
        image = image.expand([-1, tokens.shape[1], -1])  # [B, T, E]: broadcasting has a slow gradient
        memory, _ = self.lstm(self.drop(self.read(tokens, image)), state)
        return self.write(memory, image)

    def read(self, tokens: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        words = self.words(tokens)  # [..., E]
        return words + image if self.remind else words

    def write(self, memory: paddle.Tensor, image: paddle.Tensor) -> paddle.Tensor:
        """What the LSTM remembers, [..., H], to logits [..., V]."""
        if self.remind:
            memory = memory + self.context(F.sigmoid(self.gate(memory)) * image)
        return self.output(self.drop(memory))

    def drop(self, sequence: paddle.Tensor) -> paddle.Tensor:
        """Dropout of [B, T, N] with one mask for all T words of a report (Gal and Ghahramani, NeurIPS 2016, section 4).

        A random number for each word anew would take as long as the LSTM's matrix products.
        """
        if not (self.training and self.dropout):
            return sequence
        mask = F.dropout(paddle.ones_like(sequence[:, :1]), self.dropout)
        return sequence * mask.expand_as(sequence)

    def init_state(self, features: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        image = self.see(features)
        _, state = self.lstm(image.unsqueeze(1))
        return (*_swap(state), image)  # 2 x [B, layers, H], [B, E]

    def step(self, token: paddle.Tensor, state: tuple[paddle.Tensor, ...]):
        *memory, image = state
        outputs, memory = self.lstm(self.read(token, image).unsqueeze(1), _swap(memory))
        return self.write(outputs.squeeze(1), image), (*_swap(memory), image)


class Linear(nn.Linear):
    """nn.Linear whose bias enters as a matrix product: on a CPU, Paddle sums its gradient over the rows so slowly that
    it costs as much as the gradient of the weights.
    """

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        if not paddle.is_grad_enabled():
            return super().forward(rows)  # the same to the last bit, and faster
        flat = rows.reshape([-1, rows.shape[-1]])
        bias = paddle.matmul(paddle.ones([flat.shape[0], 1]), self.bias.unsqueeze(0))
        return (paddle.matmul(flat, self.weight) + bias).reshape([*rows.shape[:-1], -1])


def _swap(memory) -> tuple[paddle.Tensor, ...]:
    """Paddle keeps the layers of an LSTM's memory first, the seam the batch."""
    return tuple(m.transpose([1, 0, 2]) for m in memory)


def token_nll(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """-log p of each target: logits [B, T, V], targets [B, T] -> [B, T].

    For figures that are reported. F.cross_entropy, which the training uses, is faster and stops at 64: a model that is
    certain of the wrong words would look better than it is.
    """
    return log_norm(logits) - paddle.take_along_axis(logits, targets.unsqueeze(-1), -1).squeeze(-1)


def log_norm(logits: paddle.Tensor) -> paddle.Tensor:
    """log sum exp of [..., V]: on a CPU in a quarter of the time of paddle.logsumexp, a tenth of F.log_softmax's."""
    largest = logits.max(-1, keepdim=True)
    return (logits - largest).exp_().sum(-1).log() + largest.squeeze(-1)


def masked_loss(nll: paddle.Tensor, targets: paddle.Tensor, pad: int, words: float | None = None) -> paddle.Tensor:
    """nll [B, T] summed over the targets that are words, by the number of `words` (default: how many there are)."""
    mask = (targets != pad).astype(nll.dtype)
    return (nll * mask).sum() / (words or mask.sum())
