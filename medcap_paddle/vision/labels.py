"""The labels of a folder of images, from a CSV table with a row an image. What the table says:

    image (image_id, filename, Image Index ...)   the file, anywhere in the folder
    patient (patient_id, Patient ID ...)          whose it is; without such a column each image counts as a patient

and the labels, in one of these forms; `task` tells which it is:

    label (class, Finding Labels ...)   one word a row: "exclusive" classes. Words joined by "|", and Finding Labels of
                                        NIH ChestX-ray14: "several" at once, where "No Finding" is none of them
    columns of 0 and 1 (yes and no)     one: "several", a label that is there or not; of more, where each row has
                                        exactly one 1, "exclusive", else "several"
    columns of probabilities            each row sums to 1: "exclusive", with soft labels

Any other table is refused. `task` and `columns` say it where the table does not, or says it wrongly. Two classes are
either form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..readers.collection import Files, whole
from ..readers.images import ByPath
from ..readers.labelled import NO, NORMAL, YES
from ..runtime.files import MedcapError, read_table, require

IMAGE = ("image", "image_index", "image_id", "image_path", "filename", "file", "path")
PATIENT = ("patient", "patient_id", "subject_id")
LABEL = ("label", "labels", "class", "category", "diagnosis", "finding_labels")
JOINED = "finding_labels"  # several at once, by its name
TASKS = ("exclusive", "several")
NEAR = 1e-3  # how far a sum of probabilities may be from 1
REMEDY = "name the columns of labels (--columns) and say what they are (--task exclusive or several)"


@dataclass(frozen=True)
class Labelled:
    images: list[str]  # as the table writes them
    paths: list[str]
    patients: list[str]
    targets: np.ndarray  # float32 [N, K]; a row of "exclusive" sums to 1
    classes: tuple[str, ...]  # K
    task: str
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (image, reason)
    remarks: list[str] = field(default_factory=list)  # how the table was read

    def __len__(self) -> int:
        return len(self.images)

    def only(self, keep: np.ndarray, reason: str) -> Labelled:
        """The rows of the mask `keep` [N]; the others are left out for that reason."""
        kept = np.flatnonzero(keep)
        out = [(image, reason) for image, stays in zip(self.images, keep, strict=True) if not stays]
        columns = {name: [getattr(self, name)[k] for k in kept] for name in ("images", "paths", "patients")}
        return replace(self, targets=self.targets[kept], left_out=self.left_out + out, **columns)

    def frequent(self, least: int) -> Labelled:
        """Without the classes that fewer than `least` images have; labels also need as many that have them not."""
        count = (self.targets > 0.5).sum(0)
        exclusive = self.task == "exclusive"
        enough = (count >= least) & (exclusive | (count <= len(self) - least))
        rare = [name for name, keep in zip(self.classes, enough, strict=True) if not keep]
        if not rare:
            return self
        own = self
        if exclusive:
            own = self.only(self.targets[:, ~enough].sum(1) <= 0.5, f"a class of fewer than {least} images")
        targets = own.targets[:, enough]
        targets = targets / targets.sum(1, keepdims=True) if exclusive else targets
        classes = tuple(name for name, keep in zip(self.classes, enough, strict=True) if keep)
        if len(classes) < 1 + exclusive:
            raise MedcapError(f"{', '.join(rare)}: on fewer than {least} images, or all but these: give more images")
        remarks = [*self.remarks, f"fewer than {least} images, left out: {', '.join(rare)}"]
        return replace(own, targets=targets.astype(np.float32), classes=classes, remarks=remarks)


def read(folder: str | Path, table: str | Path, task: str = "", columns: Sequence[str] = ()) -> Labelled:
    """The labelled images of `folder`. MedcapError where the table is not of a form above, or no image is found."""
    import pandas as pd

    require(folder, "give the folder of the images")
    cells = read_table(table, [], "give a table with the columns image and label")
    cells = cells.apply(lambda column: column.str.strip())
    image, patient = _column(cells, IMAGE), _column(cells, PATIENT)
    if not image:
        raise MedcapError(f"{table} has no column of images ({', '.join(IMAGE)}): rename it to image")
    if task and task not in TASKS:
        raise MedcapError(f"task is {task!r}: use {' or '.join(TASKS)}")
    known = cells.drop(columns=[image, *([patient] if patient else [])])
    targets, found, remarks = _targets(known, str(table), task, list(columns))
    names = cells[image].tolist()
    patients = [whole(p) for p in cells[patient]] if patient else names
    patients = [p or name for p, name in zip(patients, names, strict=True)]
    remarks.append(f"patients: column {patient}" if patient else "no column patient: each image counts as one")
    paths, reasons = _find(folder, table, names)
    twice = pd.Series(names).duplicated(keep="first").tolist()
    rows = pd.DataFrame(targets.to_numpy()).assign(image=names)
    clash = set(rows.drop_duplicates().loc[lambda t: t.image.duplicated(), "image"])
    unlabelled = targets.isna().any(axis=1).tolist()
    for k, name in enumerate(names):
        why = "no label" if unlabelled[k] else "several rows, different labels" if name in clash else ""
        reasons[k] = why or reasons[k] or ("a row of it stands above" if twice[k] else "")
    all_rows = Labelled(names, paths, patients, targets.to_numpy(np.float32), tuple(targets), found, [], remarks)
    keep = [k for k, reason in enumerate(reasons) if not reason]
    if not keep:
        raise MedcapError(f"{table} labels no image of {folder} ({names[:1]}: {reasons[:1]}): give the images' folder")
    mask = np.array([not reason for reason in reasons])
    left = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]
    return replace(all_rows.only(mask, ""), left_out=left)


def _column(cells, names: Sequence[str]) -> str:
    """The column that has the first of these names, "" where there is none."""
    there = {re.sub(r"[\s-]+", "_", name.lower()): name for name in reversed(cells.columns)}
    return next((there[name] for name in names if name in there), "")


def _find(folder: str | Path, table: str | Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The path of each image, and why there is none."""
    files = Files(folder, os.devnull)
    inside = os.path.abspath(table).startswith(os.path.abspath(folder) + os.sep)
    finder = ByPath(files, names, os.path.abspath(table) if inside else os.path.join(files.folder, "labels.csv"))
    found = [finder.find(name) if name else ("", ()) for name in names]
    reasons = ["" if path else "several files of that name" if rivals else "not found" for path, rivals in found]
    return [path for path, _ in found], reasons


# The forms ------------------------------------------------------------------------------------------------------------


def _targets(known, table: str, task: str, columns: list[str]) -> tuple:
    """A column a class (NaN where a row has no label), the task, and how it was read."""
    label = _column(known, LABEL)
    if columns and (missing := [name for name in columns if name not in known]) and not label:
        raise MedcapError(f"{table} has no column {', '.join(missing)}: choose of {', '.join(known)}")
    if label and not set(columns) & set(known):
        return _words(known[label], table, task, columns)
    return _numbers(known, table, task, columns)


def _words(cells, table: str, task: str, wanted: list[str]) -> tuple:
    """One column of words."""
    import pandas as pd

    joined = cells.str.contains("|", regex=False).any() or re.sub(r"\s", "_", cells.name.lower()) == JOINED
    found = task or ("several" if joined or wanted else "exclusive")
    if joined and found == "exclusive":
        raise MedcapError(f'{table}: labels joined by "|" are several at once, not exclusive: leave --task out')
    sets = [[w for w in map(str.strip, cell.split("|")) if w] for cell in cells]
    normal = NORMAL if found == "several" else set()
    classes = sorted({word for words in sets for word in words if word.lower() not in normal})
    if strange := [name for name in wanted if name not in classes]:
        raise MedcapError(f"{table}: no label is called {', '.join(strange)}: choose of {', '.join(classes)}")
    rows = [[float(name in words) if words else np.nan for name in wanted or classes] for words in sets]
    if not classes or (found == "exclusive" and len(classes) < 2):
        raise MedcapError(f"{table}: column {cells.name} has {len(classes)} classes: at least two are needed")
    remark = f"column {cells.name}: {found}, {len(wanted or classes)} {'classes' if found == TASKS[0] else 'labels'}"
    return pd.DataFrame(rows, columns=wanted or classes, dtype=float), found, [remark]


def _numbers(known, table: str, task: str, wanted: list[str]) -> tuple:
    """Columns of numbers from 0 to 1."""
    numbers = {name: column for name in wanted or known if (column := _unit(known[name])) is not None}
    if strange := [name for name in wanted if name not in numbers]:
        raise MedcapError(f"{table}: column {', '.join(strange)} has cells that are no numbers from 0 to 1: {REMEDY}")
    if not numbers:
        raise MedcapError(f"{table} has neither a column label nor columns of numbers from 0 to 1: {REMEDY}")
    targets = known[list(numbers)].assign(**numbers).astype(float)
    whole_rows = targets.dropna()
    hard, sums = whole_rows.isin([0, 1]).all(axis=None), (whole_rows.sum(axis=1) - 1).abs() <= NEAR
    one_each = targets.shape[1] > 1 and bool(sums.all())
    found = task or ("exclusive" if one_each else "several" if hard else "")
    if not found:
        k = sums.index[~sums][0]
        raise MedcapError(f"{table}: row {k + 1} has numbers between 0 and 1 that do not sum to 1: {REMEDY}")
    if found == "exclusive" and not one_each:
        raise MedcapError(f"{table}: the columns {', '.join(targets)} do not sum to 1 in each row: {REMEDY}")
    others = [name for name in known if name not in numbers]
    remark = f"columns {', '.join(targets)}: {found}{'' if hard else ', soft'}"
    return targets, found, [remark, *([f"columns that are no labels: {', '.join(others)}"] if others else [])]


def _unit(cells) -> object:
    """Cells as numbers, NaN where empty; None where one is no number from 0 to 1, or all are empty."""
    import pandas as pd

    words = dict.fromkeys(YES, "1") | dict.fromkeys(NO, "0") | {"": "nan"}
    numbers = pd.to_numeric(cells.str.lower().map(lambda cell: words.get(cell, cell)), errors="coerce")
    bad = numbers.isna() & (cells != "")
    return None if bad.any() or numbers.isna().all() or not numbers.dropna().between(0, 1).all() else numbers
