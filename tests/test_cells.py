"""Recurrent cells by hand are those of the library, in values and in gradients; and what a gradient loses."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import json

import numpy as np
import paddle
import pytest
from paddle import nn

from medcap_paddle.runtime import figures
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.sequence import cells

LAYERS = {"rnn": nn.SimpleRNN, "lstm": nn.LSTM}
B, T, E, H = 3, 7, 5, 4


@pytest.fixture
def double():
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


def layer_and_inputs(kind, seed, shape=(B, T, E), hidden=H):
    paddle.seed(seed)
    return LAYERS[kind](shape[-1], hidden), paddle.randn(shape)


def gradients(loss, layer, inputs):
    return [g.numpy() for g in paddle.grad(loss, [inputs, *cells.weights_of(layer)])]


def test_one_hot_picks_a_row():
    matrix = np.random.default_rng(0).normal(size=[6, 3]).astype("float32")
    ids = np.array([[0, 5, 2], [2, 2, 1]])
    assert np.array_equal(cells.one_hot(ids, 6) @ matrix, matrix[ids])


@pytest.mark.parametrize("ids", [[6], [-1]])
def test_an_id_outside_the_alphabet_is_refused(ids):
    with pytest.raises(IndexError):
        cells.one_hot(ids, 6)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("seed", range(3))
def test_cells_are_the_library_s(kind, seed, double):
    layer, inputs = layer_and_inputs(kind, seed)
    inputs.stop_gradient = False
    theirs, last = layer(inputs)
    ours, memory = cells.unroll(kind, inputs, cells.weights_of(layer))
    last = last if kind == "lstm" else (last,)
    assert np.allclose(ours, theirs, rtol=0, atol=1e-6)
    assert all(np.allclose(a, b[0], rtol=0, atol=1e-6) for a, b in zip(memory, last, strict=True))
    weigh = paddle.randn([B, T, H])  # else a wrong sign could cancel
    pairs = [gradients((outputs * weigh).sum(), layer, inputs) for outputs in (ours, theirs)]
    assert all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(*pairs, strict=True))
    assert all(np.abs(a).max() > 1e-3 for a in pairs[0])


def test_gates_are_shares_and_make_the_step(double):
    layer, inputs = layer_and_inputs("lstm", 0)
    weights, h, c = cells.weights_of(layer), paddle.randn([B, H]), paddle.randn([B, H])
    gates = cells.lstm_gates(inputs[:, 0], h, weights)
    assert all(bool(((gate > 0) & (gate < 1)).all()) for gate in (gates.write, gates.keep, gates.show))
    _, (after, cell) = nn.LSTM.forward(layer, inputs[:, :1], (h.unsqueeze(0), c.unsqueeze(0)))
    assert np.allclose(gates.keep * c + gates.write * gates.candidate, cell[0], atol=1e-9)
    assert np.allclose(gates.show * paddle.tanh(cell[0]), after[0], atol=1e-9)


def test_a_gradient_norm_is_that_of_a_finite_difference(double):
    layer, inputs = layer_and_inputs("rnn", 1, shape=(1, 5, 2), hidden=1)  # one number out: its direction is 1 or -1
    weights = cells.weights_of(layer)
    norms = cells.gradient_norms("rnn", inputs, weights)
    for t in range(5):
        slopes = []
        for e in range(2):
            moved = [inputs.clone() for _ in range(2)]
            moved[0][0, t, e] += 1e-5
            moved[1][0, t, e] -= 1e-5
            up, down = (float(cells.unroll("rnn", one, weights)[0][0, -1, 0]) for one in moved)
            slopes.append((up - down) / 2e-5)
        assert np.isclose(norms[t], np.hypot(*slopes), rtol=1e-5)


def test_a_gate_that_keeps_lets_the_gradient_through(double):
    """With the forget gate open the first of 100 inputs still moves the last output; shut, it does not."""
    norms = {}
    for bias in (-5.0, 5.0):
        layer, inputs = layer_and_inputs("lstm", 0, shape=(2, 100, E), hidden=8)
        norms[bias] = cells.gradient_norms("lstm", inputs, cells.keeping(cells.weights_of(layer), bias))
    assert norms[5.0][0] / norms[5.0][-1] > 1e-3 and norms[-5.0][0] / norms[-5.0][-1] < 1e-30


def test_only_the_forget_gate_is_changed(double):
    layer, inputs = layer_and_inputs("lstm", 0)
    before = cells.weights_of(layer)
    after, h = cells.keeping(before, 3.0), paddle.zeros([B, H])
    old, new = (cells.lstm_gates(paddle.zeros([B, E]), h, weights) for weights in (before, after))
    assert np.allclose(new.keep, 1 / (1 + np.exp(-3.0))) and not np.allclose(old.keep, new.keep)
    others = [(a, b) for name, a, b in zip(old._fields, old, new, strict=True) if name != "keep"]
    assert all(np.array_equal(a, b) for a, b in others)


# figures.json ---------------------------------------------------------------------------------------------------------


def test_figures_of_notebooks_are_merged(tmp_path):
    path = tmp_path / "sequence/figures.json"
    figures.record(path, {"a": figures.figure(1, 0, 2), "b": figures.figure(3, 3, 3)})
    merged = figures.record(path, {"b": figures.figure(4, 4, 4, p=0.5), "c": figures.figure(5, 5, 5)})
    assert {name: entry["value"] for name, entry in merged.items()} == {"a": 1, "b": 4, "c": 5}
    assert merged == figures.read(path) == json.loads(path.read_text())["figures"] and merged["b"]["p"] == 0.5


def test_no_number_is_no_figure(tmp_path):
    with pytest.raises(ValueError, match="figure a"):
        figures.record(tmp_path / "figures.json", {"a": figures.figure(float("nan"), 0, 0)})
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": 1}', '{"figures": {"a": 1}}'])
def test_a_foreign_file_is_not_overwritten(tmp_path, text):
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(MedcapError, match="figures.json.*remove it"):
        figures.record(tmp_path / "figures.json", {"a": figures.figure(1, 1, 1)})
    assert (tmp_path / "figures.json").read_text() == text
