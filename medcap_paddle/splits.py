"""The split of every study, "train", "val" or "test": by ratio, or by the name that others give it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from .runtime.files import MedcapError

SPLITS = ("train", "val", "test")
TRAIN_VAL = "train or val"  # a source that names its test studies only; `by_ratio` "7:1" divides the others
NAMES = {"training": "train", "testing": "test"} | dict.fromkeys(("valid", "validate", "validation", "dev"), "val")


def named(name: str) -> str:
    """One of SPLITS for what others call it, such as "valid" or "Training"; "" for anything else."""
    name = name.strip().lower()
    name = NAMES.get(name, name)
    return name if name in SPLITS else ""


def in_order(study_ids: Iterable[str]) -> list[str]:
    """Study ids sorted as people count: CXR9 before CXR10."""
    return sorted(study_ids, key=lambda study_id: (len(study_id), study_id))


def by_ratio(
    study_ids: Iterable[str], split: str, seed: int, patient_of: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Study id -> split; the order of `study_ids` does not matter. Studies of one patient share a split.

    "7:1:2" shuffles with `seed`, so does "7:1", which has no test. "8:2" is the AI Studio notebook's: not shuffled, and
    no val. Others raise MedcapError.
    """
    patients = {name: (patient_of or {}).get(name, name) for name in study_ids}
    ids = in_order(set(patients.values()))
    if split in ("7:1:2", "7:1"):
        random.Random(seed).shuffle(ids)
    if split == "7:1:2":
        ends = round(0.7 * len(ids)), round(0.8 * len(ids))
    elif split == "7:1":
        ends = round(7 / 8 * len(ids)), len(ids)
    elif split == "8:2":
        ends = round(0.8 * len(ids)), round(0.8 * len(ids))
    else:
        raise MedcapError(f'split "{split}" is unknown: use "auto", "7:1:2" or "8:2"')
    splits = {name: "train" if i < ends[0] else "val" if i < ends[1] else "test" for i, name in enumerate(ids)}
    return {name: splits[patient] for name, patient in patients.items()}


def tune_part(
    study_ids: Iterable[str], seed: int, patient_of: Mapping[str, str] | None = None, share: float = 0.1
) -> frozenset[str]:
    """The train studies on which settings are chosen, `share` of the patients: then val is looked at once, at the end.

    The order of `study_ids` does not matter. At least one patient is in it, and one is not where there are two.
    """
    patients = {name: (patient_of or {}).get(name, name) for name in study_ids}
    ids = in_order(set(patients.values()))
    random.Random(seed).shuffle(ids)
    chosen = set(ids[: max(1, round(share * len(ids)))])
    return frozenset(name for name, patient in patients.items() if patient in chosen)
