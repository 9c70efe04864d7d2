"""The image files of a study, found by image id or by the path that a table lists.

Folders of masks and thumbnails are passed over (`Files.images`), unless a table lists the very path. A DICOM file
counts where no PNG or JPEG shows the same. Where several files with different content claim to be one image, none is
taken: they become its `rivals`.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from .collection import IMAGE_SUFFIXES, PICTURE_SUFFIXES, Files, Image, same_content

COUNTER = 4  # letters; a shorter name, such as 0 or img, says nothing without its folder
Found = tuple[str, tuple[str, ...]]  # the path, and where it is "" the rivals


def stem(name: str) -> str:
    """A file name without the suffixes of images: a of a.png, a.dcm and a.dcm.png."""
    if name[-4:].lower() != ".dcm" and name.lower().endswith(PICTURE_SUFFIXES):
        name = name[: name.rindex(".")]
    if name[-4:].lower() == ".dcm":
        name = name[:-4]
    return name


def image_key(name: str) -> str:
    """One key for one image: Open-i's CXR54_IM-2145-1001 is Kaggle's 54_IM-2145-1001.dcm.png.

    Open-i says the number of study 1 twice: CXR1_1_IM-0001-3001.
    """
    name = stem(name)
    number, mark, rest = name.partition("_")
    number = number[3:] if number[:3].upper() == "CXR" else number
    return f"CXR{number}_{rest.removeprefix(number + mark)}" if mark and number.isdecimal() else name


def choose(paths: list[str], files: Files) -> Found:
    """The one file among `paths`, nearest to the top first, or the rivals."""
    paths = [path for path in paths if path.lower().endswith(PICTURE_SUFFIXES)] or paths
    if len(paths) < 2 or all(same_content(paths[0], path) for path in paths[1:]):
        return (paths[0] if paths else ""), ()
    return "", tuple(map(files.relative, paths))


class ById:
    """Image files by `image_key`."""

    def __init__(self, files: Files):
        self.files, self.paths = files, defaultdict(list)
        for path in files.images:
            self.paths[image_key(path[path.rindex(os.sep) + 1 :])].append(path)

    def find(self, key: str) -> Found:
        paths = self.paths.get(key, ())
        return (paths[0], ()) if len(paths) == 1 else choose(list(paths), self.files)


class ByPath:
    """Image files by the paths that a table lists, whatever computer the table was written on.

    A path is looked for below the folder of the table, then anywhere in the collection, then as an absolute one. Where
    nothing is there, its first folders are left away as long as its end stays the only one listed and the only one
    found: "CheXpert-v1.0/train/a/1.jpg" is images/train/a/1.jpg, and in the end a.png is films/a.png.
    """

    def __init__(self, files: Files, listed: Iterable[str], table: str):
        self.files, self.folder = files, os.path.dirname(files.relative(table)).replace(os.sep, "/")
        self.paths: dict[str, list[str]] = defaultdict(list)  # below the collection, without suffix
        for path in files.ending(*IMAGE_SUFFIXES):
            self.paths[_plain(files.relative(path))].append(path)
        self.parents: dict[str, list[str]] = defaultdict(list)  # a name -> the folders that hold it
        known = set()
        for path in map(_plain, map(files.relative, files.images)):
            while path not in known:
                known.add(path)
                parent, _, name = path.rpartition("/")
                self.parents[name].append(parent)
                if not parent:
                    break
                path = parent
        self.listed = {_plain(path) for path in listed}
        self.ends: dict[int, Counter[str]] = {}  # number of parts -> how many listed paths have this end

    def image(self, path: str, number: int, view: str = "") -> Image:
        """The image of a listed path, as figure `number` of its study."""
        plain = _plain(path)
        name = plain.rpartition("/")[2]
        image_id = name if self._alone(name, 1) else plain.lstrip("/")
        below = [part for part in plain.split("/") if part not in ("", ".", "..") and not part.endswith(":")]
        file = "/".join([*(["images"] if below[:1] != ["images"] else []), *below]) + ".png"
        return Image(image_id, f"F{number}", view, file, *self.find(path))

    def find(self, path: str) -> Found:
        plain = _plain(path)
        beside = os.path.normpath(os.path.join(self.folder, plain)).replace(os.sep, "/")
        if beside in self.paths:
            return self._choose([beside], path)
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if ".." in parts or not parts:
            return "", ()
        for k in range(len(parts)):
            end = "/".join(parts[k:])
            if k == 1 and os.path.isabs(path) and path.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(path):
                return path, ()
            by_name = k and k == len(parts) - 1
            if k and not self._alone(end, len(parts) - k) or by_name and len(parts[k]) < COUNTER:
                break
            places = [f"{parent}/{end}".lstrip("/") for parent in self.parents.get(parts[k], ())]
            if found := [place for place in places if place in self.paths]:
                return self._choose(found, path)
        return "", ()

    def _choose(self, places: list[str], listed: str) -> Found:
        paths = [path for place in places for path in self.paths[place]]
        named = [path for path in paths if os.path.basename(path) == re.split(r"[\\/]", listed)[-1]]
        return choose(named or paths, self.files)

    def _alone(self, end: str, parts: int) -> bool:
        """Whether no two listed paths end with these parts."""
        if parts not in self.ends:
            self.ends[parts] = Counter("/".join(path.split("/")[-parts:]) for path in self.listed)
        return self.ends[parts][end] < 2


def _plain(path: str) -> str:
    """A path with "/" and without the suffixes of images."""
    folder, mark, name = path.strip().replace("\\", "/").removeprefix("./").rpartition("/")
    return folder + mark + stem(name)
