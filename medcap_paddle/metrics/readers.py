"""A reader study as figures: which report readers prefer, the errors they find in each, and how far they agree.

Reads the SQLite file that `demo.reader_study` writes:

    design   key, value                                 seed, and the sources as JSON
    reports  study, source, text                        what is compared; a source is a run, or REFERENCE
    answers  reader, study, preferred, errors, time     in the order they came; preferred "" is none of them, errors
                                                        is JSON: {source: {category: number}}

A reader who answers a study again has changed his mind: the last answer counts, and the others are counted. Shares and
means are over answers; their 95% intervals resample studies (`metrics.bootstrap`), which keeps the readers of a study
together. Kappa is of the preferences, over the studies that all readers answered.

Categories: those in which the six radiologists of RadCliQ's reader study counted errors (Yu et al., "Evaluating
progress in automatic chest X-ray radiology report generation", Patterns 4(9), 2023). They also said of each error
whether it matters to the patient, and compared a report with another one, not with the films.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError, require
from . import ratio
from .agreement import kappa
from .bootstrap import spreads
from .comparison import RESAMPLES

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "reference"  # the radiologist's own report as a source
CATEGORIES = (
    *("false finding", "omitted finding", "wrong location", "wrong severity"),
    *("comparison that is not there", "omitted comparison"),
)
FIX = "give the readers.sqlite of a reader study (make demo)"
PREFERRED, ERRORS = "preferred", "errors a report"


@dataclass(frozen=True)
class Answer:
    reader: str
    study: str
    preferred: str  # a source; "": none
    errors: dict[str, dict[str, int]]  # of each source, those that there are


@dataclass(frozen=True)
class Answers:
    """The last answer of each reader to each study."""

    sources: list[str]
    answers: list[Answer]
    replaced: int  # answers that a later one of the same reader took the place of

    @classmethod
    def read(cls, path: str | Path) -> Answers:
        """MedcapError where the file is missing or is no reader study."""
        uri = f"{require(path, FIX).resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as file:
                rows = file.execute("SELECT reader, study, preferred, errors FROM answers ORDER BY rowid").fetchall()
                [[sources]] = file.execute("SELECT value FROM design WHERE key = 'sources'").fetchall()
            last = {row[:2]: Answer(*row[:3], json.loads(row[3])) for row in rows}
            sources = json.loads(sources)
        except (sqlite3.Error, ValueError) as error:
            raise MedcapError(f"{path} is not a readable reader study ({error}): {FIX}") from error
        return cls(sources, list(last.values()), len(rows) - len(last))

    def figures(self, number: int = RESAMPLES) -> dict[str, dict[str, dict]]:
        """{source: {figure: {"value", "low", "high"}}}: PREFERRED, ERRORS, and the errors of each category."""
        studies = {study: row for row, study in enumerate(dict.fromkeys(answer.study for answer in self.answers))}
        counts = {(s, f): np.zeros([len(studies), 2]) for s in self.sources for f in (PREFERRED, ERRORS, *CATEGORIES)}
        for (source, figure), array in counts.items():
            for answer in self.answers:
                array[studies[answer.study]] += _value(answer, source, figure), 1
        found = spreads(counts, dict.fromkeys(counts, ratio), number)
        return {s: {f: found[s, f].as_json() for f in (PREFERRED, ERRORS, *CATEGORIES)} for s in self.sources}

    def kappa(self) -> tuple[float, int, int]:
        """Kappa, the number of readers, and of the studies that all of them answered."""
        own = {}
        for answer in self.answers:
            own.setdefault(answer.reader, {})[answer.study] = answer.preferred
        shared = sorted(set.intersection(*(set(answers) for answers in own.values())))
        if len(own) < 2:
            return np.nan, len(own), len(shared)
        return kappa([[answers[study] for study in shared] for answers in own.values()]), len(own), len(shared)


def _value(answer: Answer, source: str, figure: str) -> float:
    if figure == PREFERRED:
        return answer.preferred == source
    errors = answer.errors.get(source, {})
    return sum(errors.values()) if figure == ERRORS else errors.get(figure, 0)


def table(answers: Answers) -> pd.DataFrame:
    """A row a source: its figures with their intervals, the most preferred first."""
    import pandas as pd

    def cell(entry: dict) -> str:
        interval = f" [{entry['low']:.2f}, {entry['high']:.2f}]" if entry["low"] is not None else " [-]"
        return f"{entry['value']:.2f}{interval}"

    figures = answers.figures()
    order = sorted(figures, key=lambda source: -figures[source][PREFERRED]["value"])
    return pd.DataFrame({s: {name: cell(entry) for name, entry in figures[s].items()} for s in order}).T


def report(path: str | Path) -> str:
    """Both tables, and what they are made of. MedcapError where there is no answer yet."""
    answers = Answers.read(path)
    if not answers.answers:
        raise MedcapError(f"{path} has no answer yet: read some studies first (make demo)")
    whole, (value, readers, shared) = table(answers), answers.kappa()
    none = sum(answer.preferred == "" for answer in answers.answers)
    counted = Counter(answer.reader for answer in answers.answers)
    lines = [
        f"{len(answers.answers)} answers ({', '.join(f'{name}: {n}' for name, n in counted.items())}); "
        f"{none} prefer none; {answers.replaced} replaced by a later answer",
        whole[[PREFERRED, ERRORS]].to_string(),
        f"Errors a report, by category\n{whole[[*CATEGORIES]].to_string()}",
        f"{'Cohen' if readers == 2 else 'Fleiss'}'s kappa of the preferences {value:.2f} "
        f"({readers} readers, {shared} studies that all of them answered)",
    ]
    return "\n\n".join(lines[: 3 if readers < 2 else 4])


def beside(metrics: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """The table of an evaluation, whose rows are runs or files of runs, with the figures of the readers as columns.

    A source that is no row of it gets one. The table as it is where there is no such file, or no answer in it yet.
    """
    answers = Answers.read(path) if Path(path).exists() else None
    if not answers or not answers.answers:
        return metrics
    figures = table(answers)[[PREFERRED, ERRORS]]
    rows = {Path(name).parent.name or name: name for name in metrics.index}
    figures = figures.rename(index=lambda source: rows.get(source, source))
    rows = [*metrics.index, *figures.index.difference(metrics.index)]
    return metrics.join(figures, how="outer").reindex(rows).fillna("-")
