"""Learning to write from drafts: fixed sentences for what the image decides, beside what radiologists wrote.

On two thousand reports a decoder learns the normal sentences first and most of the rare ones never. A draft says each
decided finding in the same few words: it shows how knowledge is put into words, and a reward finds better ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.files import MedcapError
from .memory import DECIDED, MAKER, TOLD

if TYPE_CHECKING:
    from ..dataset import Studies


def with_drafts(train: Studies) -> Studies:
    """Each study twice: as it is, and with its draft, which tells what was decided. MedcapError without drafts."""
    if not (train.memory and train.drafts):
        raise MedcapError(f"there are no drafts to learn from: {MAKER}, or set training.drafts to false")
    import pandas as pd

    reports = train.table.assign(report=train.memory.drafts_of(train.table.study_id))
    inputs = {name: [*arrays, *arrays] for name, arrays in train.inputs.items()}
    inputs["nodes"] = [*train.inputs["nodes"], *map(_told_as_decided, train.inputs["nodes"])]
    table = pd.concat([train.table, reports], ignore_index=True)
    return replace(train, table=table, inputs=inputs, tokens=[*train.tokens, *train.drafts], drafts=[])


def _told_as_decided(nodes: np.ndarray) -> np.ndarray:
    nodes = nodes.copy()
    nodes[:, :, TOLD] = nodes[:, :, DECIDED]
    return nodes
