"""The processes that `python -m paddle.distributed.launch` starts, ranks 0 to R - 1: what they share out and add up.

A process that was started alone is rank 0 of 1, and pays nothing. What one rank calls here, every rank must call.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import distributed

_meetings = itertools.count()


def join() -> tuple[int, int]:
    """Rank of this process and number of ranks R; connects them the first time."""
    if distributed.get_world_size() > 1 and not distributed.is_initialized():
        distributed.init_parallel_env()
    return distributed.get_rank(), distributed.get_world_size()


def wait() -> None:
    """Until every rank is here, be it hours; gloo by itself gives up after 30 seconds."""
    if join()[1] == 1:
        return
    store, name = paddle.base.core.create_or_get_global_tcp_store(), f"medcap_paddle {next(_meetings)}"
    store.add(name, 1)
    while store.add(name, 0) < join()[1]:
        time.sleep(0.1)
    total([0.0])  # the first rank holds the store: it must not end before all have read it


def total(numbers: Sequence[float] | np.ndarray) -> Sequence[float] | np.ndarray:
    """The sums over the ranks, the same bits on each: early stopping must be decided alike."""
    if join()[1] == 1:
        return numbers
    sums = paddle.to_tensor(np.asarray(numbers, "float64"))
    distributed.all_reduce(sums)
    return sums.numpy()


def share(batch: tuple[np.ndarray, np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray, float]:
    """This rank's studies of a batch, and R times their part of it: the weight of their mean in the mean of the ranks.

    Where there are fewer studies than ranks, the others get one of mere padding, with the weight 0.
    """
    rank, ranks = join()
    features, tokens = batch
    if rank >= len(tokens):
        return features[:1], np.full_like(tokens[:1], pad), 0.0
    mine = tokens[rank::ranks]
    return features[rank::ranks], mine, ranks * len(mine) / len(tokens)
