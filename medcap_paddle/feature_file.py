"""features.h5: what an encoder gives for each image, and features.json: what can be known without reading it.

    features.h5     <name>      [N, ...] float32 for each array of the encoder: "pooled" [N, D]
                    image_id    [N] string
                    unreadable  [M, 3] string: image id, file, reason
                    attributes: encoder, weights (fingerprint), source, preprocessing (JSON),
                                drawn (whether all images are drawings),
                                precision, difference (relative, from float32, on the first batch)
    features.json   attributes; image_ids; unreadable; arrays: name to shape; and the digest of features.h5;
                    doubtful, where an image looks inverted or the like: image id, file, reason

The first is complete in itself, for other programs. The second is sealed, and vouches for the first: HDF5 may crash on
a damaged file, so its digest is compared before it is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import image
from .runtime.files import MedcapError, atomic, digest, read_sealed, require, reserve, write_sealed

if TYPE_CHECKING:
    from .config import Config
    from .encoder import Encoder

POOLED = "pooled"  # the array that every encoder gives: a vector
IDENTITY = ("encoder", "weights", "preprocessing")
UNREADABLE = ("image_id", "file", "reason")
MEASURED = ("precision", "difference")
MAKER = "run 02_features.ipynb"
BLOCK = 4096  # rows that are read at a time
Part = dict[str, np.ndarray]


@dataclass(frozen=True)
class Index:
    """What is known of a features file without its arrays."""

    attributes: dict  # "content" among them: the digest of features.h5
    image_ids: list[str]  # of the rows
    unreadable: list[dict[str, str]]  # of UNREADABLE
    arrays: dict[str, tuple[int, ...]]  # name to shape (N, ...)
    doubtful: list[dict[str, str]] = field(default_factory=list)  # of UNREADABLE: among the rows, see `image.doubt`


def describe(encoder: Encoder) -> dict:
    """The attributes that decide whether two features can be compared."""
    return {"encoder": encoder.name, "weights": encoder.weights, "preprocessing": encoder.preprocessing.record()}


def check(found: dict, expect: dict, what: str | Path) -> None:
    """MedcapError when features described by `found` are not those a run was trained on.

    Precision may differ: it changes a feature by less than a percent, and another machine may not have it.
    """
    for name in (name for name in IDENTITY if name in expect and found.get(name) != expect[name]):
        wrong = f"has {name} {found.get(name)!r}, but the run was trained on {expect[name]!r}"
        if name == "preprocessing" and (wrong := image.difference(found.get(name), expect[name])):
            wrong = f"has another preprocessing than the run was trained on ({wrong})"
        if wrong:
            raise MedcapError(f"{what} {wrong}: {MAKER} with the run's encoder, or train again (04_train.ipynb)")


def needed(config: Config) -> list[str]:
    """The arrays that a run of these settings needs: the vector, by which studies are compared, and what its decoder
    reads of images.
    """
    from . import models

    reads = models.reads(config.decoder)
    return list(dict.fromkeys((POOLED, *(name for name in reads if name not in models.memory.INPUTS))))


def sidecar(path: str | Path) -> Path:
    return Path(path).with_suffix(".json")


def index(path: str | Path) -> Index:
    """What features.json says of the features.h5 at `path`, which is not opened. MedcapError when it is damaged."""
    facts = read_sealed(sidecar(path), f"{MAKER} again")
    if "image_ids" not in facts:
        raise MedcapError(f"{sidecar(path)} is not the index of a features file: {MAKER} again")
    unreadable, doubtful = (
        [dict(zip(UNREADABLE, row, strict=True)) for row in facts.get(name, [])] for name in ("unreadable", "doubtful")
    )
    arrays = {name: tuple(shape) for name, shape in facts["arrays"].items()}
    return Index({**facts["attributes"], "content": facts["content"]}, facts["image_ids"], unreadable, arrays, doubtful)


def read(
    path: str | Path, names: Sequence[str], expect: dict | None = None, image_ids: Sequence[str] | None = None
) -> tuple[dict[str, int], dict[str, np.ndarray], dict]:
    """Image id -> row, the arrays of these names [N, ...], and the attributes.

    Of all images; or of `image_ids`, in their order, and then no others are held in memory. MedcapError when the file
    is damaged, lacks an array, or has other attributes than `expect` (see `check`).
    """
    import h5py

    path, known = require(path, MAKER), index(path)
    check(known.attributes, expect or {}, path)
    if missing := [name for name in names if name not in known.arrays]:
        raise MedcapError(f"{path} has no array {', '.join(missing)}: {MAKER} with an encoder that gives it")
    if _content(path) != known.attributes["content"]:
        raise MedcapError(f"{path} is damaged, or {sidecar(path).name} belongs to another: {MAKER} again")
    rows = {image_id: row for row, image_id in enumerate(known.image_ids)}
    wanted = np.array([rows[image_id] for image_id in (known.image_ids if image_ids is None else image_ids)], int)
    with h5py.File(path) as file:
        arrays = {name: _rows(file[name], wanted) for name in names}
    return {known.image_ids[row]: place for place, row in enumerate(wanted)}, arrays, known.attributes


def _rows(stored, wanted: np.ndarray) -> np.ndarray:
    """The rows of a stored array [N, ...] at `wanted`, in that order; a block at a time."""
    out = np.empty([len(wanted), *stored.shape[1:]], stored.dtype)
    order = np.argsort(wanted, kind="stable")
    for start in range(0, len(stored), BLOCK):
        here = order[slice(*np.searchsorted(wanted[order], (start, start + BLOCK)))]
        if len(here):
            out[here] = stored[start : start + BLOCK][wanted[here] - start]
    return out


def write(path: str | Path, parts: Iterable[Part], attributes: dict, arrays: dict[str, tuple], rows: int = 0) -> None:
    """Write both files a part at a time, so that memory does not grow with the number of images.

    `arrays`: name to shape of a row, as `Encoder.arrays`. A part holds these, [n, ...], "image_id" [n], "unreadable"
    [m, 3] and perhaps "doubtful" [k, 3]; the first one may tell MEASURED. Room for `rows` is asked for first: a disk
    that is full half-way through would crash the process in HDF5. MedcapError when a number is not finite, or when
    there is no image.
    """
    import h5py

    ids, unreadable, doubtful, text = [], [], [], h5py.string_dtype()
    with atomic(path) as temporary:
        reserve(temporary, (rows + 256) * (256 + sum(4 * int(np.prod(shape)) for shape in arrays.values())) + (1 << 20))
        with h5py.File(temporary, "w") as file:
            for name, shape in arrays.items():
                file.create_dataset(name, (0, *shape), "float32", maxshape=(None, *shape))
            for part in parts:
                attributes = {**{name: part[name].item() for name in MEASURED if name in part}, **attributes}
                ids += part["image_id"].tolist()
                unreadable += part["unreadable"].tolist()
                doubtful += part["doubtful"].tolist() if "doubtful" in part else []
                for name in arrays:
                    if not np.isfinite(part[name]).all():
                        what = f"the encoder {attributes['encoder']} gives numbers in {name} that are not finite"
                        raise MedcapError(f"{what}: check its weights")
                    file[name].resize(len(ids), axis=0)
                    file[name][len(ids) - len(part[name]) :] = part[name]
            if not ids:
                raise MedcapError(f"none of {len(unreadable)} images could be read: run 01_reports.ipynb again")
            file.create_dataset("image_id", data=ids, dtype=text)
            file.create_dataset("unreadable", data=np.array(unreadable, object).reshape(-1, 3), dtype=text)
            file.attrs.update({n: json.dumps(v) if isinstance(v, dict) else v for n, v in attributes.items()})
        content = _content(temporary)
        sidecar(path).unlink(missing_ok=True)  # the old one must not stand beside the new file
    shapes = {name: [len(ids), *shape] for name, shape in arrays.items()}
    facts = {"attributes": attributes, "arrays": shapes, "image_ids": ids, "unreadable": unreadable}
    write_sealed(sidecar(path), {**facts, **({"doubtful": doubtful} if doubtful else {}), "content": content})


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return digest(file)
