"""A work folder as `make run` leaves it, made in seconds: a phantom of 60 studies and two runs, one with attention."""

from dataclasses import replace
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from medcap_paddle import encoder, feature_file, features, generate, models, phantom, reports, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.dataset import load
from medcap_paddle.models import DECODERS
from medcap_paddle.runtime.files import read_table

RUNS = ("lstm", "attention_lstm")  # their names are those of their decoders
CONFIG = choose("tiny").change(training={"epochs": 1}, reward={"epochs": 0})


def make(work: Path) -> Path:
    reports.build(phantom.make(work / "phantom", studies=60, seed=3, size=96, workers=1), work)
    images = read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("small", arrays=["pooled", "grid"]), work / "features.h5")
    table = read_table(work / "reports.csv", ["split", "report"], "")
    vocab = vocabulary.make(table.report[table.split == "train"], CONFIG.reports.min_freq, work / "vocab.json")
    for name in RUNS:
        config, run_dir = replace(CONFIG, decoder=DECODERS[name].Settings().small()), work / "runs" / name
        vocab, data, val = train.splits(work, config)
        model = models.build(config.decoder, data.shapes, len(vocab))
        train.fit(model, data, val, run_dir, config.training)
        runs.save(run_dir, config, vocab, data, feature_file.index(work / "features.h5").attributes)
        done = runs.load(run_dir)
        test = load(work, "test", done.vocab, done.config)
        generate.predict(done.model, done.vocab, test, done.config, out=run_dir / "predictions.csv", known=done.known)
    return work


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]))
