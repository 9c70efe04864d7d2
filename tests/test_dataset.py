"""Laws of batching: every study once, padding only where nothing is."""

import numpy as np
import pandas as pd
import pytest

from medcap_paddle import dataset, feature_file
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import Config
from medcap_paddle.dataset import LengthSampler
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.reports import Collection
from medcap_paddle.runtime.files import MedcapError, write_json, write_table


@pytest.mark.parametrize("seed", [None, 0])
def test_every_study_once(studies, seed):
    train, _, _ = studies
    rng = None if seed is None else np.random.default_rng(seed)
    sampler = LengthSampler(train, 7, rng)
    batches = list(train.batches(sampler))
    assert len(batches) == len(sampler) == -(-len(train) // 7)
    seen = [tuple(row[row != train.pad]) for _, tokens in batches for row in tokens.numpy()]
    assert sorted(seen) == sorted(tuple(ids) for ids in train.tokens)


def test_paddles_loader_gives_the_same_batches(studies):
    """`Studies` and `LengthSampler` keep the protocols of `paddle.io`."""
    from paddle.io import DataLoader

    train, _, _ = studies
    sampler = LengthSampler(train, 8, np.random.default_rng(3))
    loader = DataLoader(train, batch_sampler=sampler, collate_fn=train.collate)
    for (inputs, tokens), (others, words) in zip(train.batches(sampler), loader, strict=True):
        assert (inputs["pooled"] == others["pooled"]).all() and (tokens == words).all()


def test_a_batch_that_cannot_be_made_stops_the_epoch(studies, monkeypatch):
    def full(self, rows):
        raise MemoryError

    monkeypatch.setattr(type(studies[0]), "batch", full)
    with pytest.raises(MedcapError, match="free some memory"):
        list(studies[0].batches(LengthSampler(studies[0], 8)))


def test_batches_hold_what_the_studies_hold(studies):
    train, _, _ = studies
    inputs, tokens = train.batch(np.arange(5))
    for i in range(5):
        own = train.inputs["pooled"][i]
        np.testing.assert_array_equal(inputs["pooled"][i, : len(own)], own)
        assert not inputs["pooled"][i, len(own) :].any()
        ids = train.tokens[i]
        assert tokens[i, : len(ids)].tolist() == ids
        assert (tokens[i, len(ids) :] == train.pad).all()


def test_batches_of_similar_length_waste_little(studies):
    train, _, _ = studies
    words = sum(map(len, train.tokens))
    computed = sum(tokens.size for _, tokens in train.batches(LengthSampler(train, 8, np.random.default_rng(0))))
    unsorted = sum(train.batch(np.arange(i, i + 8))[1].size for i in range(0, len(train), 8))
    assert words <= computed < unsorted


def test_the_order_is_another_one_each_epoch(studies):
    train, _, _ = studies
    first, second = (LengthSampler(train, 8, np.random.default_rng([0, epoch])) for epoch in (1, 2))
    assert list(first) != list(second)


CONFIG = Config()
COLLECTION = {
    **{"source": "made up", "reports": "real", "images": "real", "split": "8:2", "cleaning": "r2gen"},
    **{"studies": {"train": 1, "val": 2}, "radiographs": {"train": 2, "val": 2}, "left_out": {}},
}


@pytest.fixture
def work(tmp_path):
    """Three studies with 2, 1 and 1 images; that of the last one could not be read."""
    studies = {"study_id": ["A", "B", "C"], "split": ["train", "val", "val"], "report": ["a .", "b .", "c ."]}
    images = {"image_id": ["a1", "a2", "b1", "c1"], "study_id": ["A", "A", "B", "C"]}
    write_table(tmp_path / "reports.csv", pd.DataFrame(studies))
    write_table(tmp_path / "images.csv", pd.DataFrame(images))
    part = {
        **{"pooled": np.eye(3, dtype="float32"), "grid": np.arange(12, dtype="float32").reshape(3, 2, 2)},
        **{"image_id": np.array(["b1", "a2", "a1"]), "unreadable": np.zeros((0, 3), str)},
    }
    shapes = {"pooled": (3,), "grid": (2, 2)}
    feature_file.write(tmp_path / "features.h5", [part], {"encoder": "made up"}, shapes)
    write_json(tmp_path / "collection.json", COLLECTION)
    return tmp_path


def test_studies_get_their_own_images_in_the_order_of_the_report(work):
    vocab = vocabulary.build(["a .", "b ."], 1)
    train, first = (dataset.load(work, "train", vocab, c) for c in (CONFIG, CONFIG.change(features={"views": "first"})))
    assert train.inputs["pooled"][0].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert first.inputs["pooled"][0].tolist() == [[0, 0, 1]]
    val = dataset.load(work, "val", vocab, CONFIG, expect={"encoder": "made up"})
    assert list(val.table.study_id) == ["B"] and vocabulary.decode(vocab, val.tokens[0]) == "b ."
    assert Collection.load(work).reported_split == "val"


def test_only_the_inputs_that_the_decoder_reads_are_loaded(work, monkeypatch):
    vocab = vocabulary.build(["a ."], 1)
    assert set(dataset.load(work, "train", vocab, CONFIG).inputs) == {"pooled"}
    monkeypatch.setattr(LSTMCaptioner, "reads", ("grid", "pooled"))
    train = dataset.load(work, "train", vocab, CONFIG)
    assert train.shapes == {"grid": (2, 2), "pooled": (3,)}
    assert train.inputs["grid"][0].tolist() == [[[8, 9], [10, 11]], [[4, 5], [6, 7]]]
    inputs, _ = next(train.batches(LengthSampler(train, 1)))
    assert inputs["grid"].shape == [1, 2, 2, 2]


def test_what_cannot_be_loaded_is_named(work, monkeypatch):
    vocab = vocabulary.build(["a ."], 1)
    with pytest.raises(MedcapError, match="no studies with features in the split 'test'"):
        dataset.load(work, "test", vocab, CONFIG)
    with pytest.raises(MedcapError, match="views is 'last'"):
        dataset.load(work, "train", vocab, CONFIG.change(features={"views": "last"}))
    with pytest.raises(MedcapError, match="02_features.ipynb with the run's encoder"):
        dataset.load(work, "train", vocab, CONFIG, expect={"encoder": "resnet101"})
    monkeypatch.setattr(LSTMCaptioner, "reads", ("heat",))
    with pytest.raises(MedcapError, match="heat"):
        dataset.load(work, "train", vocab, CONFIG)
