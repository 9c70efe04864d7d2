"""Laws of batching: every study once, padding only where nothing is."""

import numpy as np
import pytest


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
