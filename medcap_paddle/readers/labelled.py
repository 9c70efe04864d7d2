"""A table of labels: images with findings that are ticked, and no reports.

    Image Index, Finding Labels, Patient ID    NIH ChestX-ray14 (Data_Entry_2017.csv); labels are joined by "|"
    image, tuberculosis                        Shenzhen and Montgomery (yes or no)
    train_val_list.txt, test_list.txt          beside it, where they are: NIH's split, an image name a line

An image is a study. Its labels become MeSH terms as Open-i writes them, so its picture can be drawn, and `Labels`, from
which `phrased` writes its report. An image with a label that has no phrase is left out: a report that is silent about
a finding denies it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..clinical.findings import KINDS
from ..clinical.phrasing import UNQUALIFIED
from ..runtime.files import MedcapError
from ..splits import TRAIN_VAL
from .collection import Files, Labels, LeftOut, Study, whole
from .images import ByPath, stem
from .table import COLUMNS as OWN
from .table import columns, only, rows, view_of

LOOKS_FOR = "a .csv of labels such as NIH's Data_Entry_2017.csv"
COLUMNS = {
    "image": ("image_index", "image", *OWN["image"], "filename", "file"),
    "labels": ("finding_labels", "labels", "label"),
    "tuberculosis": ("tuberculosis", "tb"),
    "patient": (*OWN["patient"], "patient"),
    "view": OWN["view"],
}
LISTS = {"train_val_list.txt": TRAIN_VAL, "test_list.txt": "test"}
KIND_OF = {  # a label in lower case, with blanks -> a finding of ours, where it has another name
    "effusion": "pleural effusion",
    "infiltration": "infiltrate",
    "edema": "pulmonary edema",
    "hernia": "hiatal hernia",
    "pneumoperitoneum": "free air",
    "calcification of the aorta": "aortic calcification",
}
CONFLICT = "one image, several rows with different labels"
REMEDY = f"the labels that have phrases (clinical/phrases.json) are no finding, {', '.join(sorted(UNQUALIFIED))}"
NORMAL = {"no finding", "no findings", "normal", "none"}
YES, NO = {"1", "yes", "true", "positive"}, {"0", "no", "false", "negative"}


def tables(files: Files) -> list[str]:
    """The .csv files with the columns of a table of labels."""
    found = {path: columns(path, COLUMNS).keys() for path in files.ending(".csv")}
    return [path for path, names in found.items() if "image" in names and names & {"labels", "tuberculosis"}]


def sources(files: Files) -> list[str]:
    return [*tables(files), *filter(None, map(files.named, LISTS))]


def matches(files: Files) -> bool:
    return bool(tables(files))


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every row, in their order. MedcapError where the table or a list cannot be read, or there are two tables."""
    path = only(tables(files))
    file, split_of = files.relative(path), lists(files)
    table = list(rows(path, COLUMNS))
    finder = ByPath(files, (row["image"] for row in table), path)
    known = frozenset(name for row in table for name in map(finding_of, labels_of(row)) if name in UNQUALIFIED)
    told: dict[str, set[str]] = {}
    for row in table:
        told.setdefault(row["image"], set()).add("|".join(labels_of(row)))
    for number, row in enumerate(table, 1):
        image = finder.image(row["image"], 1, view_of(row["view"]))
        labels = labels_of(row)
        reason = _unclear(row, labels) or (CONFLICT if len(told[row["image"]]) > 1 else "")
        if not row["image"]:
            yield LeftOut("", file, f"row {number} has no image")
        elif reason:
            yield LeftOut(image.image_id, file, reason)
        else:
            present = tuple(dict.fromkeys(name for name in map(finding_of, labels) if name not in NORMAL))
            study = Study(image.image_id, file, mesh=to_mesh("|".join(labels)), images=[image])
            study.patient, study.labels = whole(row["patient"]), Labels(present, known)
            if split_of:
                study.split, study.split_file = split_of.get(stem(row["image"]), ""), " and ".join(LISTS)
            yield study


def labels_of(row: dict[str, str]) -> list[str]:
    """The labels of a row, as they are written; a "no" to tuberculosis says that there is no finding where no other
    label stands.
    """
    labels = [label.strip() for label in row["labels"].split("|") if label.strip()]
    answer = whole(row["tuberculosis"]).lower()
    return labels + ["Tuberculosis"] * (answer in YES) or ["No Finding"] * (answer in NO)


def finding_of(label: str) -> str:
    """The name of the finding that a label ticks: ours where there is one, else in lower case, with blanks."""
    name = " ".join(label.lower().replace("_", " ").split())
    return name if name in UNQUALIFIED else KIND_OF.get(name, name)


def _unclear(row: dict[str, str], labels: list[str]) -> str:
    """Why the labels of a row make no report, or ""."""
    answer = whole(row["tuberculosis"]).lower()
    if answer and answer not in YES | NO:
        return f'tuberculosis "{answer}" is neither yes nor no'
    if not labels:
        return "no label"
    names = {finding_of(label): label for label in labels}
    if names.keys() <= NORMAL:
        return ""
    if normal := names.keys() & NORMAL:
        return f'label "{names[min(normal)]}" beside others'
    return next((f'label "{label}" has no phrase' for name, label in names.items() if name not in UNQUALIFIED), "")


def lists(files: Files) -> dict[str, str]:
    """Image name without suffix -> split, of NIH's two lists; {} where they are not there.

    MedcapError where one is missing or cannot be read, and where an image stands in both.
    """
    paths = {name: files.named(name) for name in LISTS}
    if not any(paths.values()):
        return {}
    if missing := [name for name, path in paths.items() if not path]:
        raise MedcapError(f"{missing[0]} not found in {files.folder}: give both of {' and '.join(LISTS)}, or neither")
    split_of: dict[str, str] = {}
    for name, path in paths.items():
        try:
            with open(path, encoding="utf-8-sig") as source:
                names = {stem(os.path.basename(line.strip())) for line in source if line.strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise MedcapError(f"{path} is not readable ({error}): get it again, or remove both lists") from error
        if both := sorted(names & split_of.keys()):
            raise MedcapError(
                f"{path} has {both[0]}, which {next(iter(LISTS))} has too: get both again, or remove them"
            )
        split_of |= dict.fromkeys(names, LISTS[name])
    return split_of


def to_mesh(labels: str) -> str:
    """Labels joined by "|" as Open-i's terms joined by ";"; a label that we do not know stays as it is."""
    terms = []
    for label in filter(None, map(str.strip, labels.split("|"))):
        name = " ".join(label.lower().replace("_", " ").split())
        kind = KINDS.get(KIND_OF.get(name, name))
        terms.append("normal" if name in NORMAL else kind.term if kind else label)
    return ";".join(dict.fromkeys(terms))
