"""Teacher forcing: the next word after the radiologist's own, masked cross-entropy, Adam.

Reads reports.csv, images.csv, features.h5, vocab.json; writes runs/<run>/ (see `runs` and `runtime.loop`), with the
weights of the epoch that has the best validation perplexity.

    python -m medcap_paddle.train WORK --run lstm
    python -m paddle.distributed.launch --nproc_per_node 2 python -m medcap_paddle.train WORK --run lstm

The second trains on R ranks, data-parallel: each takes its share of a batch of R times `batch_size` studies.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from . import config as presets
from . import dataset, feature_file, models, runs
from . import vocab as vocabulary
from .clinical import labels
from .config import Config, TrainingSettings
from .dataset import Batch, Studies
from .loss import masked_loss, token_nll
from .models.decoder import Decoder
from .models.drafts import with_drafts
from .reports import Collection
from .runtime import distributed, loop, stages
from .runtime.files import MedcapError, cli_errors
from .runtime.samplers import LengthSampler, Sampler, TokenSampler

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab


def perplexity(model: Decoder, studies: Studies, batch_size: int = 64) -> float:
    """exp(total nll / words), `<eos>` counted and padding not: paddlenlp's metric with its mask. Needs no dropout."""
    from paddlenlp.metrics import Perplexity

    model.eval()
    metric = Perplexity()
    rank, count = distributed.world()
    with paddle.no_grad():
        for inputs, tokens in islice(studies.batches(LengthSampler(studies, batch_size)), rank, None, count):
            targets = tokens[:, 1:]
            mask = (targets != studies.pad).astype("float32")
            nll = token_nll(model(inputs, tokens[:, :-1]), targets) * mask
            metric.update(nll.numpy(), mask.sum().numpy())
    metric.total_ce, metric.total_word_num = distributed.all_reduce_sum([metric.total_ce, metric.total_word_num])
    return float(metric.accumulate())


class TeacherForcing(loop.Task):
    """A decoder and its train and val studies, for `loop.fit`.

    On R ranks it does what one process does with R times the batch size, but for the draws of the dropout. A decoder
    may bring a loss of its own (`runtime.stages`).
    """

    def __init__(self, model: Decoder, train: Studies, val: Studies | None, settings: TrainingSettings):
        self.model, self.train, self.val, self.settings = model, train, val, settings
        self.best = "val_perplexity" if val else ""
        stages.check(model, settings)
        if settings.auxiliary_weight and not hasattr(model, "auxiliary"):
            raise MedcapError(f"auxiliary_weight needs a loss that {type(model).__name__} does not bring: set it to 0")
        self.ranks = distributed.world()[1]
        self.steps = len(self.sampler())
        # Batches hold reports of similar length. Divided by its own words, a batch of long reports would teach as much
        # as one of short reports; divided by the same number, every word teaches the same, or reports become brief.
        self.words = sum(len(tokens) - 1 for tokens in train.tokens) / self.steps
        self.weights: dict[tuple[int, ...], np.ndarray] = {}  # of the words of a report, by its ids
        if settings.finding_weight != 1:
            for ids, report in zip(train.tokens, train.table.report, strict=True):
                told = np.append(labels.telling(report), False)[: len(ids) - 1]  # the end tells nothing
                self.weights[tuple(ids)] = np.where(told, settings.finding_weight, 1.0).astype("float32")

    def inputs(self) -> list[object]:
        parts = [self.train, self.val] if self.val else [self.train]
        return [array for part in parts for arrays in (*part.inputs.values(), part.tokens) for array in arrays]

    def sampler(self, rng: np.random.Generator | None = None) -> Sampler:
        """The batches of all ranks together."""
        if self.settings.batch_tokens:
            return TokenSampler(self.train.sizes, self.settings.batch_tokens * self.ranks, rng)
        return LengthSampler(self.train, self.settings.batch_size * self.ranks, rng)

    def network(self, module: nn.Layer) -> nn.Layer:
        return stages.WithAuxiliary(module) if self.settings.auxiliary_weight else module

    def groups(self, module: nn.Layer, epoch: int) -> stages.Groups:
        return stages.groups(module, self.settings, epoch)

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        count = self.ranks
        for inputs, tokens in self.train.batches(self.sampler(np.random.default_rng([self.settings.seed, epoch]))):
            mine = distributed.shard(tokens)
            if not len(mine):  # fewer studies than ranks: one of mere padding
                padding = paddle.full_like(tokens[:1], self.train.pad)
                yield 1, Batch({name: array[:1] for name, array in inputs.items()}, padding), 0.0
            else:
                share = count * len(mine) / len(tokens)
                yield len(mine), Batch({name: distributed.shard(array) for name, array in inputs.items()}, mine), share

    def loss(self, network, batch: Batch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        inputs, tokens = {name: array[part] for name, array in batch.inputs.items()}, batch.tokens[part]
        targets = tokens[:, 1:]
        outputs = network(inputs, tokens[:, :-1])
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        nll = F.cross_entropy(logits, targets, reduction="none")
        mask = (targets != self.train.pad).astype("float32")
        # On a CPU F.cross_entropy makes a number of what is no number; the sum of the logits does not.
        numbers = [(nll.detach() * mask).sum(), mask.sum(), logits.detach().sum().astype("float32")]
        nll, share = self.weigh(nll, batch, part), share * len(tokens) / len(batch.tokens)
        if self.settings.loss_on_padding:  # as the original notebook did
            loss = nll.mean() * share
        else:
            loss = masked_loss(nll, targets, self.train.pad, self.words / self.ranks)
        for own in auxiliary:
            loss = loss + self.settings.auxiliary_weight * own * share
            numbers.append(own.detach() * share)
        return loss, paddle.stack(numbers)

    def weigh(self, nll: paddle.Tensor, batch: Batch, part: slice) -> paddle.Tensor:
        """nll [b, T] of the rows `part`, weighted: here words that tell a finding may count more often."""
        if not self.weights:
            return nll
        weights = np.zeros(nll.shape, "float32")
        for row, ids in zip(weights, batch.tokens[part].tolist(), strict=True):
            own = self.weights.get(tuple(word for word in ids if word != self.train.pad), row)
            row[: len(own)] = own
        return nll * paddle.to_tensor(weights)

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        from paddlenlp.metrics import Perplexity

        metric = Perplexity()
        metric.update(*sums[:2])
        own = {"auxiliary": float(sums[-1] / self.steps / self.ranks)} if self.settings.auxiliary_weight else {}
        return {"train_perplexity": float(metric.accumulate()), **own}

    def validate(self) -> dict[str, float]:
        return {"val_perplexity": perplexity(self.model, self.val)} if self.val else {}


def fit(
    model: Decoder,
    train: Studies,
    val: Studies | None,
    run_dir: str | Path,
    settings: TrainingSettings,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train a fresh `model` into `run_dir`; its history. Without `val` the last epoch is kept. See `loop.fit`."""
    model.standardise(train.inputs)
    train = with_drafts(train) if settings.drafts else train
    return loop.fit(model, TeacherForcing(model, train, val, settings), run_dir, settings, on_epoch)


# Commands -------------------------------------------------------------------------------------------------------------


def stage(description: str) -> tuple[Path, Path, Config]:
    """The arguments of a training command: the work folder, the run directory and its settings."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", nargs="?", default="work", help="the folder with reports.csv, features.h5, vocab.json")
    parser.add_argument("--run", default=presets.RUN, help="name of the run")
    parser.add_argument("--preset", default="", help=f"settings: {', '.join(presets.PRESETS)}")
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--config", help="a config.json with the settings, instead")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    if arguments.config:
        config = Config.load(arguments.config)
    else:
        config = presets.choose(arguments.preset, arguments.quick, Collection.load(work).reports)
    return work, work / "runs" / arguments.run, config


def splits(
    work: str | Path, config: Config, vocab: Vocab | None = None, expect: dict | None = None
) -> tuple[Vocab, Studies, Studies | None]:
    """Vocabulary (default: that of 03), train and val (None where there is none); `expect` as in `dataset.load`."""
    vocab = vocab or vocabulary.load(Path(work) / "vocab.json")
    val = dataset.load(work, "val", vocab, config, expect) if Collection.load(work).has("val") else None
    return vocab, dataset.load(work, "train", vocab, config, expect), val


def main() -> None:
    with cli_errors():
        work, run_dir, config = stage("Train a captioner on what notebooks 01 to 03 have written, by teacher forcing.")
        vocab, train, val = splits(work, config)
        model = models.build(config.decoder, train.shapes, len(vocab), config.training.seed)
        run_dir = runs.teacher_dir(run_dir, config)
        if not distributed.world()[0]:
            attributes = feature_file.index(work / "features.h5").attributes
            runs.save(run_dir, config.teacher(), vocab, train, attributes)
        distributed.barrier()
        history = fit(model, train, val, run_dir, config.training)
        if not distributed.world()[0]:
            print(history.tail().round(2).to_string(index=False))


if __name__ == "__main__":
    main()
