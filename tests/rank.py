"""What test_ranks.py has each of two ranks do: `python tests/rank.py FOLDER`. A rank that hangs ends itself."""

import faulthandler
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import paddle
from conftest import made_up

from medcap_paddle import encoder, features, train
from medcap_paddle.config import choose
from medcap_paddle.loss import focal
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime import distributed
from medcap_paddle.runtime.files import read_table

# Clipping bites now and then: Adam alone would forgive a gradient of twice the size.
SIZES = {"embed": 16, "hidden": 16, "dropout": 0.0, "feature_dropout": 0.0}
CONFIG = choose("tiny").change(decoder=SIZES, training={"epochs": 4, "batch_size": 8, "patience": 4, "clip": 0.3})


class Staged(LSTMCaptioner):
    """With parts, and a head beside the words."""

    parts = {"visual": ("image",), "knowledge": ("gate",)}

    def __init__(self, *args):
        super().__init__(*args)
        self.head = paddle.nn.Linear(CONFIG.decoder.embed, 1)

    def auxiliary(self, inputs, tokens):
        targets = (inputs["pooled"][:, :, :1].max(1) > 0.5).astype("float32")
        return focal(self.head(self.encode_image(inputs)), targets).mean()


def fit(run_dir: Path, decoder=LSTMCaptioner, **changes) -> None:
    """97 studies: the last batch of all ranks has one study, none for the second rank."""
    studies, vocab = made_up(97, seed=1)
    val, _ = made_up(33, seed=2, vocab=vocab)
    paddle.seed(0)
    model = decoder(CONFIG.decoder, studies.shapes, len(vocab))
    train.fit(model, studies, val, run_dir, CONFIG.change(training=changes).training)


def fit_all(folder: Path, batch_size: int) -> None:
    fit(folder / "whole", batch_size=batch_size)
    fit(folder / "padding", batch_size=batch_size, loss_on_padding=True)
    fit(folder / "tokens", batch_size=batch_size, batch_tokens=10 * batch_size)
    fit(folder / "headless", Staged, batch_size=batch_size)
    fit(folder / "staged", Staged, batch_size=batch_size, frozen=2, knowledge_rate=0.5, auxiliary_weight=0.3)
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
