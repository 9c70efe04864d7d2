"""What may be written next: rules on the logits of the next word, the same for search and sampling.

R reports, V words in the vocabulary; `words` [R, 1 + t] are the ids so far, `bos` first.
"""

from __future__ import annotations

import paddle

from ..config import GenerationSettings
from ..loss import log_norm
from ..runtime.files import MedcapError

NEVER = -1e9  # log-probability of what is not allowed
PENALISED = -1e6  # no penalty makes a word less likely than this: a report of such words is still an allowed one


def check(settings: GenerationSettings) -> None:
    """MedcapError with the name and the range of a setting of the rules or of the sampling that has no meaning."""
    for name, low, high in (("repetition_penalty", 1, 1e9), ("temperature", 0, 1e9), ("seed", 0, 2**63)):
        if not low <= getattr(settings, name) <= high:
            raise MedcapError(f"generation.{name} is {getattr(settings, name)}: set a number from {low} to {high:.0e}")
    if not 0 < settings.top_p <= 1:
        raise MedcapError(f"generation.top_p is {settings.top_p}: set a number above 0, at most 1 (all words)")
    if 0 < settings.temperature < 1e-6:
        raise MedcapError(f"generation.temperature is {settings.temperature}: set at least 1e-6, or 0 for a search")
    if settings.consensus and (settings.consensus < 2 or not settings.temperature):
        wrong = f"generation.consensus is {settings.consensus}, the temperature {settings.temperature}"
        raise MedcapError(f"{wrong}: draw at least 2 reports, at a temperature above 0, or set consensus to 0")


def apply(
    logits: paddle.Tensor, words: paddle.Tensor, settings: GenerationSettings, eos: int, banned: tuple[int, ...]
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """logits [R, V] under the rules, and log sum exp [R]: log-probabilities are their difference.

    `banned` ids and, before `min_length` words, `eos` are not allowed; nor is an n-gram of `no_repeat_ngram` words a
    second time (0: allowed). What is not allowed keeps its share of the probability: a ban changes no other word's.
    """
    t = words.shape[1] - 1
    if t and settings.repetition_penalty != 1:
        logits = penalise(logits, words[:, 1:], settings.repetition_penalty)
    norm = log_norm(logits)
    for token in (*banned, *([eos] if t < settings.min_length else [])):
        logits[:, token] = NEVER
    if settings.no_repeat_ngram and t >= settings.no_repeat_ngram:
        logits = ban_repeats(logits, words[:, 1:], settings.no_repeat_ngram)
    return logits, norm


def penalise(logits: paddle.Tensor, words: paddle.Tensor, penalty: float) -> paddle.Tensor:
    """Logits [R, V] with which a word of `words` [R, t] is less likely: its p becomes p ** penalty, before all are
    divided by their sum (Keskar et al. 2019, arXiv 1909.05858, section 4.1).

    There the logit is divided. Logits are known but for a constant, and one below 0 would rise. Log-probabilities are
    logits too, never above 0: they are multiplied, and no constant matters.
    """
    logp = logits - log_norm(logits).unsqueeze(-1)
    written = paddle.put_along_axis(paddle.zeros_like(logits), words, 1.0, 1) > 0
    return paddle.where(written, paddle.maximum(logp * penalty, logp.clip(max=PENALISED)), logp)


def ban_repeats(logits: paddle.Tensor, words: paddle.Tensor, n: int) -> paddle.Tensor:
    """Forbid every word that would complete an n-gram already in `words` [R, t]; logits [R, V]."""
    t = words.shape[1]
    tail = words[:, t - n + 1 :]  # [R, n - 1]: what the next word would follow
    repeats = paddle.stack([(words[:, i : i + n - 1] == tail).all(-1) for i in range(t - n + 1)], 1)  # [R, t - n + 1]
    if not bool(repeats.any()):
        return logits
    ban = repeats.astype(logits.dtype) * NEVER
    return paddle.put_along_axis(logits, words[:, n - 1 :], ban, 1, reduce="add")


def length_penalty(length: paddle.Tensor, alpha: float) -> paddle.Tensor:
    """By what the log-probability of `length` ids is divided (Wu et al. 2016, arXiv 1609.08144, eq. 14)."""
    return ((5 + length) / 6) ** alpha
