"""The seam between a collection on disk and the tables: `Files` finds, a `Reader` reads.

A reader is a module or an object in `readers.READERS`. It gives the studies as they are found. Which of them are usable
(`select`), the splits and the tables are the same for all readers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ..text import clean

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(slots=True)
class Image:
    """One radiograph that a report lists."""

    image_id: str
    figure_id: str
    view: str  # "frontal", "lateral", or "" where it is not known
    file: str  # its path below the collection's folder: a PNG drawn there is found again
    path: str = ""  # of the file found, "" where it is missing


@dataclass(slots=True)
class Study:
    """One report with its images; the sections are as in the source, MeSH terms are joined by ";"."""

    study_id: str
    file: str  # where it was read, relative to the collection's folder
    findings: str = ""
    indication: str = ""
    comparison: str = ""
    impression: str = ""
    mesh: str = ""
    images: list[Image] = field(default_factory=list)


@dataclass(slots=True)
class LeftOut:
    """A record that is no study, and why: a row of left_out.csv."""

    study_id: str
    file: str
    reason: str


class Files:
    """The files of a collection, nearest to its top first; hidden ones and the folder `skip` are passed over.

    Links are followed, but not to a folder that the collection lies in: an archive may hold a link to "/". Pipes and
    devices, which can be read for ever, are no files.
    """

    def __init__(self, folder: str | Path, skip: str | Path):
        self.folder = folder = os.path.abspath(folder)
        paths = []
        top = Path(os.path.realpath(folder))
        seen = {os.path.realpath(skip), *map(str, top.parents)} - {str(top)}
        for here, folders, names in os.walk(folder, followlinks=True):
            if os.path.realpath(here) in seen:  # also ends a circle of links
                folders.clear()
                continue
            seen.add(os.path.realpath(here))
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [os.path.join(here, name) for name in names if not name.startswith(".")]
        self.paths = sorted(filter(os.path.isfile, paths), key=lambda path: (path.count(os.sep), path))

    def ending(self, *suffixes: str) -> list[str]:
        """Paths of the files with one of these suffixes, in lower or upper case."""
        return [path for path in self.paths if path.lower().endswith(suffixes)]

    @cached_property
    def images(self) -> list[str]:
        """Paths of the image files."""
        return self.ending(*IMAGE_SUFFIXES)

    def named(self, name: str) -> str:
        """Path of the first file of that name, or ""."""
        return next((path for path in self.paths if os.path.basename(path) == name), "")

    def relative(self, path: str) -> str:
        """`path` below the collection's folder."""
        return path[len(self.folder) :].lstrip(os.sep)


class Reader(Protocol):
    """One form of collection."""

    LOOKS_FOR: str  # what `matches` looks for, in a few words: error messages list it

    def matches(self, files: Files) -> bool:
        """Whether this is a collection that the reader can read."""

    def studies(self, files: Files) -> Iterator[Study | LeftOut]:
        """Every record, one at a time, in an order that depends on the files only."""

    def sources(self, files: Files) -> list[str]:
        """Paths of the collection's files other than images: a change in one is noticed, a copy needs them all."""


def select(
    records: Iterable[Study | LeftOut], split_of: dict[str, str], cleaning: str
) -> tuple[dict[str, tuple[Study, str]], list[tuple[str, str, str]]]:
    """The usable studies, id -> (study, its cleaned report), and the rows of left_out.csv: study id, file, reason.

    `split_of` are the studies of an annotation.json: where there is one, the others are left out.
    """
    studies: dict[str, tuple[Study, str]] = {}
    left_out: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for study in records:
        if isinstance(study, LeftOut):
            left_out.append((study.study_id, study.file, study.reason))
            continue
        report = clean(study.findings, cleaning)
        missing = [image.image_id for image in study.images if not image.path]
        checks = {
            "duplicate study id": study.study_id in seen,
            "no findings": not study.findings,
            "empty after cleaning": not report,
            "no image listed": not study.images,
            "no image file": len(missing) == len(study.images),
            "not in annotation.json": split_of and study.study_id not in split_of,
        }
        seen.add(study.study_id)
        if reason := next((reason for reason, holds in checks.items() if holds), ""):
            left_out.append((study.study_id, study.file, reason))
        else:
            studies[study.study_id] = study, report
            left_out += [(study.study_id, image_id, "image file missing, study kept") for image_id in missing]
    left_out += [(name, "annotation.json", "not in the collection") for name in split_of if name not in seen]
    return studies, left_out
