"""Laws of the focal loss."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from medcap_paddle.loss import focal

RNG = np.random.default_rng(0)
LOGITS, TARGETS = RNG.normal(0, 3, [6, 4]), RNG.integers(0, 2, [6, 4]).astype("float64")


def of(logits, gamma, targets=TARGETS):
    return focal(paddle.to_tensor(logits), paddle.to_tensor(targets), gamma).numpy()


def test_gamma_0_is_binary_cross_entropy():
    logits, targets = map(paddle.to_tensor, (LOGITS, TARGETS))
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").numpy()
    np.testing.assert_allclose(of(LOGITS, 0), expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_it_follows_its_equation_and_paddles(gamma):
    p = 1 / (1 + np.exp(-LOGITS))
    right = np.where(TARGETS == 1, p, 1 - p)
    np.testing.assert_allclose(of(LOGITS, gamma), -((1 - right) ** gamma) * np.log(right), rtol=1e-6)
    theirs = F.sigmoid_focal_loss(*map(paddle.to_tensor, (LOGITS, TARGETS)), None, 0.5, gamma, "none").numpy()
    np.testing.assert_allclose(of(LOGITS, gamma), 2 * theirs, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0, 0.5, 2.0])
def test_its_gradient_is_that_of_its_values(gamma):
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    focal(logits, paddle.to_tensor(TARGETS), gamma).sum().backward()
    step = 1e-6
    np.testing.assert_allclose(
        logits.grad.numpy(), (of(LOGITS + step, gamma) - of(LOGITS - step, gamma)) / (2 * step), rtol=1e-4, atol=1e-8
    )


def test_certainty_has_a_gradient():
    """In float32, of what is certain and wrong; what is certain and right has none to speak of, and is a number."""
    logits = paddle.to_tensor([[80.0, -80.0, 80.0, -80.0]], stop_gradient=False)
    loss = focal(logits, paddle.to_tensor([[0.0, 1.0, 1.0, 0.0]]), 0.5)
    loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), [[80, 80, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), [[1, -1, 0, 0]], atol=1e-6)


def test_what_is_answered_well_counts_less():
    well, badly = of(np.array([[2.0]]), 0, np.ones([1, 1])), of(np.array([[-2.0]]), 0, np.ones([1, 1]))
    focal_well, focal_badly = of(np.array([[2.0]]), 2, np.ones([1, 1])), of(np.array([[-2.0]]), 2, np.ones([1, 1]))
    assert focal_well / focal_badly < well / badly / 10
