"""Training of our small image encoder: multi-label classification of findings, by the one loop (`runtime.loop`).

`save` writes the encoder: float16 tensors `trunk.*`, `neck.*` and `head.*` (one logit a label), with the facts encoder,
labels and preprocessing, and those that `vision.job` adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.io import Dataset
from PIL import Image

from .. import image
from ..clinical.findings import LABELS
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, digest, write_tensors
from ..runtime.workers import map_ordered
from .networks import SURE, Small
from .probe import by_study, probe
from .weights import fill, read

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = TrainingSettings(batch_size=12, epochs=5, learning_rate=1e-3, warmup=0.05, weight_decay=0.01)
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # (uint8 [H, W], float32 [L]) each


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W], another exposure of another position: shifted, scaled, turned a little, gamma, noise.

    Never mirrored: sides matter.
    """
    height, width = pixels.shape
    scale, turn = rng.uniform(0.92, 1.08), rng.uniform(-0.05, 0.05)
    a, b = np.cos(turn) / scale, np.sin(turn) / scale
    x, y = width * (0.5 + rng.uniform(-0.05, 0.05)), height * (0.5 + rng.uniform(-0.05, 0.05))
    matrix = (a, b, width / 2 - a * x - b * y, -b, a, height / 2 + b * x - a * y)
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    tones = 255 * np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(tones[np.asarray(moved)] + noise, 0, 255).astype(np.uint8)


class Images(Dataset):
    """Item k is (float32 [3, S, S], float32 [L]) of pair k; augmented where there is a `seed`, whatever the order."""

    def __init__(self, pairs: Pairs, preprocessing: Preprocessing, seed: tuple[int, ...] = ()):
        super().__init__()
        self.pairs, self.preprocessing, self.seed = pairs, preprocessing, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, target = self.pairs[k]
        if self.seed:
            pixels = augment(pixels, np.random.default_rng([*self.seed, k]))
        return image.transform(pixels, self.preprocessing), target

    def batches(self, batch_size: int) -> Iterator[list[paddle.Tensor]]:
        """[B, 3, S, S] and [B, L], prepared ahead in a thread; with a `seed` shuffled, and only whole batches.

        Not by paddle.io.DataLoader: when an item raises an error in its thread, it waits for ever.
        """
        order = np.random.default_rng(self.seed).permutation(len(self)) if self.seed else np.arange(len(self))
        end = len(self) - len(self) % batch_size if self.seed else len(self)
        jobs = ((order[k : k + batch_size],) for k in range(0, end, batch_size))
        for columns in map_ordered(self._columns, jobs, ahead=2, workers=1):
            yield [paddle.to_tensor(np.stack(column)) for column in columns]

    def _columns(self, rows: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        return list(zip(*(self[k] for k in rows), strict=True))


class Labelling(loop.Task):
    """Binary cross-entropy of every label. Each process has its own `pairs`; the shortest share ends an epoch."""

    def __init__(self, pairs: Pairs, preprocessing: Preprocessing, settings: TrainingSettings):
        self.pairs, self.preprocessing, self.settings = pairs, preprocessing, settings
        self.rank, self.count = distributed.world()
        distributed.barrier()  # one process may need minutes longer to prepare its pairs
        share = np.zeros((self.count, 2))  # images and fingerprint, a row a process: the same table in all of them
        share[self.rank] = len(pairs), int(digest(*(array for pair in pairs for array in pair))[:13], 16)  # 52 bits
        self.shares = distributed.all_reduce_sum(share)
        self.steps = int(self.shares[:, 0].min()) // settings.batch_size
        if not self.steps:
            fewest, batch = int(self.shares[:, 0].min()), settings.batch_size
            raise MedcapError(f"{fewest} images for a process are fewer than a batch of {batch}: give more")

    def inputs(self) -> list[object]:
        return [self.preprocessing.record(), self.shares]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        images = Images(self.pairs, self.preprocessing, (self.settings.seed, epoch, self.rank))
        for batch, _ in zip(images.batches(self.settings.batch_size), range(self.steps), strict=False):
            yield self.settings.batch_size, batch, 1.0

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        pictures, targets = (tensor[part] for tensor in batch)
        loss = F.binary_cross_entropy_with_logits(network(pictures), targets) * (share * len(targets) / len(batch[1]))
        return loss, loss.detach().reshape([1])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"loss": sums[0] / (self.steps * self.count)}


def train(
    pairs: Pairs,
    preprocessing: Preprocessing,
    settings: TrainingSettings,
    folder: str | Path,
    labels: Sequence[str] = LABELS,
    start: str | Path | None = None,
) -> tuple[Small, pd.DataFrame]:
    """The trained network, and the loss of each epoch as `loop.fit` writes it into `folder`.

    From scratch, or from the encoder in the file `start`. With several processes each trains on its own `pairs`.
    MedcapError when the images are fewer than a batch, when `start` does not fit, and when the loss is not a number.
    """
    paddle.seed(settings.seed)
    network = Small(len(labels))
    if start:
        fill(network, read(start)[0], start)
    return network, loop.fit(network, Labelling(pairs, preprocessing, settings), folder, settings)


def outputs(network: Small, pairs: Pairs, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Features (the logit of each label, as the encoder will give it) and targets of every image, [N, L] each."""
    network.eval()
    rows = []
    with paddle.no_grad():
        for pictures, targets in Images(pairs, preprocessing).batches(32):
            rows.append((F.hardtanh(network(pictures), -SURE, SURE).numpy(), targets.numpy()))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def probe_network(
    network: Small, pairs: Pairs, study_ids: Sequence[str], preprocessing: Preprocessing
) -> tuple[dict[str, float], list[str]]:
    """`probe` by study, fitted on the first 60% of unseen studies and tested on the others."""
    features, targets = outputs(network, pairs, preprocessing)
    rows, ids = by_study(features, study_ids)
    truth = dict(zip(study_ids, targets, strict=True))
    train = np.arange(len(ids)) < 0.6 * len(ids)
    return probe(rows, np.stack([truth[study] for study in ids]), train, ~train)


def save(
    network: Small, path: str | Path, labels: Sequence[str], preprocessing: Preprocessing, facts: dict | None = None
) -> None:
    """The encoder in float16, with what must be known to use it, and `facts` to judge it by."""
    tensors = {name: tensor.numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    known = {"encoder": "small", "labels": list(labels), "preprocessing": preprocessing.record()}
    write_tensors(path, tensors, {**known, **(facts or {})})
