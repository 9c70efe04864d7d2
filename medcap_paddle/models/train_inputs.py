"""What a run keeps of the inputs it was trained on: inputs.safetensors, beside its weights.

mean.<input>          [...] float32    the mean view of that input, of the shape of one view
typicality.<part>                      of `vision.typicality`, by the vectors; none of too few train studies
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..feature_file import POOLED
from ..runtime.files import MedcapError, digest, read_tensors, write_tensors
from ..vision import typicality
from ..vision.typicality import Typicality

if TYPE_CHECKING:
    from ..dataset import Studies

FILE = "inputs.safetensors"
Views = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Known:
    """What a run knows of its train inputs."""

    mean: dict[str, np.ndarray]
    typicality: Typicality | None  # None: too few train studies, or no vectors

    def parts(self) -> list[object]:
        """All that it holds, for `files.digest`."""
        tensors = self.typicality.tensors() if self.typicality else {}
        return [part for arrays in (self.mean, tensors) for name in sorted(arrays) for part in (name, arrays[name])]

    def percentiles(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        """How unlike the train studies each study is, 0 to 100, of its views [K, D]: float64 [B], NaN where unknown."""
        if self.typicality is None:
            return np.full(len(vectors), np.nan)
        each = np.split(self.typicality.percentile(np.concatenate(vectors)), np.cumsum([*map(len, vectors)])[:-1])
        return np.array([typicality.of_study(views) for views in each])


def mean(inputs: Views) -> dict[str, np.ndarray]:
    """The mean of each input over all images, whatever their study: [K, ...] a study to [...]."""
    totals = {name: sum(views.sum(0, dtype="float64") for views in arrays) for name, arrays in inputs.items()}
    return {name: (total / sum(map(len, inputs[name]))).astype("float32") for name, total in totals.items()}


def of(train: Studies) -> Known:
    """What is kept of the train studies. Images of one patient are alike: they are never compared with each other."""
    vectors, fitted = train.inputs.get(POOLED, []), None
    patients = [patient or study for study, patient in zip(train.table.study_id, train.patients, strict=True)]
    if len(vectors) and len(set(patients)) >= typicality.FOLDS:
        groups = np.repeat(patients, [*map(len, vectors)])
        images = [image for views in vectors for image in views]  # not one array: it would be a copy of them all
        rows = typicality.sampled(len(images))
        fitted = typicality.fit(np.stack([images[row] for row in rows]), groups[rows])
    return Known(mean(train.inputs), fitted)


def write(run_dir: str | Path, train: Studies, features: dict) -> None:
    """`of` the train studies; `features` are the attributes of the file they come from."""
    known = of(train)
    parts = {"mean": known.mean, "typicality": known.typicality.tensors() if known.typicality else {}}
    tensors = {f"{kind}.{name}": array for kind, arrays in parts.items() for name, array in arrays.items()}
    write_tensors(Path(run_dir) / FILE, tensors, {"features": digest(features)})


def read(run_dir: str | Path, features: dict, remedy: str) -> Known | None:
    """What `write` wrote; None in a run of an older version, which has no such file.

    MedcapError when the file is damaged, or was made from other features than those described by `features`.
    """
    path = Path(run_dir) / FILE
    if not path.exists():
        return None
    tensors, facts = read_tensors(path, remedy)
    if facts.get("features") != digest(features):
        raise MedcapError(f"{path} is of other features than the run was trained on: {remedy}")
    parts: dict[str, dict] = {"mean": {}, "typicality": {}}
    for name, array in tensors.items():
        kind, _, part = name.partition(".")
        parts.setdefault(kind, {})[part] = array
    return Known(parts["mean"], Typicality.of(parts["typicality"]) if parts["typicality"] else None)
