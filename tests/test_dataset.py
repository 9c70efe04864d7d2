"""Laws of batching: every study once, padding only where nothing is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medcap_paddle import dataset, feature_file
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import Config
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.reports import Collection
from medcap_paddle.runtime.files import MedcapError, write_json, write_table
from medcap_paddle.runtime.samplers import LengthSampler, TokenSampler


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


def cost(sizes, rows):
    """Rows of a batch, its padding counted."""
    return len(rows) * int(sizes[rows].max(0).sum())


def made_sizes(seed, studies=200):
    """Words, and entities of two inputs."""
    return np.random.default_rng(seed).integers([1, 0, 0], [60, 9, 20], [studies, 3])


def rounded(sizes):
    return -(-sizes // TokenSampler.STEP) * TokenSampler.STEP


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("seed", [None, 0])
def test_a_batch_holds_as_many_studies_as_fit(seed, columns):
    """Every study once; no batch costs more than the budget, or has room for the next study in the order of size."""
    sizes = made_sizes(1)[:, :columns]
    batches = list(TokenSampler(sizes, 400, None if seed is None else np.random.default_rng(seed)))
    assert sorted(sum(batches, [])) == list(range(len(sizes)))
    assert max(cost(sizes, rows) for rows in batches) <= 400
    sizes = rounded(sizes)

    def key(row):
        return [sizes[row].sum(), *sizes[row][::-1]]

    inorder = sorted(batches, key=lambda rows: (min(map(key, rows)), max(map(key, rows))))
    for rows, following in zip(inorder, inorder[1:], strict=False):
        first = min(following, key=key)
        assert max(map(key, rows)) <= key(first)  # similar sizes
        assert cost(sizes, [*rows, first]) > 400


def test_every_epoch_has_as_many_steps_and_another_order():
    sizes = made_sizes(2)
    epochs = [list(TokenSampler(sizes, 300, np.random.default_rng([0, epoch]))) for epoch in range(5)]
    assert len({len(batches) for batches in epochs}) == 1
    assert len({str(sorted(map(sorted, batches))) for batches in epochs}) == 5  # and other companions
    again = TokenSampler(sizes, 300, np.random.default_rng([0, 3]))
    assert list(again) == epochs[3] and len(again) == len(epochs[3])


def test_a_study_that_does_not_fit_is_named():
    sizes = made_sizes(3)
    most = int(rounded(sizes).sum(1).max())
    assert len(TokenSampler(sizes, most)) > 1
    with pytest.raises(MedcapError, match=f"batch_tokens is {most - 1}, but a study has {most}: give at least {most}"):
        TokenSampler(sizes, most - 1)


def test_sizes_count_words_and_entities_but_no_views(studies):
    split, _, _ = studies
    words = [len(report.split()) + 1 for report in split.table.report]  # and the end
    assert split.sizes.tolist() == [[count] for count in words]
    nodes = [np.zeros([1 + k % 5, 2], "float32") for k in range(len(split))]
    grids = [np.zeros([len(views), 4, 2], "float32") for views in split.inputs["pooled"]]
    wider = replace(split, inputs={**split.inputs, "nodes": nodes, "grid": grids})
    assert wider.sizes.tolist() == [[count, len(own)] for count, own in zip(words, nodes, strict=True)]
    inputs, tokens = wider.batch(rows := [3, 4, 8])
    padded = tokens[:, 1:].size + inputs["nodes"].shape[0] * inputs["nodes"].shape[1]
    assert padded == cost(wider.sizes, rows)


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
