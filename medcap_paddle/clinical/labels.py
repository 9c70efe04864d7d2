"""The 14 CheXpert observations of a report. Reads text and labels.json (phrases and negation terms), writes nothing.

    label(texts)                     int8 [n, 14], columns as in OBSERVATIONS
    given(table, study_ids)          the same from a table of CheXpert values
    clinical(reference, predicted)   precision, recall and F1 of two such arrays
    python -m medcap_paddle.clinical.labels REPORTS.csv LABELS.csv [--split val] [--sections impression]

The observations are those of CheXpert (Irvin et al., AAAI 2019); the labeler is ours. In each sentence spaCy finds the
phrases, and negspacy marks the negated ones. An observation is 1 when a sentence affirms it or leaves it open
(uncertain counts as present), else 0. "No Finding" is 1 when every other observation but Support Devices is 0, also
for an empty text. Case, commas and hyphens do not matter: a raw report and its cleaned form have the same labels. Full
stops matter, since a negation ends with its sentence.

The command compares the labels of REPORTS (study_id or Kaggle's uid, findings, impression) with LABELS (study_id, the
14 columns). CheXpert's own labeler reads the impression only, so this is the section compared by default.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError, cli_errors, read_table
from .plain import plain

if TYPE_CHECKING:
    import pandas as pd
    from spacy.language import Language

OBSERVATIONS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
SECTIONS = {"impression": ["impression"], "findings": ["findings"], "both": ["findings", "impression"]}
PAIRING = "give every study a row with its whole study_id"
SKIP = 4  # words that "..." may skip
_DASH = r"(?:(?<=\w)-+\s(?!\s*(?:and|or|to)\b)|\s-+|--+|\s*[\u2012-\u2015])"  # "left- or right-sided" has a hyphen
_NONE = r"(?:(?:none|nil)(?: (?:seen|identified|present|visible|noted|evident|found))?|no|neg|negative|absent|normal)"
_END = re.compile(rf"[.;!?]|{_DASH}|\b\d+\)")
_MARKS = [  # what punctuation says, said in words
    (re.compile(r"(?<=\d)\.(?=\d)"), " "),  # "2.5 cm" does not end a sentence
    (re.compile(r"(:[^.;:,]*),(?=[^.;:,]*:)"), r"\1."),  # "cardiomegaly: mild, effusion: none"
    (re.compile(rf"(?:\s*[:=?(]|{_DASH})\s*{_NONE}\s*(?=[.,;!?)]|{_DASH}|$)"), " novalue . "),
    (re.compile(r"(?<=\w) (?:none|nil|no)\s*(?=[.;!?]|$)"), " novalue "),  # the same after cleaning
    (re.compile(r"\s*[:=]\s*(?=(?:not|no evidence|no signs?|without)\b)"), " novalue . "),
    (re.compile(r"\b(\w+)\s*:\s*(?=(?:there (?:is|are) )?no [^.;:]*\b\1\b)"), r"\1 novalue . "),
    (
        re.compile(r"\b(not (?:seen|identified|visualized|present|evident|demonstrated)), (?!or\b|nor\b|and\b)"),
        r"\1 . ",
    ),
]
VALUES = {  # and numbers: 1, 0, -1 (uncertain), however they are written
    **dict.fromkeys(("", "nan", "blank", "not mentioned", "unmentioned", "negative", "false", "f", "no", "n"), 0),
    **dict.fromkeys(("absent", "neg"), 0),
    **dict.fromkeys(("positive", "true", "t", "yes", "y", "uncertain", "present", "pos"), 1),
}


@cache
def knowledge() -> dict:
    """The content of labels.json."""
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


@cache
def vocabulary() -> frozenset[str]:
    """Every word of labels.json."""
    data = knowledge()
    rows = [*data["none"], *data["blocks"], *sum([*data["phrases"].values(), *data["negation"].values()], [])]
    return frozenset(re.findall("[a-z]+", " ".join(rows)))


def sentences(text: str) -> list[str]:
    """The sentences of a report in lower-case words, "x" for the words that labels.json does not know.

    A sentence ends at . ; ! ? and at a dash between words, a pair such as "effusion: none" at its value.
    Only the words of labels.json can matter: "x" saves memory and makes more sentences equal (see `present`).
    """
    text = re.sub("['\u2019]", "", plain(text.replace("\n\n", " . ")).lower())
    for pattern, instead in _MARKS:
        text = pattern.sub(instead, text)
    known = vocabulary()
    return [" ".join(w if w in known else "x" for w in re.findall("[a-z]+", part)) for part in _END.split(text)]


def telling(report: str) -> np.ndarray:
    """Which words of a cleaned report stand in a sentence that affirms or leaves open an observation: bool [words]."""
    words, out, start = report.split(), [], 0
    for end, word in enumerate(words, 1):
        if word == "." or end == len(words):
            text = " ".join(words[start:end])
            out += [any(present(sentence) for sentence in sentences(text))] * (end - start)
            start = end
    return np.array(out, bool)


def patterns(phrases: dict[str, list[str]], blocks: list[str]) -> Iterator[dict]:
    """Entity ruler patterns of the phrases: word by word where there is a gap, else plain strings."""
    gap = [{"ORTH": {"NOT_IN": blocks}, "OP": "?"}] * SKIP
    for label, rows in phrases.items():
        for row in rows:
            first, *rest = (word.split("|") for word in row.split())
            if ["..."] in rest:
                tail = sum((gap if word == ["..."] else [{"ORTH": {"IN": word}}] for word in rest), [])
                # spaCy tries every pattern at every word: an exact first word is cheaper than a choice
                yield from ({"label": label, "pattern": [{"ORTH": word}, *tail]} for word in first)
            else:
                yield from ({"label": label, "pattern": " ".join(words)} for words in product(first, *rest))


@cache
def pipeline() -> Language:
    """spaCy's blank English with our phrases as entities, each marked by negspacy as negated or not."""
    import spacy
    from negspacy.negation import Negex  # noqa: F401  (its import registers "negex")
    from spacy.tokenizer import Tokenizer

    data = knowledge()
    nlp = spacy.blank("en")
    nlp.tokenizer = Tokenizer(nlp.vocab)  # splits at spaces; sentences() has done the rest
    nlp.max_length = 10**9  # the limit protects parsers; this pipeline has no parser
    nlp.add_pipe("sentencizer")  # negspacy needs sentence starts
    nlp.add_pipe("entity_ruler").add_patterns([*patterns({**data["phrases"], "none": data["none"]}, data["blocks"])])
    nlp.add_pipe("negex", config={"neg_termset": data["negation"]})
    return nlp


@lru_cache(maxsize=100_000)  # reports say the same sentences again and again
def present(sentence: str) -> tuple[int, ...]:
    """Columns of the observations that one sentence affirms or leaves open."""
    return _columns(sentence, negated=False)


@lru_cache(maxsize=100_000)
def negated(sentence: str) -> tuple[int, ...]:
    """Columns of the observations that one sentence negates."""
    return _columns(sentence, negated=True)


def _columns(sentence: str, negated: bool) -> tuple[int, ...]:
    names = {n for span in pipeline()(sentence).ents if span._.negex == negated for n in span.label_.split(" + ")}
    return tuple(OBSERVATIONS.index(name) for name in names - {"none"})


def label(texts: Iterable[str]) -> np.ndarray:
    """Labels int8 [n, 14] of the texts, which may be a generator: it is read once and not stored."""
    rows = bytearray()
    for text in texts:
        row = bytearray(len(OBSERVATIONS))
        for sentence in sentences(text):
            for column in present(sentence):
                row[column] = 1
        row[-1] = not any(row[:-2])
        rows += row
    return np.frombuffer(rows, np.int8).reshape(-1, len(OBSERVATIONS))


def read(path: str | Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A table of labels (study_id, the 14 observations, further `columns`) that `given` names in its errors."""
    table = read_table(path, ["study_id", *OBSERVATIONS, *columns], "give a table of labels")
    table.attrs["file"] = str(path)
    return table


def study_key(study_id: str) -> str:
    """A study id as all collections write it: "7" of Open-i's "CXR7", "7_IM-2" of R2Gen's "CXR7_IM-2"."""
    return re.sub(r"^(\d+)\.0$", r"\1", str(study_id).strip()).removeprefix("CXR")


def pair(wanted: Iterable[str], rows: Iterable[str], source: str = "the table of labels") -> np.ndarray:
    """The number of the row of each wanted study [n], -1 where there is none.

    A row belongs to a study where their ids agree ("CXR7", "7" and 7.0 do), else where one id is the other up to its
    first "_" ("CXR7" and "CXR7_IM-2"). MedcapError where several rows or several studies begin so, or one is repeated.
    """
    wanted, rows = [*map(str, wanted)], [*map(str, rows)]
    keys, row_keys = [*map(study_key, wanted)], [*map(study_key, rows)]
    number = {key: i for i, key in reversed([*enumerate(row_keys)])}  # the first row of each id
    repeated = {key for i, key in enumerate(row_keys) if number[key] != i}
    families: dict[str, list[str]] = {}
    for key in number:
        families.setdefault(key.partition("_")[0], []).append(key)
    match: dict[str, int] = {}
    claimed: dict[int, str] = {}  # row -> study
    for key, study in zip(keys, wanted, strict=True):
        prefix = key.partition("_")[0]
        family = families.get(prefix, [])
        fits = [key] if key in number else [row for row in family if prefix in (key, row)]
        if not fits:
            continue
        if key not in number and len(family) > 1:
            names = ", ".join(rows[number[row]] for row in sorted(family)[:3])
            raise MedcapError(f"{source} has {names} for {study}: {PAIRING}")
        match[key] = row = number[fits[0]]
        if fits[0] in repeated:
            raise MedcapError(f"{source} has {rows[row]} more than once: leave one row for each study")
        if study_key(claimed.setdefault(row, study)) != key:
            raise MedcapError(f"{source} has one row, {rows[row]}, for {claimed[row]} and {study}: {PAIRING}")
    return np.array([match.get(key, -1) for key in keys], int)


def given(table: pd.DataFrame, study_ids: pd.Series) -> np.ndarray:
    """Labels int8 [n, 14] of the studies from a table of study_id and the 14 columns of CheXpert values.

    Present are 1, -1 (uncertain), true, yes, positive, uncertain; absent are 0, blank, false, no, negative (see
    `VALUES`). Ids are compared by `pair`. MedcapError where a study has no row or two rows, and on any other value.
    """
    source = table.attrs.get("file", "the table of labels")
    rows = pair(study_ids, table.study_id, source)
    if (rows < 0).any():
        missing = study_ids[rows < 0]
        raise MedcapError(
            f"{source} has no row for {missing.iloc[0]} ({len(missing)} studies): add a row with this study_id"
        )
    cells = [[_present(table[name].iloc[row]) for name in OBSERVATIONS] for row in rows]
    for study, row, values in zip(study_ids, rows, cells, strict=True):
        for observation, value in zip(OBSERVATIONS, values, strict=True):
            if value is None:
                wrong = str(table[observation].iloc[row])
                fix = "use 1, 0, -1 (uncertain), a truth value, or nothing"
                raise MedcapError(f"{source} has {wrong!r} as {observation} of {study}: {fix}")
    return np.array(cells, np.int8).reshape(-1, len(OBSERVATIONS))


@lru_cache(maxsize=1000)
def _present(value: object) -> int | None:
    """1 or 0 of a cell, None where it is neither."""
    text = str(value).strip().lower()
    if text in VALUES:
        return VALUES[text]
    try:
        return {1.0: 1, 0.0: 0, -1.0: 1}.get(float(text))
    except ValueError:
        return None


def counts(reference: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives per study and class of two 0/1 arrays of one shape."""
    if reference.shape != predicted.shape:
        raise ValueError(f"labels of shape {reference.shape} and {predicted.shape} are not of the same studies")
    reference, predicted = reference.astype(int), predicted.astype(int)
    return reference * predicted, (1 - reference) * predicted, reference * (1 - predicted)


def scores(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 from counts of any shape; NaN where they are undefined: precision without predicted
    positives, recall without true ones, F1 without any.
    """
    divisors = {"precision": tp + fp, "recall": tp + fn, "f1": tp + (fp + fn) / 2}
    return {name: tp / np.where(divisor > 0, divisor, np.nan) for name, divisor in divisors.items()}


def averages(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Macro and micro averages [...] of precision, recall and F1 from counts summed over studies [..., 13].

    A macro average is the mean over the classes with at least one reference positive, NaN without such a class; the
    precision of a class that is never predicted counts as 0 in it. Micro averages are `scores` of the sums.
    """
    seen = (tp + fn > 0).sum(-1)
    seen = np.where(seen > 0, seen, np.nan)  # classes; the others add 0 to the sum
    macro = {f"macro_{name}": np.nan_to_num(values).sum(-1) / seen for name, values in scores(tp, fp, fn).items()}
    micro = {f"micro_{k}": v for k, v in scores(tp.sum(-1), fp.sum(-1), fn.sum(-1)).items()}
    return macro | micro


def per_class(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Precision, recall, f1 and positives (of the references) of each observation, from summed counts [14].

    None where a score is undefined.
    """
    columns = scores(tp, fp, fn) | {"positives": tp + fn}
    rows = [{k: float(v[i]) for k, v in columns.items()} for i in range(len(OBSERVATIONS))]
    rows = [{k: None if np.isnan(v) else v for k, v in row.items()} for row in rows]
    return dict(zip(OBSERVATIONS, rows, strict=True))


def clinical(reference: np.ndarray, predicted: np.ndarray) -> dict:
    """Predicted against reference labels [n, 14]: `averages` over 13 observations, "No Finding" apart, and "studies".

    "classes" is `per_class`, with the number of predicted positives as "predicted". None where a score is undefined.
    """
    tp, fp, fn = (c.sum(0) for c in counts(reference, predicted))  # [14]
    classes = per_class(tp, fp, fn)
    for row, number in zip(classes.values(), tp + fp, strict=True):
        row["predicted"] = float(number)
    mean = averages(tp[:-1], fp[:-1], fn[:-1])
    return (
        {name: None if np.isnan(value) else float(value) for name, value in mean.items()}
        | {f"no_finding_{name}": classes["No Finding"][name] for name in ("precision", "recall", "f1")}
        | {"studies": len(reference), "classes": classes}
    )


def validate(reports: str | Path, labels: str | Path, split: str = "", sections: str = "impression") -> dict:
    """`clinical` of our labels of the texts in `reports` against the table `labels`, over the studies in both files.

    MedcapError when a file has no such columns, and when the two share no study.
    """
    truth = read(labels, ["split"] if split else [])
    table = read_table(reports, SECTIONS[sections], "give a table of reports").rename(columns={"uid": "study_id"})
    if "study_id" not in table:
        raise MedcapError(f"{reports} has no column study_id or uid: give a table of reports")
    texts = table[SECTIONS[sections]].agg(" . ".join, axis=1)
    rows = pair(truth["study_id"], table["study_id"], str(reports))
    shared = (rows >= 0) & (truth["split"].eq(split).to_numpy() if split else True)
    if not shared.any():
        raise MedcapError(f"{labels} and {reports} share no study of {split or 'any'} split: compare their study_id")
    return clinical(given(truth, truth["study_id"][shared]), label(texts.iloc[rows[shared]]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="medcap_paddle.clinical.labels", description="Compare our labels with others."
    )
    parser.add_argument("reports", metavar="REPORTS.csv", help="study_id (or uid), findings, impression")
    parser.add_argument("labels", metavar="LABELS.csv", help="study_id, the 14 CheXpert columns, split if used")
    parser.add_argument("--split", default="", help="the studies of this split only")
    parser.add_argument("--sections", default="impression", choices=list(SECTIONS), help="text to label (impression)")
    with cli_errors():
        print(_table(validate(**vars(parser.parse_args(arguments)))))


def _table(result: dict) -> str:
    """What `clinical` gives, as text; a dash where a score is undefined."""

    def line(name: str, *scores: float | None) -> str:
        texts = ["-" if score is None else f"{score:.3f}" for score in scores]
        return "{:32}{:>10}{:>8}{:>8}".format(name, *texts)

    lines = [f"{str(result['studies']) + ' studies':32} precision  recall      F1  positives  predicted"]
    for name, row in result["classes"].items():
        scores = line(name, row["precision"], row["recall"], row["f1"])
        lines.append(f"{scores}{row['positives']:11.0f}{row['predicted']:11.0f}")
    for kind in ("micro", "macro"):
        lines.append(
            line(f"{kind}, without No Finding", *(result[f"{kind}_{k}"] for k in ("precision", "recall", "f1")))
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
