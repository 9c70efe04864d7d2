"""Kaggle's form of IU X-Ray: two tables, and images named as the second one says.

    indiana_reports.csv        uid, MeSH, indication, comparison, findings, impression
    indiana_projections.csv    uid, filename, projection (Frontal or Lateral)

Study and image ids are those of Open-i: uid 54 is CXR54.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..runtime.files import read_table
from .collection import IMAGE_SUFFIXES, Files, Image, Study
from .openi import KAGGLE_AGAIN, KAGGLE_TABLES, image_key, image_paths, joined, projections

LOOKS_FOR = "indiana_reports.csv and indiana_projections.csv (Kaggle)"
COLUMNS = ["uid", "MeSH", "indication", "comparison", "findings", "impression"]


def matches(files: Files) -> bool:
    return bool(files.named("indiana_reports.csv"))


def sources(files: Files) -> list[str]:
    return list(filter(None, map(files.named, KAGGLE_TABLES)))


def studies(files: Files) -> Iterator[Study]:
    """Every row of the reports, in their order. MedcapError where a table cannot be read or lacks a column."""
    path = files.named("indiana_reports.csv")
    table = read_table(path, COLUMNS, KAGGLE_AGAIN)
    images = _images(files)
    for row in table[COLUMNS].itertuples(index=False):
        uid, mesh, indication, comparison, findings, impression = (cell.strip() for cell in row)
        sections = findings, indication, comparison, impression
        terms = joined(mesh.split(";"))
        yield Study(f"CXR{uid}", files.relative(path), *sections, terms, images.get(uid, []))


def _images(files: Files) -> dict[str, list[Image]]:
    """uid -> its images; figures are numbered as they are listed."""
    paths, images = image_paths(files), {}
    for uid, name, view in projections(files):
        listed = images.setdefault(uid, [])
        key = image_key(name)
        file = f"images/{name}" if name.lower().endswith(IMAGE_SUFFIXES) else f"images/{name}.png"
        listed.append(Image(key, f"F{len(listed) + 1}", view, file, paths.get(key, "")))
    return images
