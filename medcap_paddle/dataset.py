"""Tables, features and vocabulary to padded batches, a study at a time with all its views.

Reads work/reports.csv, work/images.csv, work/features.h5. A batch is named arrays beside the tokens:

    inputs  {"pooled": [B, K, D] float32, ...}   those that the decoder reads; missing views are rows of zeros
    tokens  [B, T] int64                         <bos> words <eos>, filled with <pad>
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
    from .models.memory import Memory


VIEWS = ("pooled", "grid")  # inputs with a row a view; the rows of any other are entities, such as nodes of a graph


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
    memory: Memory | None = None  # what the decoder may know beside the images
    drafts: list[list[int]] = field(default_factory=list)  # ids of a second text for each study, where there is one

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

    @property
    def sizes(self) -> np.ndarray:
        """Lengths [N, P] of the sequences of each study: words to write, then rows of each input but those of views."""
        known = [[rows.reshape(-1, rows.shape[-1]) for rows in self.inputs[k]] for k in self.inputs if k not in VIEWS]
        sequences = [[ids[1:] for ids in self.tokens], *known]
        return np.array([[len(rows) for rows in study] for study in zip(*sequences, strict=True)])

    def batch(self, rows: Sequence[int]) -> Batch:
        """The studies at `rows`, as NumPy arrays."""
        return Batch(*self.collate([self[i] for i in rows]))

    def collate(self, studies: list[tuple[dict[str, np.ndarray], list[int]]]) -> list:
        inputs, tokens = zip(*studies, strict=True)
        return [{name: pad_views([one[name] for one in inputs]) for name in inputs[0]}, pad_tokens(tokens, self.pad)]

    def batches(self, sampler: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """The batches of a sampler, as Paddle tensors: collated in a thread while the network computes.

        `paddle.io.DataLoader` gives the same batches at the same speed, but waits for ever when one raises.
        """
        import paddle

        for inputs, tokens in map_ordered(self.batch, ((rows,) for rows in sampler), ahead=2, workers=1):
            yield Batch({name: paddle.to_tensor(array) for name, array in inputs.items()}, paddle.to_tensor(tokens))


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
    from .models import recall

    views = config.features.views
    if views not in ("all", "first"):
        raise MedcapError(f'views is {views!r}: use "all" or "first"')
    work_dir, remedy = Path(work_dir), "run 01_reports.ipynb"
    table = read_table(work_dir / "reports.csv", ["study_id", "split", "report"], remedy)
    images = read_table(work_dir / "images.csv", ["image_id", "study_id"], remedy)
    path, kept = work_dir / "features.h5", slice(1) if views == "first" else slice(None)  # the original: the first
    there = images[images.image_id.isin(feature_file.index(path).image_ids)]
    image_ids = there.groupby("study_id", sort=False).image_id.agg(list)
    table = table[(table.split == split) & table.study_id.isin(image_ids.index)].reset_index(drop=True)
    if table.empty:
        raise MedcapError(f"{work_dir} has no studies with features in the split {split!r}: run 01 and 02 again")
    own = [image_ids[study][kept] for study in table.study_id]
    every = [image for study in own for image in study]
    _, arrays, attributes = feature_file.read(path, feature_file.needed(config), expect, every)
    ends = np.cumsum([len(study) for study in own])
    inputs = {name: np.split(array, ends[:-1]) for name, array in arrays.items()}  # parts of one array, not copies
    if known := recall(work_dir, config.decoder, attributes["content"], expect):
        inputs |= known.of(split, table, inputs[feature_file.POOLED])
    texts = (table.report, known.drafts_of(table.study_id) if known and split == "train" else ())
    tokens, drafts = ([encode(vocab, text, config.reports.max_length) for text in each] for each in texts)
    return Studies(table, inputs, tokens, vocab.to_indices(vocab.pad_token), known, drafts)
