"""Laws of the mean of the weights: it is the mean, the network gets its own weights back, and it can be interrupted."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from medcap_paddle import train
from medcap_paddle.config import TrainingSettings
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.averaging import Average
from medcap_paddle.runtime.files import MedcapError

SETTINGS = TrainingSettings(epochs=4, batch_size=24, learning_rate=3e-2, patience=9)
NET = LSTMCaptioner.Settings(embed=8, hidden=8, dropout=0.1, feature_noise=0.0)


def fit(folder, studies, on_epoch=None, **changes):
    split, val, vocab = studies
    paddle.seed(0)
    model = LSTMCaptioner(NET, split.shapes, len(vocab))
    model.standardise(split.inputs)
    history = train.fit(model, split, val, folder, replace(SETTINGS, **changes), on_epoch)
    return model, history


def test_it_is_the_exponential_mean_of_the_weights_of_every_step():
    rng, layer = np.random.default_rng(0), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1D(2))
    average, by_hand = Average(layer, 4), loop.tensors(layer)
    for _ in range(9):
        for name, tensor in layer.state_dict().items():
            tensor.set_value(rng.normal(size=tensor.shape).astype(np.float32))
            by_hand[name] = 0.75 * by_hand[name] + 0.25 * tensor.numpy()
        average.update()
    own = loop.tensors(layer)
    with average.in_place():
        for name, tensor in layer.state_dict().items():
            np.testing.assert_allclose(tensor.numpy(), by_hand[name], atol=1e-6)
            assert not np.allclose(tensor.numpy(), own[name])
    for name, tensor in layer.state_dict().items():
        assert np.array_equal(tensor.numpy(), own[name])


def test_weights_come_back_after_an_error():
    layer = nn.Linear(2, 2)
    average = Average(layer, 10)
    layer.weight.set_value(np.ones([2, 2], np.float32))
    with pytest.raises(ZeroDivisionError), average.in_place():
        raise ZeroDivisionError
    assert (layer.weight.numpy() == 1).all()


def test_the_mean_of_one_step_is_the_network():
    layer = nn.Linear(2, 2)
    average = Average(layer, 0)
    layer.weight.set_value(np.ones([2, 2], np.float32))
    average.update()
    with average.in_place():
        assert (layer.weight.numpy() == 1).all()
    assert not average.tensors()
    with pytest.raises(MedcapError, match="averaging is negative"):
        Average(layer, -1)


def test_what_is_kept_is_the_mean_that_was_validated(studies, tmp_path):
    """At the end of the best epoch val had the perplexity that the kept weights have; training itself is the same."""
    split, val, _ = studies
    model, history = fit(tmp_path / "mean", studies, averaging=1.0)
    assert train.perplexity(model, val) == pytest.approx(history.val_perplexity.min(), rel=1e-5)
    _, plain = fit(tmp_path / "plain", studies)
    np.testing.assert_allclose(history.train_perplexity, plain.train_perplexity, rtol=1e-6)
    assert not np.allclose(history.val_perplexity, plain.val_perplexity, rtol=1e-3)


def test_an_interrupted_training_resumes_to_identical_weights(studies, tmp_path):
    fit(tmp_path / "whole", studies, averaging=1.5)

    def on_epoch(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", studies, on_epoch, averaging=1.5)
    fit(tmp_path / "stopped", studies, averaging=1.5)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
