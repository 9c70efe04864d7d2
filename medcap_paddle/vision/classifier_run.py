"""The folder of a trained classifier:

run.json          what is needed to predict: backbone, classes, task, preprocessing
folds.csv         image, patient, fold (1, 2 ...; "" where no fold was held out), digest of the file
fold1/ ...        weights.safetensors and history.csv of each fold, as `runtime.loop` writes them
predictions.csv   image, patient, fold, one probability a class: by the network that has not seen the patient
metrics.csv       AUC of each class, fold by fold, mean, 95% interval
left_out.csv      images without a row above, and why
results.png       ROC and calibration; curves.png: the loss of every epoch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import show
from ..drawing.roc import roc_and_calibration
from ..image import Preprocessing
from ..runtime import loop
from ..runtime.files import digest, read_sealed, write_sealed, write_table
from . import folds
from .backbones import Classifier, named
from .classification import Options, probabilities
from .labels import Labelled

if TYPE_CHECKING:
    import pandas as pd

FIX = "train again, or give the folder of a run"


@dataclass(frozen=True)
class Run:
    """A trained classifier."""

    folder: Path
    classes: tuple[str, ...]
    task: str
    preprocessing: Preprocessing
    mirror: bool
    networks: list[Classifier]

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """MedcapError where it is not there, damaged, or made with another image transform."""
        folder = Path(folder)
        facts = read_sealed(folder / "run.json", FIX)
        preprocessing = Preprocessing.from_record(facts["preprocessing"], str(folder / "run.json"), FIX)
        networks = []
        for k in range(facts["folds"]):
            networks.append(Classifier(named(facts["backbone"]), len(facts["classes"])))
            loop.load_weights(networks[-1], folder / f"fold{k + 1}" / loop.WEIGHTS, FIX)
        return cls(folder, tuple(facts["classes"]), facts["task"], preprocessing, facts["mirror"], networks)

    def by_network(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities [F, N, K] of each network."""
        pairs = [(image, np.zeros(len(self.classes), np.float32)) for image in pixels]
        options = self.preprocessing, self.task, self.mirror
        return np.stack([probabilities(network, pairs, *options) for network in self.networks])


def write(out: Path, labelled: Labelled, options: Options, fold: np.ndarray) -> None:
    """run.json, folds.csv and curves.png."""
    import pandas as pd

    facts = {**options.record(), "classes": list(labelled.classes), "task": labelled.task, "remarks": labelled.remarks}
    facts |= {"settings": asdict(options.settings), "preprocessing": options.preprocessing.record()}
    write_sealed(out / "run.json", facts)
    numbers = [str(k + 1) if k < options.folds else "" for k in fold]
    table = {"image": labelled.images, "patient": labelled.patients, "fold": numbers}
    write_table(out / "folds.csv", pd.DataFrame({**table, "digest": list(map(content, labelled.paths))}))
    histories = [pd.read_csv(out / f"fold{k + 1}" / loop.HISTORY) for k in range(options.folds)]
    show.curves(pd.concat(histories).groupby("epoch", as_index=False).mean()).savefig(out / "curves.png")


def content(path: str) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return digest(file)


def auc(labelled: Labelled, scores: np.ndarray, fold: np.ndarray) -> pd.DataFrame:
    """`folds.auc_table` of probabilities [N, K], of the rows that have them (no NaN)."""
    known = np.isfinite(scores).all(1)
    patients = np.array(labelled.patients)[known]
    return folds.auc_table(scores[known], labelled.targets[known], patients, fold[known], labelled.classes)


def write_results(out: Path, labelled: Labelled, scores: np.ndarray, fold: np.ndarray) -> None:
    """predictions.csv, metrics.csv, left_out.csv and results.png of probabilities [N, K], NaN where there are none."""
    import pandas as pd

    known = np.isfinite(scores).all(1)
    images, patients = (np.array(column)[known] for column in (labelled.images, labelled.patients))
    table = {"image": images, "patient": patients, "fold": fold[known] + 1}
    columns = dict(zip(labelled.classes, scores[known].T, strict=True))
    write_table(out / "predictions.csv", pd.DataFrame({**table, **columns}))
    write_table(out / "metrics.csv", auc(labelled, scores, fold))
    write_table(out / "left_out.csv", pd.DataFrame(labelled.left_out, columns=["image", "reason"]))
    figure = roc_and_calibration(scores[known], labelled.targets[known], fold[known], labelled.classes)
    figure.savefig(out / "results.png")
