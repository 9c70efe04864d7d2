"""Laws of the beam search, on random decoders and against brute force."""

import itertools

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcap_paddle import beam_search as room
from medcap_paddle.config import GenerationSettings
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime.files import MedcapError

V, BOS, EOS = 5, 0, 1
FREE = {"min_length": 0, "length_penalty": 0.0, "no_repeat_ngram": 0}


def beam_search(decoder, inputs, max_length, banned=(), **settings):
    """The search without any constraint but those given."""
    return room.beam_search(decoder, inputs, BOS, EOS, GenerationSettings(**FREE | settings), max_length, banned)


@pytest.fixture(params=range(3))
def decoder(request):
    paddle.seed(request.param)
    model = LSTMCaptioner(LSTMCaptioner.Settings(embed=8, hidden=8), {"pooled": (4,)}, V)
    for parameter in model.parameters():  # far from uniform, so that choices matter
        parameter.set_value(parameter * 3)
    model.eval()
    return model


@pytest.fixture
def inputs():
    return {"pooled": paddle.to_tensor(np.random.default_rng(0).normal(size=[3, 2, 4]).astype("float32"))}


def one(inputs, i):
    """The inputs of study i alone."""
    return {name: array[i : i + 1] for name, array in inputs.items()}


def scores(decoder, study, written, alpha=0.0):
    """Score of each of the reports `written` (EOS included where it is written) of one study, by teacher forcing."""
    out = {}
    for n in {len(words) for words in written}:
        group = [words for words in written if len(words) == n]
        tokens = paddle.to_tensor([[BOS, *words] for words in group])
        logits = (
            decoder({n: a.expand([len(group), *a.shape[1:]]) for n, a in study.items()}, tokens[:, :-1])
            .numpy()
            .astype("float64")
        )
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))  # Paddle's cross_entropy stops at 64
        nll = -np.take_along_axis(logp, tokens[:, 1:, None].numpy(), -1).squeeze(-1).sum(1)
        out |= {words: -float(v) / ((5 + n) / 6) ** alpha for words, v in zip(group, nll, strict=True)}
    return [out[words] for words in written]


def reports(max_length, banned=()):
    """Every report of at most `max_length` ids."""
    allowed = [v for v in range(V) if v not in (EOS, *banned)]
    for n in range(max_length + 1):
        for words in itertools.product(allowed, repeat=n):
            yield (*words, EOS) if n < max_length else words


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_an_exhaustive_beam_is_brute_force(decoder, inputs, alpha):
    beams = beam_search(decoder, inputs, beam_size=V**3, max_length=3, length_penalty=alpha)
    for i, beam in enumerate(beams):
        every = list(reports(3))
        scored = sorted(zip(scores(decoder, one(inputs, i), every, alpha), every, strict=True), reverse=True)
        assert len(beam) == len(scored)
        np.testing.assert_allclose([s for _, s in beam], [s for s, _ in scored], atol=1e-4)
        assert tuple(beam[0][0]) == tuple(w for w in scored[0][1] if w != EOS)


def test_beam_one_is_greedy(decoder, inputs):
    for i, beam in enumerate(beam_search(decoder, inputs, beam_size=1, max_length=8)):
        words = []
        while len(words) < 8:
            tokens = paddle.to_tensor([[BOS, *words]])
            word = int(decoder(one(inputs, i), tokens)[0, -1].argmax())
            if word == EOS:
                break
            words.append(word)
        assert beam[0][0] == words


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_scores_are_those_of_the_reports_and_fall(decoder, inputs, alpha):
    for i, beam in enumerate(beam_search(decoder, inputs, beam_size=4, max_length=6, length_penalty=alpha)):
        assert len(beam) == 4
        assert len({tuple(words) for words, _ in beam}) == 4
        found = [s for _, s in beam]
        assert found == sorted(found, reverse=True)
        written = [(*words, EOS) if len(words) < 6 else tuple(words) for words, _ in beam]
        np.testing.assert_allclose(found, scores(decoder, one(inputs, i), written, alpha), atol=1e-4)


def test_a_study_does_not_depend_on_its_batch(decoder, inputs):
    together = beam_search(decoder, inputs, beam_size=3, max_length=6)
    for i, beam in enumerate(together):
        alone = beam_search(decoder, one(inputs, i), beam_size=3, max_length=6)[0]
        assert [words for words, _ in alone] == [words for words, _ in beam]


def test_constraints_hold(decoder, inputs):
    beams = beam_search(decoder, inputs, beam_size=4, max_length=12, min_length=5, no_repeat_ngram=2, banned=(3, BOS))
    for words, _ in itertools.chain(*beams):
        assert 5 <= len(words) <= 12
        assert not {3, BOS, EOS} & set(words)
        pairs = list(itertools.pairwise(words))
        assert len(pairs) == len(set(pairs))


def test_constraints_matter(decoder, inputs):
    """Without them the same decoder repeats itself or stops early: the test above can fail."""
    free = [words for beam in beam_search(decoder, inputs, beam_size=4, max_length=12) for words, _ in beam]
    assert any(len(set(itertools.pairwise(w))) < len(w) - 1 or len(w) < 5 or {3, BOS} & set(w) for w in free)


def test_fewer_reports_come_back_where_fewer_exist(decoder, inputs):
    beams = beam_search(decoder, inputs, beam_size=50, max_length=1)
    assert [len(beam) for beam in beams] == [V] * 3


class Table:
    """A decoder that is a table: logits [B, T, V, V] of the next word by study, place and word before."""

    def __init__(self, logits):
        self.logits = paddle.to_tensor(np.array(logits, "float32"))

    def init_state(self, inputs):
        return self.logits, paddle.zeros([len(self.logits)], "int64")

    def step(self, token, state):
        logits, place = state
        return logits[paddle.arange(len(token)), place, token], (logits, place + 1)


def allowed(words, max_length, min_length, ngram, banned):
    """Whether a report (EOS included where it is written) keeps the rules."""
    body = [word for word in words if word != EOS]
    grams = [tuple(body[i : i + ngram]) for i in range(len(body) - ngram + 1)] if ngram else []
    return (
        (len(body) >= min_length or len(words) == len(body) == max_length)
        and len(grams) == len(set(grams))
        and not set(words) & set(banned)
    )


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 3), st.sampled_from([0, 1, 2]), st.booleans())
def test_any_decoder_under_any_rules_is_searched_as_by_brute_force(seed, max_length, min_length, ngram, ban):
    rng, size, banned = np.random.default_rng(seed), 4, (BOS, 3) if ban else (BOS,)
    logits = rng.normal(0, 3, [2, max_length, size, size])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rules = {"max_length": max_length, "min_length": min_length}
    beams = beam_search(Table(logits), {}, beam_size=256, no_repeat_ngram=ngram, banned=banned, **rules)
    for table, beam in zip(logp, beams, strict=True):
        every = [
            words
            for n in range(max_length + 1)
            for body in itertools.product([w for w in range(size) if w != EOS], repeat=n)
            for words in [(*body, EOS) if n < max_length else body]
            if allowed(words, ngram=ngram, banned=banned, **rules)
        ]
        scored = {words: sum(table[range(len(words)), (BOS, *words[:-1]), words]) for words in every}
        best = sorted(scored.values(), reverse=True)
        np.testing.assert_allclose([score for _, score in beam], best, atol=1e-3)
        assert sorted(tuple(words) for words, _ in beam) == sorted(tuple(w for w in ws if w != EOS) for ws in every)


def penalised(logp, words, penalty):
    """p ** penalty of the words already written, then divided by the sum of all; `logp` [V] of the next word."""
    logp = np.array([value * penalty if word in words else value for word, value in enumerate(logp)])
    return logp - np.log(np.exp(logp - logp.max()).sum()) - logp.max()


def by_hand(logp, beam_size, max_length, min_length, ngram, banned, alpha, penalty):
    """The same search for one study, a report at a time; `logp` [T, V, V] of the next word by place and word before."""

    def score(report):
        words, total = report
        return total / ((5 + len(words)) / 6) ** alpha

    beam = [((), 0.0)]
    for place in range(max_length):
        children = [(words, total) for words, total in beam if EOS in words]
        for words, total in (report for report in beam if EOS not in report[0]):
            following = penalised(logp[place, (BOS, *words)[-1]], words, penalty)
            for word in set(range(logp.shape[-1])) - set(banned) - ({EOS} if len(words) < min_length else set()):
                grams = [(*words, word)[i : i + ngram] for i in range(len(words) + 2 - ngram)] if ngram else []
                if word == EOS or len(grams) == len(set(grams)):
                    children.append(((*words, word), total + following[word]))
        beam = sorted(children, key=score, reverse=True)[:beam_size]
    return [([word for word in words if word != EOS], score((words, total))) for words, total in beam]


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from([0, 2, 3]),
    st.sampled_from([0, 0.7, 2]),
    st.sampled_from([1.0, 1.3, 4.0]),
)
def test_a_narrow_beam_keeps_and_drops_what_a_search_by_hand_does(seed, beam_size, min_length, ngram, alpha, penalty):
    logits = np.random.default_rng(seed).normal(0, 2, [2, 9, 7, 7])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rules = {"beam_size": beam_size, "max_length": 9, "min_length": min_length, "banned": (BOS, 5)}
    more = {"no_repeat_ngram": ngram, "length_penalty": alpha, "repetition_penalty": penalty}
    found = beam_search(Table(logits), {}, **more, **rules)
    for table, beam in zip(logp, found, strict=True):
        expected = by_hand(table, ngram=ngram, alpha=alpha, penalty=penalty, **rules)
        assert [words for words, _ in beam] == [words for words, _ in expected]
        np.testing.assert_allclose([score for _, score in beam], [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_without_a_penalty_the_search_is_the_same_to_the_last_bit(decoder, inputs, monkeypatch, beam_size):
    found = beam_search(decoder, inputs, beam_size=beam_size, max_length=8, repetition_penalty=1.0)
    monkeypatch.setattr(room.rules, "penalise", lambda *_: pytest.fail("1 is no penalty"))
    assert found == beam_search(decoder, inputs, beam_size=beam_size, max_length=8)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 50.0, -50.0]))
def test_under_a_very_large_penalty_no_word_comes_twice_while_others_are_left(seed, beam_size, constant):
    """Whatever constant the logits have; and once every word is written they are written again."""
    logits = np.random.default_rng(seed).normal(0, 3, [2, 12, 9, 9]) + constant
    rules = {"max_length": 12, "min_length": 12, "banned": (BOS, 8), "repetition_penalty": 1e9}
    for beam in beam_search(Table(logits), {}, beam_size=beam_size, **rules):
        assert len(beam) == beam_size
        for words, _ in beam:
            assert len(set(words[:6])) == 6 and len(words) == 12 and not {BOS, EOS, 8} & set(words)


def test_a_penalty_matters():
    """The more of it, the more different words: the brute force above tells a penalty from none."""
    table = Table(np.random.default_rng(0).normal(0, 1, [16, 12, 9, 9]))
    rules = {"beam_size": 1, "max_length": 12, "min_length": 12, "banned": (BOS,)}
    counts = [
        sum(len(set(beam[0][0])) for beam in beam_search(table, {}, repetition_penalty=penalty, **rules))
        for penalty in (1.0, 1.5, 1e9)
    ]
    assert counts[0] < counts[1] < counts[2] == 16 * 7


@pytest.mark.parametrize(
    "wrong",
    [{"repetition_penalty": 0.5}, {"temperature": -1.0}, {"temperature": 1e-9}, {"temperature": float("nan")},
     {"top_p": 0.0}, {"top_p": 1.1}, {"seed": -1}],
)  # fmt: skip
def test_a_setting_without_meaning_is_refused(decoder, inputs, wrong):
    with pytest.raises(MedcapError, match=f"generation.{next(iter(wrong))} is .*: set"):
        beam_search(decoder, inputs, max_length=3, **wrong)
