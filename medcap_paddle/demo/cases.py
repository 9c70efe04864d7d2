"""The studies that a page offers: those of the reported split that have a film, with their reports.

Reads, below a work folder, reports.csv, images.csv and collection.json (01); and the predictions of a run (05).
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
from .films import Film, png

MAKER = "run 01_reports.ipynb, or make run"
ALL, WORST, FEW = "all", "worst", 10
SMALL = 256  # pixels


@dataclass(frozen=True)
class Case:
    study_id: str
    patient: str
    report: str  # the reference
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
    reports: str  # "real", "phantom" or "phrased": who wrote them

    @classmethod
    def load(cls, work: str | Path) -> Cases:
        work = Path(work)
        collection = Collection.load(work)
        split = collection.reported_split
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
        return cls(every, offered, collection.reports)

    def choices(self, predictions: str | Path) -> dict[str, list[str]]:
        """Lists of studies by name: ALL of them; the WORST of the predictions, where there are any; those with a
        finding that the collection's MeSH terms name, the most frequent first.
        """
        lists = {ALL: list(self.offered)} | ({WORST: self.worst(predictions)} if Path(predictions).exists() else {})
        counts = Counter(name for study in self.offered for name in self.every[study].findings)
        having = {name: [s for s in self.offered if name in self.every[s].findings] for name, _ in counts.most_common()}
        return lists | having

    def worst(self, predictions: str | Path) -> list[str]:
        """The FEW studies whose predictions have the least CIDEr, the worst first."""
        table = read_predictions(predictions)
        scores = ngrams.cider(*prepare(table))
        ids = [table.study_id.iloc[row] for row in np.argsort(scores, kind="stable")]
        return [study for study in ids if study in set(self.offered)][:FEW]

    def thumbnail(self, study_id: str) -> bytes:
        """The first film of a study as a small PNG."""
        return png(self.every[study_id].films()[0][0].pixels, SMALL)
