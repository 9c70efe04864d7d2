"""Laws of sampling: words come as often as they are likely, near the limits it is greedy search, each study apart."""

import numpy as np
import paddle
import pytest
from conftest import made_up
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from test_beam_search import BOS, EOS, Table, allowed

from medcap_paddle import generate, models
from medcap_paddle.beam_search import beam_search
from medcap_paddle.config import GenerationSettings, choose
from medcap_paddle.models import DECODERS, sampling
from medcap_paddle.runtime.files import MedcapError

FREE = {"min_length": 0, "length_penalty": 0.0, "no_repeat_ngram": 0, "temperature": 1.0}


class Fixed:
    """A decoder whose next word depends on the last one only: logits [V, V]; a row a study."""

    def __init__(self, logits, rows):
        self.logits, self.rows = paddle.to_tensor(logits, "float32"), rows

    def init_state(self, inputs):
        return (paddle.zeros([self.rows, 1]),)

    def step(self, token, state):
        return self.logits[token], state


def sample(decoder, rows, max_length, banned=(BOS,), names=None, inputs=None, **settings):
    """The report drawn for each study."""
    names = names or [f"S{i}" for i in range(rows)]
    own = GenerationSettings(**FREE | settings)
    return [beam[0] for beam in sampling.sample(decoder, inputs or {}, BOS, EOS, own, max_length, banned, names)]


def greedy(decoder, max_length, banned=(BOS,), **settings):
    own = GenerationSettings(**FREE | {"temperature": 0.0, "beam_size": 1} | settings)
    return [beam[0] for beam in beam_search(decoder, {}, BOS, EOS, own, max_length, banned)]


def likely(logits, temperature, top_p, banned):
    """The probabilities that words should be drawn with: under the bans, the temperature, and then the nucleus."""
    p = np.exp(np.where(np.isin(np.arange(len(logits)), banned), -np.inf, logits) / temperature)
    p /= p.sum()
    order = np.argsort(-p)
    inside = order[: np.searchsorted(np.cumsum(p[order]), top_p) + 1]
    kept = np.where(np.isin(np.arange(len(p)), inside), p, 0)
    return kept / kept.sum()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.5, 1.0), (1.0, 0.7), (0.8, 0.9)])
def test_words_are_drawn_as_often_as_they_are_likely(temperature, top_p):
    """The first and the second word of 8,000 studies, by a chi-square test; no word outside of the nucleus."""
    logits, banned = np.random.default_rng(0).normal(0, 1, [8, 8]), (BOS, 2, 3)
    drawn = sample(Fixed(logits, 8000), 8000, 2, banned, temperature=temperature, top_p=top_p)
    drawn = np.array([(*words, EOS, EOS)[:2] for words, _ in drawn])
    for last, following in ((BOS, drawn[:, 0]), (5, drawn[drawn[:, 0] == 5, 1])):
        p = likely(logits[last], temperature, top_p, banned)
        counts = np.bincount(following, minlength=8)
        assert counts[p == 0].sum() == 0 and counts.sum() == len(following) > 500
        assert chisquare(counts[p > 0], p[p > 0] * len(following)).pvalue > 1e-4


def test_frequencies_tell_two_temperatures_apart():
    """The chi-square test above can fail."""
    logits = np.random.default_rng(0).normal(0, 1, [8, 8])
    drawn = sample(Fixed(logits, 8000), 8000, 1, temperature=1.2)
    counts = np.bincount([(*words, EOS)[0] for words, _ in drawn], minlength=8)
    p = likely(logits[BOS], 1.0, 1.0, (BOS,))
    assert chisquare(counts[p > 0], p[p > 0] * 8000).pvalue < 1e-4


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.integers(0, 3),
    st.sampled_from([0, 2]),
    st.sampled_from([1.0, 1.5]),
    st.sampled_from([{"temperature": 1e-5}, {"top_p": 1e-5}]),
)
def test_near_the_limits_a_sample_is_the_greedy_report(seed, min_length, ngram, penalty, limit):
    """With its score, under any rules."""
    table = Table(np.random.default_rng(seed).normal(0, 3, [4, 8, 7, 7]))
    rules = {"min_length": min_length, "no_repeat_ngram": ngram, "repetition_penalty": penalty, "length_penalty": 0.7}
    drawn, best = sample(table, 4, 8, (BOS, 5), **rules, **limit), greedy(table, 8, (BOS, 5), **rules)
    assert [words for words, _ in drawn] == [words for words, _ in best]
    np.testing.assert_allclose([score for _, score in drawn], [score for _, score in best], rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 3), st.sampled_from([0, 1, 2]))
def test_samples_keep_the_rules_and_are_scored_by_their_probability(seed, min_length, ngram):
    logits = np.random.default_rng(seed).normal(0, 2, [6, 5, 8, 8])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    drawn = sample(Table(logits), 6, 5, (BOS, 7), min_length=min_length, no_repeat_ngram=ngram, temperature=2.0)
    for table, (words, score) in zip(logp, drawn, strict=True):
        words = (*words, EOS) if len(words) < 5 else tuple(words)
        assert allowed(words, 5, min_length, ngram, (BOS, 7))
        assert score == pytest.approx(table[range(len(words)), (BOS, *words[:-1]), words].sum(), abs=1e-3)


@pytest.mark.parametrize("number", [0.0, 1.0])
def test_the_smallest_and_the_largest_random_number_draw_an_allowed_word(number):
    """The first and the last word of the vocabulary are banned."""
    own = GenerationSettings(**FREE)
    for top_p in (own.top_p, 0.5):
        own = GenerationSettings(**FREE | {"top_p": top_p})
        drawn = sampling.draw(
            Fixed(np.zeros([8, 8]), 3), {}, BOS, EOS, own, 4, (BOS, 7), lambda t: paddle.full([3, 1], number)
        )
        assert not {BOS, 7} & set(sum(drawn.ids(), []))


WRONG = [{"temperature": 0.0}, {"temperature": -1.0}, {"top_p": 0.0}, {"consensus": 1}, {"consensus": -2}]


@pytest.mark.parametrize("wrong", [*WRONG, {"consensus": 4, "temperature": 0.0}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(MedcapError, match=f"generation.{next(iter(wrong))} is .*: "):
        sample(Fixed(np.zeros([8, 8]), 1), 1, 3, **wrong)


def test_no_report_comes_back_where_no_word_is_allowed():
    own = GenerationSettings(**FREE | {"min_length": 2})
    found = sampling.sample(Fixed(np.zeros([3, 3]), 2), {}, BOS, EOS, own, 4, (BOS, 2), ["a", "b"])
    assert found == [[], []] == beam_search(Fixed(np.zeros([3, 3]), 2), {}, BOS, EOS, own, 4, (BOS, 2))


CONFIG = choose("tiny").change(reports={"max_length": 20}, generation={"temperature": 1.0, "min_length": 0})


@pytest.fixture(scope="module", params=DECODERS)
def opened(request):
    """An untrained decoder of each kind, studies with the inputs that it reads, and their vocabulary."""
    split, vocab = made_up(10, seed=4)
    split.inputs["grid"] = [np.repeat(views[:, None], 4, 1) for views in split.inputs["pooled"]]
    rng, ends = np.random.default_rng(0), np.array([[0, 0, 1], [1, 3, 2], [2, 1, 0]])
    split.inputs["nodes"] = [rng.integers(0, 2, [1, 3, 3]).astype("float32") for _ in range(len(split))]
    split.inputs["triples"] = [np.hstack([ends, rng.random([3, 1])])[None].astype("float32") for _ in range(len(split))]
    kind = DECODERS[request.param]
    split.inputs = {name: split.inputs[name] for name in kind.reads}
    model = models.build(kind.Settings(), split.shapes, len(vocab))
    model.standardise(split.inputs)
    return model, vocab, split


@pytest.mark.parametrize("consensus", [0, 3])
def test_a_study_depends_neither_on_its_batch_nor_on_its_place(opened, consensus):
    model, vocab, split = opened
    config = CONFIG.change(generation={"consensus": consensus})
    whole = generate.predict(model, vocab, split, config).set_index("study_id")
    assert whole.prediction.nunique() > 5
    small = generate.predict(model, vocab, split, config, batch_size=3).set_index("study_id")
    assert (small.prediction == whole.prediction).all()
    order = np.random.default_rng(0).permutation(len(split))
    turned = type(split)(
        split.table.iloc[order].reset_index(drop=True),
        {name: [arrays[i] for i in order] for name, arrays in split.inputs.items()},
        [split.tokens[i] for i in order],
        split.pad,
    )
    turned = generate.predict(model, vocab, turned, config).set_index("study_id")
    assert (turned.prediction[whole.index] == whole.prediction).all()


def test_a_seed_gives_the_same_reports_and_another_seed_others(opened):
    model, vocab, split = opened
    first, again, other = (
        list(generate.predict(model, vocab, split, CONFIG.change(generation={"seed": seed})).prediction)
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_numbers_of_a_study_are_its_own():
    """Apart from those of another name or seed, evenly spread, and the same for a longer report."""
    numbers = np.stack([sampling.own_numbers(seed, f"S{i}", 20) for seed in (0, 1) for i in range(500)])
    assert len(np.unique(numbers, axis=0)) == 1000 and 0 <= numbers.min() and numbers.max() < 1
    assert chisquare(np.histogram(numbers, 10, (0, 1))[0]).pvalue > 1e-4
    assert (sampling.own_numbers(0, "S3", 7) == numbers[3, :7]).all()
