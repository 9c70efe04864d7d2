"""Images of anything into classes: training in folds, prediction, evaluation.

    python -m medcap_paddle.vision.classify train FOLDER --labels labels.csv [--out RUN] [--backbone NAME] ...
    python -m medcap_paddle.vision.classify predict RUN IMAGE... --out FILE.csv
    python -m medcap_paddle.vision.classify evaluate FOLDER --labels labels.csv --run RUN [--out DIR]

`labels` says what a labels.csv holds, `backbones` which networks there are, `classifier_run` what a run is. `evaluate`
writes predictions.csv, metrics.csv, left_out.csv and results.png to DIR. Several networks predict together: the mean of
their probabilities. An image that was trained on is evaluated by the network that has not seen it, and left out where
there is none.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..readers.collection import Files
from ..runtime import distributed, loop
from ..runtime.files import MedcapError, cli_errors, read_table, require, write_table
from ..runtime.workers import side_by_side
from . import classification, classifier_run, folds, labels, picture
from .backbones import NONE, USUAL
from .classification import LOSSES, Options, dense_cross_entropy
from .classifier_run import FIX, Run, content
from .labels import Labelled

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LOSSES", "Options", "Run", "dense_cross_entropy", "evaluate", "pictures", "predict", "train"]
RUN = "work/classify"
UNREADABLE = "cannot be read"


def pictures(labelled: Labelled, size: int) -> tuple[Labelled, list[np.ndarray]]:
    """The images in memory, reduced to little more than `size`; those that cannot be read are left out."""
    found = []
    for path in labelled.paths:
        try:
            found.append(picture.reduced(path, size))
        except MedcapError as error:
            found.append(f"{UNREADABLE}: {error}")
    readable = np.array([not isinstance(pixels, str) for pixels in found], bool)
    reasons = [(name, why) for name, why in zip(labelled.images, found, strict=True) if isinstance(why, str)]
    if not readable.any():
        raise MedcapError(f"no image can be read; {reasons[0][0]} {reasons[0][1]}")
    kept = replace(labelled.only(readable, ""), left_out=labelled.left_out + reasons)
    return kept, [pixels for pixels in found if not isinstance(pixels, str)]


def train(labelled: Labelled, out: str | Path, options: Options | None = None) -> pd.DataFrame:
    """Train a network a fold and write the run `out`; returns metrics.csv.

    If interrupted, the same call resumes. MedcapError where classes, patients or images are too few.
    """
    options, out = options or Options(), Path(out)
    parts = options.folds if options.folds > 1 else folds.FOLDS
    labelled, pixels = pictures(labelled.frequent(parts), options.preprocessing.size)
    exclusive, groups = labelled.task == "exclusive", np.array(labelled.patients)
    fold = folds.assign(labelled.targets, exclusive, groups, parts, options.settings.seed)
    print(*labelled.remarks, *told(labelled), sep="\n")
    seen = classification.early_grids(pixels, options) if options.frozen else pixels
    pairs, scores = list(zip(seen, labelled.targets, strict=True)), np.full(labelled.targets.shape, np.nan)
    jobs = []
    for k in range(options.folds):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        stops = np.zeros(len(rest), bool)
        if options.stops:
            stops = folds.tuning(labelled.targets[rest], exclusive, groups[rest], options.settings.seed)
        rows = ([pairs[i] for i in part] for part in (rest[~stops], rest[stops], held))
        jobs.append((*rows, labelled.task, options, out / f"fold{k + 1}"))
    for k, found in enumerate(side_by_side(classification.fold, jobs, options.workers)):
        scores[fold == k] = found
    if not distributed.world()[0]:
        classifier_run.write(out, labelled, options, fold)
        classifier_run.write_results(out, labelled, scores, fold)
    return classifier_run.auc(labelled, scores, fold)


def told(labelled: Labelled) -> list[str]:
    """Lines about the images: how many there are, and how many are left out for each reason."""
    count = Counter(UNREADABLE if why.startswith(UNREADABLE) else why for _, why in labelled.left_out)
    lines = [f"{len(labelled):,} images of {len(set(labelled.patients)):,} patients; left out: {sum(count.values()):,}"]
    return lines + [f"  {number:,} {why}" for why, number in count.items()]


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
    once = np.zeros(len(labelled), int)
    classifier_run.write_results(Path(out), labelled, scores[known], once)
    return classifier_run.auc(labelled, scores[known], once)


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
    one.add_argument(
        "--mirror", action="store_true", help="see mirrored images too: where left and right mean the same"
    )
    one.add_argument("--whole", action="store_true", help="train the early layers of given weights too: slower")
    one.add_argument("--workers", type=int, default=1, help="folds that are trained at once, each on one core")
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
    own = args.backbone, args.size, args.weights, args.folds, args.mirror, args.whole, args.workers
    options = Options(*own, changes)
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
