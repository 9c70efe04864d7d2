"""What test_ranks.py has each of two ranks do: `python tests/rank.py FOLDER`. A rank that hangs ends itself."""

import faulthandler
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import made_up

from medcap_paddle import encoder, features, models, train
from medcap_paddle.config import choose
from medcap_paddle.runtime import distributed
from medcap_paddle.runtime.files import read_table

# Clipping bites now and then: Adam alone would forgive a gradient of twice the size.
SIZES = {"embed": 16, "hidden": 16, "dropout": 0.0, "feature_dropout": 0.0}
CONFIG = choose("tiny").change(decoder=SIZES, training={"epochs": 4, "batch_size": 8, "patience": 4, "clip": 0.3})


def fit(run_dir: Path, **changes) -> None:
    """97 studies: the last batch of all ranks has one study, none for the second rank."""
    studies, vocab = made_up(97, seed=1)
    val, _ = made_up(33, seed=2, vocab=vocab)
    model = models.build(CONFIG.decoder, studies.shapes, len(vocab))
    train.fit(model, studies, val, run_dir, CONFIG.change(training=changes).training)


def fit_all(folder: Path, batch_size: int) -> None:
    fit(folder / "whole", batch_size=batch_size)
    fit(folder / "padding", batch_size=batch_size, loss_on_padding=True)
    fit(folder / "impatient", batch_size=batch_size, epochs=30, patience=1, learning_rate=3e-2, schedule="constant")


def fit_stopped(run_dir: Path) -> None:
    """Every rank is stopped in the third epoch, and goes on."""
    measure, calls = train.perplexity, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args)

    train.perplexity = failing
    try:
        fit(run_dir)
    except KeyboardInterrupt:
        assert (run_dir / "checkpoint.safetensors").exists()
        fit(run_dir)
    assert len(calls) == 5


def extract_killed(work: Path) -> None:
    """The last rank is killed at its second batch."""
    batch, made = features._batch, []

    def deadly(*args, **options):
        if made and distributed.world()[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        made.append(args)
        return batch(*args, **options)

    features._batch = deadly
    images = read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("random"), work / "features.h5")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(300, exit=True)
    fit_all(Path(sys.argv[1]), batch_size=8)
    fit_stopped(Path(sys.argv[1]) / "stopped")
    extract_killed(Path(sys.argv[1]))
