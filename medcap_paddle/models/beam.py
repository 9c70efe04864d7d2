"""The places of a beam search: what is written in each, how likely it is, and how it grows by a word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle

from .rules import NEVER, length_penalty


@dataclass
class Beam:
    """S places for each of B studies: `words` [B, S, 1 + t] with `bos`, and [B, S]: log-probability, words written
    (`eos` included), whether `eos` was written.
    """

    words: paddle.Tensor
    logp: paddle.Tensor
    length: paddle.Tensor
    finished: paddle.Tensor

    @classmethod
    def start(cls, B: int, S: int, bos: int) -> Beam:
        logp = paddle.full([B, S], NEVER)
        logp[:, 0] = 0.0  # all places start equal: only one of them may have children
        return cls(paddle.full([B, S, 1], bos, "int64"), logp, paddle.zeros([B, S]), paddle.zeros([B, S], "bool"))

    def grow(self, logits: paddle.Tensor, norm: paddle.Tensor, eos: int, alpha: float) -> tuple[Beam, paddle.Tensor]:
        """The beam one word later, and for each place the row [B * S] that it continues.

        logits [B * S, V], norm [B * S]: log-probabilities are their difference.
        """
        B, S = self.logp.shape
        # A place can have at most S children in the next beam, so the whole vocabulary is looked at only once.
        C = min(S, logits.shape[-1])
        value, token = paddle.topk(logits, C)
        child = (value - norm.unsqueeze(-1)).reshape([B, S, C])
        token = token.reshape([B, S, C])
        # A finished place has one child: itself.
        itself = paddle.full([C], NEVER)
        itself[0] = 0.0
        child = paddle.where(self.finished.unsqueeze(-1), itself, child)
        token = paddle.where(self.finished.unsqueeze(-1), paddle.full([C], eos, "int64"), token)
        total = (self.logp.unsqueeze(-1) + child).clip(min=2 * NEVER)  # [B, S, C]
        grown = self.length + (~self.finished).astype(self.length.dtype)  # [B, S]
        score = (total / length_penalty(grown, alpha).unsqueeze(-1)).flatten(1)  # [B, S * C]
        _, best = paddle.topk(score, S)  # [B, S], best first
        parent = best // C
        parents = (paddle.arange(B).unsqueeze(1) * S + parent).flatten()
        token = paddle.take_along_axis(token.flatten(1), best, 1)
        words = self.words.flatten(0, 1).gather(parents).reshape([B, S, -1])
        beam = Beam(
            words=paddle.concat([words, token.unsqueeze(-1)], -1),
            logp=paddle.take_along_axis(total.flatten(1), best, 1),
            length=paddle.take_along_axis(grown, parent, 1),
            finished=token == eos,  # also true of a place that was finished before
        )
        return beam, parents

    def of(self, studies: np.ndarray) -> Beam:
        """The beam of some of its studies, bool [B]."""
        return Beam(*(part.gather(rows(studies)) for part in (self.words, self.logp, self.length, self.finished)))

    def reports(self, eos: int, alpha: float) -> list[list[tuple[list[int], float]]]:
        score = (self.logp / length_penalty(self.length, alpha)).tolist()
        return [
            [(_until(ids[1:], eos), s) for ids, s, p in zip(*places, strict=True) if p > NEVER / 2]
            for places in zip(self.words.tolist(), score, self.logp.tolist(), strict=True)
        ]


def rows(mask: np.ndarray) -> paddle.Tensor:
    """Where a mask is true, as what selects rows of a tensor."""
    return paddle.to_tensor(np.flatnonzero(mask))


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids
