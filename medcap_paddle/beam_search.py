"""Batched beam search over any decoder that keeps the seam of `model`."""

from __future__ import annotations

import paddle

from .model import log_norm

NEVER = -1e9  # log-probability of what is not allowed


@paddle.no_grad()
def beam_search(
    decoder,
    features: paddle.Tensor,
    bos: int,
    eos: int,
    *,
    beam_size: int = 3,
    max_length: int = 60,
    min_length: int = 0,
    length_penalty: float = 0.0,
    no_repeat_ngram: int = 0,
    banned: tuple[int, ...] = (),
) -> list[list[tuple[list[int], float]]]:
    """The `beam_size` best reports of each study, best first, as (ids, score). Put the decoder in eval mode first.

    features [B, K, D]. At most `max_length` ids are written, `eos` included; `eos` is not allowed before `min_length`
    words; `banned` ids are never written, nor is an n-gram of `no_repeat_ngram` words a second time (0: allowed).
    The ids returned hold neither `bos` nor `eos`. The score of a report of n ids (`eos` included) is
    log p / ((5 + n) / 6) ** length_penalty (Wu et al. 2016, arXiv 1609.08144, eq. 14).

    A finished report keeps its place in the beam and competes with the open ones by score, so exactly `beam_size`
    reports come back (fewer only where fewer exist) and the search may stop as soon as every place is finished.
    """
    B, S = features.shape[0], beam_size
    state = tuple(s.repeat_interleave(S, 0) for s in decoder.init_state(features))  # [B * S, ...]
    first_row = paddle.arange(B).unsqueeze(1) * S  # [B, 1]: where the places of a study begin
    words = paddle.full([B, S, 1], bos, "int64")
    logp = paddle.full([B, S], NEVER)
    logp[:, 0] = 0.0  # all places start equal: only one of them may have children
    length = paddle.zeros([B, S])
    finished = paddle.zeros([B, S], "bool")
    for t in range(max_length):
        logits, state = decoder.step(words[:, :, -1].flatten(), state)  # [B * S, V]
        norm = log_norm(logits)
        for token in (*banned, *([eos] if t < min_length else [])):
            logits[:, token] = NEVER
        if no_repeat_ngram and t >= no_repeat_ngram:
            logits = _ban_repeats(logits, words[:, :, 1:].flatten(0, 1), no_repeat_ngram)
        # A place can have at most S children in the next beam, so the whole vocabulary is looked at only once.
        C = min(S, logits.shape[-1])
        value, token = paddle.topk(logits, C)
        child = (value - norm.unsqueeze(-1)).reshape([B, S, C])
        token = token.reshape([B, S, C])
        # A finished place has one child: itself.
        itself = paddle.full([C], NEVER)
        itself[0] = 0.0
        child = paddle.where(finished.unsqueeze(-1), itself, child)
        token = paddle.where(finished.unsqueeze(-1), paddle.full([C], eos, "int64"), token)
        total = (logp.unsqueeze(-1) + child).clip(min=2 * NEVER)  # [B, S, C]
        grown = length + (~finished).astype(length.dtype)  # [B, S]
        score = (total / _penalty(grown, length_penalty).unsqueeze(-1)).flatten(1)  # [B, S * C]
        _, best = paddle.topk(score, S)  # [B, S], best first
        parent = best // C
        row = (first_row + parent).flatten()
        token = paddle.take_along_axis(token.flatten(1), best, 1)
        logp = paddle.take_along_axis(total.flatten(1), best, 1)
        length = paddle.take_along_axis(grown, parent, 1)
        finished = token == eos  # also true of a place that was finished before
        words = paddle.concat([words.flatten(0, 1).gather(row).reshape([B, S, -1]), token.unsqueeze(-1)], -1)
        state = tuple(s.gather(row) for s in state)
        if bool(finished.all()):
            break
    score = (logp / _penalty(length, length_penalty)).tolist()
    return [
        [(_until(ids[1:], eos), s) for ids, s, p in zip(*places, strict=True) if p > NEVER / 2]
        for places in zip(words.tolist(), score, logp.tolist(), strict=True)
    ]


def _penalty(length: paddle.Tensor, alpha: float) -> paddle.Tensor:
    return ((5 + length) / 6) ** alpha


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids


def _ban_repeats(logits: paddle.Tensor, words: paddle.Tensor, n: int) -> paddle.Tensor:
    """Forbid every word that would complete an n-gram already in `words` [R, t]; logits [R, V]."""
    t = words.shape[1]
    tail = words[:, t - n + 1 :]  # [R, n - 1]: what the next word would follow
    repeats = paddle.stack([(words[:, i : i + n - 1] == tail).all(-1) for i in range(t - n + 1)], 1)  # [R, t - n + 1]
    if not bool(repeats.any()):
        return logits
    ban = repeats.astype(logits.dtype) * NEVER
    return paddle.put_along_axis(logits, words[:, n - 1 :], ban, 1, reduce="add")
