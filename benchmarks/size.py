"""A collection of MIMIC-CXR's size, made up: memory to train and to evaluate, and how the time of an epoch grows.

    python benchmarks/size.py WORK [--studies 227835]      5 GB of disk; writes WORK/size.json, after each step

studies    made up: two views of 2,048 numbers, reports of a few words; 200,000 of them are train, the others val
train      a tiny captioner in batches of 500, for two epochs, and seven of a fiftieth of the collection: GB at the peak
           seconds of an epoch (the first, in which libraries warm up, does not count) and the exponent with which they
           grow; once more, killed in the second epoch and resumed: the same bytes; an epoch on two gloo ranks with
           batches of 250: how far the perplexities differ
evaluate   predictions for all studies: GB at the peak

Each is a process of its own, on one thread. Seconds of the processor (cpu) do not grow where others use it too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import pandas as pd

from medcap_paddle import feature_file, vocab
from medcap_paddle.config import choose
from medcap_paddle.image import Preprocessing
from medcap_paddle.runtime.files import write_json, write_table

SHARE, PART = 200_000 / 227_835, 50  # train, and how much smaller the small collection is
VIEWS, NUMBERS, BLOCK, BATCH = 2, 2048, 4096, 500
SMALL_EPOCHS = 7
PARTS = ["the heart", "the aorta", "the left lung", "the right lung", "the spine", "a catheter", "the diaphragm", "it"]
STATES = ["is normal", "is enlarged", "is clear", "is unchanged", "shows an opacity", "is not well seen", "has moved"]


def reports(count: int, rng: np.random.Generator) -> list[str]:
    """One or two sentences each."""
    sentences = np.array([f"{part} {state} ." for part in PARTS for state in STATES])
    return [" ".join(rng.choice(sentences, size)) for size in rng.integers(1, 3, count)]


def make(folder: Path, count: int) -> None:
    """reports.csv, images.csv, features.h5, vocab.json and predictions.csv of a collection of `count` studies."""
    rng = np.random.default_rng(0)
    studies, texts = [f"s{k:06}" for k in range(count)], reports(count, rng)
    split = np.where(np.arange(count) < round(SHARE * count), "train", "val")
    write_table(folder / "reports.csv", pd.DataFrame({"study_id": studies, "split": split, "report": texts}))
    images = [f"{study}_{view}" for study in studies for view in range(VIEWS)]
    write_table(folder / "images.csv", pd.DataFrame({"image_id": images, "study_id": np.repeat(studies, VIEWS)}))
    predictions = {"study_id": studies, "reference": texts, "prediction": reports(count, rng)}
    write_table(folder / "predictions.csv", pd.DataFrame(predictions))
    vocab.make(texts[:1000], 1, folder / "vocab.json")

    def parts():
        for start in range(0, len(images), BLOCK):
            ids = np.array(images[start : start + BLOCK])
            pooled = rng.random((len(ids), NUMBERS), np.float32)
            yield {"pooled": pooled, "image_id": ids, "unreadable": np.zeros((0, 3))}

    facts = {"encoder": "made up", "weights": "", "source": "", "preprocessing": Preprocessing(224).record()}
    feature_file.write(folder / "features.h5", parts(), facts, {"pooled": (NUMBERS,)}, len(images))


def train(folder: Path, run: Path, epochs: int, batch: int) -> None:
    """Without dropout, which each rank would draw for itself. Beside the run, cpu.txt: seconds after each epoch."""
    from medcap_paddle import dataset, models
    from medcap_paddle import train as teacher

    config = choose("tiny").change(training={"epochs": epochs, "batch_size": batch, "schedule": "constant"})
    words = vocab.load(folder / "vocab.json")
    parts = [dataset.load(folder, split, words, config) for split in ("train", "val")]
    model = models.build(config.decoder.without_dropout(), parts[0].shapes, len(words))

    def note(_: pd.DataFrame) -> None:
        with (run / "cpu.txt").open("a") as file:
            print(time.process_time(), file=file)

    teacher.fit(model, *parts, run, config.training, note)


def start(*arguments: object) -> subprocess.Popen:
    log = (Path(arguments[-1]) / "log.txt").open("a")
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen([sys.executable, *map(str, arguments[:-1])], stdout=log, stderr=log, env=quiet)


def peak(*arguments: object) -> float:
    """GB at the peak of a Python process with these arguments; the last one is the folder for its log."""
    process = start(*arguments)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments} ended with {status}: see {arguments[-1]}/log.txt")
    return usage.ru_maxrss * 1024 / 1e9


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv")


def wall_seconds(run: Path) -> list[float]:
    """Of each epoch but the first."""
    return list(map(float, history(run).seconds[1:]))


def cpu_seconds(run: Path) -> list[float]:
    return np.diff(np.loadtxt(run / "cpu.txt")).tolist()


def kill_in_second_epoch(*arguments: object, run: Path) -> None:
    process = start(*arguments)
    while not (run / "history.csv").exists():
        if process.poll() is not None:
            sys.exit(f"{arguments} ended: see {arguments[-1]}/log.txt")
        time.sleep(1)
    time.sleep(float(history(run).seconds[0]) / 3)
    process.send_signal(signal.SIGKILL)
    process.wait()


def main(work: Path, count: int) -> None:
    large, small = work / "large", work / "small"
    figures = {"studies": count}
    for folder, size in ((large, count), (small, count // PART)):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "features.json").exists():  # written last
            peak(__file__, "make", folder, size, folder)
    for name in ("small_before", "whole", "small_after", "resumed", "ranks"):
        shutil.rmtree(work / name, ignore_errors=True)
    runs = [(small, "small_before", SMALL_EPOCHS), (large, "whole", 2), (small, "small_after", SMALL_EPOCHS)]
    gigabytes = {name: peak(__file__, "train", f, work / name, epochs, BATCH, work) for f, name, epochs in runs}
    figures["train_gb"] = gigabytes["whole"]
    wall, cpu = ([clock(work / name) for _, name, _ in runs] for clock in (wall_seconds, cpu_seconds))
    for name, (before, whole, after) in (("", wall), ("_cpu", cpu)):
        part, all_of_it = median([*before, *after]), median(whole)
        slope = float(np.log(all_of_it / part) / np.log(PART))
        figures |= {f"epoch_small{name}_s": part, f"epoch{name}_s": all_of_it, f"slope_epoch{name}": slope}
    write_json(work / "size.json", figures)
    again = __file__, "train", large, work / "resumed", 2, BATCH, work
    kill_in_second_epoch(*again, run=work / "resumed")
    figures["resumed_gb"] = peak(*again)
    weights = [(work / name / "weights.safetensors").read_bytes() for name in ("whole", "resumed")]
    figures["resumed_same"] = weights[0] == weights[1]
    launch = "-m", "paddle.distributed.launch", "--nproc_per_node", 2, "--log_dir", work / "ranks_log"
    peak(*launch, __file__, "train", large, work / "ranks", 1, BATCH // 2, work)
    one, two = (history(work / name).filter(like="perplexity") for name in ("whole", "ranks"))
    figures["ranks_differ"] = float(np.abs(two.iloc[0] / one.iloc[0] - 1).max())
    write_json(work / "size.json", figures)
    evaluate = "-m", "medcap_paddle.evaluate", large / "predictions.csv", "--train", large / "reports.csv"
    begun = time.perf_counter()
    figures["evaluate_gb"] = peak(*evaluate, work)
    figures["evaluate_s"] = time.perf_counter() - begun
    write_json(work / "size.json", figures)
    print((work / "size.json").read_text())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "train":
        train(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("work", type=Path)
        parser.add_argument("--studies", type=int, default=227_835)
        options = parser.parse_args()
        main(options.work, options.studies)
