"""Batched beam search over any decoder that keeps the seam of `models.decoder`."""

from __future__ import annotations

import numpy as np
import paddle

from .config import GenerationSettings
from .models import rules
from .models.beam import Beam, rows
from .models.decoder import Decoder, Inputs


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
    reports come back (fewer only where fewer exist), and a study leaves the search when all its places are finished.
    """
    rules.check(settings)
    state, S, alpha = decoder.init_state(inputs), settings.beam_size, settings.length_penalty
    study = np.arange(state[0].shape[0])  # of each row of the beam: one that is finished leaves it
    beam, found = Beam.start(len(study), S, bos), {}
    state = tuple(s.repeat_interleave(S, 0) for s in state)  # [B * S, ...]
    for _ in range(max_length):
        logits, state = decoder.step(beam.words[:, :, -1].flatten(), state)  # [B * S, V]
        logits, norm = rules.apply(logits, beam.words.flatten(0, 1), settings, eos, banned)
        beam, parents = beam.grow(logits, norm, eos, alpha)
        done = beam.finished.all(1).numpy()  # [B]
        if done.any():
            found |= zip(study[done], beam.of(done).reports(eos, alpha), strict=True)
            study, beam, parents = study[~done], beam.of(~done), parents.gather(rows(~done.repeat(S)))
        if not len(study):
            break
        state = tuple(s.gather(parents) for s in state)
    found |= zip(study, beam.reports(eos, alpha), strict=True)
    return [found[k] for k in range(len(found))]
