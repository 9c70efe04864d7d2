"""Laws of the consensus: it equals a count by hand, what is written most often wins, it is one of what was drawn."""

import medcap_paddle  # noqa: F401 isort: skip
from collections import Counter

import numpy as np
import pytest
from conftest import made_up
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import generate, models
from medcap_paddle.config import choose
from medcap_paddle.metrics import ngrams
from medcap_paddle.metrics.consensus import consensus
from medcap_paddle.runtime.files import MedcapError

REPORTS = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=9).map(" ".join), min_size=2, max_size=7)


def likeness(reference, text):
    """CIDEr of a text, written out; every n-gram has the weight 1."""
    similar = []
    for n in range(1, 5):
        a, b = (Counter(g for g in ngrams.ngrams(t) if g.count(" ") == n - 1) for t in (reference, text))
        squares = sum(v * v for v in a.values()) * sum(v * v for v in b.values())
        similar.append(sum(min(a[g], b[g]) * a[g] for g in a) / squares**0.5 if squares else 0.0)
    apart = max(len(text.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
    return 10 * np.mean(similar) * np.exp(-(apart**2) / 72)


@given(REPORTS)
def test_it_is_the_mean_likeness_to_the_others(texts):
    by_hand = {}
    for k, text in enumerate(texts):
        by_hand[text] = np.mean([likeness(other, text) for j, other in enumerate(texts) if j != k])
    found = consensus(texts)
    assert dict(found) == pytest.approx(by_hand, abs=1e-9)
    assert [worth for _, worth in found] == sorted((worth for _, worth in found), reverse=True)


def test_what_is_written_most_often_wins_and_no_report_is_lost():
    often = "the heart is large ."
    found = consensus(["the lungs are clear .", often, "no focal consolidation is seen .", often])
    assert found[0][0] == often and len(found) == 3
    assert consensus([often] * 4) == [(often, pytest.approx(10.0))]
    assert consensus([]) == [] and consensus([often])[0][0] == often


def test_a_consensus_is_one_of_the_reports_that_are_drawn():
    """It follows from the images alone, whatever the study is called."""
    split, vocab = made_up(4, seed=4)
    config = choose("tiny").change(
        reports={"max_length": 12}, generation={"temperature": 1.0, "consensus": 6, "min_length": 0}
    )
    model = models.build(config.decoder, split.shapes, len(vocab))
    model.eval()
    inputs = split.batch(range(4)).inputs
    together = generate.search(model, vocab, inputs, config, ["a", "b", "c", "d"])
    one = config.change(generation={"consensus": 0})
    for row, found in enumerate(together):
        alone = {key: array[[row]] for key, array in inputs.items()}
        drawn = [generate.search(model, vocab, alone, one, [str(k)])[0][0][0] for k in range(6)]
        assert found == consensus(drawn) == generate.search(model, vocab, alone, config)[0]
    with pytest.raises(MedcapError, match="generation.consensus is -2"):
        generate.search(model, vocab, inputs, config.change(generation={"consensus": -2}))
