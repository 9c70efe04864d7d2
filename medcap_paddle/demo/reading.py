"""A study read by a run: all that a page shows of it.

    Reader.load(run_dir, work)                    a run with its encoder, and its train studies where they are there
    .read(films, study_id, patient) -> Reading

One study at a time, in whatever thread: the others wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import paddle

from .. import dataset, encoder, feature_file, generate, image, runs
from ..dataset import Studies
from ..encoder import Encoder
from ..knowledge.retrieval import Index
from ..models import reliance
from ..runtime.files import MedcapError
from ..runtime.quiet import ignore_harmless
from ..vision import predictor, typicality
from .films import Film

QUEUE = threading.Lock()  # who holds it may use the processor: networks, and matplotlib, which knows no threads
NEIGHBOURS = 3
GUEST = "\0guest"  # no study of a collection has this id
Warned = tuple[str, dict[str, object]]  # a key of `words`, and what it says


@contextmanager
def turn() -> Iterator[None]:
    """Wait for one's turn, and have Paddle compute at once: where a thread imported it, other threads would only write
    down a program.
    """
    with QUEUE:
        paddle.disable_static()
        yield


@dataclass(frozen=True, eq=False)
class Reading:
    """What a run says of one study; T words are those of the best report."""

    reports: list[tuple[str, float]]  # the beams, as (text, score), best first
    reliance: np.ndarray  # [T], in nats
    attention: np.ndarray | None  # [T, K, G]: of places of views, row by row; None: the decoder has none
    neighbours: list[tuple[str, str]]  # (study id, report) of the train studies that are most alike
    typicality: float  # percentile; NaN where it is unknown
    warnings: list[Warned]  # why not to trust it
    missing: str  # why there are no neighbours; "" where there are

    @property
    def text(self) -> str:
        return self.reports[0][0]

    @property
    def placed(self) -> bool:
        """Whether its typicality is known."""
        return bool(np.isfinite(self.typicality))

    @property
    def words(self) -> list[str]:
        return self.text.split()


@dataclass(frozen=True, eq=False)
class Reader:
    run: runs.Run
    encoder: Encoder
    index: Index | None
    train: Studies | None
    missing: str

    @classmethod
    def load(cls, run_dir: str | Path, work: str | Path, weights: str | Path | None = None) -> Reader:
        """`weights` is the encoder's file where it is not the usual one. MedcapError when the run is damaged, and when
        the encoder is not the one that it was trained on. Without train studies of its features, only these are absent.
        """
        ignore_harmless()
        with turn():
            return cls._load(run_dir, work, weights)

    @classmethod
    def _load(cls, run_dir: str | Path, work: str | Path, weights: str | Path | None) -> Reader:
        run, train, index, missing = runs.load(run_dir), None, None, ""
        run.known  # an older run is refused here, and not with the first study  # noqa: B018
        reader = _encoder(run.features["encoder"], weights, tuple(feature_file.needed(run.config)))
        feature_file.check(feature_file.describe(reader), run.features, f"encoder {reader.name}")
        try:
            train = dataset.load(work, "train", run.vocab, run.config, run.features)
            index = Index.of(train)
        except MedcapError as error:
            missing = str(error)
        return cls(run, reader, index, train, missing)

    def read(self, films: Sequence[Film], study_id: str = GUEST, patient: str = "") -> Reading:
        """`study_id` and `patient` are those of a study of the collection, which is not its own neighbour."""
        with turn():
            pictures = np.stack([image.transform(film.pixels, self.encoder.preprocessing) for film in films])
            arrays = predictor.eager(self.encoder)(pictures)  # [K, ...] by name
            vectors = arrays[feature_file.POOLED]
            if self.run.memory:
                arrays |= {name: one for name, [one] in self.run.memory.of_others([vectors]).items()}
            inputs = {name: arrays[name][None] for name in self.run.model.reads}
            reports = generate.search(self.run.model, self.run.vocab, inputs, self.run.config)[0]
            text = reports[0][0]
            [gains] = reliance.per_word(self.run.model, self.run.vocab, inputs, self.run.mean, [text])
            [percentile] = self.run.known.percentiles([vectors])
            return Reading(
                *(reports, gains, self._attention(inputs, text), self._neighbours(vectors, study_id, patient)),
                *(float(percentile), self._warnings(films, percentile), self.missing),
            )

    @paddle.no_grad()
    def _attention(self, inputs: dict[str, np.ndarray], text: str) -> np.ndarray | None:
        words = text.split()
        if not hasattr(self.run.model, "attention") or not words:
            return None
        before = self.run.vocab.to_indices(["<bos>", *words[:-1]])
        named = {name: paddle.to_tensor(array) for name, array in inputs.items()}
        return self.run.model.attention(named, paddle.to_tensor([before], "int64"))[0].numpy()

    def _neighbours(self, vectors: np.ndarray, study_id: str, patient: str) -> list[tuple[str, str]]:
        import pandas as pd

        if self.index is None:
            return []
        table = pd.DataFrame({"study_id": [study_id], "patient": [patient]})
        one = Studies(table, {feature_file.POOLED: [vectors]}, [[]], self.train.pad)
        [rows] = self.index.search(one, NEIGHBOURS)
        return [(self.train.table.study_id[row], self.train.table.report[row]) for row in rows]

    def _warnings(self, films: Sequence[Film], percentile: float) -> list[Warned]:
        found: list[Warned] = []
        strangers = ", ".join(film.name for film in films if not film.drawn)
        if self.run.features.get("drawn") and strangers:
            found.append(("not_drawn", {"films": strangers}))
        if percentile > typicality.WARN:  # not where it is NaN
            found.append(("unlike", {"share": f"{np.floor(10 * percentile) / 10:g}"}))
        return found + [("doubt", {"film": film.name, "doubt": doubt}) for film in films for doubt in film.doubts]


@lru_cache(maxsize=4)
def _encoder(name: str, weights: str | Path | None, arrays: tuple[str, ...]) -> Encoder:
    """Runs of the same features share it."""
    return encoder.load(name, weights, arrays)
