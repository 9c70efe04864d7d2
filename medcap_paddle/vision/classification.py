"""One network of a classifier: its options, its loss, its training by the one loop, and its probabilities.

Where the early layers of a network are frozen, their grids are computed once: that of each picture, of its mirror image
and of as many augmented ones as there are epochs. All folds learn from these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F

from ..config import TrainingSettings
from ..encoder import build as as_encoder
from ..image import Preprocessing
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, digest
from ..runtime.workers import map_ordered
from . import folds
from .augment import Augmentation
from .backbones import NONE, TUNED, USUAL, Classifier, Early, begin_head, build, named
from .predictor import fast
from .pretrain import PROBED, Images, Labelling, Pairs

BATCH = 32
VERSIONS = 8  # augmented grids of an image; more epochs see them again


def dense_cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """The mean over the images of - sum_k t_k log softmax(logits)_k; a row of targets [B, K] sums to 1."""
    return F.cross_entropy(logits, targets, soft_label=True)


# what a task minimises, and how its logits [B, K] become probabilities
LOSSES: dict[str, Callable] = {"exclusive": dense_cross_entropy, "several": F.binary_cross_entropy_with_logits}
PROBABILITIES: dict[str, Callable] = {"exclusive": lambda logits: F.softmax(logits, -1), "several": F.sigmoid}


@dataclass(frozen=True)
class Options:
    """How a classifier is trained; "" and None: as is usual for the backbone."""

    backbone: str = USUAL
    size: int | None = None
    weights: str = ""  # a file to begin from, or "none"
    folds: int = folds.FOLDS  # 1: one network, a fifth of the patients held out
    mirror: bool = False  # train and predict mirrored images too: only where left and right mean the same
    whole: bool = False  # first weights: train the early layers too
    workers: int = 1  # folds that are trained at once, on a core each
    changes: tuple[tuple[str, object], ...] = ()  # of the settings: (("epochs", 2), ...)

    def __post_init__(self):
        named(self.backbone)
        if self.folds < 1:
            raise MedcapError(f"folds is {self.folds}: use 1 (one network), 2, 5 ...")

    @property
    def file(self) -> Path | None:
        return named(self.backbone).first(self.weights)

    @property
    def frozen(self) -> bool:
        return bool(self.file) and not self.whole and hasattr(named(self.backbone).trunk, "early")

    @property
    def settings(self) -> TrainingSettings:
        return replace(TUNED if self.file else named(self.backbone).settings, **dict(self.changes))

    @property
    def stops(self) -> bool:
        """Whether a part of train decides when to stop: where the rate waits for its loss. Other schedules have an end;
        then all of train is learnt from, and the last epoch is kept.
        """
        return self.settings.schedule == "plateau"

    @property
    def preprocessing(self) -> Preprocessing:
        return named(self.backbone).at(self.size)

    @property
    def augmentation(self) -> Augmentation:
        return replace(named(self.backbone).augmentation, mirror=self.mirror)

    def record(self) -> dict:
        """What run.json says of them."""
        first = self.file.name if self.file else NONE
        return {"backbone": self.backbone, "folds": self.folds, "first_weights": first, "mirror": self.mirror}


# What a network sees --------------------------------------------------------------------------------------------------


class Grids(Images):
    """Images whose early layers are computed. A pair holds float16 [2 + V, C, G, G]: the grid of the picture, those of
    V augmented ones, an epoch each, and that of the mirrored one.
    """

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        grids, target = self.pairs[k]
        version = 1 + (self.seed[1] - 1) % (len(grids) - 2) if self.seed else 0  # the seed: settings', epoch, rank
        return grids[version].astype(np.float32), target


def kind(pairs: Pairs) -> type[Images]:
    return Grids if pairs[0][0].ndim == 4 else Images


def mirrored(pairs: Pairs) -> Pairs:
    """Left for right: pictures [H, W] or [H, W, 3], or the grids of such."""
    return [(seen[::-1] if seen.ndim == 4 else seen[:, ::-1], target) for seen, target in pairs]


def early_grids(pixels: Sequence[np.ndarray], options: Options) -> np.ndarray:
    """float16 [N, 2 + V, C, G, G], as `Grids` has them."""
    settings, preprocessing = options.settings, options.preprocessing
    pairs = [(picture, np.zeros(0, np.float32)) for picture in pixels]
    versions = [Images(pairs, preprocessing)]
    for k in range(min(settings.epochs, VERSIONS)):
        versions.append(Images(pairs, preprocessing, (settings.seed, k + 1), options.augmentation))
    versions.append(Images(mirrored(pairs), preprocessing))
    early = Early(build(options.backbone, 1, options.file).trunk)
    early.eval()
    encoder = as_encoder(early, options.backbone, "early layers", preprocessing, ("grid",))
    with tempfile.TemporaryDirectory() as folder:
        run = fast(encoder, folder, exact=True)[0]
        jobs = (
            (images, range(k, min(k + BATCH, len(pairs)))) for images in versions for k in range(0, len(pairs), BATCH)
        )
        grids = [run(batch)["grid"].astype(np.float16) for batch in map_ordered(_pictures, jobs, ahead=2, workers=1)]
    found = np.concatenate(grids)
    return found.reshape(len(versions), len(pairs), *found.shape[1:]).swapaxes(0, 1).copy()


def _pictures(images: Images, rows: Sequence[int]) -> np.ndarray:
    return np.stack([images[k][0] for k in rows])


# Training and prediction ----------------------------------------------------------------------------------------------


class Classification(Labelling):
    """The loss of the task; what it is on the images `val` that decide when to stop, where there are such."""

    def __init__(self, model: Classifier, train: Pairs, val: Pairs, task: str, options: Options):
        self.model, self.val, self.task, self.items = model, val, task, kind(train)
        self.best = "val_loss" if val else ""
        batch = min(options.settings.batch_size, len(train))
        settings = replace(options.settings, batch_size=batch)
        super().__init__(train, options.preprocessing, settings, options.augmentation)

    def inputs(self) -> list[object]:
        return [*super().inputs(), self.task, digest(*(array for pair in self.val for array in pair))]

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        seen, targets = (tensor[part] for tensor in batch)
        loss = LOSSES[self.task](network(seen), targets) * (share * len(targets) / len(batch[1]))
        return loss, loss.detach().reshape([1])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"train_loss": super().figures(sums)["loss"]}

    def validate(self) -> dict[str, float]:
        """Each rank has a share of the images."""
        if not self.val:
            return {}
        own, total = distributed.shard(np.arange(len(self.val))), np.zeros(2)
        if len(own):
            self.model.eval()
            logits = outputs(self.model, [self.val[k] for k in own], self.preprocessing)
            targets = np.stack([self.val[k][1] for k in own])
            loss = LOSSES[self.task](paddle.to_tensor(logits), paddle.to_tensor(targets))
            total[:] = float(loss) * len(own), len(own)
        total = distributed.all_reduce_sum(total)
        return {"val_loss": total[0] / total[1]}


def outputs(network: Callable[[paddle.Tensor], paddle.Tensor], pairs: Pairs, preprocessing: Preprocessing):
    """What a function gives for each image, [N, ...]."""
    with paddle.no_grad():
        batches = kind(pairs)(pairs, preprocessing).batches(BATCH)
        return np.concatenate([network(seen).numpy() for seen, _ in batches])


def probabilities(model: Classifier, pairs: Pairs, preprocessing: Preprocessing, task: str, mirror: bool) -> np.ndarray:
    """[N, K], of the mean of the logits of each image and, with `mirror`, of its mirror image."""
    model.eval()
    ways = [pairs, mirrored(pairs)] if mirror else [pairs]
    logits = np.mean([outputs(model, way, preprocessing) for way in ways], 0)
    return PROBABILITIES[task](paddle.to_tensor(logits)).numpy()


def fit(train: Pairs, val: Pairs, task: str, options: Options, folder: Path) -> Classifier:
    """A network that is trained by the one loop. On several ranks each has its share of the images."""
    settings = options.settings
    paddle.seed(settings.seed)
    model = build(options.backbone, len(train[0][1]), options.file, options.whole)
    if options.file:
        model.eval()
        begun = train[:PROBED]
        begin_head(model, outputs(model.vector, begun, options.preprocessing), np.stack([t for _, t in begun]))
    rank, count = distributed.world()
    loop.fit(model, Classification(model, train[rank::count], val, task, options), folder, settings)
    return model


def fold(train: Pairs, val: Pairs, held: Pairs, task: str, options: Options, folder: Path) -> np.ndarray:
    """`fit`, and the probabilities [N, K] of the images that are held out."""
    model = fit(train, val, task, options, folder)
    return probabilities(model, held, options.preprocessing, task, options.mirror)
