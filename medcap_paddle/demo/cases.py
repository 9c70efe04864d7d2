"""The studies that a page offers: those of the reported split that have a film, with their reports.

Reads, below a work folder, reports.csv, images.csv, collection.json (01) and runs/*/predictions.csv (05).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..clinical.findings import from_mesh
from ..metrics import ngrams
from ..metrics.pairs import prepare, read_predictions
from ..reports import Collection
from ..runtime.files import MedcapError, read_table
from ..runtime.loop import WEIGHTS
from .films import Film

MAKER = "run 01_reports.ipynb, or make run"
WORST = 10


@dataclass(frozen=True)
class Case:
    study_id: str
    patient: str
    report: str  # of the radiologist
    findings: tuple[str, ...]
    paths: tuple[str, ...]

    def films(self) -> tuple[list[Film], list[str]]:
        """The films that can be read, and why others cannot. MedcapError where none can."""
        found, failures = [], []
        for number, path in enumerate(self.paths, 1):
            try:
                found.append(Film.of(path, f"film {number}"))
            except MedcapError as error:
                failures.append(str(error))
        if not found:
            raise MedcapError(f"no film of {self.study_id} can be read: {'; '.join(failures)}")
        return found, failures


@dataclass(frozen=True)
class Cases:
    """Every study of a collection, by id; `offered` are the ids of those of the reported split."""

    every: dict[str, Case]
    offered: tuple[str, ...]

    @classmethod
    def load(cls, work: str | Path) -> Cases:
        work = Path(work)
        split = Collection.load(work).reported_split
        images = read_table(work / "images.csv", ["study_id", "path"], MAKER)
        paths = {study: tuple(filter(None, rows.path)) for study, rows in images.groupby("study_id", sort=False)}
        table = read_table(work / "reports.csv", ["study_id", "split", "report", "mesh"], MAKER)
        patients = table.patient if "patient" in table else [""] * len(table)
        every = {
            study: Case(study, patient, text, tuple(dict.fromkeys(f.name for f in from_mesh(mesh))), paths[study])
            for study, patient, text, mesh in zip(table.study_id, patients, table.report, table.mesh, strict=True)
            if paths.get(study)
        }
        offered = tuple(study for study in table.study_id[table.split == split] if study in every)
        if not offered:
            raise MedcapError(f"{work} has no {split} study with a film: {MAKER}")
        return cls(every, offered)

    def findings(self) -> dict[str, int]:
        """The findings that a collection's MeSH terms name, and of how many studies; the most frequent first."""
        return dict(Counter(name for study in self.offered for name in self.every[study].findings).most_common())

    def having(self, finding: str) -> list[str]:
        return [study for study in self.offered if finding in self.every[study].findings]

    def worst(self, predictions: str | Path, number: int = WORST) -> list[str]:
        """The studies whose predictions have the least CIDEr, the worst first."""
        table = read_predictions(predictions)
        scores = ngrams.cider(*prepare(table))
        ids = [table.study_id.iloc[row] for row in np.argsort(scores, kind="stable")]
        return [study for study in ids if study in set(self.offered)][:number]


def run_names(work: str | Path) -> list[str]:
    """The trained runs of a work folder that have their weights, the newest first."""
    found = [path for path in Path(work).glob(f"runs/*/{WEIGHTS}") if (path.parent / "model.json").exists()]
    return [path.parent.name for path in sorted(found, key=lambda path: (-path.stat().st_mtime, path))]


def written(work: str | Path) -> list[str]:
    """The runs that have predictions."""
    return sorted(path.parent.name for path in Path(work).glob("runs/*/predictions.csv"))
