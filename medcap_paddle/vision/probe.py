"""What features know of findings: AUC of scores, and of a linear model on features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..clinical.findings import LABELS

STRENGTH = 0.03  # of a probe, scikit-learn's C
WEAK = 0.003  # strength of a probe on a thousand numbers of a few hundred images
MINIMUM = 5  # studies that have a finding, and that do not, for an AUC


def auc_per_label(scores: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Area under the ROC curve of every label that at least MINIMUM rows have and as many have not.

    scores and targets [S, L]: numbers that rise with the probability of a label, and 0 or 1.
    """
    from sklearn.metrics import roc_auc_score

    enough = [k for k in range(len(labels)) if _both(targets[:, k])]
    return {labels[k]: float(roc_auc_score(targets[:, k], scores[:, k])) for k in enough}


def probe(
    features: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray, labels: Sequence[str] = LABELS
) -> tuple[dict[str, float], list[str]]:
    """How well a linear model reads each label (a linear probe, Alain and Bengio, 2016): its AUC on the test studies,
    and the labels with too few positives.

    features [S, D] and targets [S, L], a row a study; `train` and `test` are masks [S].
    """
    enough = [k for k in range(len(labels)) if all(_both(targets[mask, k]) for mask in (train, test))]
    scores = np.zeros((int(test.sum()), len(labels)))
    scores[:, enough] = linear(features, targets[:, enough], train)[test]
    auc = auc_per_label(scores[:, enough], targets[test][:, enough], [labels[k] for k in enough])
    return auc, [label for label in labels if label not in auc]


def linear(features: np.ndarray, targets: np.ndarray, train: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """The logits [S, L] of a logistic regression for each label, fitted on the rows of the mask `train` [S].

    features [S, D] and targets [S, L]; every label stands in some rows of `train` and is absent from others.
    """
    weight, bias = coefficients(features[train], targets[train], strength)
    return features @ weight + bias


def coefficients(
    features: np.ndarray, targets: np.ndarray, strength: float = STRENGTH
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [D, L] and bias [L] of a logistic regression for each label on features [S, D].

    `strength` is scikit-learn's C: the smaller, the nearer the weights are to 0; `WEAK` for many features and few rows.
    The features are divided by one deviation for all columns: a column that hardly varies would get a huge weight by
    its own. A label that fewer than MINIMUM rows of targets [S, L] have, or have not, gets its log-odds and no
    weight.
    """
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(0)
    scale = (features - mean).std() or 1.0
    frequency = (targets.sum(0) + 0.5) / (len(targets) + 1)
    weight, bias = np.zeros((features.shape[1], targets.shape[1])), np.log(frequency / (1 - frequency))
    for k, target in enumerate(targets.T):
        if _both(target):
            model = LogisticRegression(C=strength, max_iter=500).fit((features - mean) / scale, target)
            weight[:, k] = model.coef_[0] / scale
            bias[k] = model.intercept_[0] - mean @ weight[:, k]
    return weight, bias


def fitted(
    features: np.ndarray, targets: np.ndarray, labels: Sequence[str] = LABELS
) -> tuple[dict[str, float], list[str]]:
    """`probe`, fitted on the first 60% of the studies and tested on the others."""
    train = np.arange(len(features)) < 0.6 * len(features)
    return probe(features, targets, train, ~train, labels)


def direct(scores: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """The AUC of a network's own numbers for each label [S, L], and the labels with too few positives."""
    auc = auc_per_label(scores, targets, labels)
    return auc, [label for label in labels if label not in auc]


def auc_interval(
    scores: np.ndarray, target: np.ndarray, groups: Sequence[str], number: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """The AUC of scores [S] for one label [S], 0 or 1, and its 95% interval (low, high).

    The percentile bootstrap (Efron and Tibshirani, 1993): `number` resamples with replacement of `groups`, the patient
    of each row, since the films of a patient are alike. Equal scores count half. NaN where it is undefined; no interval
    where that is so in more than 5% of the resamples.
    """
    value, found = auc_resamples(scores, target, groups, number, seed)
    return value, *interval(found)


def interval(found: np.ndarray) -> tuple[float, float]:
    """The 95% interval of resamples [R]; NaN where more than 5% of them are undefined."""
    defined = found[np.isfinite(found)]
    low, high = np.percentile(defined, (2.5, 97.5)) if len(defined) >= 0.95 * len(found) else (np.nan, np.nan)
    return float(low), float(high)


def auc_resamples(
    scores: np.ndarray, target: np.ndarray, groups: Sequence[str], number: int = 1000, seed: int = 0
) -> tuple[float, np.ndarray]:
    """The AUC and its values over the resamples [number] of `auc_interval`; NaN where it is undefined."""
    values, level = np.unique(scores, return_inverse=True)
    names, group = np.unique(np.asarray(groups, str), return_inverse=True)
    rng, sick = np.random.default_rng(seed), np.asarray(target, bool)

    def auc(times: np.ndarray) -> float:
        ill, well = (np.bincount(level[rows], times[group[rows]], len(values)) for rows in (sick, ~sick))
        pairs = ill.sum() * well.sum()
        return (ill * (np.cumsum(well) - well / 2)).sum() / pairs if pairs else np.nan

    drawn = (np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(number))
    return float(auc(np.ones(len(names)))), np.array([auc(times) for times in drawn])


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, groups: Sequence[str], folds: int = 5, strength: float = STRENGTH
) -> np.ndarray:
    """Logits of the rows themselves [S, L], by `coefficients`: of each by a model that saw no row of its group, such as
    its patient.
    """
    from sklearn.model_selection import GroupKFold

    parts = GroupKFold(min(folds, len(set(groups)))).split(features, groups=groups)
    logits = np.empty(targets.shape)
    for rest, part in parts:
        weight, bias = coefficients(features[rest], targets[rest], strength)
        logits[part] = features[part] @ weight + bias
    return logits


def _both(target: np.ndarray) -> bool:
    return MINIMUM <= target.sum() <= len(target) - MINIMUM


def by_study(features: np.ndarray, study_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A row a study, the maximum over its views, [S, D], and the study ids in order; features [N, D], a row a view.

    For the probe the maximum reads a little better than the mean, and as well as both together.
    """
    ids = list(dict.fromkeys(study_ids))
    rows = {study: [] for study in ids}
    for study, row in zip(study_ids, features, strict=True):
        rows[study].append(row)
    return np.stack([np.max(rows[study], 0) for study in ids]), ids
