"""Laws of connectionist temporal classification: equal to the sum over all paths wherever those can be counted."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from itertools import product

import numpy as np
import paddle
import pytest

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.sequence import ctc


def of_letters(path: str) -> str:
    """`collapse` of a path that is written in letters, where "-" is the blank."""
    return "".join(chr(symbol) for symbol in ctc.collapse([0 if letter == "-" else ord(letter) for letter in path]))


def made_up(rng, steps=None, classes=None):
    """Log probabilities [T, C]; some rows are nearly certain, some nearly even."""
    logits = rng.normal(0, rng.choice([0.1, 1, 4]), [steps or rng.integers(1, 6), classes or rng.integers(2, 5)])
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def all_texts(log_p):
    """The probability of every text, and the most probable path: by brute force."""
    texts, best = {}, (-np.inf, None)
    for path in product(range(log_p.shape[1]), repeat=len(log_p)):
        log = sum(row[k] for row, k in zip(log_p, path, strict=True))
        text = ctc.collapse(path)
        texts[text] = texts.get(text, 0.0) + np.exp(log)
        best = max(best, (log, path), key=lambda pair: pair[0])
    return texts, best[1]


@pytest.mark.parametrize(
    ("path", "text"), [("aaabb", "ab"), ("bbooo-ookk", "book"), ("---", ""), ("", ""), ("a-a", "aa"), ("aa", "a")]
)
def test_equal_neighbours_become_one_then_blanks_go(path, text):
    assert of_letters(path) == text


def test_a_text_needs_a_step_for_each_symbol_and_a_blank_between_equal_ones():
    for text in product((1, 2), repeat=3):
        shortest = min(n for n in range(1, 7) if any(ctc.collapse(p) == text for p in product(range(3), repeat=n)))
        assert ctc.steps_needed(text) == shortest


def test_decoding_is_brute_force():
    """500 random cases: greedy is the best path; a beam that drops nothing finds the best text and its probability."""
    rng = np.random.default_rng(0)
    different = 0
    for _ in range(500):
        log_p = made_up(rng)
        texts, path = all_texts(log_p)
        assert np.isclose(sum(texts.values()), 1)
        assert ctc.greedy(log_p) == ctc.collapse(path)
        text, log = ctc.prefix_beam(log_p, width=10_000)
        assert np.isclose(np.exp(log), max(texts.values()))
        assert np.isclose(texts[text], max(texts.values()))
        different += ctc.greedy(log_p) != text
    assert different > 10  # so the two are not the same thing


def test_the_best_path_need_not_be_the_best_text():
    """Two steps, P(blank) = .6, P(a) = .4: the path of blanks has .36, "a" has .4 * .6 * 2 + .4 * .4 = .64."""
    log_p = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert ctc.greedy(log_p) == ()
    text, log = ctc.prefix_beam(log_p)
    assert text == (1,) and np.isclose(np.exp(log), 0.64)


def test_a_narrow_beam_never_claims_more_than_there_is():
    rng = np.random.default_rng(1)
    for _ in range(50):
        log_p = made_up(rng, 5, 4)
        texts, _ = all_texts(log_p)
        text, log = ctc.prefix_beam(log_p, width=2)
        assert np.exp(log) <= texts[text] + 1e-12


def test_rare_symbols_are_left_out():
    """What a search without them loses is the share of the paths through them."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        log_p = made_up(rng, 5, 4)
        texts, _ = all_texts(log_p)
        text, log = ctc.prefix_beam(log_p, 10_000, rare=np.log(0.01))
        assert max(texts.values()) - 5 * 3 * 0.01 <= np.exp(log) <= texts[text] + 1e-12


def test_the_loss_is_minus_the_log_of_the_sum_over_paths():
    """Texts of several lengths in one batch, an empty one among them."""
    rng = np.random.default_rng(2)
    texts = [(1, 1), (), (2, 1, 2), (3,)]
    logits = rng.normal(size=[5, len(texts), 4]).astype("float32")
    losses = ctc.loss(paddle.to_tensor(logits), texts).numpy()
    for row, text in enumerate(texts):
        log_p = logits[:, row] - np.log(np.exp(logits[:, row]).sum(1, keepdims=True))
        assert np.isclose(losses[row], -np.log(all_texts(log_p)[0][text]), atol=1e-4)


def test_a_batch_of_empty_texts_has_the_loss_of_all_blanks():
    logits = paddle.to_tensor(np.random.default_rng(3).normal(size=[4, 2, 3]).astype("float32"))
    log_p = paddle.nn.functional.log_softmax(logits, -1).numpy()
    assert np.allclose(ctc.loss(logits, [(), ()]).numpy(), -log_p[:, :, 0].sum(0), atol=1e-5)


def test_a_text_that_does_not_fit_is_refused():
    """Paddle's own gives it a loss of 0."""
    with pytest.raises(MedcapError, match="3 steps cannot hold"):
        ctc.loss(paddle.zeros([3, 1, 4]), [(1, 1, 2)])


def test_the_gradient_is_that_of_differences():
    rng = np.random.default_rng(4)
    logits, texts = rng.normal(size=[4, 2, 3]), [(1, 2), (2, 2)]
    x = paddle.to_tensor(logits.astype("float32"), stop_gradient=False)
    ctc.loss(x, texts).sum().backward()

    def exact(values):
        log_p = values - np.log(np.exp(values).sum(-1, keepdims=True))
        return -sum(np.log(all_texts(log_p[:, k])[0][text]) for k, text in enumerate(texts))

    for place in [(0, 0, 0), (1, 0, 2), (2, 1, 1), (3, 1, 0)]:
        step = np.zeros_like(logits)
        step[place] = 1e-5
        difference = (exact(logits + step) - exact(logits - step)) / 2e-5
        assert np.isclose(float(x.grad[place]), difference, atol=1e-4)
