"""Runs to compare with, so that a score can be judged: what does a model gain by seeing?

`BASELINES` writes texts without a model: a constant, a random train report, the report of the nearest train study.
`shuffled` and `mean_image` make studies whose images say nothing, for a model to be run on.

    baselines.write("neighbour", "work/runs", train, val, test)    runs/neighbour/predictions.csv

A baseline is a function of train, val and the studies to be predicted, and of a seed. One of your own is an entry more:

    BASELINES["shortest"] = lambda train, val, studies, seed: [min(train.table.report, key=len)] * len(studies)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from .dataset import Studies
from .feature_file import POOLED
from .metrics import ngrams
from .metrics.constant import Score, best_constant
from .models import train_inputs
from .runtime.files import MedcapError, write_table

Baseline = Callable[[Studies, Studies, Studies, int], list[str]]


def write(name: str, runs_dir: str | Path, train: Studies, val: Studies, studies: Studies, seed: int = 0) -> list[str]:
    """The predictions of the baseline `name` for `studies`, written to runs/<name>/predictions.csv.

    `val` chooses the constants; give `train` for it where there is no val split.
    """
    predictions = list(BASELINES[name](train, val, studies, seed))
    if len(predictions) != len(studies):
        raise ValueError(f"baseline {name} wrote {len(predictions)} texts for {len(studies)} studies")
    table = studies.table[["study_id", "report"]].set_axis(["study_id", "reference"], axis=1)
    write_table(Path(runs_dir) / name / "predictions.csv", table.assign(prediction=predictions))
    return predictions


def constant(score: Score, train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """One text for all: the best on val."""
    return [best_constant(list(train.table.report), list(val.table.report), score)] * len(studies)


def frequent(train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """The most frequent train report for all."""
    return [Counter(train.table.report).most_common(1)[0][0]] * len(studies)


def random(train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """A random train report for each study."""
    return list(np.random.default_rng(seed).choice(np.array(train.table.report, object), len(studies)))


def neighbour(train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """For each study the report of the train study whose image is most alike: by the cosine of the mean over views.

    MedcapError where the studies were loaded without the input "pooled".
    """
    known, asked = (_directions(s) for s in (train, studies))
    return list(train.table.report.iloc[(asked @ known.T).argmax(1)])


def _directions(studies: Studies) -> np.ndarray:
    if POOLED not in studies.inputs:
        raise MedcapError(f'the neighbour needs the input "{POOLED}": load the studies with it')
    mean = np.stack([views.mean(0) for views in studies.inputs[POOLED]])  # [N, D]
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _bleu4(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    return ngrams.constant_bleu(references, texts)[:, 3]


BASELINES: dict[str, Baseline] = {
    "constant": partial(constant, ngrams.constant_cider),
    "constant_bleu": partial(constant, _bleu4),
    "frequent": frequent,
    "random": random,
    "neighbour": neighbour,
}


def shuffled(studies: Studies, seed: int = 0) -> Studies:
    """Every study with the inputs of another one: a model that reads its images must get worse."""
    order = np.random.default_rng(seed).permutation(len(studies))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return replace(studies, inputs={name: [arrays[i] for i in other] for name, arrays in studies.inputs.items()})


def mean_image(studies: Studies, train: Studies) -> Studies:
    """Every study with one view, the mean of all train images: what a model writes when it sees nothing."""
    mean = train_inputs.mean(train.inputs)
    return replace(studies, inputs={name: [mean[name][None]] * len(studies) for name in studies.inputs})
