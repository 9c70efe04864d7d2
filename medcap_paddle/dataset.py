"""Tables, features and vocabulary to padded batches, a study at a time with all its views.

Reads work/reports.csv, work/images.csv, work/features.h5. A batch is named arrays beside the tokens:

    inputs  {"pooled": [B, K, D] float32, ...}   those that the decoder reads; missing views are rows of zeros
    tokens  [B, T] int64                         <bos> words <eos>, filled with <pad>
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import feature_file
from .runtime.files import MedcapError, read_table
from .runtime.workers import map_ordered
from .vocab import encode

if TYPE_CHECKING:
    import paddle
    import pandas as pd
    from paddlenlp.data import Vocab

    from .config import Config


class Batch(NamedTuple):
    inputs: dict[str, np.ndarray | paddle.Tensor]
    tokens: np.ndarray | paddle.Tensor


@dataclass
class Studies:
    """One split in memory; a map-style data set of `paddle.io`, without importing it.

    `table` has a row of reports.csv a study, `inputs` by name an array [K, ...] a study, `tokens` ids a study.
    """

    table: pd.DataFrame
    inputs: dict[str, list[np.ndarray]]
    tokens: list[list[int]]
    pad: int

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> tuple[dict[str, np.ndarray], list[int]]:
        return {name: arrays[i] for name, arrays in self.inputs.items()}, self.tokens[i]

    @property
    def patients(self) -> list[str]:
        """Whose each study is, "" where that is not known."""
        return list(self.table.patient) if "patient" in self.table else [""] * len(self)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one view of each input."""
        return {name: arrays[0].shape[1:] for name, arrays in self.inputs.items()}

    def batch(self, rows: Sequence[int]) -> Batch:
        """The studies at `rows`, as NumPy arrays."""
        return Batch(*self.collate([self[i] for i in rows]))

    def collate(self, studies: list[tuple[dict[str, np.ndarray], list[int]]]) -> list:
        inputs, tokens = zip(*studies, strict=True)
        return [{name: pad_views([one[name] for one in inputs]) for name in inputs[0]}, pad_tokens(tokens, self.pad)]

    def batches(self, sampler: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """The batches of a `LengthSampler`, as Paddle tensors: collated in a thread while the network computes.

        `paddle.io.DataLoader` gives the same batches at the same speed, but waits for ever when one raises.
        """
        import paddle

        for inputs, tokens in map_ordered(self.batch, ((rows,) for rows in sampler), ahead=2, workers=1):
            yield Batch({name: paddle.to_tensor(array) for name, array in inputs.items()}, paddle.to_tensor(tokens))


class LengthSampler:
    """Every study once, in batches of similar length; shuffled when `rng` is given. A batch sampler of `paddle.io`.

    Sorting pools of 16 batches by length keeps most padding out of the computation and the order random.
    """

    def __init__(self, studies: Studies, batch_size: int, rng: np.random.Generator | None = None):
        order = np.arange(len(studies)) if rng is None else rng.permutation(len(studies))
        lengths = np.array([len(tokens) for tokens in studies.tokens])
        pools = [order[i : i + 16 * batch_size] for i in range(0, len(order), 16 * batch_size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        self.groups = [groups[i] for i in (range(len(groups)) if rng is None else rng.permutation(len(groups)))]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[list[int]]:
        return (group.tolist() for group in self.groups)


def pad_views(studies: Sequence[np.ndarray]) -> np.ndarray:
    """[K_i, ...] each to [B, max K_i, ...] float32, filled with zeros."""
    out = np.zeros([len(studies), max(map(len, studies)), *studies[0].shape[1:]], "float32")
    for row, views in zip(out, studies, strict=True):
        row[: len(views)] = views
    return out


def pad_tokens(tokens: Sequence[Sequence[int]], pad: int) -> np.ndarray:
    """Id lists to [B, max length] int64, filled with `pad`."""
    out = np.full([len(tokens), max(map(len, tokens))], pad, "int64")
    for row, ids in zip(out, tokens, strict=True):
        row[: len(ids)] = ids
    return out


def load(work_dir: str | Path, split: str, vocab: Vocab, config: Config, expect: dict | None = None) -> Studies:
    """The studies of `split` with the inputs that the decoder of `config` reads, and the vectors.

    `expect` holds the attributes of the features a run was trained on; other features are refused. Studies without a
    readable image have no features and are left out (02 lists them). MedcapError when no study is left.
    """
    views = config.features.views
    if views not in ("all", "first"):
        raise MedcapError(f'views is {views!r}: use "all" or "first"')
    work_dir, remedy = Path(work_dir), "run 01_reports.ipynb"
    table = read_table(work_dir / "reports.csv", ["study_id", "split", "report"], remedy)
    images = read_table(work_dir / "images.csv", ["image_id", "study_id"], remedy)
    rows, arrays, _ = feature_file.read(work_dir / "features.h5", feature_file.needed(config), expect)

    table = table[table.split == split]
    image_ids = images[images.image_id.isin(rows.keys())].groupby("study_id", sort=False).image_id.agg(list)
    table = table[table.study_id.isin(image_ids.index)].reset_index(drop=True)
    if table.empty:
        raise MedcapError(f"{work_dir} has no studies with features in the split {split!r}: run 01 and 02 again")
    kept = slice(1) if views == "first" else slice(None)  # the first figure, as the original notebook did
    places = [[rows[image] for image in image_ids[study][kept]] for study in table.study_id]
    return Studies(
        table,
        {name: [array[place] for place in places] for name, array in arrays.items()},
        [encode(vocab, report, config.reports.max_length) for report in table.report],
        vocab.to_indices(vocab.pad_token),
    )
