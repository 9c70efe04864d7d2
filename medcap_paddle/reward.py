"""Learning from one's own reports: the model writes some; those more like the radiologist's become likelier.

Teacher forcing asks for the next word after the true ones; what is wanted is a report after the model's own words.
Self-critical sequence training (Rennie et al., CVPR 2017) asks for that: the gradient of the expected reward, with the
mean of the other reports written for the same study as the baseline (Luo 2020, arXiv 2003.09971). A part of the loss
stays teacher forcing, or the language would drift (Paulus et al., ICLR 2018, section 3.3). The weights that are kept
lie between the teacher's and the rewarded: there, most of the reward is had for little of the perplexity (Wortsman et
al., CVPR 2022, section 3).

The reward is CIDEr plus three times BLEU-4 of one report, n-grams from 2 on counted once more (Lin and Och, COLING
2004).

    python -m medcap_paddle.reward WORK --run lstm    goes on from the run lstm_teacher, which medcap_paddle.train made
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import ranks
from . import train as training
from .beam_search import NEVER
from .config import Config
from .dataset import Studies, pad_tokens
from .evaluate import bleu, bleu_counts, cider, rarity
from .files import MedcapError, plain_ending
from .model import log_norm
from .vocab import decode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

BLEU = 3.0  # of BLEU-4 in the reward
TRUTH = 0.1  # share of teacher forcing in the loss
KEPT = 2 / 3  # of the way from the teacher's weights to the rewarded
SMOOTH = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 0])


class SelfCritical:
    """Adds to a batch what the model writes for it; the critic of `train.fit`. `teacher` holds the first weights."""

    def __init__(
        self, vocab: Vocab, train: Studies, teacher: dict[str, np.ndarray], samples: int = 5, max_length: int = 60
    ):
        if samples < 2:
            raise MedcapError(f"reward_samples is {samples}: at least 2 are needed, each is judged against the others")
        self.vocab, self.teacher, self.samples, self.max_length = vocab, teacher, samples, max_length
        self.rare = rarity([decode(vocab, tokens) for tokens in train.tokens])
        self.settings = [samples, max_length, BLEU, TRUTH, KEPT]
        self.rewards: list[float] = []

    def __call__(self, model, features: np.ndarray, tokens: np.ndarray, weight: float = 1.0):
        """features [B, K, D] and tokens [B, T] to those of (1 + samples) B reports, the true ones first, with the
        advantage [(1 + samples) B] that each is learnt with.
        """
        S, B = self.samples, len(tokens)
        ids = [self.vocab.to_indices(f"<{name}>") for name in ("bos", "eos", "pad", "unk")]
        seen = features.repeat(S, 0)
        written = sample(model, paddle.to_tensor(seen), *ids, self.max_length).tolist()
        texts, truth = ([decode(self.vocab, row) for row in rows] for rows in (written, tokens))
        reward = self.judge([text for text in truth for _ in range(S)], texts).reshape(B, S)
        if weight:  # else it is mere padding, see `ranks.share`
            self.rewards.append(reward.mean())
        others = (reward.sum(1, keepdims=True) - reward) / (S - 1)
        advantage = np.concatenate([np.full(B, TRUTH), bool(weight) * (1 - TRUTH) / S * (reward - others).ravel()])
        together = pad_tokens([*tokens.tolist(), *written], ids[2])
        return np.concatenate([features, seen]), together, weight, advantage.astype("float32")

    def judge(self, references: list[str], predictions: list[str]) -> np.ndarray:
        """The reward of each prediction [n]."""
        smooth = bleu(bleu_counts(references, predictions) + SMOOTH)[:, 3]
        return cider(references, predictions, self.rare) + BLEU * smooth

    def keep(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights of the run, from those that the training has come to."""
        return {name: start + np.float32(KEPT) * (weights[name] - start) for name, start in self.teacher.items()}

    def mean(self) -> float:
        """The mean reward since this was last asked, over all ranks."""
        total, number = ranks.total([sum(self.rewards), len(self.rewards)])
        self.rewards.clear()
        return float(total / number)


@paddle.no_grad()
def sample(decoder, features: paddle.Tensor, bos: int, eos: int, pad: int, unk: int, max_length: int) -> np.ndarray:
    """A report drawn word by word for each study: ids [B, T] as `dataset` has them, T <= `max_length`."""
    state = decoder.init_state(features)
    token = paddle.full([len(features)], bos, "int64")
    words, open_ = [token], paddle.ones([len(features)], "bool")
    for _ in range(max_length - 1):
        logits, state = decoder.step(token, state)  # [B, V]
        for banned in (bos, pad, unk):
            logits[:, banned] = NEVER
        # Inverse transform sampling: one random number a report, not one a word of the vocabulary.
        reached = (logits - log_norm(logits).unsqueeze(-1)).exp().cumsum(-1)
        drawn = (reached < paddle.rand([len(features), 1]) * reached[:, -1:]).astype("int64").sum(-1)
        token = paddle.where(open_, drawn, paddle.full_like(drawn, pad))
        words.append(token)
        open_ = open_ & (token != eos)
        if not bool(open_.any()):
            break
    return paddle.stack(words, 1).numpy()


def fit(
    model,
    vocab: Vocab,
    train: Studies,
    val: Studies | None,
    run_dir: str | Path,
    config: Config,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """`train.fit` with the reward, from the weights that `model` has; its history.

    Without dropout: the gradient is that of the reports that the model itself would write.
    """
    calm = replace(config, dropout=0.0, feature_dropout=0.0, feature_noise=0.0)
    learner = training.build(calm, train.feature_dim, len(vocab))
    learner.set_state_dict(model.state_dict())
    options = {name: getattr(config, name) for name in training.OPTIONS}
    options |= {"epochs": config.reward_epochs, "learning_rate": config.reward_rate}
    critic = SelfCritical(vocab, train, training.tensors(model), config.reward_samples, config.max_length)
    history = training.fit(learner, train, val, run_dir, **options, critic=critic, on_epoch=on_epoch)
    model.set_state_dict(learner.state_dict())
    return history


def _of_teaching(config: Config) -> dict:
    return {k: v for k, v in training.learnt(asdict(config)).items() if not k.startswith("reward")}


def main() -> None:
    with plain_ending():
        work, run_dir, config = training.stage("Reward a captioner that medcap_paddle.train has taught.")
        if not config.reward_epochs:
            raise MedcapError(
                f"the settings of {run_dir} have no reward: set reward_epochs in a config.json (--config)"
            )
        teacher = training.teacher_dir(run_dir, config)
        model, taught, vocab, attributes = training.load_run(teacher)
        if _of_teaching(taught) != _of_teaching(config):
            raise MedcapError(f"{teacher} was taught with other settings: run medcap_paddle.train with these")
        _, train, val = training.splits(work, config, vocab, attributes)
        rank, _ = ranks.join()
        if not rank:
            training.save_run(run_dir, config, vocab, train.feature_dim, attributes)
        ranks.wait()
        history = fit(model, vocab, train, val, run_dir, config)
        if not rank:
            print(history.tail().round(3).to_string(index=False))


if __name__ == "__main__":
    main()
