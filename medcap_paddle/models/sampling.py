"""Reports drawn word by word, as likely as the model means them: for the reward, and in place of a search.

A search writes what is likeliest; many samples show how sure a model is. They obey the same rules as a search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import paddle

from ..config import GenerationSettings
from ..loss import log_norm
from ..runtime.files import MedcapError
from . import rules
from .decoder import Decoder, Inputs

SMALLEST = 2.0**-25  # a random number of 0 would draw the first word, also where it is not allowed


class Drawn(NamedTuple):
    """Reports of B studies: ids [B, T], `eos` from their end on; [B]: how many are written (`eos` included), log p."""

    words: np.ndarray
    length: np.ndarray
    logp: np.ndarray

    def ids(self) -> list[list[int]]:
        """What is written of each, `eos` included where it is."""
        return [ids[:n] for ids, n in zip(self.words.tolist(), self.length.tolist(), strict=True)]


def sample(
    decoder: Decoder,
    inputs: Inputs,
    bos: int,
    eos: int,
    settings: GenerationSettings,
    max_length: int,
    banned: tuple[int, ...],
    names: Sequence[str],
) -> list[list[tuple[list[int], float]]]:
    """One report of each study, drawn, in the form and with the score of `beam_search`; `beam_size` means nothing here.

    The random numbers of a study come from `seed` and from its name alone: not from its batch, its place or the device.
    """
    numbers = paddle.to_tensor(np.stack([own_numbers(settings.seed, name, max_length) for name in names]))
    drawn = draw(decoder, inputs, bos, eos, settings, max_length, banned, lambda t: numbers[:, t : t + 1])
    score = drawn.logp / rules.length_penalty(drawn.length.astype("float32"), settings.length_penalty)
    words = [[word for word in ids if word != eos] for ids in drawn.ids()]
    # Where no word is allowed there is no report, as in a search.
    rows = zip(words, score.tolist(), drawn.logp.tolist(), strict=True)
    return [[(ids, score)] if logp > rules.NEVER / 2 else [] for ids, score, logp in rows]


def own_numbers(seed: int, name: str, count: int) -> np.ndarray:
    """`count` random numbers in [0, 1) for a name; the first ones are the same for any `count`."""
    return np.random.default_rng([seed, *name.encode()]).random(count, "float32")


@paddle.no_grad()
def draw(
    decoder: Decoder,
    inputs: Inputs,
    bos: int,
    eos: int,
    settings: GenerationSettings,
    max_length: int,
    banned: tuple[int, ...],
    uniform: Callable[[int], paddle.Tensor],
) -> Drawn:
    """A report of at most `max_length` ids, `eos` included, for each study; see `beam_search` for the arguments.

    `uniform(t)` [B, 1] are random numbers in [0, 1] for the word at t: inverse transform sampling needs one a report,
    not one a word of the vocabulary. `temperature` (above 0) divides the logits under the rules; what lies outside of
    `top_p` is not drawn. log p is the model's. MedcapError as `rules.check` says, and where it is 0.
    """
    rules.check(settings)
    if not settings.temperature:
        raise MedcapError("generation.temperature is 0: nothing is drawn then; set it above 0, or use beam_search")
    state = decoder.init_state(inputs)
    B = state[0].shape[0]
    drawn = Drawn(np.full([B, max_length], eos), np.zeros(B, int), np.zeros(B, "float32"))
    words, open_ = paddle.full([B, 1], bos, "int64"), np.arange(B)  # what is finished leaves the batch
    for t in range(max_length):
        logits, state = decoder.step(words[:, -1], state)  # [B, V]
        logits, norm = rules.apply(logits, words, settings, eos, banned)
        reached = nucleus(probabilities(logits, settings.temperature), settings.top_p).cumsum(-1)
        numbers = uniform(t).gather(paddle.to_tensor(open_)).clip(min=SMALLEST)
        token = paddle.searchsorted(reached, numbers * reached[:, -1:])  # [B, 1]
        own = paddle.take_along_axis(logits, token, -1).squeeze(-1) - norm
        drawn.words[open_, t], drawn.length[open_] = token.squeeze(-1).numpy(), t + 1
        drawn.logp[open_] += own.numpy()
        words, going = paddle.concat([words, token], -1), np.flatnonzero(drawn.words[open_, t] != eos)
        if not len(going):
            break
        if len(going) < len(open_):
            rows, open_ = paddle.to_tensor(going), open_[going]
            words, state = words.gather(rows), tuple(part.gather(rows) for part in state)
    return Drawn(drawn.words[:, : drawn.length.max()], *drawn[1:])


def probabilities(logits: paddle.Tensor, temperature: float) -> paddle.Tensor:
    """softmax(logits / temperature) [B, V]: below 1 likely words become likelier, near 0 only the likeliest is left."""
    logits = logits / temperature
    return (logits - log_norm(logits).unsqueeze(-1)).exp()


def nucleus(p: paddle.Tensor, top_p: float) -> paddle.Tensor:
    """p [B, V], 0 outside of the fewest words that have `top_p` together (Holtzman et al., ICLR 2020, section 3.1)."""
    if top_p >= 1:
        return p
    order = p.argsort(-1, descending=True)
    ordered = paddle.take_along_axis(p, order, -1)
    before = ordered.cumsum(-1) - ordered  # of the words that are likelier
    inside = paddle.where(before < top_p, ordered, paddle.zeros_like(ordered))
    return paddle.put_along_axis(paddle.zeros_like(p), order, inside, -1)
