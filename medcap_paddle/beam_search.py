"""Batched beam search over any decoder that keeps the seam of `models.decoder`."""

from __future__ import annotations

from dataclasses import dataclass

import paddle

from .config import GenerationSettings
from .models import rules
from .models.decoder import Decoder, Inputs
from .models.rules import NEVER, length_penalty


@paddle.no_grad()
def beam_search(
    decoder: Decoder,
    inputs: Inputs,
    bos: int,
    eos: int,
    settings: GenerationSettings,
    max_length: int = 60,
    banned: tuple[int, ...] = (),
) -> list[list[tuple[list[int], float]]]:
    """The `beam_size` best reports of each study, best first, as (ids, score). Put the decoder in eval mode first.

    `inputs` are the named arrays of a batch. At most `max_length` ids are written, `eos` included, under the rules
    of `models.rules`; `banned` ids are never written. The ids returned hold neither `bos` nor `eos`. The score of a
    report of n ids (`eos` included) is log p / ((5 + n) / 6) ** length_penalty (Wu et al. 2016, arXiv 1609.08144,
    eq. 14). MedcapError as `rules.check` says.

    A finished report keeps its place in the beam and competes with the open ones by score, so exactly `beam_size`
    reports come back (fewer only where fewer exist) and the search may stop as soon as every place is finished.
    """
    rules.check(settings)
    state, S = decoder.init_state(inputs), settings.beam_size
    beam = Beam.start(state[0].shape[0], S, bos)
    state = tuple(s.repeat_interleave(S, 0) for s in state)  # [B * S, ...]
    for _ in range(max_length):
        logits, state = decoder.step(beam.words[:, :, -1].flatten(), state)  # [B * S, V]
        logits, norm = rules.apply(logits, beam.words.flatten(0, 1), settings, eos, banned)
        beam, parents = beam.grow(logits, norm, eos, settings.length_penalty)
        state = tuple(s.gather(parents) for s in state)
        if bool(beam.finished.all()):
            break
    return beam.reports(eos, settings.length_penalty)


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

    def reports(self, eos: int, alpha: float) -> list[list[tuple[list[int], float]]]:
        score = (self.logp / length_penalty(self.length, alpha)).tolist()
        return [
            [(_until(ids[1:], eos), s) for ids, s, p in zip(*places, strict=True) if p > NEVER / 2]
            for places in zip(self.words.tolist(), score, self.logp.tolist(), strict=True)
        ]


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids
