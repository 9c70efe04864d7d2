"""A reader study: readers say which of two to four reports of a study they prefer, and mark the errors in each.

One SQLite file, whose tables `metrics.readers` describes. An answer is a commit before the page goes on: a server that
is killed loses none. In WAL mode readers do not wait for each other but for the moment of a commit.

Sources are hidden: a reader sees sides, A to D. Studies come in an order of each reader's own, and in it each source
stands on each side as often, within one: sides are dealt as Latin squares. Both follow from the seed and the reader's
name, so whoever comes back goes on where he was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..metrics.pairs import align, read_predictions
from ..metrics.readers import CATEGORIES, FIX, REFERENCE
from ..runtime.files import MedcapError, atomic, digest, lock, require

FILE = "readers.sqlite"
SIDES = "ABCD"
MOST_ERRORS = 9  # of a category in a report
NAME = 40  # letters of a reader's name
PATIENCE = 30  # seconds to wait for another reader's commit
TABLES = """
    CREATE TABLE design (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE reports (study TEXT, source TEXT, text TEXT NOT NULL, PRIMARY KEY (study, source));
    CREATE TABLE answers (reader TEXT NOT NULL, study TEXT NOT NULL, preferred TEXT NOT NULL, errors TEXT NOT NULL,
                          time TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Page:
    """What a reader sees of a study."""

    study: str
    texts: tuple[str, ...]  # by side
    number: int  # of this page, from 1
    count: int


@dataclass(frozen=True)
class ReaderStudy:
    path: Path
    seed: int
    sources: tuple[str, ...]
    studies: tuple[str, ...]

    @classmethod
    def create(cls, path: str | Path, reports: Mapping[str, Mapping[str, str]], seed: int = 0) -> ReaderStudy:
        """`reports` are {study: {source: text}}. MedcapError where the file is there, where there are not 2 to 4
        sources, or not the same ones for every study.
        """
        path, sources = Path(path), sorted(next(iter(reports.values()), {}))
        if not 2 <= len(sources) <= len(SIDES):
            raise MedcapError(f"a reader study compares 2 to {len(SIDES)} reports, not {len(sources)}: choose again")
        if any(sorted(texts) != sources for texts in reports.values()):
            raise MedcapError("a study lacks the report of a source: choose runs with predictions of the same studies")
        rows = [(study, source, text) for study, texts in reports.items() for source, text in texts.items()]
        design = {"seed": str(int(seed)), "sources": json.dumps(sources), "studies": json.dumps([*reports])}
        with lock(path):  # of two who begin at the same time, one does
            if path.exists():
                raise MedcapError(f"{path} is a reader study already: move it away to begin another one")
            with atomic(path) as temporary, _open(temporary) as file:
                file.execute("PRAGMA journal_mode = WAL")
                file.executescript(TABLES)
                file.executemany("INSERT INTO design VALUES (?, ?)", design.items())
                file.executemany("INSERT INTO reports VALUES (?, ?, ?)", rows)
        return cls.load(path)

    @classmethod
    def load(cls, path: str | Path) -> ReaderStudy:
        with _open(require(path, FIX)) as file:
            design = dict(file.execute("SELECT key, value FROM design"))
        if missing := {"seed", "sources", "studies"} - design.keys():
            raise MedcapError(f"{path} has no {', '.join(sorted(missing))} in its design: {FIX}")
        return cls(Path(path), int(design["seed"]), *(tuple(json.loads(design[key])) for key in ("sources", "studies")))

    def order(self, reader: str) -> list[tuple[str, tuple[str, ...]]]:
        """The studies in this reader's order, with the source on each side."""
        rng = np.random.default_rng(int(digest(self.seed, named(reader)), 16))
        studies = [self.studies[i] for i in rng.permutation(len(self.studies))]
        squares = [row for _ in range(0, len(studies), len(self.sources)) for row in _square(len(self.sources), rng)]
        return [(s, tuple(self.sources[i] for i in row)) for s, row in zip(studies, squares, strict=False)]

    def next(self, reader: str) -> Page | None:
        """The first study that the reader has not answered; None at the end."""
        with _open(self.path) as file:
            done = {study for (study,) in file.execute("SELECT study FROM answers WHERE reader = ?", [named(reader)])}
            for study, sides in self.order(reader):
                if study not in done:
                    found = dict(file.execute("SELECT source, text FROM reports WHERE study = ?", [study]))
                    return Page(study, tuple(found[s] for s in sides), len(done) + 1, len(self.studies))
        return None

    def answer(self, reader: str, study: str, preferred: int | None, errors: Sequence[Mapping[str, int]]) -> None:
        """Write an answer. `preferred` is a side or None; `errors` are {category: number} a side, at most MOST_ERRORS.

        MedcapError on anything else: it comes from a page, and pages can be made up.
        """
        sides = dict(self.order(reader)).get(study, ())
        known = all(set(own) <= set(CATEGORIES) for own in errors) and len(errors) == len(sides)
        if not known or preferred not in (None, *range(len(sides))):
            raise MedcapError(f"no answer to a study of {self.path.name}: reload the page")
        if not all(type(n) is int and 0 <= n <= MOST_ERRORS for own in errors for n in own.values()):
            raise MedcapError(f"a number of errors is a whole number up to {MOST_ERRORS}: correct it")
        found = {s: {c: n for c, n in own.items() if n} for s, own in zip(sides, errors, strict=True)}
        name, time = named(reader), datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = (name, study, "" if preferred is None else sides[preferred], json.dumps(found), time)
        with _open(self.path) as file:
            file.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)  # commits itself


def named(reader: str) -> str:
    """A reader's name as it is kept; MedcapError where it is empty or longer than NAME."""
    name = " ".join(reader.split())
    if not name or len(name) > NAME or not name.isprintable():
        raise MedcapError(f"a reader has a name of 1 to {NAME} letters: choose another one")
    return name


def _square(size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of a Latin square: a shuffled row, rotated, the rotations in random order."""
    first = rng.permutation(size)
    for shift in rng.permutation(size):
        yield np.roll(first, shift)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of its own, for any thread; each statement commits, to the disk."""
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as file:
            file.execute("PRAGMA synchronous = FULL")
            yield file
    except sqlite3.Error as error:
        raise MedcapError(f"{path} cannot be used as a reader study ({error}): {FIX}") from error


def gather(work: str | Path, sources: Sequence[str], offered: Sequence[str], number: int, seed: int) -> dict:
    """{study: {source: text}} of `number` of the studies on offer, picked by `seed`, from the predictions of the runs;
    REFERENCE is the radiologist's report. MedcapError where runs are of different studies.
    """
    runs = [name for name in sources if name != REFERENCE]
    if not runs:
        raise MedcapError("a reader study compares the reports of runs: choose one at least")
    tables = align({name: read_predictions(Path(work) / "runs" / name / "predictions.csv") for name in runs})
    studies = next(iter(tables.values()))
    texts = {name: dict(zip(table.study_id, table.prediction, strict=True)) for name, table in tables.items()}
    texts[REFERENCE] = dict(zip(studies.study_id, studies.reference, strict=True))
    there = [study for study in studies.study_id if study in set(offered)]
    if not 1 <= number <= len(there):
        raise MedcapError(f"{number} studies are wanted, {len(there)} are there: choose up to that")
    chosen = np.random.default_rng(seed).permutation(len(there))[:number]
    return {there[i]: {name: texts[name][there[i]] for name in sources} for i in chosen}
