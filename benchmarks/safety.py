"""What safety costs: the share of the pipeline's time that goes into locks, digests, renames, notes and checkpoints.

    python benchmarks/safety.py [STUDIES]

Runs the stages 01 to 06 on a phantom with the settings of `make run`, in one process and without notebooks, and counts
the time inside of every function that is there for safety only; one within another counts once. The starting of six
kernels, which `make run` also does, is left out: there the share is smaller.
"""

import functools
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np

from medcap_paddle import encoder, evaluate, feature_file, features, generate, models, phantom, reports, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.dataset import load
from medcap_paddle.runtime import cache, files, loop

CALLS = [
    *((files, name) for name in ("digest", "_seal", "remove_stale", "reserve")),
    *((cache, name) for name in ("is_current", "mark_done", "stamp", "clear", "_read")),
    *((loop, name) for name in ("store", "restore", "set_aside")),
    (np, "savez"),  # only parts are written with it
]
BLOCKS = [(files, "atomic"), (files, "lock")]  # their beginning and their end: what is written inside is no safety


class Clock:
    """Seconds inside of the functions it wraps."""

    def __init__(self):
        self.seconds, self.depth = 0.0, 0

    @contextmanager
    def running(self):
        start, self.depth = time.perf_counter(), self.depth + 1
        try:
            yield
        finally:
            self.depth -= 1
            if not self.depth:
                self.seconds += time.perf_counter() - start

    def call(self, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.running():
                return function(*args, **kwargs)

        return timed

    def block(self, manager):
        @contextmanager
        def timed(*args, **kwargs):
            with self.running():
                entered = manager(*args, **kwargs)
                value = entered.__enter__()
            try:
                yield value
            except BaseException:
                if not entered.__exit__(*sys.exc_info()):
                    raise
            else:
                with self.running():
                    entered.__exit__(None, None, None)

        return timed

    @contextmanager
    def watching(self):
        """Wrap them in every room that has imported them."""
        rooms = [np, *(module for name, module in sys.modules.items() if name.startswith("medcap_paddle"))]
        wrapped = {getattr(*place): self.call(getattr(*place)) for place in CALLS}
        wrapped |= {getattr(*place): self.block(getattr(*place)) for place in BLOCKS}
        there = [(room, name, value) for room in rooms for name, value in list(vars(room).items())]
        there = [(room, name, value) for room, name, value in there if callable(value) and _hashable(value)]
        there = [(room, name, value) for room, name, value in there if value in wrapped]
        for room, name, value in there:
            setattr(room, name, wrapped[value])
        try:
            yield
        finally:
            for room, name, value in there:
                setattr(room, name, value)


def _hashable(value) -> bool:
    return getattr(type(value), "__hash__", None) is not None


def pipeline(work: Path, studies: int) -> None:
    config = choose("phantom")
    reports.build(phantom.make(work / "phantom", studies=studies, workers=1), work)
    images = files.read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("small"), work / "features.h5")
    table = files.read_table(work / "reports.csv", ["split", "report"], "")
    known = table.report[table.split == "train"]
    vocab = vocabulary.make(known, config.reports.min_freq, work / "vocab.json")
    parts = [load(work, split, vocab, config) for split in ("train", "val", "test")]
    run_dir = work / "runs/lstm"
    model = models.build(config.decoder, parts[0].shapes, len(vocab))
    runs.save(run_dir, config, vocab, parts[0], feature_file.index(work / "features.h5").attributes)
    train.fit(model, *parts[:2], run_dir, config.training)
    run = runs.load(run_dir)
    generate.predict(run.model, run.vocab, parts[2], run.config, out=run_dir / "predictions.csv", known=run.known)
    tables = {"lstm": evaluate.read_predictions(run_dir / "predictions.csv")}
    evaluate.evaluate_runs(work / "runs", tables, vocabulary.tokens(vocab), known, "test")


def measure(studies: int = 400) -> dict[str, float]:
    """{"safety_share": seconds for safety by seconds in all}."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, clock.watching():
        start = time.perf_counter()
        pipeline(Path(folder), studies)
        whole = time.perf_counter() - start
    print(f"{clock.seconds:.2f} s of {whole:.1f} s")
    return {"safety_share": clock.seconds / whole}


if __name__ == "__main__":
    print(f"{measure(*map(int, sys.argv[1:]))['safety_share']:.2%} of the time goes into safety")
