"""The captioner: an LSTM that is shown the study once and then writes its FINDINGS word by word.

The seam that every decoder keeps (B studies, K views, T words, V words in the vocabulary):

    forward(features [B, K, D], tokens [B, T]) -> logits [B, T, V]    teacher forcing
    init_state(features)                       -> state               a tuple of tensors, batch first
    step(token [B], state)                     -> logits [B, V], state

A view that a study does not have is a row of zeros. Law: stepping through the words gives the logits of `forward`.
"""

from __future__ import annotations

import paddle
from paddle import nn


class LSTMCaptioner(nn.Layer):
    """Show and Tell (Vinyals et al., CVPR 2015, section 3): the image is the first input of the LSTM.

    Each view is projected on its own and the strongest response over the views is kept, so a finding that only one
    view shows is not averaged away and any number of views fits.
    """

    def __init__(
        self,
        feature_dim: int,
        vocab_size: int,
        embed: int = 512,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.image = nn.Linear(feature_dim, embed)
        self.words = nn.Embedding(vocab_size, embed)
        self.lstm = nn.LSTM(embed, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, vocab_size)

    def see(self, features: paddle.Tensor) -> paddle.Tensor:
        """features [B, K, D] to one vector a study [B, E]."""
        absent = (features == 0).all(-1, keepdim=True)  # [B, K, 1]
        return paddle.where(absent, paddle.full([], -1e9), self.image(self.dropout(features))).max(1)

    def forward(self, features: paddle.Tensor, tokens: paddle.Tensor) -> paddle.Tensor:
        inputs = paddle.concat([self.see(features).unsqueeze(1), self.words(tokens)], 1)  # [B, 1 + T, E]
        outputs, _ = self.lstm(self.dropout(inputs))
        return self.output(self.dropout(outputs[:, 1:]))

    def init_state(self, features: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        _, state = self.lstm(self.see(features).unsqueeze(1))
        return tuple(s.transpose([1, 0, 2]) for s in state)  # 2 x [B, layers, H]

    def step(self, token: paddle.Tensor, state: tuple[paddle.Tensor, ...]):
        outputs, state = self.lstm(self.words(token).unsqueeze(1), tuple(s.transpose([1, 0, 2]) for s in state))
        return self.output(outputs.squeeze(1)), tuple(s.transpose([1, 0, 2]) for s in state)


def token_nll(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """-log p of each target: logits [B, T, V], targets [B, T] -> [B, T]. Twice as fast as F.cross_entropy on a CPU."""
    chosen = paddle.take_along_axis(logits, targets.unsqueeze(-1), -1).squeeze(-1)
    return paddle.logsumexp(logits, -1) - chosen


def masked_loss(nll: paddle.Tensor, targets: paddle.Tensor, pad: int) -> paddle.Tensor:
    """Mean of nll [B, T] over the targets that are words; padding has no weight."""
    mask = (targets != pad).astype(nll.dtype)
    return (nll * mask).sum() / mask.sum()
