"""What a decoder may know of a study beside its images: knowledge.safetensors, in a work folder and in a run.

It is made from train reports and train features (`knowledge.remember`). It turns the vectors of any study into two
inputs of one view each, with N entities and R relations of the graph:

    nodes    [1, N, 3]    logit that the report tells the entity; decided: 1 where it is above the entity's threshold;
                          told: 1 where the report tells it, known of train studies, elsewhere as decided
    triples  [1, R, 4]    numbers of head, relation and tail; the share of the most similar train studies that say it

A train study is never its own witness: its logits are of a model that did not see its patient, and its neighbours are
studies of other patients. MedcapError when the file is damaged or of other features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError, digest, read_tensors, write_tensors

if TYPE_CHECKING:
    import pandas as pd

FILE, MAKER = "knowledge.safetensors", "run 32_decoders.ipynb"
TRAINER = "run 04_train.ipynb"  # which writes that of a run
INPUTS = ("nodes", "triples")
ATTRIBUTE = "memory"  # of a run: the fingerprint of its memory
LOGIT, DECIDED, TOLD = range(3)
HEAD, RELATION, TAIL, SHARE = range(4)
RELATIONS = 4  # kinds of relations
Inputs = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Memory:
    """`tensors`, S train studies with vectors of D numbers:

    weight [D, N], bias, threshold [N]    of the logits, from the strongest of the views
    mean, deviation [D]                   of the vectors by which studies are compared, the mean over the views
    vectors [S, D]                        standardised, of length 1
    says [S, R], told [S, N]              of their reports, 0 or 1
    logit [S, N], share [S, R]            of themselves, patients apart
    relations [R, 3]                      head, relation, tail

    `facts`: studies (ids, S), entities (names, N), drafts (texts, S: what the image decides, in fixed sentences),
    neighbours (how many), features (digest of the file's content), reports (digest of those of train).
    """

    tensors: dict[str, np.ndarray]
    facts: dict

    @property
    def fingerprint(self) -> str:
        return digest(self.facts, *(part for name in sorted(self.tensors) for part in (name, self.tensors[name])))

    def rows(self, study_ids: Sequence[str]) -> list[int]:
        """Of train studies; MedcapError when one is not known."""
        place = {study: row for row, study in enumerate(self.facts["studies"])}
        if missing := [study for study in study_ids if study not in place]:
            raise MedcapError(f"{FILE} does not know the train study {missing[0]}: {MAKER} again")
        return [place[study] for study in study_ids]

    def drafts_of(self, study_ids: Sequence[str]) -> list[str]:
        """The draft of each train study; [] where there are none."""
        return [self.facts["drafts"][row] for row in self.rows(study_ids)] if self.facts["drafts"] else []

    def of(self, split: str, table: pd.DataFrame, vectors: Sequence[np.ndarray]) -> Inputs:
        """The inputs of the studies of a split, a row of `table` each. MedcapError on a study that was of train, since
        it would find itself, and on train reports that are not those of the memory.
        """
        study_ids = list(table.study_id)
        if split == "train":
            if self.facts["reports"] != fingerprint(table):
                raise MedcapError(f"{FILE} was made from other train reports: {MAKER} again")
            return self.of_train(study_ids)
        known = set(self.facts["studies"])
        if own := [study for study in study_ids if study in known]:
            raise MedcapError(f"{own[0]} of {split} is a train study in {FILE}: {MAKER} again, and train again")
        return self.of_others(vectors)

    def of_train(self, study_ids: Sequence[str]) -> Inputs:
        """The inputs of train studies."""
        rows = self.rows(study_ids)
        return self._inputs(self.tensors["logit"][rows], self.tensors["share"][rows], self.tensors["told"][rows])

    def of_others(self, vectors: Sequence[np.ndarray]) -> Inputs:
        """The inputs of studies that are not of train, from the vectors of their views, [K, D] each."""
        strongest, mean = (np.stack([how(views, 0) for views in vectors]) for how in (np.max, np.mean))
        asked = prepare(mean, self.tensors["mean"], self.tensors["deviation"])
        nearest = np.argsort(-asked @ self.tensors["vectors"].T, 1, kind="stable")[:, : self.facts["neighbours"]]
        share = self.tensors["says"][nearest].mean(1, dtype="float32")
        logit = strongest @ self.tensors["weight"] + self.tensors["bias"]
        return self._inputs(logit, share, logit > self.tensors["threshold"])

    def _inputs(self, logit: np.ndarray, share: np.ndarray, told: np.ndarray) -> Inputs:
        decided, relations = logit > self.tensors["threshold"], self.tensors["relations"].astype("float32")
        nodes = np.stack([logit, decided, told], -1).astype("float32")  # [n, N, 3]
        triples = [np.concatenate([relations, row[:, None]], 1, dtype="float32") for row in share]
        return {"nodes": [*nodes[:, None]], "triples": [row[None] for row in triples]}

    def save(self, folder: str | Path) -> None:
        write_tensors(Path(folder) / FILE, self.tensors, self.facts)

    @classmethod
    def load(cls, folder: str | Path, features: str = "", run: dict | None = None) -> Memory:
        """That of a folder. `features` is the digest of the features that it has to be of, where that is known; `run`
        the attributes of the run that it has to be the memory of. Without `features` the folder is that of a run.
        """
        path = Path(folder) / FILE
        memory = cls(*read_tensors(path, MAKER if features else TRAINER))
        if features and memory.facts["features"] != features:
            raise MedcapError(f"{path} was made from other features: {MAKER} again")
        if run and run.get(ATTRIBUTE, memory.fingerprint) != memory.fingerprint:
            raise MedcapError(f"{path} is not what the run was trained with: train it again")
        return memory


def fingerprint(table: pd.DataFrame) -> str:
    """Of the train studies and their reports, in whatever order."""
    return digest(*sorted(zip(table.study_id, table.report, strict=True)))


def prepare(vectors: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Vectors [n, D] standardised and of length 1: their products are cosines."""
    vectors = (vectors - mean) / deviation
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
