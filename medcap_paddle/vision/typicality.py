"""Typicality: how unlike the train images an image is, from the feature vectors of both.

    fit(features, groups)        -> Typicality, of the train images; of many, of the `sampled`
    .percentile(features)        -> for each image, the percentage of the train images that are at most as strange
    of_study(percentiles)        -> the same for a study, from those of its views
    warning(percentile)          -> plain words, or ""
    not_drawn(paths)             -> the words for a run that was trained on drawings; needs no features

A captioner writes as fluent a report for a cat as for a chest. How strange an image is, is its distance from the
nearest train image (Ramaswamy et al., "Efficient algorithms for mining outliers", 2000) after whitening, that is
Mahalanobis' distance (1936), with the covariance of Ledoit and Wolf ("A well-conditioned estimator for
large-dimensional covariance matrices", 2004), which needs no more rows than columns. The nearest image, and not the
mean, since frontal and lateral views lie apart. The distances of rows that a covariance was fitted on are too small
to compare with: each train row is measured by a fit without its group (out of fold).

Measured on images kept back from the comparison of methods (AUROC; share beyond WARN). They are not untouched: the
distance from the mean had .983 for Shenzhen and Montgomery on them, and the nearest image took its place.
- 3,217 drawings, 78 logits of the encoder "small": unseen drawings .9%; films of NIH .997, 88%; of Shenzhen and
  Montgomery .993, 74%; of JSRT 1.000, 100%.
- 495 films of NIH, 1,280 numbers of EfficientNet-Lite0: films of other patients 1.5%; drawings .999, 100%; photographs
  1.000, 100%; negatives .972, 60%; films of Shenzhen and Montgomery .829, 4%; of JSRT .714, 3%.
It tells what is unlike the train images, not what is wrong: films of another hospital pass. With few train films the
threshold is coarse: 3.4% false alarms with 60, and 20% of the negatives with 120.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..runtime.drawing import is_drawing
from ..runtime.files import MedcapError

WARN = 99.0  # percentile
FOLDS = 5
ROWS = 5_000  # more train images are sampled: a run keeps ROWS vectors
SMALLEST = 1e-6  # of the shrinkage: columns that repeat others would make the covariance singular
DISTRUST = "do not trust the report."


@dataclass(frozen=True, eq=False)
class Typicality:
    """The train images of a run: what is needed to place another among them."""

    mean: np.ndarray  # float32 [D]
    whitening: np.ndarray  # float32 [D, D]: (x - mean) @ whitening has the identity as its covariance
    rows: np.ndarray  # float32 [N, D]: the train images, whitened
    distances: np.ndarray  # float64 [N] of the train images, out of fold, in order

    def percentile(self, features: np.ndarray) -> np.ndarray:
        """The percentage of train images that are at most as strange as each of features [n, D]: float64 [n], 0 to
        100, linear between two train images; 100 beyond them all. MedcapError where `features` do not fit.
        """
        features = _checked(features, "the images")
        if features.shape[1] != len(self.mean):
            raise MedcapError(
                f"the images have {features.shape[1]} features, but the run was trained on {len(self.mean)}: "
                "use the run's encoder"
            )
        values, counts = np.unique(self.distances, return_counts=True)
        shares = 100 * np.cumsum(counts) / len(self.distances)
        return np.interp(self._distance(features), [0, *values], [0, *shares])

    def _distance(self, features: np.ndarray) -> np.ndarray:
        return _nearest(_white(features, self.mean, self.whitening), self.rows)

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays by name, for a safetensors file; `of` is the inverse."""
        return asdict(self)

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> Typicality:
        """MedcapError where these are not the arrays of a Typicality."""
        names = list(cls.__dataclass_fields__)
        shapes = [np.shape(tensors.get(name)) for name in names]
        D, N = shapes[0], shapes[-1]
        if (len(D), len(N)) != (1, 1) or shapes != [D, D + D, N + D, N] or 0 in N:
            raise MedcapError(f"no typicality: {', '.join(names)} have the shapes {shapes}; train the run again")
        return cls(**{name: tensors[name] for name in names})


def sampled(count: int, seed: int = 0) -> np.ndarray:
    """The rows of `count` train images that are kept: all, or ROWS of them in their order."""
    if count <= ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, ROWS, replace=False))


def fit(features: np.ndarray, groups: Sequence[str], seed: int = 0) -> Typicality:
    """The typicality of train images: features [N, D], and the study, or better the patient, of each row.

    `seed` deals the groups to the folds. Give a sample where there are many. MedcapError on numbers that are not
    finite, on fewer groups than FOLDS, and on images that are all alike.
    """
    features, rng = _checked(features, "the train images"), np.random.default_rng(seed)
    names, group = np.unique(np.asarray(groups, str), return_inverse=True)
    if len(group) != len(features):
        raise MedcapError(f"{len(features)} rows of features, but {len(group)} groups: name the group of each row")
    if len(names) < FOLDS:
        raise MedcapError(f"typicality needs {FOLDS} train studies, not {len(names)}: train on more")
    fold = (rng.permutation(len(names)) % FOLDS)[group]
    distances = np.zeros(len(features))
    for k in np.unique(fold):
        left, kept = features[fold == k], features[fold != k]
        whitening = _whiten(kept)
        distances[fold == k] = _nearest(_white(left, *whitening), _white(kept, *whitening))
    whitening = _whiten(features)
    return Typicality(*whitening, _white(features, *whitening), np.sort(distances))


def _checked(features: np.ndarray, what: str) -> np.ndarray:
    features = np.asarray(features, np.float32)
    if features.ndim != 2:
        raise MedcapError(f"the features of {what} have the shape {features.shape}: give a row an image, [N, D]")
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise MedcapError(f"the features of {what} are not finite (row {row}): run 02_features.ipynb again")
    return features


def _whiten(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and whitening [D, D] of features [N, D]."""
    from scipy.linalg import solve_triangular
    from sklearn.covariance import ledoit_wolf_shrinkage

    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    covariance = centred.T @ centred / len(centred)
    variance = np.trace(covariance) / len(covariance)
    if not variance > 0:
        raise MedcapError("the train images have all the same features: give different images, or another encoder")
    share = max(SMALLEST, ledoit_wolf_shrinkage(centred / np.sqrt(variance), assume_centered=True))
    identity = np.eye(len(covariance))
    root = np.linalg.cholesky((1 - share) * covariance + share * variance * identity)
    whitening = solve_triangular(root, identity, lower=True).T
    return mean.astype(np.float32), np.ascontiguousarray(whitening, np.float32)


def _white(features: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    return ((features - mean) @ whitening).astype(np.float32)


def _nearest(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The distance of each row from the nearest among others, float64 [n]."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return pairwise_distances_argmin_min(rows, among)[1].astype(np.float64) if len(rows) else np.zeros(0)


def of_study(percentiles: Sequence[float]) -> float:
    """The percentile of a study: that of its strangest view, among as many views as it has.

    The strangest of n typical views is beyond the 99th percentile more often than one view is. Where p is the share of
    train views that are at most as strange as the strangest, p ** n is the share of n independent views that all are
    (Sidak, 1967). Views of one study resemble each other, so false alarms are fewer than 1 in 100, if anything.
    """
    if not len(percentiles):
        raise MedcapError("a study without an image has no typicality: give one of its images at least")
    return float(100 * (np.max(percentiles) / 100) ** len(percentiles))


def warning(percentile: float) -> str:
    """What a reader must know of a study at that percentile; "" up to WARN."""
    if not percentile > WARN:  # NaN: unknown
        return ""
    share = "every one" if percentile >= 100 else f"{np.floor(10 * percentile) / 10:.1f}%"
    return f"This study is unlike the train studies (more unusual than {share} of them): {DISTRUST}"


def not_drawn(paths: Sequence[str | Path]) -> str:
    """What the reader of a run that was trained on drawings must know: which images are none; "" where all are."""
    names = ", ".join(Path(path).name for path in paths if not is_drawing(path))
    return f"The run was trained on drawings and knows no radiograph; not drawn: {names}: {DISTRUST}" if names else ""
