"""An encoder from the command line: where its images come from, the processes, and what is measured and kept.

Writes `out` (see `pretrain.save`) with the facts seed, images, epochs, auc (mean of a linear probe on unseen studies;
absent where these are too few) and started_from (the encoder it was continued from).

While it trains, its checkpoint and curves are in the folder `<out>.training`, which is removed at the end: if
interrupted, the same command resumes at the last epoch and gives an identical encoder. On a CPU each core has a process
with its share of the images; gradients are averaged.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import paddle
from paddle import distributed as dist
from PIL import Image

from .. import image
from ..clinical.findings import LABELS, from_mesh, label_vector
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime import cache, distributed, workers
from ..runtime.files import MedcapError, cli_errors, digest, lock, read_table
from .networks import Small
from .pretrain import SETTINGS, Pairs, probe_network, save, train
from .weights import read

if TYPE_CHECKING:
    import pandas as pd


class Source(Protocol):
    """Where the images come from."""

    def inputs(self) -> list[object]:
        """What the images depend on, for `files.digest`; quick, since a finished training reads no more than this."""

    def training(self, rank: int, count: int) -> Pairs:
        """The share of process `rank` of `count`."""

    def unseen(self) -> tuple[Pairs, list[str]]:
        """Images that nothing was trained on, and the study of each; may be none."""


@dataclass(frozen=True)
class Tagged:
    """The images of a collection with the labels of their study's MeSH tags: trains on train, measures on val."""

    work_dir: str
    size: int

    def inputs(self) -> list[object]:
        table = _table(self.work_dir, ["train", "val"])
        return [table.to_numpy().tolist(), [cache.stamp(path) for path in table["path"]]]

    def training(self, rank: int, count: int) -> Pairs:
        return tagged(self.work_dir, ["train"], self.size, rank, count)[0]

    def unseen(self) -> tuple[Pairs, list[str]]:
        return tagged(self.work_dir, ["val"], self.size)


def _table(work_dir: str | Path, splits: Sequence[str]) -> pd.DataFrame:
    """study_id, path and mesh of every image of these splits."""
    reports = read_table(Path(work_dir) / "reports.csv", ["study_id", "split", "mesh"], "run 01_reports.ipynb")
    images = read_table(Path(work_dir) / "images.csv", ["study_id", "path"], "run 01_reports.ipynb")
    table = images.merge(reports[reports["split"].isin(splits)], on="study_id")
    return table[["study_id", "path", "mesh"]]


def tagged(
    work_dir: str | Path, splits: Sequence[str], size: int, rank: int = 0, count: int = 1
) -> tuple[Pairs, list[str]]:
    """Images of these splits with their labels, and the study of each image; every `count`-th from number `rank` on.

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
        pairs.append((np.asarray(reduced), label_vector(from_mesh(mesh))))
        study_ids.append(study)
    if len(pairs) < len(table):
        tqdm.write(f"{len(table) - len(pairs)} of {len(table)} images cannot be read and are left out")
    return pairs, study_ids


@dataclass(frozen=True)
class Job:
    source: Source
    out: Path
    preprocessing: Preprocessing
    settings: TrainingSettings
    start: str | None  # an encoder to continue from
    inputs: str = ""  # digest of all that the encoder depends on

    @property
    def folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options that every training of an encoder has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--start", metavar="PATH", help="continue from this encoder instead of from scratch")
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    parser.add_argument("--size", type=_size, default=128, help="of the images: 96, 128, 192, 224 ...")
    parser.add_argument("--rate", type=float, default=SETTINGS.learning_rate, help="learning rate, cosine to 0")
    parser.add_argument("--seed", type=int, default=SETTINGS.seed)
    parser.add_argument("--out", metavar="PATH", help="the encoder to write")
    return parser


def _size(text: str) -> int:
    if not text.isdigit() or int(text) % 32 or int(text) < 96 or int(text) // 32 % 3 == 2:
        raise argparse.ArgumentTypeError("use 96, 128, 192, 224 ...: 3 x 3 equal cells must cover the last grid")
    return int(text)


def command(args: argparse.Namespace, source: Source, out: str | Path) -> None:
    """Train with the options of `parser` on the images of `source`, and write `out`; a finished one is not repeated."""
    settings = replace(SETTINGS, epochs=args.epochs, learning_rate=args.rate, seed=args.seed)
    job = Job(source, Path(out), Preprocessing(args.size), settings, args.start)
    rank, count = distributed.world()
    alone = count == 1 and paddle.device.get_device() == "cpu"
    processes = int(os.environ["OMP_NUM_THREADS"]) if alone else 1  # to start
    with cli_errors():
        first = read(args.start)[0].values() if args.start else []
        facts = [asdict(settings), job.preprocessing.record(), list(LABELS), count * processes]
        job = replace(job, inputs=digest(*facts, *source.inputs(), *first))
        if cache.is_current(job.out, job.inputs, quiet=rank > 0):
            shutil.rmtree(job.folder, ignore_errors=True)
        elif processes > 1:
            spawn(job, processes)
        else:
            run(job)


def spawn(job: Job, processes: int) -> None:
    """`run` in a process a core: most of Paddle's training operators know only one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    context = dist.spawn(_run_beside, (job, os.getpid()), nprocs=processes, join=False, backend="gloo")
    try:
        while not context.join():
            pass
    except Exception as error:  # Paddle's, with the reason in its text
        reason = " ".join(str(error).split())
        raise MedcapError(f"training was ended ({reason}): run this again, it resumes at the last epoch") from error


def _run_beside(job: Job, parent: int) -> None:
    workers.end_with_parent(parent)
    paddle.disable_signal_handler()  # ended because another process has failed, it prints no stack of its own
    try:
        run(job)
    except MedcapError as error:
        sys.exit(str(error))


def run(job: Job) -> None:
    """One process of the training: learns from its share of the images; the first one measures and saves."""
    rank, count = distributed.world()
    with nullcontext() if rank else lock(job.out):
        pairs = job.source.training(rank, count)
        network, _ = train(pairs, job.preprocessing, job.settings, job.folder, start=job.start)
        images = int(distributed.all_reduce_sum([len(pairs)])[0])
        if rank:
            return
        facts = {"seed": job.settings.seed, "images": images, "epochs": job.settings.epochs, **measure(network, job)}
        facts |= {"started_from": Path(job.start).name} if job.start else {}
        save(network, job.out, LABELS, job.preprocessing, facts)
        cache.mark_done(job.out, job.inputs)
        shutil.rmtree(job.folder, ignore_errors=True)


def measure(network: Small, job: Job) -> dict[str, float]:
    """The mean AUC over the labels, printed with that of each; {} where there are too few unseen studies, as in a
    collection split "8:2", which has no val.
    """
    pairs, study_ids = job.source.unseen()
    auc, too_few = probe_network(network, pairs, study_ids, job.preprocessing) if pairs else ({}, LABELS)
    for label, value in sorted(auc.items(), key=lambda item: item[1]):
        print(f"{value:.3f}  {label}")
    mean = {"auc": round(float(np.mean(list(auc.values()))), 4)} if auc else {}
    print(f"{mean.get('auc', 'no AUC')}  mean of {len(auc)} labels")
    if too_few:
        print(f"too few unseen studies for an AUC: {', '.join(too_few)}")
    return mean
