"""Tables, features and vocabulary to padded batches, a study at a time with all its views.

Reads work/reports.csv, work/images.csv, work/features.h5. A batch is two arrays:

    features  [B, K, D] float32   one row per view; a study with fewer than K views is filled with rows of zeros
    tokens    [B, T] int64        <bos> words <eos>, filled with <pad>
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import features as feature_file
from .files import MedcapError, read_json, read_table
from .vocab import encode

if TYPE_CHECKING:
    import pandas as pd
    from paddlenlp.data import Vocab


@dataclass
class Studies:
    """One split in memory: `table` (a row of reports.csv each), `features` [K, D] each, `tokens` each."""

    table: pd.DataFrame
    features: list[np.ndarray]
    tokens: list[list[int]]
    pad: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def feature_dim(self) -> int:
        return self.features[0].shape[1]

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`features` [B, K, D] and `tokens` [B, T] of the studies at `rows`."""
        return pad_features([self.features[i] for i in rows]), pad_tokens([self.tokens[i] for i in rows], self.pad)

    def batches(
        self, batch_size: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every study once, in batches of similar length; shuffled when `rng` is given.

        Sorting pools of 16 batches by length keeps most padding out of the computation and the order random.
        """
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        lengths = np.array([len(tokens) for tokens in self.tokens])
        pools = [order[i : i + 16 * batch_size] for i in range(0, len(order), 16 * batch_size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        for i in range(len(groups)) if rng is None else rng.permutation(len(groups)):
            yield self.batch(groups[i])


def has(work_dir: str | Path, split: str) -> bool:
    """Whether the collection has studies of that split."""
    return bool(_told(work_dir, "studies", dict).get(split))


def reports(work_dir: str | Path) -> str:
    """Whose reports the collection has: "real" or "phantom"."""
    return _told(work_dir, "reports", str)


def _told(work_dir: str | Path, what: str, kind: type):
    path, remedy = Path(work_dir) / "collection.json", "run 01_reports.ipynb"
    content = read_json(path, remedy)
    if not isinstance(content, dict) or not isinstance(content.get(what), kind):
        raise MedcapError(f"{path} does not tell its {what}: {remedy}")
    return content[what]


def reported_split(work_dir: str | Path) -> str:
    """The split that figures are reported on: test, or val where the collection has no test studies."""
    return "test" if has(work_dir, "test") else "val"


def pad_features(features: list[np.ndarray]) -> np.ndarray:
    """[K_i, D] each to [B, max K_i, D] float32, filled with rows of zeros."""
    out = np.zeros([len(features), max(map(len, features)), features[0].shape[1]], "float32")
    for row, views in zip(out, features, strict=True):
        row[: len(views)] = views
    return out


def pad_tokens(tokens: list[list[int]], pad: int) -> np.ndarray:
    """Id lists to [B, max length] int64, filled with `pad`."""
    out = np.full([len(tokens), max(map(len, tokens))], pad, "int64")
    for row, ids in zip(out, tokens, strict=True):
        row[: len(ids)] = ids
    return out


def load(
    work_dir: str | Path,
    split: str,
    vocab: Vocab,
    views: str = "all",
    max_length: int = 60,
    expect: dict | None = None,
) -> Studies:
    """The studies of `split`. `views="first"` keeps the first figure only, as the original notebook did.

    `expect` holds the attributes of the features a run was trained on; other features are refused.
    Studies of which no image could be read have no features and are left out (02 lists them).
    """
    if views not in ("all", "first"):
        raise MedcapError(f'views is {views!r}: use "all" or "first"')
    work_dir = Path(work_dir)
    remedy = "run 01_reports.ipynb"
    table = read_table(work_dir / "reports.csv", ["study_id", "split", "report"], remedy)
    images = read_table(work_dir / "images.csv", ["image_id", "study_id"], remedy)
    rows, values, _ = feature_file.read(work_dir / "features.h5", expect)

    table = table[table.split == split]
    image_ids = images[images.image_id.isin(rows.keys())].groupby("study_id", sort=False).image_id.agg(list)
    table = table[table.study_id.isin(image_ids.index)].reset_index(drop=True)
    if table.empty:
        raise MedcapError(f"{work_dir} has no studies with features in the split {split!r}: run 01 and 02 again")
    kept = slice(1) if views == "first" else slice(None)
    return Studies(
        table,
        [values[[rows[image] for image in image_ids[study][kept]]] for study in table.study_id],
        [encode(vocab, report, max_length) for report in table.report],
        vocab.to_indices(vocab.pad_token),
    )
