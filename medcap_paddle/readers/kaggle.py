"""Kaggle's form of IU X-Ray: two tables, and images named as the second one says.

    indiana_reports.csv        uid, MeSH, indication, comparison, findings, impression
    indiana_projections.csv    uid, filename, projection (Frontal or Lateral)

Study and image ids are those of Open-i: uid 54, or 54.0 as a spreadsheet may have saved it, is CXR54.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..runtime.files import MedcapError, read_table
from .annotation import Pictures
from .collection import PICTURE_SUFFIXES, Files, Image, LeftOut, Study, whole
from .images import ById, image_key

REPORTS, PROJECTIONS = TABLES = ("indiana_reports.csv", "indiana_projections.csv")
LOOKS_FOR = f"{REPORTS} and {PROJECTIONS} (Kaggle)"
COLUMNS = ["uid", "MeSH", "indication", "comparison", "findings", "impression"]
AGAIN = "get both CSV files of the Kaggle release again"


def matches(files: Files) -> bool:
    """Whether the reports are there; the other table alone may lie beside a zip of them."""
    return bool(files.named(REPORTS) or (files.named(PROJECTIONS) and not files.ending(".zip")))


def sources(files: Files) -> list[str]:
    return list(filter(None, map(files.named, TABLES)))


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every row of the reports, in their order, and the XML files, which are none of Kaggle's.

    MedcapError where a table is missing, cannot be read or lacks a column.
    """
    for name, other in (TABLES, TABLES[::-1]):
        if not files.named(name):
            raise MedcapError(f"{name} not found beside {files.named(other)}: {AGAIN}, or put the missing one there")
    path = files.named(REPORTS)
    images, pictures = _images(files), Pictures(files)
    for uid, mesh, *sections in _rows(path):
        indication, comparison, findings, impression = sections
        order = findings, indication, comparison, impression
        study = Study(f"CXR{uid}", files.relative(path), *order, joined(mesh.split(";")), images.get(uid, []))
        pictures.lend(study)
        yield study
    for xml in files.ending(".xml"):
        yield LeftOut("", files.relative(xml), "not an Open-i report")


def uids(files: Files) -> list[str]:
    """The uid of every report; none where there is no such table."""
    return [uid for uid, *_ in _rows(path)] if (path := files.named(REPORTS)) else []


def _rows(path: str) -> Iterator[list[str]]:
    table = read_table(path, COLUMNS, AGAIN)
    for uid, *rest in zip(*(table[column].tolist() for column in COLUMNS), strict=True):
        yield [_uid(uid), *(cell.strip() for cell in rest)]


def _uid(cell: str) -> str:
    return whole(cell.strip().removeprefix("CXR"))


def projections(files: Files) -> Iterator[tuple[str, str, str]]:
    """uid, file name and view of every image in Kaggle's table; nothing where the collection has no such table."""
    path = files.named(PROJECTIONS)
    if path:
        columns = ["uid", "filename", "projection"]
        table = read_table(path, columns, AGAIN)
        for uid, name, view in zip(*(table[column].tolist() for column in columns), strict=True):
            yield _uid(uid), name, view.strip().lower()


def _images(files: Files) -> dict[str, list[Image]]:
    """uid -> its images; figures are numbered as they are listed."""
    finder, images = ById(files), {}
    for uid, name, view in projections(files):
        listed = images.setdefault(uid, [])
        file = f"images/{name}" if name.lower().endswith(PICTURE_SUFFIXES) else f"images/{name}.png"
        key = image_key(name)
        listed.append(Image(key, f"F{len(listed) + 1}", view, file, *finder.find(key)))
    return images


def joined(terms: Iterable[str]) -> str:
    """MeSH terms as one cell."""
    return ";".join(term.strip() for term in terms if term.strip())
