"""Running an encoder: float32 [B, 3, S, S] -> its arrays by name, float32 [B, ...] each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import paddle

from ..encoder import Encoder
from ..runtime import cache
from ..runtime.quiet import hide_harmless
from .networks import arrays

Arrays = dict[str, np.ndarray]
Run = Callable[[np.ndarray], Arrays]


def eager(encoder: Encoder, autocast: bool = False) -> Run:
    """As Paddle computes while it trains; `autocast` in float16 where the device can."""

    def run(pictures: np.ndarray) -> Arrays:
        with paddle.no_grad(), paddle.amp.auto_cast(enable=autocast):
            return _named(encoder, arrays(encoder.network, paddle.to_tensor(pictures)))

    return run


def fast(encoder: Encoder, folder: str | Path, exact: bool = False) -> tuple[Run, str]:
    """The quickest way this machine has, and its precision: oneDNN on a CPU (3 to 20 times eager mode), else eager.

    `folder` is for temporary files. `exact` computes in float32.
    """
    if paddle.device.get_device() != "cpu":
        return eager(encoder, autocast=not exact), "float32" if exact else "float16"
    try:
        run, precision = exported(encoder, folder, exact)
        size = encoder.preprocessing.size
        run(np.zeros((1, 3, size, size), np.float32))  # an operator may be missing
        return run, precision
    except Exception as error:  # Paddle raises nearly anything
        warnings.warn(f"Paddle could not export the encoder, computing slowly in eager mode: {error}", stacklevel=2)
        return eager(encoder), "float32"


def exported(encoder: Encoder, folder: str | Path, exact: bool) -> tuple[Run, str]:
    """The network as an inference program on oneDNN, in bfloat16 where the processor computes in it."""
    from paddle import inference

    path, size = str(Path(folder) / "encoder"), encoder.preprocessing.size
    inputs, forward = [paddle.static.InputSpec([None, 3, size, size], "float32")], encoder.network.forward
    try:
        with hide_harmless():
            paddle.jit.save(paddle.jit.to_static(encoder.network, input_spec=inputs, full_graph=True), path)
    finally:
        encoder.network.forward = forward  # to_static replaces it; eager mode would fail where the export has
    config = inference.Config(f"{path}.json", f"{path}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()  # not the default; and no enable_memory_optim, which fails on this format
    config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    half = not exact and paddle.base.core.supports_bfloat16_fast_performance()
    if half:
        config.enable_mkldnn_bfloat16()
    predictor = inference.create_predictor(config)

    def run(pictures: np.ndarray) -> Arrays:
        return _named(encoder, predictor.run([paddle.to_tensor(pictures)]))

    return run, "bfloat16" if half else "float32"


def _named(encoder: Encoder, tensors: Sequence[paddle.Tensor]) -> Arrays:
    return {name: t.astype("float32").numpy() for name, t in zip(encoder.arrays, tensors, strict=True)}


def within_memory(run: Run) -> Run:
    """`run`, in parts where the memory does not suffice for a whole batch."""
    halving = cache.halve_batch_on_oom(lambda part, pictures: run(pictures[part]))

    def in_parts(pictures: np.ndarray) -> Arrays:
        parts = halving(len(pictures), pictures)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return in_parts
