"""Images to features.h5, each image once.

Reads the table images.csv (image_id, path) and the images; writes features.h5 and features.json (see `feature_file`).

    python -m medcap_paddle.features WORK
    python -m paddle.distributed.launch --nproc_per_node 2 python -m medcap_paddle.features WORK
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import feature_file, image
from .encoder import ENCODERS, Encoder, choose, load
from .feature_file import Index, Part
from .reports import Collection
from .runtime import cache, cpu, distributed
from .runtime.drawing import all_drawings
from .runtime.files import MedcapError, cli_errors, digest, lock, read_table
from .runtime.workers import map_ordered
from .vision import predictor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Extraction:
    """The images in batches, and what makes their features."""

    ids: list[str]
    paths: list[str]
    encoder: Encoder
    batch_size: int
    exact: bool  # in float32

    def inputs(self) -> str:
        stamps = [[path, *cache.stamp(path)] for path in self.paths]
        return digest(feature_file.describe(self.encoder), self.batch_size, self.exact, self.ids, stamps)

    def batches(self, first: int, step: int = 1) -> Iterator[Part]:
        """The features of every `step`-th batch from number `first` on."""
        from tqdm.auto import tqdm

        starts = range(first * self.batch_size, len(self.ids), step * self.batch_size)
        if not starts:
            return
        hidden, ready = distributed.world()[0] > 0, self._prepared(starts)
        bar = tqdm(total=len(self.ids), desc="features", unit="image", initial=starts.start, disable=hidden)
        with bar, tempfile.TemporaryDirectory() as folder:
            run, precision = predictor.fast(self.encoder, folder, self.exact)
            run = predictor.within_memory(run)
            for start in starts:
                part = slice(start, start + self.batch_size)
                images = list(zip(self.ids[part], self.paths[part], ready, strict=False))
                made = _batch(self.encoder, run, images, measured=start == 0 and precision != "float32")
                yield {**made, "precision": np.array(precision)}
                bar.update(step * len(images))

    def _prepared(self, starts: range) -> Iterator[tuple[np.ndarray, str] | MedcapError]:
        """The images of the batches that start there and the doubts about them, made ready by helper processes."""
        jobs, some = [], max(1, self.batch_size // 2)  # several at once: while the network computes, none is handed out
        for start in starts:
            batch = self.paths[start : start + self.batch_size]
            jobs += [(batch[k : k + some], self.encoder.preprocessing) for k in range(0, len(batch), some)]
        return chain.from_iterable(map_ordered(image.prepared, jobs, ahead=cpu.cores() + 4))


def _batch(encoder: Encoder, run: predictor.Run, images: list[tuple], measured: bool) -> Part:
    """The arrays of the images (id, path, pixels and doubt or why it cannot be read), [n, ...] each; image_id [n];
    unreadable and doubtful [m, 3]; and, where it is `measured`, the largest relative difference of an array from that
    in float32.
    """
    bad = [(image_id, path, str(error)) for image_id, path, error in images if isinstance(error, MedcapError)]
    read = [(image_id, path, *ready) for image_id, path, ready in images if not isinstance(ready, MedcapError)]
    good = [(image_id, pixels) for image_id, _, pixels, _ in read]
    doubtful = [(image_id, path, doubt) for image_id, path, _, doubt in read if doubt]
    rows, difference = {name: np.zeros((0, *shape), np.float32) for name, shape in encoder.arrays.items()}, 0.0
    if good:
        pictures = np.stack([pixels for _, pixels in good])
        rows = run(pictures)
        if measured:
            exact = predictor.within_memory(predictor.eager(encoder))(pictures)
            difference = max(np.linalg.norm(rows[name] - exact[name]) / np.linalg.norm(exact[name]) for name in rows)
    texts = {"image_id": np.array([image_id for image_id, _ in good], str), "unreadable": np.array(bad, str)}
    texts |= {"doubtful": np.array(doubtful, str)} if doubtful else {}
    return {**rows, **texts, "difference": np.array(float(difference))}


def extract(
    images: pd.DataFrame, encoder: Encoder, out: str | Path, batch_size: int = 32, exact: bool = False
) -> Index:
    """Write features.h5; images that cannot be read are left out and listed. `exact` computes in float32.

    If interrupted, it resumes at the last finished batch; if finished, it does nothing while images and encoder are the
    same. Ranks share out the batches, and the first of them writes the file that one process would have written.
    MedcapError when no image can be read and when a feature is not finite.
    """
    rank, count = distributed.world()
    work = Extraction(list(images["image_id"]), list(map(str, images["path"])), encoder, batch_size, exact)
    inputs, index = work.inputs(), feature_file.sidecar(out)
    if _holds(out, encoder) and cache.is_current(out, inputs, index, quiet=rank > 0):
        return feature_file.index(out)
    key = digest(inputs, list(encoder.arrays))  # of the finished batches
    with nullcontext() if rank else lock(out):
        if count > 1:
            if not rank:
                cache.begin(out, key)
            distributed.barrier()
            for _ in cache.resumable(out, key, partial(work.batches, step=count), rank, count):
                pass
            distributed.barrier()
        if not rank:
            facts = {**feature_file.describe(encoder), "source": encoder.source}
            facts |= {"drawn": all_drawings(work.paths)}
            feature_file.write(out, cache.resumable(out, key, work.batches), facts, encoder.arrays, len(work.ids))
            cache.mark_done(out, inputs, index)
            cache.clear(out)
        distributed.barrier()
    return feature_file.index(out)


def _holds(out: str | Path, encoder: Encoder) -> bool:
    """Whether the file at `out` has all arrays that the encoder gives; more of them do no harm."""
    try:
        return encoder.arrays.keys() <= feature_file.index(out).arrays.keys()
    except MedcapError:
        return False


def of_paths(paths: Sequence[str | Path], encoder: Encoder) -> dict[str, np.ndarray]:
    """Each array of the encoder, [K, ...], for a few images of one's own; MedcapError on one that cannot be read, a
    warning for one that may not be as it is meant.
    """
    pictures = [image.read(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if doubt := image.doubt(picture):
            warnings.warn(f"{path} {doubt}", stacklevel=3)
    return predictor.eager(encoder)(np.stack([image.transform(p, encoder.preprocessing) for p in pictures]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make features.h5 of the images in images.csv.")
    parser.add_argument("work", nargs="?", default="work", help="the folder with images.csv and collection.json")
    parser.add_argument("--encoder", default="auto", help=f"{', '.join(ENCODERS)}; auto: what suits the images")
    parser.add_argument("--weights", help="the encoder's weights where they are not the usual file")
    parser.add_argument("--arrays", nargs="+", default=["pooled"], help="what it gives: pooled (the default), grid")
    parser.add_argument("--exact", action="store_true", help="compute in float32 where half precision is faster")
    arguments = parser.parse_args()
    work, name = Path(arguments.work), arguments.encoder
    with cli_errors():
        images = read_table(work / "images.csv", ["image_id", "path"], "run 01_reports.ipynb")
        if name == "auto":
            name = choose(Collection.load(work).images == "phantom", arguments.weights)
        reader = load(name, arguments.weights, arguments.arrays)
        made = extract(images, reader, work / "features.h5", exact=arguments.exact)
        if not distributed.world()[0]:
            doubts = f", {len(made.doubtful)} doubtful (see features.json)" if made.doubtful else ""
            print(f"{len(made.image_ids):,} images, {len(made.unreadable)} unreadable{doubts}")


if __name__ == "__main__":
    main()
