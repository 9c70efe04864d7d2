"""R2Gen's annotation.json: {"train": [{"id", "report", "image_path", "split"}], "val": ..., "test": ...}.

IU X-Ray has the id CXR54_IM-2145 and several image paths; MIMIC-CXR has subject_id, study_id and one path a record,
and several records a study. The study of CXR54_IM-2145 is CXR54, as Open-i has it; else it is `study_id`, or the id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ..runtime.files import MedcapError, require
from ..splits import SPLITS, named
from .collection import Files, Image, Study, whole
from .images import ByPath

OPEN_I = re.compile(r"(CXR\d+)_|([^_]+)_(?:.*_)?IM(?:-|$)")
SHAPE = '{"train": [{"id": ...}], "val": ..., "test": ...}'


def records(path: str | Path) -> Iterator[tuple[str, str, dict]]:
    """Split, study id and content of every record. MedcapError where the file has another shape."""
    try:
        annotation = json.loads(require(path, "get R2Gen's annotation.json again").read_bytes())
    except (ValueError, RecursionError, OSError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise MedcapError(f"{path} is not readable JSON ({error}): get R2Gen's annotation.json again") from error
    if not isinstance(annotation, dict):
        raise MedcapError(f"{path} is not R2Gen's ({SHAPE}): fix or remove it")
    for key, group in annotation.items():
        split = named(key)
        if not split and not isinstance(group, list):
            continue  # a note beside the splits
        if not split:
            raise MedcapError(f'{path} has the key "{key}", which is none of {", ".join(SPLITS)}: rename or remove it')
        for number, record in enumerate(group if isinstance(group, list) else [None], 1):
            if not isinstance(record, dict) or not (study_id := _study_id(record)):
                raise MedcapError(f"{path} is not R2Gen's ({SHAPE}): record {number} of {key} has no id; fix it")
            yield split, study_id, record


def _study_id(record: dict) -> str:
    study_id, name = (
        str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
        for value in (record.get("study_id"), record.get("id"))
    )
    open_i = OPEN_I.match(name)
    return whole(study_id) or (open_i[1] or open_i[2] if open_i else name)


def splits(path: str | Path) -> dict[str, str]:
    """Study id -> split. MedcapError where the file names no study, or has a study in two splits."""
    found: dict[str, str] = {}
    for split, study_id, _ in records(path):
        if found.setdefault(study_id, split) != split:
            raise MedcapError(f"{path} has study {study_id} in {found[study_id]} and in {split}: keep one")
    if not found:
        raise MedcapError(f"{path} names no study: fix or remove it")
    return found


def image_paths(record: dict) -> list[str]:
    """The image paths of a record, each once."""
    paths = record.get("image_path")
    paths = [paths] if isinstance(paths, str) else paths if isinstance(paths, list) else []
    return list(dict.fromkeys(path.strip() for path in paths if isinstance(path, str) and path.strip()))


class Pictures:
    """R2Gen's images/<study>/0.png for reports that come in another form, where annotation.json lies beside."""

    def __init__(self, files: Files):
        self.files, self.images = files, None

    def lend(self, study: Study) -> None:
        """Give `study` R2Gen's images where none of its own is there."""
        if any(image.path or image.rivals for image in study.images):
            return
        if self.images is None:
            self.images = self._read()
        images = self.images.get(study.study_id, [])
        if any(image.path or image.rivals for image in images):
            study.images = images

    def _read(self) -> dict[str, list[Image]]:
        try:
            path = self.files.named("annotation.json")
            listed = [(study_id, image_paths(record)) for _, study_id, record in records(path)] if path else []
        except MedcapError:  # reported where its splits are read
            return {}
        finder = ByPath(self.files, (path for _, paths in listed for path in paths), path)
        images: dict[str, list[Image]] = {}
        for study_id, paths in listed:
            own = images.setdefault(study_id, [])
            own += [finder.image(path, len(own) + k) for k, path in enumerate(paths, 1)]
        return images
