"""Laws of batching: every study once, padding only where nothing is."""

import numpy as np
import pandas as pd
import pytest

from medcap_paddle import dataset, features
from medcap_paddle import vocab as vocabulary
from medcap_paddle.files import MedcapError, write_json, write_table


@pytest.mark.parametrize("seed", [None, 0])
def test_every_study_once(studies, seed):
    train, _, _ = studies
    rng = None if seed is None else np.random.default_rng(seed)
    seen = [tuple(row[row != train.pad]) for _, tokens in train.batches(7, rng) for row in tokens]
    assert sorted(seen) == sorted(tuple(ids) for ids in train.tokens)


def test_batches_hold_what_the_studies_hold(studies):
    train, _, _ = studies
    features, tokens = train.batch(np.arange(5))
    for i in range(5):
        own = train.features[i]
        np.testing.assert_array_equal(features[i, : len(own)], own)
        assert not features[i, len(own) :].any()
        ids = train.tokens[i]
        assert tokens[i, : len(ids)].tolist() == ids
        assert (tokens[i, len(ids) :] == train.pad).all()


def test_batches_of_similar_length_waste_little(studies):
    train, _, _ = studies
    words = sum(map(len, train.tokens))
    computed = sum(tokens.size for _, tokens in train.batches(8, np.random.default_rng(0)))
    unsorted = sum(train.batch(np.arange(i, i + 8))[1].size for i in range(0, len(train), 8))
    assert words <= computed < unsorted


def test_the_order_is_another_one_each_epoch(studies):
    train, _, _ = studies
    first, second = ([tokens.tolist() for _, tokens in train.batches(8, np.random.default_rng([0, e]))] for e in (1, 2))
    assert first != second


@pytest.fixture
def work(tmp_path):
    """Three studies with 2, 1 and 1 images; that of the last one could not be read."""
    studies = {"study_id": ["A", "B", "C"], "split": ["train", "val", "val"], "report": ["a .", "b .", "c ."]}
    images = {"image_id": ["a1", "a2", "b1", "c1"], "study_id": ["A", "A", "B", "C"]}
    write_table(tmp_path / "reports.csv", pd.DataFrame(studies))
    write_table(tmp_path / "images.csv", pd.DataFrame(images))
    features.write(tmp_path / "features.h5", ["b1", "a2", "a1"], np.eye(3, dtype="float32"), {"encoder": "made up"})
    write_json(tmp_path / "collection.json", {"studies": {"train": 1, "val": 2}})
    return tmp_path


def test_studies_get_their_own_images_in_the_order_of_the_report(work):
    vocab = vocabulary.build(["a .", "b ."], 1)
    assert dataset.load(work, "train", vocab).features[0].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert dataset.load(work, "train", vocab, views="first").features[0].tolist() == [[0, 0, 1]]
    val = dataset.load(work, "val", vocab, expect={"encoder": "made up"})
    assert list(val.table.study_id) == ["B"] and vocabulary.decode(vocab, val.tokens[0]) == "b ."
    assert dataset.reported_split(work) == "val"


def test_what_cannot_be_loaded_is_named(work):
    vocab = vocabulary.build(["a ."], 1)
    with pytest.raises(MedcapError, match="no studies with features in the split 'test'"):
        dataset.load(work, "test", vocab)
    with pytest.raises(MedcapError, match="views is 'last'"):
        dataset.load(work, "train", vocab, views="last")
    with pytest.raises(MedcapError, match="02_features.ipynb with the run's encoder"):
        dataset.load(work, "train", vocab, expect={"encoder": "resnet101"})
