"""IMPRESSION from FINDINGS: what the radiologist concludes from what was found. No image is needed.

    table(data_dir, work_dir)     a row a study with both sections; why the others are left out
    vocabulary_of(table)          the words of both sections of train
    studies(table, split, vocab)  FINDINGS as the input "words" of `seq2seq`, IMPRESSION as the text to be written

Reads the collection in `data_dir`, with the split of its annotation.json where it has one; or, where `data_dir` is "",
work_dir/reports.csv of notebook 01. The table has study_id, split, patient, findings and report; `report` is the
cleaned IMPRESSION: the house's word for the text that is written and judged.

`BASELINES` are texts without a model, from a function of train and of the studies to be predicted; `versus_best` tests
runs against the best of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import baselines, readers
from .. import vocab as vocabulary
from ..config import GenerationSettings, ReportSettings, TrainingSettings
from ..dataset import Studies
from ..metrics import METRICS, measure, resampled
from ..metrics.bootstrap import compare_to
from ..metrics.comparison import RESAMPLES
from ..metrics.pairs import Pairs, align, prepare
from ..readers import annotation
from ..readers.collection import LeftOut, Study
from ..readers.phrased import phrased
from ..readers.selection import Usable, divide, keep_given
from ..runtime.files import MedcapError, read_table, write_table
from ..splits import in_order, tune_part
from ..text import clean, says_nothing
from .seq2seq import WORDS

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab

COLUMNS = ["study_id", "split", "patient", "findings", "report"]
DEFAULTS = ReportSettings()
MAKER = "run 01_reports.ipynb, or give data_dir"
# Not tuned: the first settings that were tried.
TRAINING = TrainingSettings(batch_size=32, epochs=14)
GENERATION = GenerationSettings(beam_size=3, min_length=2, length_penalty=1.0, no_repeat_ngram=0)
READ = 120  # words of FINDINGS that are read; 2 of the 2,063 train studies of IU X-Ray have more
HEADLINES = ("rouge_l", "cider")
NO_ACUTE = "no acute cardiopulmonary abnormality ."


# the table ------------------------------------------------------------------------------------------------------------


def table(
    data_dir: str | Path, work_dir: str | Path, settings: ReportSettings = DEFAULTS
) -> tuple[pd.DataFrame, Counter[str]]:
    """The studies with FINDINGS and IMPRESSION, cleaned, and how many are left out for which reason.

    MedcapError where no train study has both, and as readers and splits say.
    """
    import pandas as pd

    left_out: Counter[str] = Counter()
    source = _of_collection(data_dir, work_dir, settings, left_out) if data_dir else _of_tables(work_dir)
    rows = []
    for *who, findings, impression in source:
        texts = [clean(text, settings.cleaning) for text in (findings, impression)]
        names = ("FINDINGS", "IMPRESSION")
        absent = [name for name, text in zip(names, texts, strict=True) if not text or says_nothing(text)]
        if absent:
            left_out[f"no {' and no '.join(absent)}"] += 1
        else:
            rows.append([*who, *texts])
    found = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    if not (found.split == "train").any():
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in left_out.most_common())
        remedy = "give a collection with both sections, such as IU X-Ray"
        raise MedcapError(f"no train study of {data_dir or work_dir} has FINDINGS and IMPRESSION ({reasons}): {remedy}")
    return found, left_out


def _of_tables(work_dir: str | Path) -> Iterator[list[str]]:
    columns = ["study_id", "split", "patient", "findings", "impression"]
    found = read_table(Path(work_dir) / "reports.csv", columns, MAKER)
    yield from found[columns].to_numpy().tolist()


def _of_collection(data_dir, work_dir, settings: ReportSettings, left_out: Counter[str]) -> Iterator[list[str]]:
    """Every study of the collection that its split names; one without a single image counts too."""
    reader, files = readers.find(data_dir, work_dir)
    annotated = files.named("annotation.json") if settings.split == "auto" else ""
    given = annotation.splits(annotated) if annotated else None
    usable: Usable = {}
    seen: set[str] = set()
    for record in map(phrased, reader.studies(files)):
        reason = record.reason if isinstance(record, LeftOut) else _unusable(record, seen, given)
        seen.add(record.study_id)
        if reason:
            left_out[reason] += 1
        else:
            usable[record.study_id] = record, ""
    left_out["in annotation.json, not in the collection"] += len((given or {}).keys() - seen)
    rows: list[tuple[str, str, str]] = []
    if keep_given(usable, rows) and given is None:
        given = {name: study.split for name, (study, _) in usable.items()}
    left_out.update(reason for *_, reason in rows)
    left_out += Counter()  # without the reasons that nothing has
    if usable:
        split_of = divide(usable, "7:1:2" if settings.split == "auto" else settings.split, settings.seed, given)
        for name in in_order(usable):
            study = usable[name][0]
            yield [name, split_of[name], study.patient, study.findings, study.impression]


def _unusable(study: Study, seen: set[str], given: dict[str, str] | None) -> str:
    if study.study_id in seen:
        return "duplicate study id"
    return "not in annotation.json" if given is not None and study.study_id not in given else ""


# what a model reads ---------------------------------------------------------------------------------------------------


def vocabulary_of(table: pd.DataFrame, min_freq: int = DEFAULTS.min_freq) -> Vocab:
    """The words of both sections of train; a study's two texts are counted as one."""
    train = table[table.split == "train"]
    return vocabulary.build(train.findings + " " + train.report, min_freq)


def studies(table: pd.DataFrame, vocab: Vocab, max_length: int = DEFAULTS.max_length) -> Studies:
    """The rows of `table` for `seq2seq.fit` and `generate.predict`; FINDINGS are cut after READ words."""
    return Studies(
        table.reset_index(drop=True),
        {WORDS: [np.array(vocab.to_indices(text.split()[:READ])) + 1 for text in table.findings]},
        [vocabulary.encode(vocab, report, max_length) for report in table.report],
        vocab.to_indices(vocab.pad_token),
    )


def tune_rows(table: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Which rows of train settings are chosen on [n]; the patients of the others are not among them."""
    patients = dict(zip(table.study_id, table.patient, strict=True))
    known = {study: patient for study, patient in patients.items() if patient}
    return table.study_id.isin(tune_part(table.study_id, seed, known)).to_numpy()


def thirds(studies: Studies) -> np.ndarray:
    """1, 2 or 3 for each study [n]: the third it is in, by the number of words of FINDINGS; ties in their order."""
    lengths = [len(text.split()) for text in studies.table.findings]
    places = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
    return 1 + 3 * places // len(lengths)


# without a model ------------------------------------------------------------------------------------------------------


def no_acute(train: Studies, studies: Studies) -> list[str]:
    """The commonest conclusion, as a radiologist would put it, for all."""
    return [NO_ACUTE] * len(studies)


def frequent(train: Studies, studies: Studies) -> list[str]:
    """The most frequent train IMPRESSION for all."""
    return baselines.frequent(train, train, studies, 0)


def lead(train: Studies, studies: Studies) -> list[str]:
    """The first sentence of FINDINGS."""
    return [text.split(" .")[0] + " ." for text in studies.table.findings]


def copied(train: Studies, studies: Studies) -> list[str]:
    """All of FINDINGS."""
    return list(studies.table.findings)


BASELINES: dict[str, Callable[[Studies, Studies], list[str]]] = {
    "no_acute": no_acute,
    "frequent": frequent,
    "lead": lead,
    "copied": copied,
}


def write_baselines(runs_dir: str | Path, train: Studies, studies: Studies) -> dict[str, pd.DataFrame]:
    """runs/<baseline>/predictions.csv of each, and the tables by name."""
    texts = studies.table[["study_id", "report"]].set_axis(["study_id", "reference"], axis=1)
    tables = {name: texts.assign(prediction=write(train, studies)) for name, write in BASELINES.items()}
    for name, written in tables.items():
        write_table(Path(runs_dir) / name / "predictions.csv", written)
    return tables


# comparison -----------------------------------------------------------------------------------------------------------


def versus_best(
    tables: dict[str, pd.DataFrame], rivals: Collection[str], vocab: Container[str], names: Iterable[str] = HEADLINES
) -> dict[str, tuple[str, dict[str, dict[str, float]]]]:
    """For each metric the best rival, and of each run {"value", "low", "high", "p"}; `p` is paired, against that rival.

    The figures are those of `metrics.comparison.evaluate` with protocol r2gen, which compares with one run only.
    """
    metrics = {name: METRICS[name] for name in names}
    tables = align(tables)
    pairs = [Pairs(table, *prepare(table, "r2gen", vocab), np.zeros([len(table), 0])) for table in tables.values()]
    kept, notes = measure(metrics, pairs)
    if notes:
        raise MedcapError("; ".join(notes))
    runs = {run: resampled(metrics, counts, RESAMPLES) for run, counts in zip(tables, kept, strict=True)}
    found = {}
    for name in metrics:
        own = {run: {name: replace(spreads[name])} for run, spreads in runs.items()}
        best = max(rivals, key=lambda run: own[run][name].value)
        for run in own.keys() - {best}:
            compare_to(own[best], own[run])
        found[name] = best, {run: spread[name].as_json() for run, spread in own.items()}
    return found
