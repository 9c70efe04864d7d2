"""Training of an image encoder: multi-label classification of findings, by the one loop (`runtime.loop`).

`trainable.TRAINABLE` says which networks, and how each is trained. `save` writes the encoder: all its tensors in
float16 with the facts encoder, labels and preprocessing, and those that `vision.job` adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.io import Dataset

from .. import image
from ..clinical.findings import LABELS
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, digest, write_tensors
from ..runtime.workers import map_ordered
from .augment import GENTLE, Augmentation, augment
from .probe import WEAK, by_study, coefficients
from .trainable import TRAINABLE, USUAL, Trainable, begin

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = TRAINABLE[USUAL].settings
POOLED = "pooled"  # the vector among the arrays of an encoder
PROBED = 4000  # images that suffice for the first head
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # (uint8 [H, W], float32 [L]) each


class Images(Dataset):
    """Item k is (float32 [3, S, S], float32 [L]) of pair k; augmented where there is a `seed`, whatever the order."""

    def __init__(
        self,
        pairs: Pairs,
        preprocessing: Preprocessing,
        seed: tuple[int, ...] = (),
        how: Augmentation = GENTLE,
    ):
        super().__init__()
        self.pairs, self.preprocessing, self.seed, self.how = pairs, preprocessing, seed, how

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, target = self.pairs[k]
        if self.seed:
            pixels = augment(pixels, np.random.default_rng([*self.seed, k]), self.how)
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

    items = Images  # what makes the tensors of pairs

    def __init__(
        self,
        pairs: Pairs,
        preprocessing: Preprocessing,
        settings: TrainingSettings,
        how: Augmentation = GENTLE,
    ):
        self.pairs, self.preprocessing, self.settings, self.how = pairs, preprocessing, settings, how
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
        return [self.preprocessing.record(), self.shares, asdict(self.how)]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        images = self.items(self.pairs, self.preprocessing, (self.settings.seed, epoch, self.rank), self.how)
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
    name: str = USUAL,
) -> tuple[nn.Layer, pd.DataFrame]:
    """The trained network called `name`, and the loss of each epoch as `loop.fit` writes it into `folder`.

    From its usual first weights, or from the encoder in the file `start`. With several processes each trains on its own
    `pairs`. MedcapError when the images are fewer than a batch, when `start` does not fit, and when the loss is not a
    number.
    """
    how = TRAINABLE[name]
    task = Labelling(pairs, preprocessing, settings, how.augmented(labels))
    paddle.seed(settings.seed)
    network = how.build(len(labels))
    if begin(network, how, labels, Path(start) if start else None):
        probe_first(network, how, task)
    return network, loop.fit(network, task, folder, settings)


def probe_first(network: nn.Layer, how: Trainable, task: Labelling) -> None:
    """Set the head to a linear probe of the vectors that the network gives before it is trained.

    A random head would spoil them in its first steps (Kumar et al., ICLR 2022). Each process brings its share of the
    vectors, and all fit the same head.
    """
    counts = np.minimum(task.shares[:, 0].astype(int), PROBED // task.count)
    first, own = int(counts[: task.rank].sum()), int(counts[task.rank])
    vectors, targets = outputs(network, task.pairs[:own], task.preprocessing, how, POOLED)
    table = np.zeros((counts.sum(), vectors.shape[1] + targets.shape[1]))
    table[first : first + own] = np.concatenate([vectors, targets], 1)
    table = distributed.all_reduce_sum(table)
    found = coefficients(table[:, : vectors.shape[1]], table[:, vectors.shape[1] :], strength=WEAK)
    for name, values in zip(("weight", "bias"), found, strict=True):
        network.state_dict()[f"{how.head}.{name}"].set_value(values.astype(np.float32))


def outputs(
    network: nn.Layer, pairs: Pairs, preprocessing: Preprocessing, how: Trainable = TRAINABLE[USUAL], array: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """An array of the encoder that the network will be, by default its number for each label, [N, ...], and the targets
    of every image [N, L].
    """
    given = how.given(network, preprocessing.size)
    given.eval()
    place, rows = given.arrays.index(array or how.scores), []
    with paddle.no_grad():
        for pictures, targets in Images(pairs, preprocessing).batches(32):
            rows.append((given(pictures)[place].numpy(), targets.numpy()))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def probe_network(
    network: nn.Layer,
    pairs: Pairs,
    study_ids: Sequence[str],
    preprocessing: Preprocessing,
    labels: Sequence[str] = LABELS,
    name: str = USUAL,
) -> tuple[dict[str, float], list[str]]:
    """The AUC of each label on unseen studies, and the labels with too few (see `Trainable.auc`)."""
    scores, targets = outputs(network, pairs, preprocessing, TRAINABLE[name])
    rows, ids = by_study(scores, study_ids)
    truth = dict(zip(study_ids, targets, strict=True))
    return TRAINABLE[name].auc(rows, np.stack([truth[study] for study in ids]), labels)


def save(
    network: nn.Layer,
    path: str | Path,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    facts: dict | None = None,
    name: str = USUAL,
) -> None:
    """The encoder in float16, with what must be known to use it, and `facts` to judge it by."""
    tensors = {key: tensor.numpy().astype(np.float16) for key, tensor in network.state_dict().items()}
    known = {"encoder": name, "labels": list(labels), "preprocessing": preprocessing.record()}
    write_tensors(path, tensors, {**known, **(facts or {})})
