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

_barriers = itertools.count()


def world() -> tuple[int, int]:
    """(rank of this process, number of ranks R); the first call connects them."""
    if distributed.get_world_size() > 1 and not distributed.is_initialized():
        distributed.init_parallel_env()
    return distributed.get_rank(), distributed.get_world_size()


def barrier() -> None:
    """Wait until every rank is here, be it hours; gloo by itself gives up after 30 seconds."""
    if world()[1] == 1:
        return
    store, name = paddle.base.core.create_or_get_global_tcp_store(), f"medcap_paddle {next(_barriers)}"
    store.add(name, 1)
    while store.add(name, 0) < world()[1]:
        time.sleep(0.1)
    all_reduce_sum([0.0])  # the first rank holds the store: it must not end before all have read it


def all_reduce_sum(numbers: Sequence[float] | np.ndarray) -> Sequence[float] | np.ndarray:
    """The sums over the ranks, float64, the same bits on each: early stopping must be decided alike."""
    if world()[1] == 1:
        return numbers
    sums = paddle.to_tensor(np.asarray(numbers, "float64"))
    distributed.all_reduce(sums)
    return sums.numpy()


def shard(rows: paddle.Tensor | np.ndarray) -> paddle.Tensor | np.ndarray:
    """This rank's rows of a batch: every R-th, from its own rank on; may be empty."""
    rank, count = world()
    return rows[rank::count]
