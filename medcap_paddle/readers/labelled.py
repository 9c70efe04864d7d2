"""A table of labels: images with findings that are ticked, and no reports.

    Image Index, Finding Labels, Patient ID    NIH ChestX-ray14 (Data_Entry_2017.csv); labels are joined by "|"
    image, tuberculosis                        Shenzhen and Montgomery (yes or no)

An image is a study. Its labels become MeSH terms as Open-i writes them, so its picture can be drawn; FINDINGS stay "".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..clinical.findings import KINDS
from .collection import Files, LeftOut, Study, whole
from .images import ByPath
from .table import COLUMNS as OWN
from .table import columns, only, rows, view_of

LOOKS_FOR = "a .csv of labels such as NIH's Data_Entry_2017.csv"
WITHOUT_FINDINGS = (
    "this is a table of labels without reports, so no model learns to write from it, with real images or drawn ones "
    "(IMAGES=phantom): give a collection with reports"
)
COLUMNS = {
    "image": ("image_index", "image", *OWN["image"], "filename", "file"),
    "labels": ("finding_labels", "labels", "label"),
    "tuberculosis": ("tuberculosis", "tb"),
    "patient": (*OWN["patient"], "patient"),
    "view": OWN["view"],
}
KIND_OF = {  # a label in lower case, with blanks -> a finding of ours, where it has another name
    "effusion": "pleural effusion",
    "infiltration": "infiltrate",
    "edema": "pulmonary edema",
    "hernia": "hiatal hernia",
    "pneumoperitoneum": "free air",
    "calcification of the aorta": "aortic calcification",
}
NORMAL = {"no finding", "no findings", "normal", "none"}
YES, NO = {"1", "yes", "true", "positive"}, {"0", "no", "false", "negative"}


def sources(files: Files) -> list[str]:
    found = {path: columns(path, COLUMNS).keys() for path in files.ending(".csv")}
    return [path for path, names in found.items() if "image" in names and names & {"labels", "tuberculosis"}]


def matches(files: Files) -> bool:
    return bool(sources(files))


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every row, in their order. MedcapError where the table cannot be read, or there are two."""
    path = only(sources(files))
    table = list(rows(path, COLUMNS))
    finder = ByPath(files, (row["image"] for row in table), path)
    for number, row in enumerate(table, 1):
        image = finder.image(row["image"], 1, view_of(row["view"]))
        answer = whole(row["tuberculosis"]).lower()
        if not row["image"]:
            yield LeftOut("", files.relative(path), f"row {number} has no image")
        elif answer and answer not in YES | NO:
            yield LeftOut(image.image_id, files.relative(path), f'tuberculosis "{answer}" is neither yes nor no')
        else:
            labels = [row["labels"], {True: "Tuberculosis", False: "No Finding"}[answer in YES] if answer else ""]
            mesh = to_mesh("|".join(filter(None, labels)))
            yield Study(image.image_id, files.relative(path), mesh=mesh, images=[image], patient=whole(row["patient"]))


def to_mesh(labels: str) -> str:
    """Labels joined by "|" as Open-i's terms joined by ";"; a label that we do not know stays as it is."""
    terms = []
    for label in filter(None, map(str.strip, labels.split("|"))):
        name = " ".join(label.lower().replace("_", " ").split())
        kind = KINDS.get(KIND_OF.get(name, name))
        terms.append("normal" if name in NORMAL else kind.term if kind else label)
    return ";".join(dict.fromkeys(terms))
