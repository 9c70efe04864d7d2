"""An encoder from the command line: where its images come from, the processes, and what is measured and kept.

Writes `out` (see `pretrain.save`) with the facts seed, images, epochs, auc (mean over the labels on unseen studies;
absent where these are too few) and started_from (ImageNet, or the encoder it was continued from).

While it trains, its checkpoint and curves are in the folder `<out>.training`, which is removed at the end: if
interrupted, the same command resumes at the last epoch and gives an identical encoder. On a CPU each core has a process
with its share of the images; gradients are averaged.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import paddle
from paddle import distributed as dist
from PIL import Image

from .. import image
from ..clinical.findings import from_mesh, label_vector
from ..clinical.targets import MINIMUM
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime import cache, distributed, workers
from ..runtime.files import MedcapError, cli_errors, digest, lock, read_table
from ..runtime.settings import for_digest
from .pretrain import Pairs, probe_network, save, train
from .trainable import TRAINABLE, USUAL, resolve
from .weights import read

if TYPE_CHECKING:
    import pandas as pd
    from paddle import nn


class Source(Protocol):
    """Where the images come from."""

    labels: Sequence[str]  # what they are labelled with

    def inputs(self) -> list[object]:
        """What the images depend on, for `files.digest`; quick, since a finished training reads no more than this."""

    def training(self, rank: int, count: int) -> Pairs:
        """The share of process `rank` of `count`."""

    def unseen(self) -> tuple[Pairs, list[str]]:
        """Images that nothing was trained on, and the study of each; may be none."""


@dataclass(frozen=True)
class Tagged:
    """The images of a collection with labels from their study's MeSH tags: trains on train, measures on val.

    `network` is a name of `TRAINABLE`, which decides what the labels are.
    """

    work_dir: str
    size: int
    network: str = USUAL

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """MedcapError where the tags have none."""
        cells = _table(self.work_dir, ["train"]).drop_duplicates("study_id")["mesh"]
        labels = TRAINABLE[self.network].targets.labels(cells)
        if not labels:
            few = f"no finding is named in the mesh of {MINIMUM} of the {len(cells)} train studies"
            raise MedcapError(f"{self.work_dir}/reports.csv: {few}, and absent in as many: give more studies")
        return labels

    def inputs(self) -> list[object]:
        table = _table(self.work_dir, ["train", "val"])
        return [table.to_numpy().tolist(), [cache.stamp(path) for path in table["path"]]]

    def training(self, rank: int, count: int) -> Pairs:
        return tagged(self.work_dir, ["train"], self.size, rank, count, self._target)[0]

    def unseen(self) -> tuple[Pairs, list[str]]:
        return tagged(self.work_dir, ["val"], self.size, 0, 1, self._target)

    def _target(self, mesh: str) -> np.ndarray:
        return TRAINABLE[self.network].targets.vector(mesh, self.labels)


def _table(work_dir: str | Path, splits: Sequence[str]) -> pd.DataFrame:
    """study_id, path and mesh of every image of these splits."""
    reports = read_table(Path(work_dir) / "reports.csv", ["study_id", "split", "mesh"], "run 01_reports.ipynb")
    images = read_table(Path(work_dir) / "images.csv", ["study_id", "path"], "run 01_reports.ipynb")
    table = images.merge(reports[reports["split"].isin(splits)], on="study_id")
    return table[["study_id", "path", "mesh"]]


def tagged(
    work_dir: str | Path,
    splits: Sequence[str],
    size: int,
    rank: int = 0,
    count: int = 1,
    target: Callable[[str], np.ndarray] = lambda mesh: label_vector(from_mesh(mesh)),
) -> tuple[Pairs, list[str]]:
    """Images of these splits with their labels, and the study of each image; every `count`-th from number `rank` on.

    `target` makes the labels [L] of a study's MeSH cell; by default those of `findings.LABELS`.
    Kept in memory, reduced to little more than `size`; images that cannot be read are left out and counted.
    MedcapError when a table is missing.
    """
    from tqdm.auto import tqdm

    table = _table(work_dir, splits)[rank::count]
    pairs, study_ids = [], []
    for study, path, mesh in tqdm(table.to_numpy().tolist(), "reading", unit="image", disable=rank > 0):
        try:
            pixels = image.read(path)
        except MedcapError:
            continue
        reduced = Image.fromarray(pixels).reduce(max(1, max(pixels.shape) // size))
        pairs.append((np.asarray(reduced), target(mesh)))
        study_ids.append(study)
    if len(pairs) < len(table):
        tqdm.write(f"{len(table) - len(pairs)} of {len(table)} images cannot be read and are left out")
    return pairs, study_ids


@dataclass(frozen=True)
class Job:
    network: str  # a name of `TRAINABLE`
    source: Source
    out: Path
    preprocessing: Preprocessing
    settings: TrainingSettings
    start: Path | None  # an encoder to continue from
    inputs: str = ""  # digest of all that the encoder depends on

    @property
    def folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options that every training of an encoder has; the network says what is usual."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    names = f"{', '.join(TRAINABLE)}, or a file of one of them to continue"
    parser.add_argument("--start", metavar="NAME|PATH", default=USUAL, help=f"the network: {names}; default {USUAL}")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--size", type=_size, help="of the images: 96, 128, 192, 224 ...")
    parser.add_argument("--rate", type=float, help="learning rate, cosine to 0")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", metavar="PATH", help="the encoder to write")
    return parser


def _size(text: str) -> int:
    if not text.isdigit() or int(text) % 32 or not int(text):
        raise argparse.ArgumentTypeError("use 96, 128, 192, 224 ...: a cell of the last grid is 32 pixels wide")
    return int(text)


def command(args: argparse.Namespace, source: Callable[[int, str], Source], out: str | Path) -> None:
    """Train with the options of `parser`, and write `out`; a finished one is not repeated.

    `source` makes the images of that size, for the network of that name.
    """
    rank, count = distributed.world()
    alone = count == 1 and paddle.device.get_device() == "cpu"
    processes = int(os.environ["OMP_NUM_THREADS"]) if alone else 1  # to start
    with cli_errors():
        job = _job(args, source, Path(out), count * processes)
        if cache.is_current(job.out, job.inputs, quiet=rank > 0):
            shutil.rmtree(job.folder, ignore_errors=True)
        elif processes > 1:
            spawn(run, job, processes)
        else:
            run(job)


def _job(args: argparse.Namespace, source: Callable[[int, str], Source], out: Path, processes: int) -> Job:
    """What the options ask for; MedcapError where that cannot be done."""
    name, start = resolve(args.start)
    how = TRAINABLE[name]
    given = {"epochs": args.epochs, "learning_rate": args.rate, "seed": args.seed}
    settings = replace(how.settings, **{name: value for name, value in given.items() if value is not None})
    if how.shared:
        settings = replace(settings, batch_size=max(1, settings.batch_size // processes))
    preprocessing = how.at(args.size)
    images = source(preprocessing.size, name)
    first = read(start)[0].values() if start else []
    facts = [name, for_digest(settings), preprocessing.record(), list(images.labels), processes]
    return Job(name, images, out, preprocessing, settings, start, digest(*facts, *images.inputs(), *first))


def spawn(run: Callable[[object], object], what: object, processes: int) -> None:
    """`run(what)` in a process a core: most of Paddle's training operators know only one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    context = dist.spawn(_run_beside, (what, run, os.getpid()), nprocs=processes, join=False, backend="gloo")
    try:
        while not context.join():
            pass
    except Exception as error:  # Paddle's, with the reason in its text
        reason = " ".join(str(error).split())
        raise MedcapError(f"training was ended ({reason}): run this again, it resumes at the last epoch") from error


def _run_beside(what: object, run: Callable[[object], object], parent: int) -> None:
    workers.end_with_parent(parent)
    paddle.disable_signal_handler()  # ended because another process has failed, it prints no stack of its own
    try:
        run(what)
    except MedcapError as error:
        sys.exit(str(error))


def run(job: Job) -> None:
    """One process of the training: learns from its share of the images; the first one measures and saves."""
    rank, count = distributed.world()
    with nullcontext() if rank else lock(job.out):
        pairs = job.source.training(rank, count)
        labels = job.source.labels
        network, _ = train(pairs, job.preprocessing, job.settings, job.folder, labels, job.start, job.network)
        images = int(distributed.all_reduce_sum([len(pairs)])[0])
        if rank:
            return
        facts = {"seed": job.settings.seed, "images": images, "epochs": job.settings.epochs, **measure(network, job)}
        origin = job.start.name if job.start else TRAINABLE[job.network].origin
        facts |= {"started_from": origin} if origin else {}
        save(network, job.out, labels, job.preprocessing, facts, job.network)
        cache.mark_done(job.out, job.inputs)
        shutil.rmtree(job.folder, ignore_errors=True)


def measure(network: nn.Layer, job: Job) -> dict[str, float]:
    """The mean AUC over the labels, printed with that of each; {} where there are too few unseen studies, as in a
    collection split "8:2", which has no val.
    """
    labels, (pairs, study_ids) = job.source.labels, job.source.unseen()
    auc, too_few = {}, labels
    if pairs:
        auc, too_few = probe_network(network, pairs, study_ids, job.preprocessing, labels, job.network)
    for label, value in sorted(auc.items(), key=lambda item: item[1]):
        print(f"{value:.3f}  {label}")
    mean = {"auc": round(float(np.mean(list(auc.values()))), 4)} if auc else {}
    print(f"{mean.get('auc', 'no AUC')}  mean of {len(auc)} labels")
    if too_few:
        print(f"too few unseen studies for an AUC: {', '.join(too_few)}")
    return mean
