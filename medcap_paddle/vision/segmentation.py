"""What the one loop (`runtime.loop`) trains where masks are learnt, and what it is given.

Folders are read as `masked.LAYOUTS` has them, several together: a structure that nobody has drawn in an image does not
enter the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from .. import image, splits
from ..config import TrainingSettings
from ..runtime import distributed, loop
from ..runtime.files import MedcapError
from ..runtime.workers import map_ordered
from . import masked, overlap, segmenters
from .augment import augment_masked
from .films import Films, films
from .mask_losses import LOSSES
from .masked import Item
from .segmenter_run import save
from .segmenters import Segmenter
from .structures import Structured, channels, outputs

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 8  # images that are validated in one pass


class Segmentation(loop.Task):
    """The loss of every drawn structure of every image; the mean Dice on `tune` chooses the epoch.

    On R ranks a batch of R times `batch_size` is shared out, and its loss is that of one process.
    """

    best = "tune_error"  # 1 - mean Dice

    def __init__(self, module: Structured, train: Films, tune: Films, how: Segmenter, loss: str):
        self.module, self.train, self.tune, self.how, self.name = module, train, tune, how, loss
        self.rows = np.repeat(np.arange(len(train)), repeats(train.masks.any((2, 3)) & train.known))
        self.batch_size = how.settings.batch_size * distributed.world()[1]
        self.steps = math.ceil(len(self.rows) / self.batch_size)

    def inputs(self) -> list[object]:
        arrays = [array for part in (self.train, self.tune) for array in (part.images, part.masks, part.known)]
        return [self.name, self.how.preprocessing.record(), asdict(self.how.augmentation), self.batch_size, *arrays]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        seed, count = (self.how.settings.seed, epoch), distributed.world()[1]
        order = np.random.default_rng(seed).permutation(self.rows)
        jobs = ((order[k : k + self.batch_size], (*seed, k)) for k in range(0, len(order), self.batch_size))
        for batch, entries in map_ordered(self._batch, jobs, ahead=2, workers=1):
            yield len(batch[0]), [paddle.to_tensor(array) for array in batch], count / max(1, entries)

    def _batch(self, rows: np.ndarray, seed: tuple[int, ...]) -> tuple[list[np.ndarray], int]:
        """This rank's images, masks and known; and how many masks the batch of all ranks has."""
        entries, mine = int(self.train.known[rows].sum()), distributed.shard(np.arange(len(rows)))
        weight = self.train.known[rows[mine]] if len(mine) else np.zeros_like(self.train.known[:1])
        items = [self._item(rows[k], (*seed, k)) for k in (mine if len(mine) else [0])]
        images, masks = (np.stack(column) for column in zip(*items, strict=True))
        return [images, masks.astype(np.float32), weight.astype(np.float32)], entries

    def _item(self, row: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        pixels, masks = augment_masked(self.train.images[row], self.train.masks[row], rng, self.how.augmentation)
        return image.transform(pixels, self.how.preprocessing), masks

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        images, masks, known = (tensor[part] for tensor in batch)
        total = (LOSSES[self.name](network(images), masks) * known).sum()
        return total * share, paddle.stack([total.detach(), known.sum()])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"loss": sums[0] / max(1.0, sums[1])}

    def validate(self) -> dict[str, float]:
        """The mean Dice of each structure over the images of tune in which somebody has drawn it, at the net's size."""
        names, sums = self.module.names, np.zeros((2, len(self.module.names)))
        self.module.eval()
        rows = distributed.shard(np.arange(len(self.tune)))
        for k in (rows[i : i + TOGETHER] for i in range(0, len(rows), TOGETHER)):
            pictures = np.stack([image.transform(self.tune.images[i], self.how.preprocessing) for i in k])
            with paddle.no_grad():
                drawn = self.module(paddle.to_tensor(pictures)).numpy() > 0
            for i, masks in zip(k, drawn, strict=True):
                for c in np.flatnonzero(self.tune.known[i]):
                    sums[:, c] += overlap.dice(masks[c], self.tune.masks[i, c]), 1
        sums = np.asarray(distributed.all_reduce_sum(sums))
        found = {name: sums[0, c] / sums[1, c] for c, name in enumerate(names) if sums[1, c]}
        return {"tune_error": 1 - float(np.mean([*found.values()])), **{f"tune_{n}": v for n, v in found.items()}}


def repeats(present: np.ndarray) -> np.ndarray:
    """How often an epoch shows each image, int [N], given which structures are seen in it, bool [N, C].

    The root of 1 / the share of images that have its rarest structure, rounded: repeat factor sampling with a threshold
    of 1 (Gupta et al., "LVIS", CVPR 2019, section 4.3). 1 each where all images have all structures.
    """
    rarest = np.where(present, present.mean(0), 1).min(1)
    return np.rint(rarest**-0.5).astype(int)


def split(folders: Sequence[str | Path], seed: int) -> tuple[list[Item], list[list[str]]]:
    """The items of all folders, and rows of `segmenter_run.COLUMNS`. Each folder is divided by patient: an eighth is
    val, of the others a tenth tune, on which the epoch is chosen.
    """
    found, rows = [], []
    for folder in folders:
        every = masked.items(folder)
        members = [item for item in every if item.masks]
        if len(members) < len(every):
            print(f"{folder}: {len(every) - len(members)} of {len(every)} images have no mask and are left out")
        patients = {item.name: item.patient for item in members}
        where = splits.by_ratio(patients, "7:1", seed, patients)
        tune = splits.tune_part([name for name in where if where[name] == "train"], seed, patients)
        for item in members:
            part = "tune" if item.name in tune else where[item.name]
            rows.append([item.key(), *item.place.split("/"), item.patient, part])
        found += members
    return found, rows


@dataclass(frozen=True)
class Plan:
    """A training that was asked for."""

    folders: tuple[str, ...]
    run_dir: str
    name: str = "unet"  # of `SEGMENTERS`
    settings: TrainingSettings | None = None  # the usual ones of that name
    size: int | None = None
    loss: str = next(iter(LOSSES))
    weights: str = ""  # a file that the encoder begins with
    structures: tuple[str, ...] = ()  # these only; all where empty
    showing: str = ""  # from images only that show this structure: where it is rare, a network begins so
    start: str = ""  # a run of the same network and structures to continue from, at another size

    def how(self) -> Segmenter:
        """MedcapError on what cannot be had."""
        how = segmenters.named(self.name)
        if self.loss not in LOSSES:
            raise MedcapError(f"no loss is called {self.loss!r}: choose {', '.join(LOSSES)}")
        return replace(how, preprocessing=how.at(self.size), settings=self.settings or how.settings)


def train(plan: Plan) -> pd.DataFrame:
    """Train on the train images of the folders and write the run, see `segmenter_run`; its history.

    MedcapError where a structure is missing in train or in tune.
    """
    how = plan.how()
    found, table = split(plan.folders, how.settings.seed)
    drawn = {structure for item in found for structure in item.masks}
    if unknown := set(plan.structures) - drawn:
        raise MedcapError(f"no image has a mask of {', '.join(sorted(unknown))}: choose {', '.join(sorted(drawn))}")
    names = outputs(plan.structures or drawn)
    if plan.showing and plan.showing not in names:
        raise MedcapError(f"{plan.showing} is not learnt: choose {', '.join(names)}")
    parts = {part: [i for i, row in zip(found, table, strict=True) if row[-1] == part] for part in ("train", "tune")}
    for part, members in parts.items():
        if missing := set(names) - set(outputs(s for item in members for s in item.masks)):
            raise MedcapError(f"no image of {part} has a mask of {', '.join(sorted(missing))}: give more images")
    paddle.seed(how.settings.seed)
    module = Structured(how.build(len(channels(names))), names)
    if how.begin:
        how.begin(module.network, Path(plan.weights) if plan.weights else None)
    if plan.start:
        loop.load_weights(module, Path(plan.start) / loop.WEIGHTS, "give a run of this network and these structures")
    if not distributed.world()[0]:
        save(plan.run_dir, plan.name, names, plan.loss, how, table)
    given = [films(members, names, how.preprocessing) for members in parts.values()]
    if plan.showing:
        given = [part.showing(names.index(plan.showing)) for part in given]
        if not all(given):
            raise MedcapError(f"no image of train or of tune shows {plan.showing}: give more images")
    task = Segmentation(module, *given, how, plan.loss)
    return loop.fit(module, task, plan.run_dir, how.settings)
