"""Learning from one's own reports: the model writes some; those more like the radiologist's become likelier.

Teacher forcing asks for the next word after the true ones; a report needs the next word after the model's own.
Self-critical sequence training (Rennie et al., CVPR 2017) follows the gradient of the expected reward, with the mean of
the other reports written for the same study as the baseline (Luo 2020, arXiv 2003.09971), or, as in the first paper,
the report that greedy search writes: see `BASELINES`. A part of the loss stays
teacher forcing, or the language would drift (Paulus et al., ICLR 2018, section 3.3). The weights that are kept lie
between the teacher's and the rewarded: there, most of the reward is had for little of the perplexity (Wortsman et al.,
CVPR 2022, section 3).

The reward is CIDEr plus three times BLEU-4 of one report, or another one of `metrics.rewards`.

    python -m medcap_paddle.reward WORK --run lstm    goes on from the run lstm_teacher, which medcap_paddle.train made
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import paddle

from . import models, runs
from . import train as training
from .beam_search import beam_search
from .config import Config, GenerationSettings, RewardSettings
from .dataset import Batch, Studies, pad_tokens
from .metrics import guards, ngrams, rewards
from .metrics.rewards import REWARDS
from .models import sampling
from .models.decoder import Decoder, Inputs
from .runtime import distributed, loop
from .runtime.files import MedcapError, cli_errors
from .vocab import decode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

CE_WEIGHT = 0.1  # share of teacher forcing in the loss
INTERPOLATION = 2 / 3  # of the way from the teacher's weights to the rewarded
FREE = GenerationSettings(min_length=0, no_repeat_ngram=0, temperature=1.0)  # samples are what the model means


class RewardBatch(NamedTuple):
    inputs: dict[str, paddle.Tensor]
    tokens: paddle.Tensor
    advantage: paddle.Tensor  # [B]: how much likelier, or less likely, each report becomes
    lengths: np.ndarray  # [B]

    def by_length(self) -> RewardBatch:
        """The shortest reports first: neighbours need little padding."""
        order = np.argsort(self.lengths, kind="stable")
        rows = paddle.to_tensor(order)
        inputs = {name: array.gather(rows) for name, array in self.inputs.items()}
        return RewardBatch(inputs, self.tokens.gather(rows), self.advantage.gather(rows), self.lengths[order])


class SelfCritical(training.TeacherForcing):
    """Adds to each batch what the model writes for it. Perplexity rises, so the last epoch is kept."""

    at_once = 24  # as measured: fewer reports are less padding, more are larger products

    def __init__(self, model: Decoder, train: Studies, val: Studies | None, vocab: Vocab, config: Config):
        samples, chosen = config.reward.samples, config.reward
        for name, table in (("metric", REWARDS), ("baseline", BASELINES)):
            if getattr(chosen, name) not in table:
                raise MedcapError(f"reward.{name} is {getattr(chosen, name)!r}: choose {', '.join(table)}")
        self.metric, (self.baseline, least) = REWARDS[chosen.metric], BASELINES[chosen.baseline]
        if samples < least:
            raise MedcapError(
                f"reward.samples is {samples}: at least {least} are needed, each is judged against the others"
            )
        rate = config.reward.learning_rate
        settings = replace(config.training, epochs=config.reward.epochs, learning_rate=rate, frozen=0)
        super().__init__(model, train, val, settings)
        self.best = ""
        usual = RewardSettings()  # what was rewarded before there was a choice is not repeated
        self.unusual = [name for name in (chosen.metric, chosen.baseline) if name not in (usual.metric, usual.baseline)]
        self.vocab, self.samples, self.max_length = vocab, samples, config.reports.max_length
        self.teacher = loop.tensors(model)
        self.frequency = ngrams.document_frequency([decode(vocab, tokens) for tokens in train.tokens])
        self.rewards: list[float] = []
        self.guards = guards.Guards()

    def inputs(self) -> list[object]:
        constants = [self.samples, self.max_length, rewards.BLEU_WEIGHT, CE_WEIGHT, INTERPOLATION]
        return [*super().inputs(), constants, *self.unusual, *rewards.CONSTANTS.get(self.metric, ())]

    def batches(self, epoch: int) -> Iterator[loop.Rows]:
        for _, batch, share in super().batches(epoch):
            batch = self.write(batch, share).by_length()
            yield len(batch.tokens), batch, share

    def write(self, batch: Batch, share: float) -> RewardBatch:
        """A batch of B reports to one of (1 + samples) B, the true ones first, with their advantage."""
        S, B = self.samples, len(batch.tokens)
        bos, eos, pad, unk = self.vocab.to_indices(["<bos>", "<eos>", "<pad>", "<unk>"])
        inputs = {name: array.repeat_interleave(S, 0) for name, array in batch.inputs.items()}
        drawn = sampling.draw(
            self.model, inputs, bos, eos, FREE, self.max_length - 1, (bos, pad, unk), lambda _: paddle.rand([B * S, 1])
        )
        written = [[bos, *ids] for ids in drawn.ids()]
        tokens = [[word for word in ids if word != pad] for ids in batch.tokens.tolist()]
        texts, references = ([decode(self.vocab, row) for row in rows] for rows in (written, tokens))
        reward = self.judge([text for text in references for _ in range(S)], texts).reshape(B, S)
        if share:  # else it is mere padding
            self.rewards.append(reward.mean())
            self.guards.add(references, texts[::S])  # one of each study: enough, and the labeler takes a second a 1,000
        baseline = self.baseline(self, batch.inputs, references, reward)
        sampled = bool(share) * (1 - CE_WEIGHT) / S * (reward - baseline).ravel()
        advantage = np.concatenate([np.full(B, CE_WEIGHT), sampled]).astype("float32")
        every = [*tokens, *written]
        return RewardBatch(
            {name: paddle.concat([array, inputs[name]]) for name, array in batch.inputs.items()},
            paddle.to_tensor(pad_tokens(every, pad)),
            paddle.to_tensor(advantage),
            np.array([len(ids) for ids in every]),
        )

    def loss(self, network, batch: RewardBatch, part: slice, share: float) -> tuple[paddle.Tensor, paddle.Tensor]:
        tokens = batch.tokens[:, : max(2, *batch.lengths[part])]
        return super().loss(network, batch._replace(tokens=tokens), part, share)

    def judge(self, references: list[str], predictions: list[str]) -> np.ndarray:
        """The reward of each prediction [n]."""
        return self.metric(references, predictions, self.frequency)

    def weigh(self, nll: paddle.Tensor, batch: RewardBatch, part: slice) -> paddle.Tensor:
        return nll * batch.advantage[part].unsqueeze(1).expand_as(nll)

    def figures(self, sums: np.ndarray) -> dict[str, float]:
        total, number = distributed.all_reduce_sum([sum(self.rewards), len(self.rewards)])
        self.rewards.clear()
        return {"reward": float(total / number), **self.guards.figures()}

    def keep(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: start + np.float32(INTERPOLATION) * (weights[name] - start) for name, start in self.teacher.items()
        }


def others(critic: SelfCritical, inputs: Inputs, references: list[str], reward: np.ndarray) -> np.ndarray:
    """For each of the S reports of a study [B, S], the mean reward of the others."""
    return (reward.sum(1, keepdims=True) - reward) / (reward.shape[1] - 1)


def greedy(critic: SelfCritical, inputs: Inputs, references: list[str], reward: np.ndarray) -> np.ndarray:
    """The reward of the report with the likeliest word at each place [B, 1]."""
    bos, eos, pad, unk = critic.vocab.to_indices(["<bos>", "<eos>", "<pad>", "<unk>"])
    settings = replace(FREE, beam_size=1, temperature=0.0)
    beams = beam_search(critic.model, inputs, bos, eos, settings, critic.max_length - 1, (bos, pad, unk))
    return critic.judge(references, [decode(critic.vocab, beam[0][0]) for beam in beams])[:, None]


# What a report is judged against, and how many reports of a study that needs.
BASELINES = {"others": (others, 2), "greedy": (greedy, 1)}


def fit(
    model: Decoder,
    vocab: Vocab,
    train: Studies,
    val: Studies | None,
    run_dir: str | Path,
    config: Config,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Reward `model`, which teacher forcing has trained; its history, with the mean reward of each epoch.

    Without dropout: the gradient is that of the reports that the model itself would write. See `loop.fit`.
    """
    learner = models.build(config.decoder.without_dropout(), train.shapes, len(vocab), config.training.seed)
    learner.set_state_dict(model.state_dict())
    task = SelfCritical(learner, train, val, vocab, config)
    history = loop.fit(learner, task, run_dir, task.settings, on_epoch)
    model.set_state_dict(learner.state_dict())
    return history


def main() -> None:
    with cli_errors():
        work, run_dir, config = training.stage("Reward a captioner that medcap_paddle.train has trained.")
        if not config.reward.epochs:
            raise MedcapError(
                f"the settings of {run_dir} have no reward: set reward.epochs in a config.json (--config)"
            )
        teacher = runs.load(runs.teacher_dir(run_dir, config))
        wanted, found = ({**c.weight_settings(), "reward": None} for c in (config, teacher.config))
        if wanted != found:
            folder = runs.teacher_dir(run_dir, config)
            raise MedcapError(f"{folder} was trained with other settings: run medcap_paddle.train with these")
        _, train, val = training.splits(work, config, teacher.vocab, teacher.features)
        if not distributed.world()[0]:
            runs.save(run_dir, config, teacher.vocab, train, teacher.features)
        distributed.barrier()
        history = fit(teacher.model, teacher.vocab, train, val, run_dir, config)
        if not distributed.world()[0]:
            print(history.tail().round(3).to_string(index=False))


if __name__ == "__main__":
    main()
