"""Images to features.h5, each image once.

Reads the table images.csv (image_id, path) and the images; writes

    features  [N, D] float32
    image_id  [N] string
    attributes: encoder, weights (fingerprint), source, preprocessing, image_size,
                precision, difference (relative, from float32, on the first batch)
    unreadable [M, 3] string: image id, file, reason

    python -m medcap_paddle.features WORK
    python -m paddle.distributed.launch --nproc_per_node 2 python -m medcap_paddle.features WORK

Before the HDF5 part stands its digest (in HDF5's user block, which other programs skip): a damaged file is refused.

`read` refuses features made otherwise than those a run was trained on. Precision may differ: it changes a feature by
less than a percent, and another machine may not have it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import paddle

from . import cores, image, ranks
from .crew import each
from .encoder import Encoder, choose, load
from .files import MedcapError, alone, atomic, digest, plain_ending, read_json, read_table, require, reserve
from .resume import Part, begin, finished, forget, parts, sparing, stamp, unchanged

if TYPE_CHECKING:
    import h5py
    import pandas as pd

UNREADABLE = ("image_id", "file", "reason")
IDENTITY = ("encoder", "weights", "preprocessing", "image_size")
MAKER = "run 02_features.ipynb"
BLOCK = 512  # bytes, the smallest user block of HDF5
Run = Callable[[np.ndarray], np.ndarray]  # float32 [B, 3, S, S] -> float32 [B, D]


@dataclass
class Summary:
    images: int
    attributes: dict
    unreadable: list[dict[str, str]] = field(default_factory=list)  # of UNREADABLE


def describe(encoder: Encoder) -> dict:
    """The attributes that decide whether two features can be compared."""
    return dict(zip(IDENTITY, (encoder.name, encoder.weights, image.PREPROCESSING, encoder.image_size), strict=True))


def check(found: dict, expect: dict, what: str | Path) -> None:
    """MedcapError when features described by `found` are not those a run was trained on."""
    for name in IDENTITY:
        if name in expect and found.get(name) != expect[name]:
            raise MedcapError(
                f"{what} has {name} {found.get(name)!r}, but the run was trained on {expect[name]!r}: "
                f"{MAKER} with the run's encoder, or train again (04_train.ipynb)"
            )


def extract(
    images: pd.DataFrame, encoder: Encoder, out: str | Path, batch_size: int = 32, exact: bool = False
) -> Summary:
    """Write features.h5; images that cannot be read are left out and listed. `exact` computes in float32.

    Stopped, it goes on from the last finished batch; finished, it does nothing while images and encoder are the same.
    Ranks share out the batches, and the first of them writes the file that one process would have written.
    """
    from tqdm.auto import tqdm

    rank, count = ranks.join()
    ids, paths = list(images["image_id"]), list(map(str, images["path"]))
    inputs = digest(describe(encoder), batch_size, exact, ids, [[path, *stamp(path)] for path in paths])
    if unchanged(out, inputs):
        if not rank:
            tqdm.write(f"{out} is up to date: nothing to do")
        return summary(out)

    def rest(first: int, step: int = 1) -> Iterator[Part]:
        starts = range(first * batch_size, len(ids), step * batch_size)
        if not starts:
            return
        bar = tqdm(paths, "features", unit="image", initial=starts.start, disable=rank > 0)
        some = max(1, batch_size // 2)  # while the network computes, a process gets no new job: give it several images
        jobs = [
            paths[k : k + some] for start in starts for k in range(start, min(start + batch_size, len(paths)), some)
        ]
        tasks = ((job, encoder.image_size) for job in jobs)
        ready = chain.from_iterable(each(image.prepared, tasks, ahead=cores() + 4))
        with bar, tempfile.TemporaryDirectory() as folder:
            run, precision = fast(encoder, folder, exact)
            run = _within_memory(run)
            for start in starts:
                truth = _within_memory(eager(encoder)) if start == 0 and precision != "float32" else run
                part = slice(start, start + batch_size)
                yield {**_batch(run, truth, ids[part], paths[part], ready), "precision": np.array(precision)}
                bar.update(len(ids[start : start + step * batch_size]))

    with nullcontext() if rank else alone(out):
        if count > 1:
            if not rank:
                begin(out, inputs)
            ranks.wait()
            for _ in parts(out, inputs, partial(rest, step=count), rank, count):
                pass
            ranks.wait()
        if not rank:
            facts = {**describe(encoder), "source": encoder.source}
            _write(out, parts(out, inputs, rest), facts, encoder.dim, len(ids))
            finished(out, inputs)
            forget(out)
        ranks.wait()
    return summary(out)


def _batch(run: Run, truth: Run, ids: list[str], paths: list[str], ready: Iterator) -> Part:
    """The next images of `ready`: features [n, D], their image_id [n], unreadable [m, 3] and the relative difference
    of the features from those of `truth`.
    """
    pictures, kept, unreadable = [], [], []
    for image_id, path, pixels in zip(ids, paths, ready, strict=False):
        if isinstance(pixels, MedcapError):
            unreadable.append((image_id, path, str(pixels)))
        else:
            kept.append(image_id)
            pictures.append(pixels)
    rows, difference = np.zeros((0, 0), np.float32), 0.0
    if pictures:
        rows = run(np.stack(pictures))
        if truth is not run:
            exact = truth(np.stack(pictures))
            difference = float(np.linalg.norm(rows - exact) / np.linalg.norm(exact))
    return {
        "features": rows,
        "image_id": np.array(kept, str),
        "unreadable": np.array(unreadable, str).reshape(-1, 3),
        "difference": np.array(difference),
    }


def _within_memory(run: Run) -> Run:
    """`run`, in parts where the memory does not suffice for a whole batch."""
    careful = sparing(lambda part, pictures: run(pictures[part]))
    return lambda pictures: np.concatenate(careful(len(pictures), pictures))


def of_paths(paths: Sequence[str | Path], encoder: Encoder) -> np.ndarray:
    """Features [K, D] of a few images of one's own; MedcapError on one that cannot be read."""
    return eager(encoder)(np.stack([image.transform(image.read(path), encoder.image_size) for path in paths]))


# --- running the network ----------------------------------------------------------------------------------------------


def eager(encoder: Encoder, autocast: bool = False) -> Run:
    def run(pictures: np.ndarray) -> np.ndarray:
        with paddle.no_grad(), paddle.amp.auto_cast(enable=autocast):
            return encoder.network(paddle.to_tensor(pictures)).astype("float32").numpy()

    return run


def fast(encoder: Encoder, folder: str | Path, exact: bool = False) -> tuple[Run, str]:
    """The quickest way this machine has, and its precision: oneDNN on a CPU (3 to 20 times eager mode), else eager."""
    if paddle.device.get_device() != "cpu":
        return eager(encoder, autocast=not exact), "float32" if exact else "float16"
    try:
        run, precision = exported(encoder, folder, exact)
        run(np.zeros((1, 3, encoder.image_size, encoder.image_size), np.float32))  # an operator may be missing
        return run, precision
    except Exception as error:  # Paddle raises nearly anything
        warnings.warn(f"Paddle could not export the encoder, computing slowly in eager mode: {error}", stacklevel=2)
        return eager(encoder), "float32"


def exported(encoder: Encoder, folder: str | Path, exact: bool) -> tuple[Run, str]:
    """The network as an inference program on oneDNN, in bfloat16 where the processor computes in it."""
    from paddle import inference

    path = str(Path(folder) / "encoder")
    shape = [None, 3, encoder.image_size, encoder.image_size]
    program = paddle.jit.to_static(
        encoder.network, input_spec=[paddle.static.InputSpec(shape, "float32")], full_graph=True
    )
    paddle.jit.save(program, path)
    config = inference.Config(f"{path}.json", f"{path}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()  # not the default; and no enable_memory_optim, which fails on this format
    config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    half = not exact and paddle.base.core.supports_bfloat16_fast_performance()
    if half:
        config.enable_mkldnn_bfloat16()
    predictor = inference.create_predictor(config)

    def run(pictures: np.ndarray) -> np.ndarray:
        return predictor.run([paddle.to_tensor(pictures)])[0].numpy()

    return run, "bfloat16" if half else "float32"


# --- the file ---------------------------------------------------------------------------------------------------------


def write(path: str | Path, image_ids: Sequence[str], features: np.ndarray, attributes: dict) -> None:
    part = {"features": features, "image_id": np.array(image_ids, str), "unreadable": np.zeros((0, 3), str)}
    _write(path, [part], attributes, features.shape[1], len(features))


def _write(path: str | Path, batches: Iterable[Part], attributes: dict, dim: int = 0, rows: int = 0) -> None:
    """A batch at a time, so that memory does not grow with the number of images; `dim` where the first may be empty.

    Room for `rows` is asked for first: a disk that is full half-way through would crash the process in HDF5.
    """
    import h5py

    with atomic(path) as temporary:
        reserve(temporary, (rows + 256) * (4 * dim + 256) + (1 << 20))
        with h5py.File(temporary, "w", userblock_size=BLOCK) as file:
            text = h5py.string_dtype()
            for part in batches:
                if not np.isfinite(part["features"]).all():
                    name = attributes["encoder"]
                    raise MedcapError(f"the encoder {name} gives features that are not finite: check its weights")
                if "features" not in file:
                    D = dim or part["features"].shape[1]
                    file.create_dataset("features", (0, D), "float32", maxshape=(None, D), chunks=(256, D))
                    file.create_dataset("image_id", (0,), text, maxshape=(None,))
                    file.create_dataset("unreadable", (0, 3), text, maxshape=(None, 3))
                    attributes = {**attributes, **{n: part[n].item() for n in ("precision", "difference") if n in part}}
                for name in ("features", "image_id", "unreadable"):
                    _append(file[name], part[name] if name == "features" else part[name].astype(object))
            if not len(file.get("image_id", ())):
                raise MedcapError(f"none of {len(file['unreadable'])} images could be read: run 01_reports.ipynb again")
            file.attrs.update(attributes)
        with temporary.open("rb+") as file:
            file.seek(BLOCK)
            seal = _seal(file)
            file.seek(0)
            file.write(seal)


def _append(dataset, rows: np.ndarray) -> None:
    start = len(dataset)
    dataset.resize(start + len(rows), axis=0)
    if len(rows):
        dataset[start:] = rows


def _seal(file: BinaryIO) -> bytes:
    """What stands before the HDF5 part of the file: a digest of that part."""
    sha = hashlib.sha256()
    while block := file.read(1 << 20):
        sha.update(block)
    return f"medcap_paddle features, sha256 {sha.hexdigest()}\n".encode().ljust(BLOCK, b"\0")


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    """The file, after its digest was checked: HDF5 may crash on a damaged one."""
    import h5py

    with require(path, MAKER).open("rb") as file:
        head = file.read(BLOCK)
        if head != _seal(file):
            raise MedcapError(f"{path} is damaged or not a features file of ours: {MAKER} again")
    with h5py.File(path) as file:
        yield file


def _attributes(file: h5py.File) -> dict:
    return {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}


def read(path: str | Path, expect: dict | None = None) -> tuple[dict[str, int], np.ndarray, dict]:
    """Image id -> row, features [N, D] and attributes; other attributes than `expect` are refused.

    The attribute "content" is the fingerprint of the features themselves, for the record of a run.
    """
    with _opened(path) as file:
        ids, features, attributes = list(file["image_id"].asstr()[:]), file["features"][:], _attributes(file)
    check(attributes, expect or {}, path)
    rows = {image_id: row for row, image_id in enumerate(ids)}
    return rows, features, {**attributes, "content": digest(features, ids)}


def summary(path: str | Path) -> Summary:
    """What a features file holds; the features themselves, which may be gigabytes, are not loaded."""
    with _opened(path) as file:
        unreadable = [dict(zip(UNREADABLE, row, strict=True)) for row in file["unreadable"].asstr()[:]]
        return Summary(len(file["image_id"]), _attributes(file), unreadable)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make features.h5 of the images in images.csv.")
    parser.add_argument("work", nargs="?", default="work", help="the folder with images.csv and collection.json")
    parser.add_argument("--encoder", default="auto", help="resnet101, small or random; auto: what suits the images")
    parser.add_argument("--weights", help="the encoder's weights where they are not the usual file")
    parser.add_argument("--exact", action="store_true", help="compute in float32 where half precision is faster")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    with plain_ending():
        images = read_table(work / "images.csv", ["image_id", "path"], "run 01_reports.ipynb")
        name = arguments.encoder
        if name == "auto":
            collection = read_json(work / "collection.json", "run 01_reports.ipynb")
            if not isinstance(collection, dict) or "images" not in collection:
                raise MedcapError(f"{work / 'collection.json'} does not tell its images: run 01_reports.ipynb")
            name = choose(phantom_images=collection["images"] == "phantom", weights=arguments.weights)
        made = extract(images, load(name, arguments.weights), work / "features.h5", exact=arguments.exact)
        if not ranks.join()[0]:
            print(f"{made.images:,} images, {len(made.unreadable)} unreadable")


if __name__ == "__main__":
    main()
