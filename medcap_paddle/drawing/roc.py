"""How well probabilities tell classes: ROC curves, and how often a probability comes true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8  # classes, the most frequent ones
BINS = 10  # of a calibration curve, with as many images each


def roc_and_calibration(
    probabilities: np.ndarray, targets: np.ndarray, fold: np.ndarray, classes: Sequence[str]
) -> Figure:
    """Left the ROC curve of each class, thin that of each fold; right the share of images that have it, by probability.

    probabilities and targets [N, K], fold [N]. A class that all or none have is passed over.
    """
    from matplotlib import pyplot as plt
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

    truth = targets > 0.5
    both = [k for k in np.argsort(-truth.sum(0), kind="stable") if truth[:, k].any() and not truth[:, k].all()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", dpi=90)
    plt.close(figure)  # else the notebook shows it a second time
    for number, k in enumerate(both[:SHOWN]):
        y, p, color = truth[:, k], probabilities[:, k], f"C{number}"
        for part in np.unique(fold):
            if 0 < y[fold == part].sum() < (fold == part).sum():
                left.plot(*roc_curve(y[fold == part], p[fold == part])[:2], color=color, lw=0.6, alpha=0.4)
        name = str(classes[k]).replace("$", r"\$")
        left.plot(*roc_curve(y, p)[:2], color=color, lw=2, label=f"{name}: {roc_auc_score(y, p):.3f}")
        share, said = calibration_curve(y, p, n_bins=BINS, strategy="quantile")
        right.plot(said, share, "o-", ms=4, color=color, label=f"{name}: Brier {brier_score_loss(y, p):.3f}")
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, all folds together; thin: each fold")
    right.set(xlabel="probability that is told", ylabel="share that has it", title="calibration")
    for ax in (left, right):
        ax.plot([0, 1], [0, 1], color="#8c8c8c", ls="--", lw=1)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9, loc="lower right" if ax is left else "upper left")
    return figure
