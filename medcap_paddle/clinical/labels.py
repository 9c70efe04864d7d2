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
SKIP = 4  # words that "..." may skip
PRESENT = {
    "": 0,
    "nan": 0,
    "0": 0,
    "0.0": 0,
    "1": 1,
    "1.0": 1,
    "-1": 1,
    "-1.0": 1,
}  # blank: not mentioned, -1: uncertain


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

    Only the words of labels.json can matter: "x" saves memory and makes more sentences equal (see `present`).
    """
    text = re.sub(r"(?<=\d)\.(?=\d)", " ", text.lower().replace("'", ""))  # "2.5 cm" does not end a sentence
    known = vocabulary()
    return [" ".join(w if w in known else "x" for w in re.findall("[a-z]+", part)) for part in text.split(".")]


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
    names = {name for span in pipeline()(sentence).ents if not span._.negex for name in span.label_.split(" + ")}
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


def study_key(ids: pd.Series) -> pd.Series:
    """The part of a study id that collections share: "7" of Open-i's "CXR7", Kaggle's "7" and R2Gen's "CXR7_IM-2"."""
    return ids.str.extract("(?:CXR)?([^_]*)", expand=False)


def given(table: pd.DataFrame, study_ids: pd.Series) -> np.ndarray:
    """Labels int8 [n, 14] of the studies from a table of study_id and the 14 columns of CheXpert values.

    1 and -1 (uncertain) count as present, 0 and blank as absent. Ids are compared by their `study_key`. MedcapError
    where a study has no row or two rows, and on any other value.
    """
    rows = table.set_index(study_key(table.study_id))
    repeated = rows.index[rows.index.duplicated()]
    if len(repeated):
        raise MedcapError(f"the labels have {repeated[0]} more than once: leave one row for each study")
    keys = study_key(study_ids)
    missing = study_ids[~keys.isin(rows.index).to_numpy()]
    if len(missing):
        raise MedcapError(f"the labels have no row for {missing.iloc[0]} ({len(missing)} studies): add them")
    values = rows.loc[keys, list(OBSERVATIONS)].map(str)
    unknown = np.argwhere(~values.isin(list(PRESENT)).to_numpy())
    if len(unknown):
        i, k = unknown[0]
        study, observation, value = study_ids.iloc[i], OBSERVATIONS[k], values.iloc[i, k]
        raise MedcapError(f"the labels have {value!r} as {observation} of {study}: use 1, 0, -1 (uncertain) or nothing")
    return values.map(PRESENT.get).to_numpy(np.int8)


def counts(reference: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives per study and class of two 0/1 arrays of one shape."""
    if reference.shape != predicted.shape:
        raise ValueError(f"labels of shape {reference.shape} and {predicted.shape} are not of the same studies")
    reference, predicted = reference.astype(int), predicted.astype(int)
    return reference * predicted, (1 - reference) * predicted, reference * (1 - predicted)


def scores(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 from counts of any shape; 0 where the observation is in no reference or prediction."""
    divisors = {"precision": tp + fp, "recall": tp + fn, "f1": tp + (fp + fn) / 2}
    return {name: tp / np.maximum(divisor, 0.5) for name, divisor in divisors.items()}  # tp is 0 where that is 0


def averages(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Macro and micro averages [...] of precision, recall and F1 from counts summed over studies [..., 13].

    A macro average is the mean over the classes with at least one reference positive.
    """
    seen = np.maximum((tp + fn > 0).sum(-1), 1)  # classes; the others score 0, so they may stay in the sum
    macro = {f"macro_{name}": values.sum(-1) / seen for name, values in scores(tp, fp, fn).items()}
    micro = {f"micro_{k}": v for k, v in scores(tp.sum(-1), fp.sum(-1), fn.sum(-1)).items()}
    return macro | micro


def per_class(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and positives (of the references) of each observation, from summed counts [14]."""
    columns = scores(tp, fp, fn) | {"positives": tp + fn}
    return {name: {k: float(v[i]) for k, v in columns.items()} for i, name in enumerate(OBSERVATIONS)}


def clinical(reference: np.ndarray, predicted: np.ndarray) -> dict:
    """Predicted against reference labels [n, 14]: `averages` over 13 observations, "No Finding" apart, and "studies".

    "classes" is `per_class`, with the number of predicted positives as "predicted".
    """
    tp, fp, fn = (c.sum(0) for c in counts(reference, predicted))  # [14]
    classes = per_class(tp, fp, fn)
    for row, number in zip(classes.values(), tp + fp, strict=True):
        row["predicted"] = float(number)
    return (
        {name: float(value) for name, value in averages(tp[:-1], fp[:-1], fn[:-1]).items()}
        | {f"no_finding_{name}": classes["No Finding"][name] for name in ("precision", "recall", "f1")}
        | {"studies": len(reference), "classes": classes}
    )


def validate(reports: str | Path, labels: str | Path, split: str = "", sections: str = "impression") -> dict:
    """`clinical` of our labels of the texts in `reports` against the table `labels`, over the studies in both files.

    MedcapError when a file has no such columns, and when the two share no study.
    """
    truth = read_table(labels, ["study_id", *OBSERVATIONS, *(["split"] if split else [])], "give a table of labels")
    table = read_table(reports, SECTIONS[sections], "give a table of reports").rename(columns={"uid": "study_id"})
    if "study_id" not in table:
        raise MedcapError(f"{reports} has no column study_id or uid: give a table of reports")
    texts = table[SECTIONS[sections]].agg(" . ".join, axis=1).set_axis(study_key(table["study_id"])).to_dict()
    truth = truth[study_key(truth["study_id"]).isin(texts) & (truth["split"].eq(split) if split else True)]
    if truth.empty:
        raise MedcapError(f"{labels} and {reports} share no study of {split or 'any'} split: compare their study_id")
    return clinical(given(truth, truth["study_id"]), label(texts[key] for key in study_key(truth["study_id"])))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="medcap_paddle.clinical.labels", description="Compare our labels with others."
    )
    parser.add_argument("reports", metavar="REPORTS.csv", help="study_id (or uid), findings, impression")
    parser.add_argument("labels", metavar="LABELS.csv", help="study_id, the 14 CheXpert columns, split if used")
    parser.add_argument("--split", default="", help="the studies of this split only")
    parser.add_argument("--sections", default="impression", choices=list(SECTIONS), help="text to label (impression)")
    with cli_errors():
        result = validate(**vars(parser.parse_args(arguments)))
    print(f"{str(result['studies']) + ' studies':32} precision  recall      F1  positives  predicted")
    for name, row in result["classes"].items():
        print("{:32}{precision:10.3f}{recall:8.3f}{f1:8.3f}{positives:11.0f}{predicted:11.0f}".format(name, **row))
    for kind in ("micro", "macro"):
        row = (result[f"{kind}_{name}"] for name in ("precision", "recall", "f1"))
        print("{:32}{:10.3f}{:8.3f}{:8.3f}".format(f"{kind}, without No Finding", *row))


if __name__ == "__main__":
    main()
