"""Images to features.h5, each image once.

Reads the table images.csv (image_id, path) and the images; writes

    features  [N, D] float32
    image_id  [N] string
    attributes: encoder, weights (fingerprint), source, preprocessing, image_size,
                precision, difference (relative, from float32, on the first batch)

`read` refuses features made otherwise than those a run was trained on. Precision may differ: it changes a feature by
less than a percent, and another machine may not have it.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from . import image
from .encoder import Encoder
from .files import MedcapError, atomic, require

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("encoder", "weights", "preprocessing", "image_size")
MAKER = "run 02_features.ipynb"
Run = Callable[[np.ndarray], np.ndarray]  # float32 [B, 3, S, S] -> float32 [B, D]


@dataclass
class Summary:
    images: int
    attributes: dict
    unreadable: list[dict[str, str]] = field(default_factory=list)  # image_id, file, reason


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
    """Write features.h5; images that cannot be read are left out and listed. `exact` computes in float32."""
    from tqdm.auto import tqdm

    ids, paths = list(images["image_id"]), list(images["path"])
    ready = decoded(tqdm(paths, "features", unit="image"), encoder.image_size, ahead=3 * batch_size)
    rows, kept, unreadable = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run, precision = fast(encoder, folder, exact)
        difference = 0.0
        while batch := list(itertools.islice(ready, batch_size)):
            start = len(kept) + len(unreadable)
            for image_id, path, pixels in zip(ids[start:], paths[start:], batch, strict=False):
                if isinstance(pixels, MedcapError):
                    unreadable.append({"image_id": image_id, "file": str(path), "reason": str(pixels)})
                else:
                    kept.append(image_id)
            pictures = [pixels for pixels in batch if not isinstance(pixels, MedcapError)]
            if not pictures:
                continue
            rows.append(run(np.stack(pictures)))
            if len(rows) == 1 and precision != "float32":
                truth = eager(encoder)(np.stack(pictures))
                difference = float(np.linalg.norm(rows[0] - truth) / np.linalg.norm(truth))
    if not rows:
        raise MedcapError(f"none of {len(paths)} images could be read: run 01_reports.ipynb again")
    attributes = {**describe(encoder), "source": encoder.source, "precision": precision, "difference": difference}
    write(out, kept, np.concatenate(rows), attributes)
    return Summary(len(kept), attributes, unreadable)


def of_paths(paths: Sequence[str | Path], encoder: Encoder) -> np.ndarray:
    """Features [K, D] of a few images of one's own; MedcapError on one that cannot be read."""
    return eager(encoder)(np.stack([image.transform(image.read(path), encoder.image_size) for path in paths]))


def decoded(paths: Iterable[str | Path], size: int, ahead: int, threads: int = 2) -> Iterator[np.ndarray | MedcapError]:
    """The transformed images in order, or why one cannot be read; decoded by threads, at most `ahead` in memory."""

    def load(path: str | Path) -> np.ndarray | MedcapError:
        try:
            return image.transform(image.read(path), size)
        except MedcapError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for path in paths:
            waiting.append(pool.submit(load, path))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
    except (RuntimeError, OSError) as error:
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
    import h5py

    if not np.isfinite(features).all():
        raise MedcapError(f"the encoder {attributes['encoder']} gives features that are not finite: check its weights")
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file["features"] = features.astype(np.float32)
        file.create_dataset("image_id", data=list(image_ids), dtype=h5py.string_dtype())
        file.attrs.update(attributes)


def read(path: str | Path, expect: dict | None = None) -> tuple[dict[str, int], np.ndarray, dict]:
    """Image id -> row, features [N, D] and attributes; other attributes than `expect` are refused."""
    import h5py

    require(path, MAKER)
    try:
        with h5py.File(path) as file:
            features = file["features"][:]
            ids = list(file["image_id"].asstr()[:])
            attributes = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise MedcapError(f"{path} is not a features file ({error}): {MAKER} again") from error
    if features.ndim != 2 or len(features) != len(ids) or not np.isfinite(features).all():
        raise MedcapError(f"{path} is damaged (wrong shape, or values that are not finite): {MAKER} again")
    check(attributes, expect or {}, path)
    return {image_id: row for row, image_id in enumerate(ids)}, features, attributes
