"""Laws of what saves memory: recomputed blocks give the same gradients, bfloat16 nearly the same loss."""

import warnings
from contextlib import contextmanager

import numpy as np
import paddle
import pytest

from medcap_paddle import models, train
from medcap_paddle.config import choose
from medcap_paddle.dataset import Batch
from medcap_paddle.models.transformer import TransformerCaptioner
from medcap_paddle.runtime import distributed, loop, precision
from medcap_paddle.runtime.files import MedcapError

SIZES = {"width": 16, "heads": 4, "layers": 3, "feed_forward": 24, "dropout": 0.3, "feature_dropout": 0.3}
V = 20


def gradients(**changes):
    """Loss and gradients of one training step, and the random number drawn after it."""
    net = models.build(TransformerCaptioner.Settings(**SIZES | changes), {"pooled": (8,), "grid": (5, 6)}, V)
    net.train()
    rng = np.random.default_rng(0)
    inputs = {"pooled": rng.normal(size=[3, 2, 8]), "grid": rng.normal(size=[3, 2, 5, 6])}
    inputs = {name: paddle.to_tensor(array, "float32") for name, array in inputs.items()}
    paddle.seed(5)
    loss = net(inputs, paddle.to_tensor(rng.integers(1, V, [3, 7]))).square().mean()
    loss.backward()
    return [loss.numpy(), paddle.rand([1]).numpy(), *(parameter.grad.numpy() for parameter in net.parameters())]


@pytest.mark.parametrize("tied", [False, True])
def test_recomputed_blocks_give_the_same_gradients(tied):
    """With dropout: each block is computed again with the random numbers that it had, and no later one changes."""
    kept, again = gradients(tied=tied), gradients(tied=tied, recompute=True)
    assert len(kept) == len(again)
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(kept, gradients(tied=tied, dropout=0.0), strict=True))


def test_blocks_are_recomputed_in_training_only(monkeypatch):
    calls, forward = [], models.transformer.Block.forward
    monkeypatch.setattr(models.transformer.Block, "forward", lambda self, *a: calls.append(1) or forward(self, *a))
    counts = []
    for recompute in (False, True):
        gradients(recompute=recompute)
        counts.append(len(calls))
        calls.clear()
    assert counts == [SIZES["layers"], 2 * SIZES["layers"]]
    net = models.build(TransformerCaptioner.Settings(**SIZES, recompute=True), {"pooled": (8,), "grid": (5, 6)}, V)
    net.eval()
    net({"pooled": paddle.rand([1, 1, 8]), "grid": paddle.rand([1, 1, 5, 6])}, paddle.ones([1, 3], "int64"))
    assert len(calls) == SIZES["layers"]


def test_several_ranks_are_refused(monkeypatch):
    """paddle.DataParallel would end them in the first step."""
    monkeypatch.setattr(distributed, "world", lambda: (0, 2))
    with pytest.raises(MedcapError, match="recompute works on one rank only: set decoder.recompute to false"):
        gradients(recompute=True)
    gradients()


def step_of(studies, numeric):
    """The numbers of one step of a tiny network, and the types of its parameters."""
    split, _, vocab = studies
    net = models.build(choose("tiny").decoder.without_dropout(), split.shapes, len(vocab))
    task = train.TeacherForcing(net, split, None, choose("tiny").training)
    inputs, tokens = split.batch(np.arange(16))
    batch = Batch({name: paddle.to_tensor(array) for name, array in inputs.items()}, paddle.to_tensor(tokens))
    optimizer = paddle.optimizer.Adam(1e-3, parameters=net.parameters())
    numbers = loop._learner(net, task, optimizer, numeric)(16, batch, 1.0).numpy()
    return numbers, {parameter.dtype for parameter in net.parameters()}


@pytest.mark.skipif(not precision.supported(), reason="this device does not train in bfloat16")
def test_bfloat16_has_nearly_the_same_loss(studies):
    (exact, _), (rounded, types) = (step_of(studies, numeric) for numeric in precision.PRECISIONS)
    assert rounded[0] == pytest.approx(exact[0], rel=0.02) and rounded[0] != exact[0]
    assert types == {paddle.float32}


def test_the_loss_alone_is_computed_in_bfloat16(studies, monkeypatch):
    """The forward pass and the loss, within one context; the gradients after it."""
    inside, seen = [], []

    @contextmanager
    def auto_cast(**options):
        inside.append(options)
        yield
        inside.clear()

    loss, step = train.TeacherForcing.loss, paddle.optimizer.Adam.step
    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(train.TeacherForcing, "loss", lambda *a: seen.append([*inside]) or loss(*a))
    monkeypatch.setattr(paddle.optimizer.Adam, "step", lambda self: seen.append([*inside]) or step(self))
    step_of(studies, "bfloat16")
    step_of(studies, "float32")
    assert seen == [[{"level": "O1", "dtype": "bfloat16"}], [], [], []]


def test_a_precision_that_the_device_has_not_is_refused(studies, tmp_path, monkeypatch):
    split, val, vocab = studies
    monkeypatch.setattr(precision, "supported", lambda: False)

    def fit(numeric):
        config = choose("tiny").change(training={"precision": numeric, "epochs": 1})
        net = models.build(config.decoder, split.shapes, len(vocab))
        train.fit(net, split, val, tmp_path, config.training)

    with pytest.raises(MedcapError, match="precision is 'bfloat16', in which .* does not train: use float32"):
        fit("bfloat16")
    with pytest.raises(MedcapError, match="precision is 'float16': use float32 or bfloat16"):
        fit("float16")
    fit("float32")


def test_where_it_has_no_effect_it_is_not_said_to_be_supported():
    """Paddle warns, and computes in float32, where a device does not cast."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
            kind = paddle.matmul(paddle.ones([2, 2]), paddle.ones([2, 2])).dtype
    assert precision.supported() == (kind == paddle.bfloat16)
