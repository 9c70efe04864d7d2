"""The seam between a collection on disk and the tables: `Files` finds, a `Reader` reads.

A reader is a module or an object in `readers.READERS`. It gives the studies as they are found. Which of them are usable
(`selection`), the splits and the tables are the same for all readers.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ..runtime.files import MedcapError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, ".dcm")
PACKED_SUFFIXES = (".zip", ".tgz", ".tar.gz", ".tar", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# words in the names of folders whose pictures are no radiographs, and what a word is in LungMasks or lung_masks
SET_ASIDE = ("mask", "label", "segmentation", "thumb", "thumbnail")
WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")


@dataclass(slots=True)
class Image:
    """One radiograph that a report lists."""

    image_id: str
    figure_id: str
    view: str  # "frontal", "lateral", or "" where it is not known
    file: str  # its path below the collection's folder: a PNG drawn there is found again
    path: str = ""  # of the file found, "" where it is missing
    rivals: tuple[str, ...] = ()  # where several different files claim to be it: none of them is taken


@dataclass(frozen=True)
class Labels:
    """What a source ticks in place of a report: names of `phrasing.UNQUALIFIED`."""

    present: tuple[str, ...]  # in this study; () where the source calls it normal
    known: frozenset[str]  # in any study of the source: the absence of these says something


@dataclass(slots=True)
class Study:
    """One report with its images; the sections are as in the source, MeSH terms are joined by ";".

    Where there are `labels`, FINDINGS and IMPRESSION are "" and `phrased` writes them.
    """

    study_id: str
    file: str  # where it was read, relative to the collection's folder
    findings: str = ""
    indication: str = ""
    comparison: str = ""
    impression: str = ""
    mesh: str = ""
    images: list[Image] = field(default_factory=list)
    split: str = ""  # "train", "val", "test" or splits.TRAIN_VAL where the source says so
    patient: str = ""  # whose it is, where the source says so
    labels: Labels | None = None
    split_file: str = ""  # where the splits were read, if not in `file`


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

    def __init__(self, folder: str | Path, skip: str | Path, within: Iterable[str] = ()):
        self._aside: dict[str, str] = {}
        self.within = tuple(within)  # archives inside the archive that `folder` was unpacked from
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
        """Paths of the image files, but for those in folders of masks, labels or thumbnails."""
        return [path for path in self.ending(*IMAGE_SUFFIXES) if not self.aside(path)]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path in self.paths:
            paths.setdefault(path[path.rindex(os.sep) + 1 :], []).append(path)
        return paths

    @property
    def packed(self) -> list[str]:
        """Names of the archives that nobody has unpacked, relative."""
        return [*map(self.relative, self.ending(*PACKED_SUFFIXES)), *self.within]

    def aside(self, path: str) -> str:
        """The folder, relative, that says an image is no radiograph (masks, Lung_Masks, labels, thumbs), or ""."""
        folder = os.path.dirname(path)
        if folder not in self._aside:
            parts = self.relative(folder).split(os.sep)
            marked = [k for k, part in enumerate(parts, 1) if set(map(_singular, WORD.findall(part))) & set(SET_ASIDE)]
            self._aside[folder] = os.sep.join(parts[: marked[0]]) if marked else ""
        return self._aside[folder]

    def named(self, name: str) -> str:
        """Path of the file of that name nearest to the top, or ""; MedcapError where two differ there."""
        paths = self._by_name.get(name, [])
        level = [path for path in paths if path.count(os.sep) == paths[0].count(os.sep)]
        if any(not same_content(level[0], path) for path in level[1:]):
            raise MedcapError(f"{' and '.join(level)} differ: keep one, or give the folder of one collection")
        return level[0] if level else ""

    def relative(self, path: str) -> str:
        """`path` below the collection's folder."""
        return path[len(self.folder) :].lstrip(os.sep)


def _singular(word: str) -> str:
    return word.lower().rstrip("s")


def same_content(a: str, b: str) -> bool:
    """Whether two files hold the same bytes."""
    try:
        return os.path.samefile(a, b) or filecmp.cmp(a, b, shallow=False)
    except OSError:
        return False


def whole(number: str) -> str:
    """A number as an id: 1.0, which a spreadsheet made of 1, is 1."""
    return re.sub(r"^(\d+)\.0+$", r"\1", number.strip())


class Reader(Protocol):
    """One form of collection. `REMEDY`, where there is one, says what to do where its own reasons leave no study."""

    LOOKS_FOR: str  # what `matches` looks for, in a few words: error messages list it

    def matches(self, files: Files) -> bool:
        """Whether this is a collection that the reader can read."""

    def studies(self, files: Files) -> Iterator[Study | LeftOut]:
        """Every record, one at a time, in an order that depends on the files only."""

    def sources(self, files: Files) -> list[str]:
        """Paths of the collection's files other than images: a change in one is noticed, a copy needs them all."""
