"""What features know of findings: AUC of scores, and of a linear model on features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..clinical.findings import LABELS

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
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    enough = [k for k in range(len(labels)) if all(_both(targets[mask, k]) for mask in (train, test))]
    scores = np.zeros((int(test.sum()), len(labels)))
    for k in enough:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
        scores[:, k] = model.fit(features[train], targets[train, k]).decision_function(features[test])
    auc = auc_per_label(scores[:, enough], targets[test][:, enough], [labels[k] for k in enough])
    return auc, [label for label in labels if label not in auc]


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
