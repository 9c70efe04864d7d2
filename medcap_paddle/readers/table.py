"""A table of one's own: a .csv with a row a study or a row an image, and the images in the folder beside it.

    study_id or id                a study; several rows may have the same
    report or findings            its FINDINGS
    image_path or path            an image, or several: a.png;b.png, a.png|b.png, ["a.png", "b.png"]
    split, view, mesh             where there are such columns; also patient_id or subject_id, indication, ...

Upper and lower case do not matter. The tables of BenchX, ReXrank and CheXpert-Plus are such. `images.ByPath` says where
an image is looked for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from ..runtime.files import MedcapError, read_table
from ..splits import named
from .collection import IMAGE_SUFFIXES, Files, LeftOut, Study, whole
from .images import ByPath

LOOKS_FOR = "a .csv with the columns study_id, findings (or report) and image_path (a table of your own)"
AGAIN = "save it again as CSV in UTF-8, every row with as many cells as the first"
COLUMNS = {  # ours -> what others call it, the first that is there counts
    "study": ("study_id", "id"),
    "findings": ("findings", "section_findings", "report"),
    "image": ("image_path", "path", "path_to_image"),
    "split": ("split",),
    "view": ("view", "frontal_lateral", "viewposition", "view_position", "projection"),
    "mesh": ("mesh",),
    "patient": ("patient_id", "subject_id", "deid_patient_id"),
    "indication": ("indication", "section_clinical_history"),
    "comparison": ("comparison", "section_comparison"),
    "impression": ("impression", "section_impression"),
}
NEEDED = ("study", "findings", "image")
VIEWS = {
    "frontal": {"frontal", "pa", "ap", "posteroanterior", "anteroposterior"},
    "lateral": {"lateral", "ll", "lat", "l", "left lateral", "right lateral"},
}


def view_of(cell: str) -> str:
    """ "frontal", "lateral" or "" of what a table calls a view."""
    return next((view for view, names in VIEWS.items() if cell.strip().lower() in names), "")


def columns(path: str, known: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Our name -> the table's, of the columns that a CSV file has; {} where it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as source:
            header = next(csv.reader([source.readline(1 << 16)]), [])
    except (OSError, ValueError, csv.Error):
        return {}
    if len(header) == 1:  # separated by other marks: `read_table` refuses it, and says so
        header = re.split("[;\t]", header[0])
    header = [name.strip() for name in header]
    there = {re.sub(r"[\s-]+", "_", name.lower()): name for name in reversed(header)}
    found = {ours: next((there[name] for name in names if name in there), None) for ours, names in known.items()}
    if found.get("image") == there.get("path_to_image"):  # CheXpert-Plus has no study id but the folder
        found["study"] = found.get("study") or found["image"]
    return {ours: name for ours, name in found.items() if name is not None}


def only(paths: list[str]) -> str:
    """The one path. MedcapError where there are several."""
    if len(paths) > 1:
        raise MedcapError(f"{' and '.join(paths)} could each be the collection: give a folder with one of them")
    return paths[0]


def sources(files: Files) -> list[str]:
    return [path for path in files.ending(".csv") if set(NEEDED) <= columns(path, COLUMNS).keys()]


def matches(files: Files) -> bool:
    return bool(sources(files))


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every study, in the order of its first row. MedcapError where the table cannot be read, or there are two."""
    path = only(sources(files))
    file = files.relative(path)
    groups: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(rows(path, COLUMNS), 1):
        if study_id := whole(row["study"]):
            groups.setdefault(study_id, []).append(row)
        else:
            yield LeftOut("", file, f"row {number} has no study id")
    finder = ByPath(
        files, (name for group in groups.values() for row in group for name in paths_in(row["image"])), path
    )
    for study_id, group in groups.items():
        yield _study(study_id, file, group, finder)


def rows(path: str, known: dict[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """The rows of a table by our names of the columns, "" where a column is absent."""
    found = columns(path, known)
    table = read_table(path, list(found.values()), AGAIN)
    for cells in zip(*(table[name].tolist() for name in found.values()), strict=True):
        row = dict.fromkeys(known, "") | dict(zip(found, map(str.strip, cells), strict=True))
        if found.get("study") == found["image"]:
            row["study"] = row["image"].rpartition("/")[0]
        yield row


def paths_in(cell: str) -> list[str]:
    """The image paths of a cell."""
    cell = cell.strip()
    if cell[:1] in "[(" and cell[-1:] in "])" and cell:
        quoted = re.findall(r"\"([^\"]*)\"|'([^']*)'", cell)
        parts = [a or b for a, b in quoted] or cell[1:-1].split(",")
        return [part.replace("\\/", "/").strip() for part in parts if part.strip()]
    parts = re.split("[;|\n]", cell)
    if len(parts) == 1 and all(part.strip().lower().endswith(IMAGE_SUFFIXES) for part in cell.split(",")):
        parts = cell.split(",")
    return [part.strip() for part in parts if part.strip()]


def _study(study_id: str, file: str, group: list[dict[str, str]], finder: ByPath) -> Study | LeftOut:
    def values(name: str) -> list[str]:
        return list(dict.fromkeys(row[name] for row in group if row[name]))

    for name, what in (("findings", "reports"), ("split", "splits"), ("patient", "patients")):
        if len(values(name)) > 1:
            return LeftOut(study_id, file, f"one study id, several {what}")
    given = next(iter(values("split")), "")
    if given and not named(given):
        return LeftOut(study_id, file, f'split "{given}" is none of train, val, test')
    listed: dict[str, str] = {}
    for row in group:
        paths, views = paths_in(row["image"]), paths_in(row["view"])
        views = views if len(views) == len(paths) else views * len(paths) if len(views) == 1 == len(paths) else []
        listed |= dict(zip(paths, [view_of(view) for view in views] or [""] * len(paths), strict=True))
    images = [finder.image(path, number, view) for number, (path, view) in enumerate(listed.items(), 1)]
    sections = (_first(values(name)) for name in ("findings", "indication", "comparison", "impression"))
    mesh = ";".join(term.strip() for cell in values("mesh") for term in cell.split(";") if term.strip())
    patient = whole(_first(values("patient")))
    return Study(study_id, file, *sections, mesh, images, named(given), patient)


def _first(values: Iterable[str]) -> str:
    return next(iter(values), "")
