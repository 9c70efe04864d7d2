"""The split of every study, "train", "val" or "test": by ratio, or as an annotation.json of R2Gen has it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from .runtime.files import MedcapError, read_json

SPLITS = ("train", "val", "test")


def in_order(study_ids: Iterable[str]) -> list[str]:
    """Study ids sorted as people count: CXR9 before CXR10."""
    return sorted(study_ids, key=lambda study_id: (len(study_id), study_id))


def by_ratio(study_ids: Iterable[str], split: str, seed: int) -> dict[str, str]:
    """Study id -> split; the order of `study_ids` does not matter.

    "7:1:2" shuffles with `seed`. "8:2" is the AI Studio notebook's: not shuffled, and no val. Others raise MedcapError.
    """
    ids = in_order(study_ids)
    if split == "7:1:2":
        random.Random(seed).shuffle(ids)
        ends = round(0.7 * len(ids)), round(0.8 * len(ids))
    elif split == "8:2":
        ends = round(0.8 * len(ids)), round(0.8 * len(ids))
    else:
        raise MedcapError(f'split "{split}" is unknown: use "auto", "7:1:2" or "8:2"')
    return {name: "train" if i < ends[0] else "val" if i < ends[1] else "test" for i, name in enumerate(ids)}


def by_annotation(path: str | Path) -> dict[str, str]:
    """Study id -> split, from R2Gen's {"train": [{"id": "CXR54_IM-2145"}], "val": ..., "test": ...}: study CXR54.

    MedcapError where the file has another shape, names no study, or has a study in two splits.
    """
    annotation = read_json(path, "get R2Gen's IU X-Ray annotation.json again")
    splits: dict[str, str] = {}
    try:
        for split in SPLITS:
            for record in annotation.get(split, []):
                study_id = record["id"].split("_")[0]
                if splits.setdefault(study_id, split) != split:
                    raise MedcapError(f"{path} has study {study_id} in {splits[study_id]} and in {split}: keep one")
    except (AttributeError, KeyError, TypeError) as error:
        raise MedcapError(
            f'{path} is not R2Gen\'s ({{"train": [{{"id": ...}}], "val": ..., "test": ...}}): fix or remove it'
        ) from error
    if not splits:
        raise MedcapError(f"{path} names no study: fix or remove it")
    return splits
