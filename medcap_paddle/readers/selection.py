"""Which studies are usable, why the others are left out, what to do about it, and the split of each.

The same for every reader; `reports` writes the tables.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..clinical.plain import says_nothing
from ..runtime.files import MedcapError
from ..splits import TRAIN_VAL, by_ratio
from ..text import clean
from .collection import IMAGE_SUFFIXES, Files, LeftOut, Reader, Study

Usable = dict[str, tuple[Study, str]]
Rows = list[tuple[str, str, str]]


def select(
    records: Iterable[Study | LeftOut], split_of: dict[str, str], cleaning: str, files: Files | None = None
) -> tuple[Usable, Rows]:
    """The usable studies, id -> (study, its cleaned report), and the rows of left_out.csv: study id, file, reason.

    `split_of` are the studies of an annotation.json: where there is one, the others are left out. Where images are
    missing, the archives and the folders of masks among `files` are named too.
    """
    studies: Usable = {}
    left_out: Rows = []
    seen: set[str] = set()
    incomplete = False
    for study in records:
        if isinstance(study, LeftOut):
            left_out.append((study.study_id, study.file, study.reason))
            seen.add(study.study_id)
            continue
        report = clean(study.findings, cleaning)
        missing = [image for image in study.images if not image.path]
        incomplete |= bool(missing)
        rivals = [", ".join(image.rivals) for image in missing if image.rivals]
        checks = {
            "duplicate study id": study.study_id in seen,
            "no findings": not study.findings or (report and says_nothing(study.findings)),
            "empty after cleaning": not report,
            "no image listed": not study.images,
            SEVERAL_FILES: rivals and len(missing) == len(study.images),
            "no image file": len(missing) == len(study.images),
            "not in annotation.json": split_of and study.study_id not in split_of,
        }
        seen.add(study.study_id)
        if reason := next((reason for reason, holds in checks.items() if holds), ""):
            left_out.append((study.study_id, rivals[0] if reason == SEVERAL_FILES else study.file, reason))
            continue
        studies[study.study_id] = study, report
        left_out += [(study.study_id, files, f"{SEVERAL_FILES}, study kept") for files in rivals]
        left_out += [
            (study.study_id, image.image_id, "image file missing, study kept") for image in missing if not image.rivals
        ]
    left_out += [(name, "annotation.json", "not in the collection") for name in split_of if name not in seen]
    return studies, left_out + (_not_read(files) if files and incomplete else [])


SEVERAL_FILES = "several files for one image"
PACKED = "packed archive, not read"
ASIDE = "folder of masks, labels or thumbnails, not read"


def _not_read(files: Files) -> Rows:
    """What may hold the images that are missing."""
    folders = {files.aside(path): None for path in files.ending(*IMAGE_SUFFIXES)}
    rows = [("", name, PACKED) for name in files.packed]
    return rows + [("", name, ASIDE) for name in folders if name]


def remedy(reader: Reader, left_out: Rows, missing: str) -> str:
    """What to do where no study is usable; `missing` where nothing explains why there are no images."""
    first: dict[str, str] = {}
    for _, file, reason in left_out:
        first.setdefault(reason, file)
    most = max(first, key=[reason for *_, reason in left_out].count, default="")
    if SEVERAL_FILES in first:
        return f"{first[SEVERAL_FILES]}: keep one of them, move the others away"
    if PACKED in first and "no image file" in first:
        return f"{first[PACKED]} is packed: unpack it beside the reports, and give the folder"
    hints = {
        "no image file": missing,
        "empty after cleaning": "cleaning keeps English words only: is the collection in English?",
        "not in annotation.json": 'split="7:1:2" ignores annotation.json.',
        NO_SPLIT: 'split="7:1:2" ignores the splits of the table.',
    }
    return hints.get(most, getattr(reader, "REMEDY", f"expected {reader.LOOKS_FOR}"))


# Splits ------------------------------------------------------------------------------------------

NO_SPLIT = "no split given"


def keep_given(studies: Usable, left_out: Rows) -> str:
    """Where the source gives splits, "" where it does not; if so, studies without one move to `left_out`."""
    given = [_split_file(study) for study, _ in studies.values() if study.split or study.split_file]
    for name in [name for name, (study, _) in studies.items() if given and not study.split]:
        left_out.append((name, _split_file(studies.pop(name)[0]), NO_SPLIT))
    return given[0] if given else ""


def _split_file(study: Study) -> str:
    return study.split_file or study.file


def divide(studies: Usable, split: str, seed: int, given: dict[str, str] | None) -> dict[str, str]:
    """Study id -> split: as `given`, with val cut from what is TRAIN_VAL there, else by ratio; a patient is in one
    split.

    MedcapError where a given split has a patient twice, and where there is no train study: later stages learn from
    them, the vocabulary first.
    """
    patient_of = {name: study.patient for name, (study, _) in studies.items() if study.patient}
    split_of = by_ratio(studies, split, seed, patient_of) if given is None else {name: given[name] for name in studies}
    split_of |= by_ratio([name for name in split_of if split_of[name] == TRAIN_VAL], "7:1", seed, patient_of)
    splits_of: dict[str, str] = {}
    for name, patient in patient_of.items():
        if splits_of.setdefault(patient, split_of[name]) != split_of[name]:
            raise MedcapError(
                f"{_split_file(studies[name][0])} has patient {patient} in {splits_of[patient]} and in "
                f"{split_of[name]}: "
                'put each patient in one split, or split="7:1:2" divides by patient'
            )
    if "train" not in split_of.values():
        raise MedcapError(
            f"{split} has no train study among the {len(split_of):,} usable ones: a model learns from train studies, "
            'so add them, or split="7:1:2" divides these'
        )
    return split_of
