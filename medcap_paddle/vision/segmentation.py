"""What the one loop (`runtime.loop`) trains where masks are learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import paddle

from .. import image
from ..runtime import distributed, loop
from ..runtime.workers import map_ordered
from . import overlap
from .augment import augment_masked
from .films import Films
from .mask_losses import LOSSES
from .segmenters import Segmenter
from .structures import Structured


class Segmentation(loop.Task):
    """The loss of every drawn structure of every image; the mean Dice on `tune` chooses the epoch.

    On R ranks a batch of R times `batch_size` is shared out, and its loss is that of one process.
    """

    best = "tune_error"  # 1 - mean Dice

    def __init__(self, network: Structured, train: Films, tune: Films, how: Segmenter, loss: str):
        self.network, self.train, self.tune, self.how, self.name = network, train, tune, how, loss
        self.rank, self.count = distributed.world()
        self.batch_size = how.settings.batch_size * self.count
        self.steps = math.ceil(len(train) / self.batch_size)

    def inputs(self) -> list[object]:
        arrays = [array for part in (self.train, self.tune) for array in (part.images, part.masks, part.known)]
        return [self.name, self.how.preprocessing.record(), asdict(self.how.augmentation), *arrays]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        seed = self.how.settings.seed, epoch
        order = np.random.default_rng(seed).permutation(len(self.train))
        jobs = ((order[k : k + self.batch_size], seed) for k in range(0, len(order), self.batch_size))
        for batch, entries in map_ordered(self._batch, jobs, ahead=2, workers=1):
            yield len(batch[0]), [paddle.to_tensor(array) for array in batch], self.count / max(1, entries)

    def _batch(self, rows: np.ndarray, seed: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
        """This rank's images, masks and known; and how many masks the batch of all ranks has."""
        entries, mine = int(self.train.known[rows].sum()), distributed.shard(rows)
        weight = self.train.known[mine] if len(mine) else np.zeros_like(self.train.known[:1])
        items = [self._item(k, seed) for k in (mine if len(mine) else rows[:1])]
        images, masks = (np.stack(column) for column in zip(*items, strict=True))
        return [images, masks.astype(np.float32), weight.astype(np.float32)], entries

    def _item(self, k: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*seed, int(k)])
        pixels, masks = augment_masked(self.train.images[k], self.train.masks[k], rng, self.how.augmentation)
        return image.transform(pixels, self.how.preprocessing), masks

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        images, masks, known = (tensor[part] for tensor in batch)
        total = (LOSSES[self.name](network(images), masks) * known).sum()
        return total * share, paddle.stack([total.detach(), known.sum()])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"loss": sums[0] / max(1.0, sums[1])}

    def validate(self) -> dict[str, float]:
        names, sums = self.network.names, np.zeros((2, len(self.network.names)))
        self.network.eval()
        rows = distributed.shard(np.arange(len(self.tune)))
        for k in (rows[i : i + 8] for i in range(0, len(rows), 8)):
            pictures = np.stack([image.transform(self.tune.images[i], self.how.preprocessing) for i in k])
            with paddle.no_grad():
                drawn = self.network(paddle.to_tensor(pictures)).numpy() > 0
            for i, masks in zip(k, drawn, strict=True):
                for c in np.flatnonzero(self.tune.known[i]):
                    sums[:, c] += overlap.dice(masks[c], self.tune.masks[i, c]), 1
        sums = np.asarray(distributed.all_reduce_sum(sums))
        found = {name: sums[0, c] / sums[1, c] for c, name in enumerate(names) if sums[1, c]}
        return {"tune_error": 1 - float(np.mean([*found.values()])), **{f"tune_{n}": v for n, v in found.items()}}
