"""Which studies make a batch. Batch samplers of `paddle.io`: lists of rows, every study once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from .files import MedcapError


class Studies(Protocol):
    """What `dataset.Studies` has, among others: ids a study."""

    tokens: list[list[int]]


class Sampler:
    """The rows of each batch."""

    groups: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[list[int]]:
        return (group.tolist() for group in self.groups)


class LengthSampler(Sampler):
    """Every study once, in batches of similar length; shuffled when `rng` is given.

    Sorting pools of 16 batches by length keeps most padding out of the computation and the order random.
    """

    def __init__(self, studies: Studies, batch_size: int, rng: np.random.Generator | None = None):
        order = np.arange(len(studies.tokens)) if rng is None else rng.permutation(len(studies.tokens))
        lengths = np.array([len(tokens) for tokens in studies.tokens])
        pools = [order[i : i + 16 * batch_size] for i in range(0, len(order), 16 * batch_size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        self.groups = [groups[i] for i in (range(len(groups)) if rng is None else rng.permutation(len(groups)))]


class TokenSampler(Sampler):
    """Every study once, as many in a batch as `budget` allows; shuffled when `rng` is given.

    `sizes` [N, P] are the lengths of the P sequences of a study, counted in whole steps of `STEP`. A batch of B studies
    costs B times the sum of the longest of each: its rows with their padding. Sorted, the sizes are the same in every
    epoch, and with them the cuts between the batches: an epoch always has the same number of steps. Shuffled are the
    studies of equal sizes, many thanks to `STEP`, and the order of the batches. MedcapError when a single study costs
    more than `budget`.
    """

    STEP = 4

    def __init__(self, sizes: np.ndarray, budget: int, rng: np.random.Generator | None = None):
        sizes = -(-sizes // self.STEP) * self.STEP
        largest = int(sizes.sum(1).max())
        if largest > budget:
            raise MedcapError(f"batch_tokens is {budget}, but a study has {largest}: give at least {largest}")
        order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
        ranked = sizes[order]
        order = order[np.lexsort((*ranked.T, ranked.sum(1)))]  # by the sum, then by each length
        starts, longest = [0], sizes[order[0]]
        for end, size in enumerate(sizes[order]):
            longest = np.maximum(longest, size)
            if (end + 1 - starts[-1]) * longest.sum() > budget:
                starts.append(end)
                longest = size
        groups = np.split(order, starts[1:])
        self.groups = [groups[i] for i in (range(len(groups)) if rng is None else rng.permutation(len(groups)))]
