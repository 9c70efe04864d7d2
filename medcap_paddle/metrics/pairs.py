"""Tables of predictions to pairs of texts: the same studies in the same order, prepared by one protocol."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError, read_table
from ..text import clean, says_nothing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Protocol:
    """What is done to references and predictions before they are compared."""

    cleaning: str = "r2gen"
    max_words: int | None = None  # longer texts are cut
    unk: bool = False  # words of the reference outside the vocabulary become <unk>
    own_metrics: bool = False  # it has only the metrics that prepare the texts in this way themselves


PROTOCOLS = {
    "r2gen": Protocol(max_words=59, unk=True),  # 60 ids less the begin token (Chen et al., EMNLP 2020)
    "full": Protocol(),
    "original": Protocol("original", own_metrics=True),  # what the AI Studio notebook reported: for the record
}


LEAST = {"nll": 0, "words": 1, "image_gain": -np.inf, "predicted_words": 0}  # columns of numbers (see `generate`)


@dataclass(frozen=True)
class Pairs:
    """What metrics are computed from: n studies with a reference and a prediction."""

    table: pd.DataFrame  # study_id, reference and prediction as they were read, and any further column
    references: list[str]  # prepared: words with blanks between
    predictions: list[str]
    labels: np.ndarray  # [n, 14], the CheXpert observations of the references
    novel: np.ndarray | None = None  # bool [n], the reference is not verbatim in train; None: train is not known

    @classmethod
    def stack(cls, runs: Sequence[Pairs]) -> Pairs:
        """The studies of several runs, one run after the other."""
        import pandas as pd

        texts = ([text for run in runs for text in getattr(run, side)] for side in ("references", "predictions"))
        known = all(run.novel is not None for run in runs)
        novel = np.concatenate([run.novel for run in runs]) if known else None
        return cls(pd.concat([run.table for run in runs]), *texts, np.concatenate([run.labels for run in runs]), novel)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """A table with a row for each study, every cell a string.

    MedcapError on missing columns, no rows, empty or repeated study ids; and on a value that cannot be used in those of
    the columns `LEAST` that there are.
    """
    import pandas as pd

    fix = "write columns study_id, reference, prediction with a row for each study (05_generate.ipynb does)"
    table = read_table(path, ["study_id", "reference", "prediction"], fix)
    if table.empty:
        raise MedcapError(f"{path} has no predictions: {fix}")
    if (table.study_id == "").any():
        raise MedcapError(f"{path}, row {(table.study_id == '').argmax() + 2}, has no study_id: {fix}")
    repeated = table.study_id[table.study_id.duplicated()]
    if len(repeated):
        raise MedcapError(f"{path} has {repeated.iloc[0]} more than once: {fix}")
    for name in LEAST.keys() & set(table.columns):
        number = pd.to_numeric(table[name], errors="coerce")
        wrong = table.study_id[~np.isfinite(number) | (number < LEAST[name])]
        if len(wrong):
            raise MedcapError(f"{path} has an unusable `{name}` for {wrong.iloc[0]}: correct it or drop the column")
    return table


def read_train(path: str | Path) -> list[str]:
    """The cleaned train reports of a table with the columns `split` and `report`, ours or raw (as BenchX has it).

    MedcapError where no row has the split "train", and where no such row has a report.
    """
    table = read_table(path, ["split", "report"], "give the reports.csv of 01_reports.ipynb, or a table of this form")
    rows = table.report[table.split == "train"]
    if rows.empty:
        found = ", ".join(sorted(set(table.split))[:5]) or "no rows"
        raise MedcapError(f'{path} has no row with the split "train" (found: {found}): write train in column split')
    reports = [report for text in rows if (report := clean(text)) and not says_nothing(text)]
    if not reports:
        raise MedcapError(f"{path} has no words in the column report of its train rows: give a table with reports")
    return reports


def align(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables in the order of the first one; MedcapError where two differ in their studies or references."""
    first, expected = next(iter(tables.items()))
    references = expected.reference.map(clean).to_numpy()
    aligned = {}
    for name, table in tables.items():
        table = table.set_index("study_id", drop=False)
        other = set(expected.study_id) ^ set(table.index)
        if other:
            raise MedcapError(f"{first} and {name} have different studies ({len(other)} differ, such as {min(other)})")
        aligned[name] = table = table.loc[expected.study_id]
        different = (table.reference.map(clean).to_numpy() != references).nonzero()[0]
        if len(different):
            raise MedcapError(f"{first} and {name} have different references for {table.study_id.iloc[different[0]]}")
    return aligned


def prepare(
    table: pd.DataFrame, protocol: str = "r2gen", vocab: Container[str] | None = None
) -> tuple[list[str], list[str]]:
    """References and predictions as the protocol compares them; without `vocab` no word becomes <unk>.

    MedcapError on an unknown protocol, and on a reference without a word.
    """
    if protocol not in PROTOCOLS:
        raise MedcapError(f"protocol is {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    rules = PROTOCOLS[protocol]
    references, predictions = (
        [clean(text, rules.cleaning).split()[: rules.max_words] for text in table[side]]
        for side in ("reference", "prediction")
    )
    empty = [study for study, words in zip(table.study_id, references, strict=True) if not words]
    if empty:
        raise MedcapError(f"the reference of {empty[0]} is empty after cleaning: leave that study out")
    if rules.unk and vocab is not None:  # it need not have the full stop, which cleaning adds
        references = [[word if word in vocab or word == "." else "<unk>" for word in words] for words in references]
        predictions = [["<unk>" if word == "unk" else word for word in words] for words in predictions]
    return [" ".join(words) for words in references], [" ".join(words) for words in predictions]


def novel_of(references: Iterable[str], train: Iterable[str]) -> np.ndarray | None:
    """Whether each reference is none of the `train` reports [n]; None where there are no train reports."""
    known = {clean(text) for text in train}
    return np.array([clean(text) not in known for text in references], bool) if known else None


def strata_of(labels: np.ndarray, novel: np.ndarray | None) -> dict[str, np.ndarray]:
    """Masks [n] of the studies in each stratum that has any."""
    strata = {"normal": labels[:, -1] == 1, "abnormal": labels[:, -1] == 0}
    if novel is not None:
        strata |= {"seen in train": ~novel, "novel": novel}
    return {name: rows for name, rows in strata.items() if rows.any()}
