"""Images of anything into classes: training in folds, prediction, evaluation.

    python -m medcap_paddle.vision.classify train FOLDER --labels labels.csv [--out RUN] [--backbone NAME] ...
    python -m medcap_paddle.vision.classify predict RUN IMAGE... --out FILE.csv
    python -m medcap_paddle.vision.classify evaluate FOLDER --labels labels.csv --run RUN [--out DIR]

`labels` says what a labels.csv holds, `backbones` which networks there are. A run is a folder:

    run.json          what is needed to predict: backbone, classes, task, preprocessing
    folds.csv         image, patient, fold (1, 2 ...; "" where no fold was held out), digest of the file
    fold1/ ...        weights.safetensors and history.csv of each fold, as `runtime.loop` writes them
    predictions.csv   image, patient, fold, one probability a class: by the network that has not seen the patient
    metrics.csv       AUC of each class, fold by fold, mean, 95% interval
    left_out.csv      images without a row above, and why
    results.png       ROC and calibration; curves.png: the loss of every epoch

`evaluate` writes the same three files to DIR. Several networks predict together: the mean of their probabilities. An
image that was trained on is evaluated by the network that has not seen it, and left out where there is none.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F

from .. import show
from ..config import TrainingSettings
from ..drawing.roc import roc_and_calibration
from ..image import Preprocessing
from ..readers.collection import Files
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, cli_errors, digest, read_sealed, read_table, require, write_sealed, write_table
from . import folds, labels, picture
from .augment import Augmentation
from .backbones import NONE, TUNED, USUAL, Classifier, begin_head, build, named
from .labels import Labelled
from .pretrain import PROBED, Images, Labelling, Pairs

if TYPE_CHECKING:
    import pandas as pd

RUN = "work/classify"
FIX = "train again, or give the folder of a run"
BATCH = 32


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
    mirror: bool = False  # only where left and right mean the same
    changes: tuple[tuple[str, object], ...] = ()  # of the settings: (("epochs", 2), ...)

    def __post_init__(self):
        named(self.backbone)
        if self.folds < 1:
            raise MedcapError(f"folds is {self.folds}: use 1 (one network), 2, 5 ...")

    @property
    def file(self) -> Path | None:
        return named(self.backbone).first(self.weights)

    @property
    def settings(self) -> TrainingSettings:
        return replace(TUNED if self.file else named(self.backbone).settings, **dict(self.changes))

    @property
    def preprocessing(self) -> Preprocessing:
        return named(self.backbone).at(self.size)

    @property
    def augmentation(self) -> Augmentation:
        return replace(named(self.backbone).augmentation, mirror=self.mirror)


class Classification(Labelling):
    """The loss of the task; what it is on the images that decide when to stop."""

    best = "val_loss"

    def __init__(self, network: Classifier, train: Pairs, val: Pairs, task: str, options: Options):
        self.model, self.val, self.task = network, val, task
        batch = min(options.settings.batch_size, len(train))
        super().__init__(
            train, options.preprocessing, replace(options.settings, batch_size=batch), options.augmentation
        )

    def inputs(self) -> list[object]:
        return [*super().inputs(), self.task, digest(*(array for pair in self.val for array in pair))]

    def loss(self, network, batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        pictures, targets = (tensor[part] for tensor in batch)
        loss = LOSSES[self.task](network(pictures), targets) * (share * len(targets) / len(batch[1]))
        return loss, loss.detach().reshape([1])

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        return {"train_loss": super().figures(sums)["loss"]}

    def validate(self) -> dict[str, float]:
        """Each rank has a share of the images."""
        own = distributed.shard(np.arange(len(self.val)))
        total = np.zeros(2)
        if len(own):
            logits = logits_of(self.model, [self.val[k] for k in own], self.preprocessing)
            targets = np.stack([self.val[k][1] for k in own])
            loss = LOSSES[self.task](paddle.to_tensor(logits), paddle.to_tensor(targets))
            total[:] = float(loss) * len(own), len(own)
        total = distributed.all_reduce_sum(total)
        return {"val_loss": total[0] / total[1]}


def logits_of(network: paddle.nn.Layer, pairs: Pairs, preprocessing: Preprocessing) -> np.ndarray:
    """What the network gives for each image [N, K], in eval mode."""
    network.eval()
    with paddle.no_grad():
        return np.concatenate(
            [network(pictures).numpy() for pictures, _ in Images(pairs, preprocessing).batches(BATCH)]
        )


def probabilities_of(network: Classifier, pairs: Pairs, preprocessing: Preprocessing, task: str) -> np.ndarray:
    """[N, K]."""
    return PROBABILITIES[task](paddle.to_tensor(logits_of(network, pairs, preprocessing))).numpy()


def pictures(labelled: Labelled, size: int) -> tuple[Labelled, list[np.ndarray]]:
    """The images in memory, reduced to little more than `size`; those that cannot be read are left out."""
    found = []
    for path in labelled.paths:
        try:
            found.append(picture.reduced(path, size))
        except MedcapError as error:
            found.append(str(error))
    readable = np.array([not isinstance(pixels, str) for pixels in found], bool)
    reasons = [(name, why) for name, why in zip(labelled.images, found, strict=True) if isinstance(why, str)]
    if not readable.any():
        raise MedcapError(f"no image can be read: {reasons[0][1]}")
    kept = replace(labelled.only(readable, ""), left_out=labelled.left_out + reasons)
    return kept, [pixels for pixels in found if not isinstance(pixels, str)]


# Training -------------------------------------------------------------------------------------------------------------


def train(labelled: Labelled, out: str | Path, options: Options | None = None) -> pd.DataFrame:
    """Train a network a fold and write the run `out`; returns metrics.csv.

    If interrupted, the same call resumes. MedcapError where classes, patients or images are too few.
    """
    options, out = options or Options(), Path(out)
    parts = options.folds if options.folds > 1 else folds.FOLDS
    labelled = labelled.frequent(parts)
    labelled, pixels = pictures(labelled, options.preprocessing.size)
    exclusive, groups = labelled.task == "exclusive", np.array(labelled.patients)
    fold = folds.assign(labelled.targets, exclusive, groups, parts, options.settings.seed)
    for remark in (*labelled.remarks, *told(labelled)):
        print(remark)
    pairs, scores = list(zip(pixels, labelled.targets, strict=True)), np.full(labelled.targets.shape, np.nan)
    for k in range(options.folds):
        rest = np.flatnonzero(fold != k)
        stops = folds.tuning(labelled.targets[rest], exclusive, groups[rest], options.settings.seed)
        network = fit(
            [pairs[i] for i in rest[~stops]],
            [pairs[i] for i in rest[stops]],
            labelled.task,
            options,
            out / f"fold{k + 1}",
        )
        held = np.flatnonzero(fold == k)
        held_pairs = [pairs[i] for i in held]
        scores[held] = probabilities_of(network, held_pairs, options.preprocessing, labelled.task)
    if distributed.world()[0]:
        return folds.auc_table(*_known(scores, labelled, fold), labelled.classes)
    write_run(out, labelled, options, fold)
    return write_results(out, labelled, scores, fold)


def fit(train: Pairs, val: Pairs, task: str, options: Options, folder: Path) -> Classifier:
    """The network of one fold, by the one loop. On several ranks each has its share of the images."""
    settings = options.settings
    paddle.seed(settings.seed)
    network = build(options.backbone, len(train[0][1]), options.file)
    if options.file:
        begun = train[:PROBED]
        vectors = logits_of(network.trunk, begun, options.preprocessing)
        begin_head(network, vectors, np.stack([target for _, target in begun]))
    rank, count = distributed.world()
    job = Classification(network, train[rank::count], val, task, options)
    loop.fit(network, job, folder, settings)
    return network


def write_run(out: Path, labelled: Labelled, options: Options, fold: np.ndarray) -> None:
    """run.json, folds.csv, left_out.csv and curves.png."""
    import pandas as pd

    facts = {"backbone": options.backbone, "classes": list(labelled.classes), "task": labelled.task}
    facts |= {"folds": options.folds, "first_weights": options.file.name if options.file else NONE}
    facts |= {"settings": asdict(options.settings), "mirror": options.mirror, "remarks": labelled.remarks}
    write_sealed(out / "run.json", {**facts, "preprocessing": options.preprocessing.record()})
    numbers = [str(k + 1) if k < options.folds else "" for k in fold]
    table = {"image": labelled.images, "patient": labelled.patients, "fold": numbers}
    write_table(out / "folds.csv", pd.DataFrame({**table, "digest": list(map(content, labelled.paths))}))
    histories = [pd.read_csv(out / f"fold{k + 1}" / loop.HISTORY) for k in range(options.folds)]
    show.curves(pd.concat(histories).groupby("epoch", as_index=False).mean()).savefig(out / "curves.png")


def content(path: str) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return digest(file)


def told(labelled: Labelled) -> list[str]:
    """Lines about the images: how many there are, and how many are left out for each reason."""
    from collections import Counter

    count = Counter("cannot be read" if len(why) > 60 else why for _, why in labelled.left_out)
    lines = [f"{len(labelled):,} images of {len(set(labelled.patients)):,} patients; left out: {sum(count.values()):,}"]
    return lines + [f"  {number:,} {why}" for why, number in count.items()]


# Results --------------------------------------------------------------------------------------------------------------


def _known(scores: np.ndarray, labelled: Labelled, fold: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores, targets, patients and folds of the images that have scores."""
    known = np.isfinite(scores).all(1)
    return scores[known], labelled.targets[known], np.array(labelled.patients)[known], fold[known]


def write_results(out: Path, labelled: Labelled, scores: np.ndarray, fold: np.ndarray) -> pd.DataFrame:
    """predictions.csv, metrics.csv, left_out.csv and results.png of probabilities [N, K], NaN where there are none."""
    import pandas as pd

    own, targets, patients, parts = _known(scores, labelled, fold)
    known = np.isfinite(scores).all(1)
    table = {"image": np.array(labelled.images)[known], "patient": patients, "fold": parts + 1}
    write_table(out / "predictions.csv", pd.DataFrame({**table, **dict(zip(labelled.classes, own.T, strict=True))}))
    metrics = folds.auc_table(own, targets, patients, parts, labelled.classes)
    write_table(out / "metrics.csv", metrics)
    write_table(out / "left_out.csv", pd.DataFrame(labelled.left_out, columns=["image", "reason"]))
    roc_and_calibration(own, targets, parts, labelled.classes).savefig(out / "results.png")
    return metrics


@dataclass(frozen=True)
class Run:
    """A trained classifier."""

    folder: Path
    classes: tuple[str, ...]
    task: str
    preprocessing: Preprocessing
    networks: list[Classifier]

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """MedcapError where it is not there, damaged, or made with another image transform."""
        folder = Path(folder)
        facts = read_sealed(folder / "run.json", FIX)
        preprocessing = Preprocessing.from_record(facts["preprocessing"], str(folder / "run.json"), FIX)
        nets = []
        for k in range(facts["folds"]):
            nets.append(Classifier(named(facts["backbone"]), len(facts["classes"])))
            loop.load_weights(nets[-1], folder / f"fold{k + 1}" / loop.WEIGHTS, FIX)
        return cls(folder, tuple(facts["classes"]), facts["task"], preprocessing, nets)

    def by_network(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities [F, N, K] of each network."""
        pairs = [(image, np.zeros(len(self.classes), np.float32)) for image in pixels]
        return np.stack([probabilities_of(network, pairs, self.preprocessing, self.task) for network in self.networks])


def predict(run: str | Path, paths: Sequence[str | Path]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """image and one probability a class for each file (or each image of a folder), and those left out with the reason.

    MedcapError where none can be read.
    """
    import pandas as pd

    trained = Run.load(run)
    files = [
        file for path in map(str, paths) for file in (Files(path, os.devnull).images if Path(path).is_dir() else [path])
    ]
    empty = np.zeros((len(files), len(trained.classes)), np.float32)
    asked = Labelled(files, files, files, empty, trained.classes, trained.task)
    if not files:
        raise MedcapError(f"no image in {', '.join(map(str, paths))}: give PNG, JPEG or DICOM files")
    kept, pixels = pictures(asked, trained.preprocessing.size)
    means = trained.by_network(pixels).mean(0)
    return pd.DataFrame({"image": kept.images, **dict(zip(trained.classes, means.T, strict=True))}), kept.left_out


def evaluate(labelled: Labelled, run: str | Path, out: str | Path) -> pd.DataFrame:
    """How well a run does on labelled images: writes predictions.csv, metrics.csv, results.png to `out`.

    MedcapError where the run tells none of their classes, and where every network was trained on all of them.
    """
    trained = Run.load(run)
    labelled = as_told(labelled, trained)
    labelled, pixels = pictures(labelled, trained.preprocessing.size)
    table = read_table(trained.folder / "folds.csv", ["fold", "digest"], FIX)
    seen = dict(zip(table.digest, table.fold, strict=True))
    by_network, scores = trained.by_network(pixels), np.full(labelled.targets.shape, np.nan)
    for k, path in enumerate(labelled.paths):
        fold = seen.get(content(path))  # None: nobody has seen it; "": every network has
        if fold != "":
            scores[k] = by_network[:, k].mean(0) if fold is None else by_network[int(fold) - 1, k]
    known = np.isfinite(scores).all(1)
    if not known.any():
        raise MedcapError(f"{run} was trained on all of these images: give others")
    labelled = labelled.only(known, "trained on by every network")
    for line in told(labelled):
        print(line)
    return write_results(Path(out), labelled, scores[known], np.zeros(len(labelled), int))


def as_told(labelled: Labelled, run: Run) -> Labelled:
    """With the classes of the run, in their order; images of another exclusive class are left out."""
    if not set(run.classes) & set(labelled.classes):
        raise MedcapError(
            f"the labels are {', '.join(labelled.classes)}, and {run.folder} tells {', '.join(run.classes)}: "
            "give labels of these names"
        )
    columns = dict(zip(labelled.classes, labelled.targets.T, strict=True))
    absent = np.zeros(len(labelled), np.float32)
    targets = np.stack([columns.get(name, absent) for name in run.classes], 1)
    own = replace(labelled, targets=targets, classes=run.classes)
    known = np.isclose(targets.sum(1), 1, atol=labels.NEAR) if run.task == "exclusive" else np.ones(len(own), bool)
    return own.only(known, "a class that the run does not tell")


# From the command line ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m medcap_paddle.vision.classify", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("folder", help="the images")
    data.add_argument("--labels", required=True, metavar="CSV", help="a row an image (see vision/labels.py)")
    data.add_argument(
        "--task", default="", choices=labels.TASKS, help="what the labels are, where the table is unclear"
    )
    data.add_argument("--columns", nargs="+", default=[], help="the columns, or words, that are labels")
    one = commands.add_parser("train", parents=[data])
    one.add_argument("--out", default=RUN, help=f"the run to write; default {RUN}")
    one.add_argument("--backbone", default=USUAL, help=f"default {USUAL}")
    one.add_argument("--size", type=int, help="of the images: 64, 96 ... 224 ...")
    one.add_argument("--folds", type=int, default=folds.FOLDS, help="1: one network, a fifth of the patients held out")
    one.add_argument("--weights", default="", metavar="FILE", help=f"to begin from, or {NONE}")
    one.add_argument("--mirror", action="store_true", help="train on mirrored images too: where sides mean the same")
    for name, kind in (("epochs", int), ("rate", float), ("batch", int), ("seed", int)):
        one.add_argument(f"--{name}", type=kind)
    one.add_argument("--schedule", choices=list(loop.SCHEDULES))
    two = commands.add_parser("predict")
    two.add_argument("run")
    two.add_argument("images", nargs="+")
    two.add_argument("--out", required=True, metavar="CSV")
    three = commands.add_parser("evaluate", parents=[data])
    three.add_argument("--run", default=RUN)
    three.add_argument("--out", help="the folder to write; default: evaluation/ of the run")
    return parser


def _train(args: argparse.Namespace) -> None:
    given = {"epochs": args.epochs, "learning_rate": args.rate, "batch_size": args.batch, "seed": args.seed}
    given |= {"schedule": args.schedule}
    changes = tuple((name, value) for name, value in given.items() if value is not None)
    options = Options(args.backbone, args.size, args.weights, args.folds, args.mirror, changes)
    metrics = train(labels.read(args.folder, args.labels, args.task, args.columns), args.out, options)
    print(metrics.round(3).to_string(index=False))


def _predict(args: argparse.Namespace) -> None:
    table, left_out = predict(args.run, args.images)
    write_table(args.out, table)
    print(f"{len(table):,} images in {args.out}; left out: {len(left_out):,}")
    for name, why in left_out:
        print(f"  {name}: {why}")


def _evaluate(args: argparse.Namespace) -> None:
    require(args.run, FIX)
    labelled = labels.read(args.folder, args.labels, args.task, args.columns)
    print(evaluate(labelled, args.run, args.out or Path(args.run) / "evaluation").round(3).to_string(index=False))


COMMANDS = {"train": _train, "predict": _predict, "evaluate": _evaluate}


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    with cli_errors():
        COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
