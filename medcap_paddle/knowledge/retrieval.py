"""The train studies most like a study, by the vectors of their images (FAISS); and the medoid of their reports.

    Index.of(train, settings).search(studies, k)   rows of train [n, k], the most similar first
    medoids(train, studies, settings, ks)          texts a study for each k
    choose(train, seed, ...)                       distance and k, measured on the tune part of train

A study never finds itself nor another study of its patient. Only train is indexed. The order of its rows changes
nothing: equally similar studies follow the order of their ids.

The vector of a study is the mean of its views. It is standardised by train; `DISTANCES` says how two are compared.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset import Studies
from ..feature_file import POOLED
from ..metrics import ngrams
from ..metrics.pairs import novel_of
from ..runtime.files import MedcapError
from ..splits import in_order, tune_part

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Distance:
    """How vectors [N, D] are made ready, and which flat index of FAISS compares them."""

    prepare: Callable[[np.ndarray], np.ndarray]
    index: str  # IndexFlatIP: the greatest product is first; IndexFlatL2: the smallest squared distance


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


DISTANCES: dict[str, Distance] = {
    "cosine": Distance(_directions, "IndexFlatIP"),
    "euclidean": Distance(np.asarray, "IndexFlatL2"),
}


@dataclass(frozen=True)
class RetrievalSettings:
    array: str = POOLED  # which input of the studies
    distance: str = "cosine"  # one of DISTANCES
    standardise: bool = True  # each number by its mean and deviation in train
    k: int = 20


def take(studies: Studies, rows: Sequence[int] | np.ndarray) -> Studies:
    """The studies at these rows, or where a mask is true."""
    rows = np.arange(len(studies))[np.asarray(rows)]
    inputs = {name: [arrays[i] for i in rows] for name, arrays in studies.inputs.items()}
    table = studies.table.iloc[rows].reset_index(drop=True)
    tokens, drafts = ([ids[i] for i in rows] if ids else [] for ids in (studies.tokens, studies.drafts))
    return replace(studies, table=table, inputs=inputs, tokens=tokens, drafts=drafts)


def patients(studies: Studies) -> list[str]:
    """Whose each study is; a study of no known patient has one of its own."""
    known = zip(studies.table.study_id, studies.patients, strict=True)
    return [f"patient {patient}" if patient else f"study {study}" for study, patient in known]


def vectors(studies: Studies, array: str = POOLED) -> np.ndarray:
    """A vector a study, the mean of its views [N, D] float32. MedcapError where the studies lack the input."""
    if array not in studies.inputs:
        raise MedcapError(f'retrieval needs the input "{array}": load the studies with it, or choose another array')
    return np.stack([views.reshape(len(views), -1).mean(0) for views in studies.inputs[array]]).astype("float32")


@dataclass(frozen=True)
class Index:
    """The train studies in the order of their ids."""

    settings: RetrievalSettings
    faiss: Any
    rows: np.ndarray  # [N] of the train table
    patients: list[str]  # [N]
    mean: np.ndarray  # [D]
    deviation: np.ndarray  # [D], or 1

    @classmethod
    def of(cls, train: Studies, settings: RetrievalSettings = RetrievalSettings()) -> Index:
        """MedcapError on studies of another split, an unknown distance, and a missing input."""
        if other := set(train.table.get("split", ())) - {"train"}:
            raise MedcapError(f"studies of {', '.join(sorted(other))} cannot be indexed: give those of train only")
        if settings.distance not in DISTANCES:
            raise MedcapError(f"distance is {settings.distance!r}: use one of {', '.join(DISTANCES)}")
        place = {study: row for row, study in enumerate(train.table.study_id)}
        rows = np.array([place[study] for study in in_order(place)], int)
        values, whose = vectors(train, settings.array)[rows], patients(train)
        mean, deviation = values.mean(0) * settings.standardise, values.std(0) if settings.standardise else 1
        deviation = np.where(deviation > 0, deviation, 1).astype("float32")
        index = getattr(_faiss(), DISTANCES[settings.distance].index)(values.shape[1])
        made = cls(settings, index, rows, [whose[row] for row in rows], mean, deviation)
        index.add(made.prepared(values))
        return made

    def prepared(self, values: np.ndarray) -> np.ndarray:
        """The vectors [n, D] that are compared."""
        prepare = DISTANCES[self.settings.distance].prepare
        return np.ascontiguousarray(prepare((values - self.mean) / self.deviation), "float32")

    def search(self, studies: Studies, k: int) -> np.ndarray:
        """Rows of the train table [n, k], most similar first. MedcapError where a study has fewer than k to find."""
        asked, known = patients(studies), Counter(self.patients)
        own = max((known[patient] for patient in asked), default=0)
        wanted = min(k + own, len(self.rows))
        _, found = self.faiss.search(self.prepared(vectors(studies, self.settings.array)), wanted)
        out = np.empty([len(studies), k], int)
        for row, patient in enumerate(asked):
            others = [place for place in found[row] if self.patients[place] != patient][:k]
            if len(others) < k:
                study = studies.table.study_id.iloc[row]
                raise MedcapError(f"{study} has {len(others)} train studies of other patients: choose k up to that")
            out[row] = self.rows[others]
        return out


def _faiss() -> Any:
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it reports its own loading
    import faiss

    return faiss


def agreement(texts: Sequence[str], frequency: ngrams.DocumentFrequency) -> np.ndarray:
    """CIDEr of each text as the prediction (columns) for each as the reference (rows) [k, k]."""
    counts = ngrams.NGramCounts.of(texts, texts)
    weights = counts.weights(frequency)
    return np.stack([one.cider(weights) for one in counts.constants()], 1)


def medoid(agreement: np.ndarray) -> int:
    """The text that agrees best with the others, on average; among equal ones the first.

    The text that a reader of all k would choose to stand for them (Kaufman and Rousseeuw, 1990).
    """
    return int((agreement.sum(0) - agreement.diagonal()).argmax())


def medoids(
    train: Studies, studies: Studies, settings: RetrievalSettings = RetrievalSettings(), ks: Sequence[int] = ()
) -> dict[int, list[str]]:
    """For each k (that of the settings where none is given) a text a study: the medoid of the k nearest reports."""
    ks, reports = list(ks) or [settings.k], train.table.report.to_numpy()
    frequency = ngrams.document_frequency(list(reports))
    out: dict[int, list[str]] = {k: [] for k in ks}
    for rows in Index.of(train, settings).search(studies, max(ks)):
        texts = reports[rows]
        scores = agreement(list(texts), frequency) if max(ks) > 1 else np.zeros([1, 1])
        for k in ks:
            out[k].append(str(texts[medoid(scores[:k, :k])]))
    return out


def split_tune(train: Studies, seed: int) -> tuple[Studies, Studies]:
    """The rest of train, and its tune part (`splits.tune_part`)."""
    ids = list(train.table.study_id)
    chosen = tune_part(ids, seed, dict(zip(ids, patients(train), strict=True)))
    mask = np.array([study in chosen for study in ids])
    return take(train, ~mask), take(train, mask)


KS = (1, 3, 5, 10, 20, 40)


def choose(
    train: Studies, seed: int, candidates: Sequence[RetrievalSettings] = (RetrievalSettings(),), ks: Sequence[int] = KS
) -> tuple[RetrievalSettings, pd.DataFrame]:
    """The settings whose medoids have the best CIDEr on the tune part of train, by its novel reports; and the table of
    all (`CIDEr novel`, `CIDEr` a row), the best first. val is not looked at.
    """
    import pandas as pd

    rest, tune = split_tune(train, seed)
    references, rows = list(tune.table.report), []
    novel = novel_of(references, rest.table.report)
    novel = novel if novel.any() else ~novel
    for settings in candidates:
        for k, texts in medoids(rest, tune, settings, [k for k in ks if k <= len(rest) // 2] or [1]).items():
            scores = ngrams.cider(references, texts)
            rows.append((replace(settings, k=k), scores[novel].mean(), scores.mean()))
    rows.sort(key=lambda row: -row[1])
    shown = [{**vars(settings), "CIDEr novel": novel, "CIDEr": mean} for settings, novel, mean in rows]
    return rows[0][0], pd.DataFrame(shown)


def baseline(train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """The medoid of the k nearest train reports for each study; k is chosen on the tune part of train."""
    settings, _ = choose(train, seed)
    return medoids(train, studies, settings)[settings.k]
