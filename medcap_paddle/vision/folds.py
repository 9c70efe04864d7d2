"""Folds: every patient is in one of them, and the classes are as frequent in each; AUC fold by fold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError
from .probe import auc_resamples, interval

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
TUNE = 7  # one in so many of the train patients decides when to stop
TREES = 300


def assign(
    targets: np.ndarray, exclusive: bool, groups: Sequence[str], parts: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """The fold of each row of targets [N, K], 0 to `parts` - 1; a group, such as a patient, is in one.

    By scikit-learn's StratifiedGroupKFold. Several labels at once are stratified by the rarest one that a row has.
    MedcapError where there are fewer groups than parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if len(set(groups)) < parts:
        raise MedcapError(f"{len(set(groups))} patients do not make {parts} folds: give more images or fewer folds")
    stratum = strata(targets, exclusive)
    fold = np.empty(len(targets), int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is in some folds only, as told by its AUC
        splits = StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(stratum, stratum, groups)
        for k, (_, held) in enumerate(splits):
            fold[held] = k
    return fold


def strata(targets: np.ndarray, exclusive: bool) -> np.ndarray:
    """The class of each row; of several labels the rarest that it has, K where it has none."""
    if exclusive:
        return targets.argmax(1)
    rarest = np.argsort((targets > 0.5).sum(0), kind="stable")
    has = np.column_stack([targets[:, rarest] > 0.5, np.ones(len(targets), bool)])
    return np.append(rarest, targets.shape[1])[has.argmax(1)]


def tuning(targets: np.ndarray, exclusive: bool, groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """The mask [N] of the part of train that decides when to stop: one in TUNE, by group."""
    parts = min(TUNE, len(set(groups)))
    return assign(targets, exclusive, groups, parts, seed) == 0


def mean_auc(
    scores: np.ndarray, target: np.ndarray, groups: Sequence[str], fold: np.ndarray, number: int = 1000
) -> tuple[list[float], np.ndarray]:
    """The AUC of each fold, and the mean over the folds in resamples of the groups within each [number].

    scores [N], target [N] 0 or 1, fold [N]. NaN for a fold that lacks one of the two. Equal groups and folds are
    resampled alike: the difference of two such resamples is a paired one.
    """
    groups, values, drawn = np.asarray(groups, str), [], []
    for k in np.unique(fold):
        held = fold == k
        value, found = auc_resamples(scores[held], target[held], groups[held], number, seed=int(k))
        values.append(value)
        drawn.append(found)
    usable = [found for value, found in zip(values, drawn, strict=True) if np.isfinite(value)]
    return values, np.mean(usable, 0) if usable else np.full(number, np.nan)


def summary(values: Sequence[float], drawn: np.ndarray) -> tuple[float, float, float]:
    """The mean over the folds where it is defined, and its 95% interval; NaN where no fold has one."""
    finite = [value for value in values if np.isfinite(value)]
    return (float(np.mean(finite)) if finite else float("nan"), *interval(drawn))


def auc_table(
    scores: np.ndarray, targets: np.ndarray, groups: Sequence[str], fold: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """A row a class: class, images, positive, fold_1 ..., auc (their mean), low, high (95%, patients resampled).

    scores and targets [N, K]; a row has a class where its target is above one half. The last row is the mean over the
    classes, where there are several.
    """
    import pandas as pd

    truth, rows, samples = targets > 0.5, [], []
    folds = [f"fold_{k + 1}" for k in np.unique(fold)]
    for k, name in enumerate(classes):
        values, drawn = mean_auc(scores[:, k], truth[:, k], groups, fold)
        samples.append(drawn)
        auc = dict(zip(("auc", "low", "high"), summary(values, drawn), strict=True))
        rows.append({"class": name, "images": len(truth), "positive": int(truth[:, k].sum())})
        rows[-1] |= dict(zip(folds, values, strict=True)) | auc
    table = pd.DataFrame(rows)
    if len(classes) > 1:
        defined = table.auc.notna().to_numpy()
        low, high = interval(np.mean(np.array(samples)[defined], 0)) if defined.any() else (np.nan, np.nan)
        mean = {"class": "mean", "images": len(truth), "positive": int(truth.sum()), **table[[*folds, "auc"]].mean()}
        table = pd.concat([table, pd.DataFrame([mean | {"low": low, "high": high}])], ignore_index=True)
    return table


def forest(vectors: np.ndarray, targets: np.ndarray, exclusive: bool, fold: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities [N, K] of a random forest (Breiman, 2001) on vectors [N, D], such as pixels: out of fold."""
    from sklearn.ensemble import RandomForestClassifier

    found = np.zeros(targets.shape)
    columns = [targets.argmax(1)] if exclusive else [(target > 0.5).astype(int) for target in targets.T]
    for k in np.unique(fold):
        rest, held = fold != k, fold == k
        for column, target in enumerate(columns):
            model = RandomForestClassifier(TREES, n_jobs=-1, random_state=seed).fit(vectors[rest], target[rest])
            given = model.predict_proba(vectors[held])
            if exclusive:
                found[np.ix_(held, model.classes_)] = given
            else:
                found[held, column] = given[:, 1] if len(model.classes_) > 1 else float(model.classes_[0])
    return found
