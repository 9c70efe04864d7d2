"""The pipeline on a small phantom, for the tests that interrupt it: `python tests/pipeline.py WORK`."""

import os
import sys
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the encoder trains in this process, which may be killed
sys.path.insert(0, str(Path(__file__).parent.parent))

from medcap_paddle import encoder, feature_file, features, generate, models, phantom, reports, reward, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.dataset import load
from medcap_paddle.runtime.files import read_table
from medcap_paddle.vision import job

CONFIG = choose("tiny").change(
    decoder={"embed": 32, "hidden": 32}, training={"epochs": 4}, reward={"epochs": 2, "samples": 2}
)
ARTEFACTS = (
    *("reports.csv", "encoder.safetensors", "features.h5", "features.json", "vocab.json"),
    *("runs/lstm/inputs.safetensors", "runs/lstm/weights.safetensors", "runs/lstm/predictions.csv"),
)


def prepared(work: Path) -> None:
    """What notebooks 01 to 03 write."""
    reports.build(phantom.make(work / "phantom", studies=60, seed=3, size=96, workers=1), work)
    images = read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("random"), work / "features.h5", batch_size=8)
    table = read_table(work / "reports.csv", ["split", "report"], "")
    vocabulary.make(table.report[table.split == "train"], CONFIG.reports.min_freq, work / "vocab.json")


def run(work: Path) -> None:
    prepared(work)
    options = job.parser("pipeline", "").parse_args(["--epochs", "2", "--size", "96"])
    job.command(options, partial(job.Tagged, str(work)), work / "encoder.safetensors")
    vocab, data, val = train.splits(work, CONFIG)
    run_dir, facts = work / "runs/lstm", feature_file.index(work / "features.h5").attributes
    model = models.build(CONFIG.decoder, data.shapes, len(vocab))
    train.fit(model, data, val, runs.teacher_dir(run_dir, CONFIG), CONFIG.training)
    runs.save(run_dir, CONFIG, vocab, data, facts)
    reward.fit(model, vocab, data, val, run_dir, CONFIG)
    done = runs.load(run_dir)
    test = load(work, "test", vocab, CONFIG)
    generate.predict(
        done.model, vocab, test, done.config, batch_size=4, out=run_dir / "predictions.csv", known=done.known
    )


if __name__ == "__main__":
    print("ready", flush=True)  # libraries are loaded: from here on it may be killed
    run(Path(sys.argv[1]))
    print("finished", flush=True)
