"""A handful of made-up studies whose features say what their reports say: enough to train on in seconds."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from medcap_paddle import vocab as vocabulary
from medcap_paddle.dataset import Studies

settings.register_profile("patient", deadline=None)  # a first example may import a library
settings.load_profile("patient")

SENTENCES = [
    "the heart is enlarged .",
    "there is a small left effusion .",
    "a nodule is seen in the right upper lobe .",
    "pacemaker in place .",
]


def made_up(count: int, seed: int, vocab=None, min_freq: int = 1) -> tuple[Studies, object]:
    """`count` studies with 1 to 3 views of 8 numbers; each of the first 4 numbers stands for one sentence."""
    rng = np.random.default_rng(seed)
    shown = rng.random([count, 4]) < 0.5
    reports = [" ".join(s for s, yes in zip(SENTENCES, row, strict=True) if yes) or "normal chest ." for row in shown]
    vocab = vocab or vocabulary.build(reports, min_freq)
    pooled = []
    for row in shown:
        views = rng.normal(0, 0.1, [rng.integers(1, 4), 8]).astype("float32")
        views[:, :4] += row
        pooled.append(views)
    table = pd.DataFrame({"study_id": [f"S{i}" for i in range(count)], "split": "train", "report": reports})
    tokens = [vocabulary.encode(vocab, report) for report in reports]
    return Studies(table, {"pooled": pooled}, tokens, vocab.to_indices("<pad>")), vocab


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture(scope="session")
def studies():
    """(train, val, vocab)"""
    train, vocab = made_up(96, seed=1)
    val, _ = made_up(32, seed=2, vocab=vocab)
    return train, val, vocab
