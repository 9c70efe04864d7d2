"""What every worker computes on: the same numbers, files, sizes and precision for ours, Paddle as installed and
PyTorch.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

B, T, H, V, D = 128, 40, 512, 1151, 78  # training: studies, words, hidden and embedding size, vocabulary, features
BATCHES = 3
IMAGES, BEAM, STEPS, WORDS = 256, 3, 60, 1500  # beam search
BOS, EOS = 1, 2
SIZE = 224  # ResNet-101
COMPARED = 4  # pictures, the first, whose features must have the same norm on every side
BOX = 5.0  # seconds that a turn of features gives to Paddle as installed, which may be slow
FILMS, PIXELS = 32, 256  # segmentation
SEGMENTERS = ("unet", "unet_lite0")  # the shipped network, and the one over EfficientNet-Lite0
CPUINFO = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
HALF = "avx512_bf16" in CPUINFO or "amx_bf16" in CPUINFO  # whether the processor computes in bfloat16


def training(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """features [N, 2, D] and tokens [N, T + 1] of BATCHES full batches without padding."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=[BATCHES * B, 2, D]).astype("float32")
    return features, rng.integers(3, V, [BATCHES * B, T + 1])


def studies(seed: int = 0) -> np.ndarray:
    """features [IMAGES, 2, D] for the beam search."""
    return np.random.default_rng(seed).normal(size=[IMAGES, 2, D]).astype("float32")


def pictures(scratch: Path) -> list[str]:
    """96 reads of 32 files."""
    return 3 * sorted(map(str, (scratch / "pictures").glob("*.png")))


def films(seed: int = 0) -> np.ndarray:
    """[FILMS, 3, PIXELS, PIXELS] for segmentation."""
    return np.random.default_rng(seed).normal(size=[FILMS, 3, PIXELS, PIXELS]).astype("float32")


def serve(tasks: dict) -> None:
    """Do the task named on the command line, once to warm up and then once a line of input; each run's answer is the
    amount of work it did, as JSON, and whatever else the task wants to say.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries write where they like
    run = tasks[sys.argv[1]](Path(sys.argv[2]))
    answer = run()
    while True:
        print(json.dumps(answer), file=out, flush=True)
        if not sys.stdin.readline():
            return
        answer = run()
