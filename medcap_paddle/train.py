"""Fit a captioner: teacher forcing, masked cross-entropy, Adam; the best validation perplexity is kept.

Writes runs/<run>/:

    config.json          the settings
    vocab.json           the vocabulary the ids belong to
    model.json           {"feature_dim", "vocab_size", "vocab": digest of its tokens, "config",
                         "features": attributes of the features it was trained on,
                         "made_by": versions and git commit}
    weights.safetensors  weights of the epoch with the best validation perplexity
    history.csv          epoch, train_perplexity (with a reward: reward), val_perplexity, seconds
    visualdl/            the same curves for VisualDL
    previous.safetensors     weights of other settings or data, set aside when training began anew
    checkpoint.safetensors   while it trains: weights, the optimizer's moments and the history after the last epoch

    python -m medcap_paddle.train WORK --run lstm
    python -m paddle.distributed.launch --nproc_per_node 2 python -m medcap_paddle.train WORK --run lstm

The second trains on R ranks, data-parallel: each takes its share of a batch of R times `batch_size` studies.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F

from . import __version__, dataset, ranks
from . import features as feature_file
from . import vocab as vocabulary
from .config import Config
from .dataset import Studies
from .files import (
    MedcapError,
    alone,
    digest,
    plain_ending,
    read_sealed,
    read_tensors,
    write_sealed,
    write_table,
    write_tensors,
)
from .model import LSTMCaptioner, masked_loss, token_nll
from .resume import finished, sparing, unchanged

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

REMEDY = "run 04_train.ipynb"
CALMER = "train with a lower learning_rate or clip"
PREVIOUS = "previous.safetensors"
# settings that fit takes
OPTIONS = ("epochs", "batch_size", "learning_rate", "schedule", "clip", "patience", "seed", "loss_on_padding")
# settings of a finished run that may be edited in its config.json
WRITING = ("beam_size", "min_length", "length_penalty", "no_repeat_ngram", "ban_unk")


def build(config: Config, feature_dim: int, vocab_size: int) -> LSTMCaptioner:
    """A freshly initialised captioner; the same seed gives the same weights."""
    paddle.seed(config.seed)
    names = ("embed", "hidden", "layers", "dropout", "remind", "feature_dropout", "feature_noise")
    return LSTMCaptioner(feature_dim, vocab_size, **{name: getattr(config, name) for name in names})


def teacher_dir(run_dir: str | Path, config: Config) -> Path:
    """The run in which teacher forcing comes to its end: <run>_teacher where a reward follows, else the run itself."""
    run_dir = Path(run_dir)
    return run_dir.with_name(f"{run_dir.name}_teacher") if config.reward_epochs else run_dir


def perplexity(model, studies: Studies, batch_size: int = 64) -> float:
    """exp(total nll / words), `<eos>` counted and padding not: paddlenlp's metric with its mask. Needs no dropout."""
    from paddlenlp.metrics import Perplexity

    model.eval()
    metric = Perplexity()
    rank, count = ranks.join()
    with paddle.no_grad():
        for batch in islice(studies.batches(batch_size), rank, None, count):
            features, tokens = map(paddle.to_tensor, batch)
            targets = tokens[:, 1:]
            mask = (targets != studies.pad).astype("float32")
            nll = token_nll(model(features, tokens[:, :-1]), targets) * mask
            metric.update(nll.numpy(), mask.sum().numpy())
    metric.total_ce, metric.total_word_num = ranks.total([metric.total_ce, metric.total_word_num])
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
    critic=None,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train until `patience` epochs bring no better validation perplexity; return the history, keep the best weights.

    Without `val` (the original notebook's split) the last epoch is kept. `on_epoch` is called with the history so
    far: the notebook draws it. Stopped, it goes on from the last epoch and ends as if it had not been; finished, it
    does nothing while model, data and options are the same. Raises MedcapError when the loss is no longer a number.

    With a `critic` (a `reward.SelfCritical`) a model that is trained already learns from reports of its own.
    Perplexity then rises: of the last epoch is kept what `critic.keep` makes of it, and history.csv has the mean reward
    instead of train's perplexity.

    On R ranks it does what one process does with R times the `batch_size`, but for the draws of the dropout; the first
    rank writes and calls `on_epoch`.
    """
    if schedule not in ("cosine", "constant"):
        raise MedcapError(f"schedule is {schedule!r}: use cosine or constant")
    import pandas as pd
    from tqdm.auto import tqdm
    from visualdl import LogWriter

    run_dir = Path(run_dir)
    weights, checkpoint = run_dir / "weights.safetensors", run_dir / "checkpoint.safetensors"
    rank, count = ranks.join()
    batch_size *= count
    model.standardise(np.concatenate(train.features))
    batches = math.ceil(len(train) / batch_size)
    steps = epochs * batches
    rate = paddle.optimizer.lr.LambdaDecay(
        learning_rate, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps) if schedule == "cosine" else 1.0
    )
    clipping = paddle.nn.ClipGradByGlobalNorm(clip)
    optimizer = paddle.optimizer.Adam(rate, parameters=model.parameters(), grad_clip=clipping)
    # Batches hold reports of similar length. Divided by its own words, a batch of long reports would teach as much as
    # one of short reports; divided by the same number, every word teaches the same, or the model learns to be brief.
    words = None if loss_on_padding else sum(len(tokens) - 1 for tokens in train.tokens) / batches
    options = [epochs, batch_size, learning_rate, schedule, clip, patience, seed, loss_on_padding]
    options += [critic.settings] if critic else []
    data = [array for part in (train, val) if part for array in (*part.features, part.tokens)]
    inputs = digest(options, *tensors(model).values(), *data)  # the first weights tell architecture and their seed
    with ExitStack() as stack:
        if not rank:
            stack.enter_context(alone(weights))
        if unchanged(weights, inputs) and (run_dir / "history.csv").exists():
            if not rank:
                tqdm.write(f"{run_dir} is trained already: nothing to do")
            load_weights(model, weights)
            return pd.read_csv(run_dir / "history.csv")
        history = restore(checkpoint, inputs, model, optimizer)
        ranks.wait()  # before the first rank may remove the checkpoint
        if not rank:
            if not history:
                set_aside(weights)
                shutil.rmtree(run_dir / "visualdl", ignore_errors=True)
            log = stack.enter_context(LogWriter(str(run_dir / "visualdl")))
        network = paddle.DataParallel(model) if count > 1 else model
        learn = learner(network, optimizer, train.pad, words)
        own = partial(critic, model) if critic else None
        rate.step(len(history) * batches)
        bar = tqdm(total=steps, desc="train", unit="batch", initial=len(history) * batches, disable=rank > 0)
        while len(history) < epochs and len(history) - best_epoch(history) < patience:
            epoch, start = len(history) + 1, time.perf_counter()
            # Of dropout: an epoch is the same whether or not training was stopped, and another one on each rank.
            paddle.seed(seed * 1000 + epoch + rank * 1_000_000)
            order = np.random.default_rng([seed, epoch])
            told = train_epoch(network, train, batch_size, order, optimizer, rate, learn, bar, own)
            row = {
                "epoch": epoch,
                **({"reward": critic.mean()} if critic else {"train_perplexity": told}),
                "val_perplexity": perplexity(model, val) if val else math.nan,
                "seconds": time.perf_counter() - start,
            }
            if val and math.isnan(row["val_perplexity"]):
                raise MedcapError(f"the validation perplexity is not a number in epoch {epoch}: {CALMER}")
            history.append(row)
            if rank:
                continue
            if best_epoch(history) == epoch:
                write_tensors(weights, critic.keep(tensors(model)) if critic else tensors(model))
            table = pd.DataFrame(history)
            write_table(run_dir / "history.csv", table)  # first: what the checkpoint holds is not written again
            store(checkpoint, inputs, model, optimizer, history)
            shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
            for name, value in shown.items():
                log.add_scalar(name, value, epoch)
            bar.set_postfix(epoch=epoch, **{name: f"{value:.2f}" for name, value in shown.items()})
            if on_epoch:
                on_epoch(table)
        bar.close()
        if not rank:
            finished(weights, inputs)
            checkpoint.unlink(missing_ok=True)
        ranks.wait()  # for the weights
    load_weights(model, weights)
    return pd.DataFrame(history)


def best_epoch(history: list[dict]) -> int:
    """The epoch of the best validation perplexity; without val, or with a reward, the last one; 0 before the first."""
    scores = [row["val_perplexity"] for row in history if "reward" not in row]
    return len(history) if not scores or math.isnan(scores[0]) else 1 + scores.index(min(scores))


def learner(model, optimizer, pad: int, words: float | None) -> Callable[..., list[paddle.Tensor]]:
    """A function that adds the gradients of a batch, in parts where the memory does not hold the whole; it returns nll,
    words and sum of the logits of each part. `words` divides the loss of a batch; None averages over padding too, as
    the original notebook did. Either way the gradients of the parts add up to that of the batch.

    On R ranks the batch is a rank's share. `paddle.DataParallel` takes the mean over the ranks, so each share counts R
    times; it waits for one backward pass of every rank, so nothing is done in parts.
    """
    _, count = ranks.join()

    def learn(
        part: slice, features: np.ndarray, tokens: np.ndarray, weight: float = 1.0, advantage: np.ndarray | None = None
    ) -> paddle.Tensor:
        weight *= (part.stop - part.start) / len(tokens)
        features, tokens = paddle.to_tensor(features[part]), paddle.to_tensor(tokens[part])
        targets = tokens[:, 1:]
        logits = model(features, tokens[:, :-1])
        nll = F.cross_entropy(logits, targets, reduction="none")
        if advantage is not None:
            nll = nll * paddle.to_tensor(advantage[part]).unsqueeze(1).expand_as(nll)
        loss = masked_loss(nll, targets, pad, words / count) if words else nll.mean() * weight
        loss.backward()
        mask = (targets != pad).astype("float32")
        # On a CPU F.cross_entropy makes a number of what is none, the sum of the logits does not.
        return paddle.stack([(nll.detach() * mask).sum(), mask.sum(), logits.detach().sum()])

    if count > 1:
        return lambda rows, *batch: [learn(slice(0, rows), *batch)]
    return sparing(learn, undo=optimizer.clear_grad)


def train_epoch(model, train: Studies, batch_size: int, order, optimizer, rate, learn, bar, own=None) -> float:
    """One pass over `train` in the order of a random generator, by a `learner`; its perplexity. MedcapError names a
    batch whose loss is no number. The batches are those of all ranks; `own` adds the model's reports to them.
    """
    from paddlenlp.metrics import Perplexity

    model.train()
    metric, sums = Perplexity(), []  # what `learn` returns for each batch: read once an epoch, not once a step
    for batch in train.batches(batch_size, order):
        share = ranks.share(batch, train.pad)
        if own:
            share = own(*share)
        sums.append(sum(learn(len(share[0]), *share)))
        optimizer.step()
        optimizer.clear_grad()
        rate.step()
        bar.update()
    sums = ranks.total(paddle.stack(sums).numpy())
    broken = np.flatnonzero(~np.isfinite(sums).all(1))
    if len(broken):
        epoch = rate.last_epoch // len(sums)
        raise MedcapError(
            f"the loss of batch {broken[0] + 1} of {len(sums)} is not a number in epoch {epoch}; the best weights "
            f"before it are kept: {CALMER}"
        )
    metric.update(*sums[:, :2].astype("float64").sum(0))
    return float(metric.accumulate())


def tensors(model) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def store(path: str | Path, inputs: str, model, optimizer, history: list[dict]) -> None:
    """The checkpoint after an epoch."""
    memory, state = {}, optimizer.state_dict()
    for k, parameter in enumerate(model.parameters()):  # a parameter's own name counts what else the process has built
        for name in (name for name in state if name.startswith(parameter.name + "_")):
            memory[f"adam {k} {name[len(parameter.name) :]}"] = state[name].numpy()
    write_tensors(path, {**tensors(model), **memory}, {"inputs": inputs, "history": history})


def restore(path: str | Path, inputs: str, model, optimizer) -> list[dict]:
    """Put a checkpoint of the same inputs into model and optimizer; its history, or [] where there is none to use."""
    from tqdm.auto import tqdm

    if not Path(path).exists():
        return []
    try:
        values, facts = read_tensors(path, "training begins anew")
        if facts.get("inputs") != inputs:
            raise MedcapError(f"{path} is of other settings or data: training begins anew")
    except MedcapError as reason:
        tqdm.write(str(reason))
        return []
    model.set_state_dict({name: values[name] for name in model.state_dict()})
    state, parameters = {}, list(model.parameters())
    for name in (name for name in values if name.startswith("adam ")):
        _, k, what = name.split(" ")
        state[parameters[int(k)].name + what] = paddle.to_tensor(values[name])
    optimizer.set_state_dict(state)
    return facts["history"]


def set_aside(weights: Path) -> None:
    """Weights of other settings or data get another name, so that 05 does not take them for those of this run."""
    with suppress(FileNotFoundError):
        weights.replace(weights.with_name(PREVIOUS))


def save_weights(model, path: str | Path) -> None:
    write_tensors(path, tensors(model))


def load_weights(model, path: str | Path) -> None:
    """Put the weights of `path` into `model`; MedcapError when they are damaged or of another architecture."""
    weights, _ = read_tensors(path, REMEDY)
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if own != {name: value.shape for name, value in weights.items()}:
        raise MedcapError(f"{path} holds the weights of another model than config.json describes: {REMEDY}")
    model.set_state_dict(weights)


def made_by() -> dict[str, str]:
    """Versions, and the git commit where there is one."""
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    versions = {"medcap_paddle": __version__, "paddle": paddle.__version__, "numpy": np.__version__}
    return {**versions, "commit": commit or "unknown"}


def save_run(run_dir: str | Path, config: Config, vocab: Vocab, feature_dim: int, features: dict) -> None:
    """All that 05 needs beside the weights; `features` are the attributes of features.h5."""
    run_dir, weights = Path(run_dir), Path(run_dir) / "weights.safetensors"
    facts = {"feature_dim": feature_dim, "vocab_size": len(vocab), "vocab": digest(vocabulary.tokens(vocab))}
    facts |= {"features": features, "config": asdict(config), "made_by": made_by()}
    with alone(weights):
        with suppress(MedcapError):  # the first time there is nothing to compare with
            if _settled(read_sealed(run_dir / "model.json", REMEDY)) != _settled(facts):
                set_aside(weights)
        config.save(run_dir / "config.json")
        vocabulary.save(vocab, run_dir / "vocab.json")
        write_sealed(run_dir / "model.json", facts)


def _settled(facts: dict) -> dict:
    """What the weights depend on, of the facts in model.json."""
    return {**facts, "config": learnt(facts["config"]), "made_by": None}


def learnt(config: dict) -> dict:
    """The settings that weights depend on."""
    return {name: value for name, value in config.items() if name not in WRITING}


def load_run(run_dir: str | Path) -> tuple[LSTMCaptioner, Config, Vocab, dict]:
    """The trained model in eval mode, its settings, its vocabulary and the attributes of its features."""
    run_dir = Path(run_dir)
    config = Config.load(run_dir / "config.json")
    vocab = vocabulary.load(run_dir / "vocab.json")
    facts = read_sealed(run_dir / "model.json", REMEDY)
    if _settled({**facts, "config": asdict(config)}) != _settled(facts):
        raise MedcapError(f"{run_dir / 'config.json'} is not what the run was trained with: {REMEDY}")
    if digest(vocabulary.tokens(vocab)) != facts.get("vocab"):
        raise MedcapError(f"{run_dir / 'vocab.json'} is not what the run was trained with: {REMEDY}")
    model = build(config, facts["feature_dim"], facts["vocab_size"])
    load_weights(model, run_dir / "weights.safetensors")
    model.eval()
    return model, config, vocab, facts["features"]


def other_seeds(run_dir: str | Path) -> list[str]:
    """Names of the runs beside `run_dir`, with predictions, that differ from it in the seed of their training only."""
    run_dir = Path(run_dir)

    def facts(path: Path) -> tuple[dict, dict]:
        content = read_sealed(path / "model.json", REMEDY)
        return {**content["config"], "seed": None}, content["features"]

    found = sorted(path.parent for path in run_dir.parent.glob(f"{run_dir.name}_seed*/predictions.csv"))
    named = [path for path in found if re.search(r"_seed\d+$", path.name)]  # not its own _shuffled or _greedy
    return [path.name for path in named if facts(path) == facts(run_dir)]


def stage(description: str) -> tuple[Path, Path, Config]:
    """What a training command is told: the work folder, the run and its settings."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", nargs="?", default="work", help="the folder with reports.csv, features.h5, vocab.json")
    parser.add_argument("--run", default="lstm", help="name of the run; original: the AI Studio notebook's settings")
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--config", help="a config.json with the settings, instead")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    run_dir = work / "runs" / arguments.run
    if arguments.config:
        return work, run_dir, Config.load(arguments.config)
    return work, run_dir, Config.of(arguments.run, arguments.quick, dataset.reports(work))


def splits(
    work: Path, config: Config, vocab: Vocab | None = None, expect: dict | None = None
) -> tuple[Vocab, Studies, Studies | None]:
    """Vocabulary (default: of 03), train and val of a run that is to be trained; `expect` as in `dataset.load`."""
    vocab = vocab or vocabulary.load(work / "vocab.json")
    options = {"vocab": vocab, "views": config.views, "max_length": config.max_length, "expect": expect}
    val = dataset.load(work, "val", **options) if dataset.has(work, "val") else None
    return vocab, dataset.load(work, "train", **options), val


def main() -> None:
    with plain_ending():
        work, run_dir, config = stage("Train a captioner on what notebooks 01 to 03 have written, by teacher forcing.")
        vocab, train, val = splits(work, config)
        model, run_dir = build(config, train.feature_dim, len(vocab)), teacher_dir(run_dir, config)
        rank, _ = ranks.join()
        if not rank:
            _, _, attributes = feature_file.read(work / "features.h5")
            save_run(run_dir, config.teacher(), vocab, train.feature_dim, attributes)
        ranks.wait()
        history = fit(model, train, val, run_dir, **{name: getattr(config, name) for name in OPTIONS})
        if not rank:
            print(history.tail().round(2).to_string(index=False))


if __name__ == "__main__":
    main()
