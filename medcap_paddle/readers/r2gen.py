"""R2Gen's folder: annotation.json (see `annotation`) and images/<study>/0.png, of IU X-Ray or of MIMIC-CXR.

A record's `report` is what R2Gen learns to write: the FINDINGS. It names no views.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..runtime.files import MedcapError
from .annotation import image_paths, records
from .collection import Files, LeftOut, Study, whole
from .images import ByPath

LOOKS_FOR = "annotation.json and images/ (R2Gen's IU X-Ray or MIMIC-CXR)"


def matches(files: Files) -> bool:
    return bool(sources(files))


def sources(files: Files) -> list[str]:
    """annotation.json, or the only JSON file that calls itself an annotation."""
    others = [path for path in files.ending(".json") if "annotation" in os.path.basename(path).lower()]
    return [path] if (path := files.named("annotation.json")) else others if len(others) == 1 else []


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every study, in the order of the file. MedcapError where the file has another shape or holds no report."""
    (path,) = sources(files)
    groups: dict[str, list[tuple[str, dict]]] = {}
    for split, study_id, record in records(path):
        groups.setdefault(study_id, []).append((split, record))
    everything = [record for group in groups.values() for _, record in group]
    if not any("report" in record for record in everything):
        raise MedcapError(f"{path} gives splits and no reports: give a folder that has the reports it belongs to too")
    finder = ByPath(files, (name for record in everything for name in image_paths(record)), path)
    for study_id, group in groups.items():
        yield _study(study_id, group, files.relative(path), finder)


def _study(study_id: str, group: list[tuple[str, dict]], file: str, finder: ByPath) -> Study | LeftOut:
    splits, texts, patients = (
        {split for split, _ in group},
        {text.strip() for _, record in group if isinstance(text := record.get("report"), str)},
        {whole(str(record["subject_id"])) for _, record in group if record.get("subject_id") is not None},
    )
    for several, what in ((splits, "splits"), (texts, "reports"), (patients, "patients")):
        if len(several) > 1:
            return LeftOut(study_id, file, f"one study id, several {what}")
    paths = list(dict.fromkeys(path for _, record in group for path in image_paths(record)))
    images = [finder.image(path, number) for number, path in enumerate(paths, 1)]
    return Study(study_id, file, *texts, images=images, split=min(splits), patient=min(patients, default=""))
