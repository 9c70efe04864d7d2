"""Fit a captioner: teacher forcing, masked cross-entropy, Adam; the best validation perplexity is kept.

Writes runs/<run>/:

    config.json          the settings
    vocab.json           the vocabulary the ids belong to
    model.json           {"feature_dim", "vocab_size", "features": attributes of the features it was trained on}
    weights.safetensors  weights of the epoch with the best validation perplexity
    history.csv          epoch, train_perplexity, val_perplexity, seconds
    visualdl/            the same curves for VisualDL
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import vocab as vocabulary
from .config import Config
from .dataset import Studies
from .files import MedcapError, atomic, read_json, require, write_json, write_table
from .model import LSTMCaptioner, masked_loss, token_nll

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

REMEDY = "run 04_train.ipynb"
OPTIONS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "clip",
    "patience",
    "seed",
    "loss_on_padding",
)  # of fit, in Config


def build(config: Config, feature_dim: int, vocab_size: int) -> LSTMCaptioner:
    """A freshly initialised captioner; the same seed gives the same weights."""
    paddle.seed(config.seed)
    return LSTMCaptioner(
        feature_dim, vocab_size, config.embed, config.hidden, config.layers, config.dropout, config.remind
    )


def perplexity(model, studies: Studies, batch_size: int = 64) -> float:
    """exp(total nll / words), `<eos>` counted and padding not: paddlenlp's metric with its mask. Needs no dropout."""
    from paddlenlp.metrics import Perplexity

    model.eval()
    metric = Perplexity()
    with paddle.no_grad():
        for batch in studies.batches(batch_size):
            features, tokens = map(paddle.to_tensor, batch)
            targets = tokens[:, 1:]
            mask = (targets != studies.pad).astype("float32")
            nll = token_nll(model(features, tokens[:, :-1]), targets) * mask
            metric.update(nll.numpy(), mask.sum().numpy())
    return float(metric.accumulate())


def fit(
    model,
    train: Studies,
    val: Studies | None,
    run_dir: str | Path,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    schedule: str = "cosine",
    clip: float,
    patience: int,
    seed: int = 0,
    loss_on_padding: bool = False,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train until `patience` epochs bring no better validation perplexity; return the history, keep the best weights.

    Without `val` (the original notebook's split) the last epoch is kept. `on_epoch` is called with the history so
    far: the notebook draws it. Raises MedcapError when the loss is no longer a number.
    """
    import pandas as pd
    from paddlenlp.metrics import Perplexity
    from tqdm.auto import tqdm
    from visualdl import LogWriter

    run_dir = Path(run_dir)
    model.standardise(np.concatenate(train.features))
    batches = math.ceil(len(train) / batch_size)
    steps = epochs * batches
    # Batches hold reports of similar length. Divided by its own words, a batch of long reports would teach as much as
    # one of short reports; divided by the same number, every word teaches the same, or the model learns to be brief.
    words = sum(len(tokens) - 1 for tokens in train.tokens) / batches
    rate = paddle.optimizer.lr.CosineAnnealingDecay(learning_rate, steps) if schedule == "cosine" else learning_rate
    optimizer = paddle.optimizer.Adam(
        rate, parameters=model.parameters(), grad_clip=paddle.nn.ClipGradByGlobalNorm(clip)
    )
    history, best, best_epoch = [], math.inf, 0
    bar = tqdm(total=steps, desc="train", unit="batch")
    with LogWriter(str(run_dir / "visualdl")) as log:
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            model.train()
            metric, sums = Perplexity(), paddle.zeros([2])  # nll and words: read once an epoch, not once a step
            for batch in train.batches(batch_size, np.random.default_rng([seed, epoch])):
                features, tokens = map(paddle.to_tensor, batch)
                targets = tokens[:, 1:]
                nll = token_nll(model(features, tokens[:, :-1]), targets)
                loss = nll.mean() if loss_on_padding else masked_loss(nll, targets, train.pad, words)
                loss.backward()
                optimizer.step()
                optimizer.clear_grad()
                if schedule == "cosine":
                    rate.step()
                mask = (targets != train.pad).astype("float32")
                sums += paddle.stack([(nll.detach() * mask).sum(), mask.sum()])
                bar.update()
            metric.update(*sums.numpy())
            row = {"epoch": epoch, "train_perplexity": float(metric.accumulate())}
            if not math.isfinite(row["train_perplexity"]):
                raise MedcapError(
                    f"the loss of epoch {epoch} is not a number: train with a lower learning_rate or clip"
                )
            row["val_perplexity"] = perplexity(model, val) if val else math.nan
            row["seconds"] = time.perf_counter() - start
            history.append(row)
            table = pd.DataFrame(history)
            write_table(run_dir / "history.csv", table)
            for name in ("train_perplexity", "val_perplexity"):
                log.add_scalar(name, row[name], epoch)
            bar.set_postfix(epoch=epoch, train=f"{row['train_perplexity']:.2f}", val=f"{row['val_perplexity']:.2f}")
            if on_epoch:
                on_epoch(table)
            if not val or row["val_perplexity"] < best:
                best, best_epoch = row["val_perplexity"], epoch
                save_weights(model, run_dir / "weights.safetensors")
            elif epoch - best_epoch >= patience:
                break
    bar.close()
    load_weights(model, run_dir / "weights.safetensors")
    return table


def save_weights(model, path: str | Path) -> None:
    from safetensors.numpy import save_file

    with atomic(path) as temporary:
        save_file({name: value.numpy() for name, value in model.state_dict().items()}, temporary)


def load_weights(model, path: str | Path) -> None:
    """Put the weights of `path` into `model`; MedcapError when they are damaged or of another architecture."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(require(path, REMEDY))
    except SafetensorError as error:
        raise MedcapError(f"{path} is damaged ({error}): {REMEDY}") from error
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if own != {name: value.shape for name, value in weights.items()}:
        raise MedcapError(f"{path} holds the weights of another model than config.json describes: {REMEDY}")
    model.set_state_dict(weights)


def save_run(run_dir: str | Path, config: Config, vocab: Vocab, feature_dim: int, features: dict) -> None:
    """All that 05 needs beside the weights; `features` are the attributes of features.h5."""
    run_dir = Path(run_dir)
    config.save(run_dir / "config.json")
    vocabulary.save(vocab, run_dir / "vocab.json")
    write_json(run_dir / "model.json", {"feature_dim": feature_dim, "vocab_size": len(vocab), "features": features})


def load_run(run_dir: str | Path) -> tuple[LSTMCaptioner, Config, Vocab, dict]:
    """The trained model in eval mode, its settings, its vocabulary and the attributes of its features."""
    run_dir = Path(run_dir)
    config = Config.load(run_dir / "config.json")
    vocab = vocabulary.load(run_dir / "vocab.json")
    facts = read_json(run_dir / "model.json", REMEDY)
    model = build(config, facts["feature_dim"], facts["vocab_size"])
    load_weights(model, run_dir / "weights.safetensors")
    model.eval()
    return model, config, vocab, facts["features"]
