"""Recurrent cells from matrix products (B sequences, T steps, E numbers read, H numbers remembered).

    one_hot(ids, size)                      [...] to [..., size]
    weights_of(layer)                       those of nn.SimpleRNN or nn.LSTM
    rnn_step, lstm_step                     one step further; STEPS has them by name
    unroll(kind, inputs, weights)           all steps, from a memory of zeros
    gradient_norms(kind, inputs, weights)   how much each input still moves the last output
    lstm_gates(x, h, weights)               what the three gates let through
    keeping(weights, bias)                  an LSTM whose forget gate has this bias

The memory is a tuple: (h,) of a simple RNN (Elman, Cognitive Science 1990), (h, c) of an LSTM (Hochreiter and
Schmidhuber, Neural Computation 1997; its forget gate: Gers et al., 2000). Each is [B, H].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

Memory = tuple[paddle.Tensor, ...]


class Weights(NamedTuple):
    """As Paddle keeps them: S matrices stacked, S = 1 for an RNN, S = 4 (i, f, g, o) for an LSTM; two biases add up."""

    ih: paddle.Tensor  # [S H, E]
    hh: paddle.Tensor  # [S H, H]
    bias_ih: paddle.Tensor  # [S H]
    bias_hh: paddle.Tensor  # [S H]


Step = Callable[[paddle.Tensor, Memory, Weights], Memory]


class Gates(NamedTuple):
    """Of an LSTM, each [B, H]: between 0 and 1, but for the candidate, which lies between -1 and 1."""

    write: paddle.Tensor  # i
    keep: paddle.Tensor  # f, the forget gate: 1 keeps all
    candidate: paddle.Tensor  # g
    show: paddle.Tensor  # o


def one_hot(ids: np.ndarray, size: int) -> np.ndarray:
    """ids [...] to float32 [..., size], 1 at each id. A product with a matrix picks its row. IndexError beyond it."""
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise IndexError(f"ids lie between {ids.min()} and {ids.max()}, the alphabet has {size}")
    return np.eye(size, dtype="float32")[ids]


def weights_of(layer: nn.Layer, level: int = 0) -> Weights:
    """The weights of one level of an nn.SimpleRNN or nn.LSTM that reads forward: the layer's own, not copies."""
    cell = layer[level].cell
    return Weights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


def affine(x: paddle.Tensor, h: paddle.Tensor, weights: Weights) -> paddle.Tensor:
    """What is read and what is remembered, mixed: x [B, E] and h [B, H] to [B, S H]."""
    read = paddle.matmul(x, weights.ih, transpose_y=True) + weights.bias_ih
    return read + paddle.matmul(h, weights.hh, transpose_y=True) + weights.bias_hh


def rnn_step(x: paddle.Tensor, memory: Memory, weights: Weights) -> Memory:
    """h = tanh(W x + U h + b)."""
    return (paddle.tanh(affine(x, memory[0], weights)),)


def lstm_gates(x: paddle.Tensor, h: paddle.Tensor, weights: Weights) -> Gates:
    """The gates of an LSTM that reads x [B, E] and remembers h [B, H]."""
    i, f, g, o = affine(x, h, weights).chunk(4, -1)
    return Gates(F.sigmoid(i), F.sigmoid(f), paddle.tanh(g), F.sigmoid(o))


def lstm_step(x: paddle.Tensor, memory: Memory, weights: Weights) -> Memory:
    """c = f c + i g, h = o tanh(c)."""
    h, c = memory
    gates = lstm_gates(x, h, weights)
    c = gates.keep * c + gates.write * gates.candidate
    return gates.show * paddle.tanh(c), c


def keeping(weights: Weights, bias: float) -> Weights:
    """A copy of an LSTM's weights whose forget gate has this bias: without input it keeps sigmoid(bias) of the cell.

    A large one at the start is advised by Gers et al. (Neural Computation, 2000) and Jozefowicz et al. (ICML 2015).
    """
    H, own = weights.hh.shape[1], [weights.bias_ih.numpy().copy(), weights.bias_hh.numpy().copy()]
    for part, value in zip(own, (bias, 0.0), strict=True):
        part[H : 2 * H] = value
    return weights._replace(bias_ih=paddle.to_tensor(own[0]), bias_hh=paddle.to_tensor(own[1]))


STEPS: dict[str, tuple[Step, int]] = {"rnn": (rnn_step, 1), "lstm": (lstm_step, 2)}  # and the parts of the memory


def unroll(kind: str, inputs: paddle.Tensor, weights: Weights) -> tuple[paddle.Tensor, Memory]:
    """inputs [B, T, E] to the h of every step [B, T, H] and the last memory; `kind` is a name of STEPS."""
    step, parts = STEPS[kind]
    memory = (paddle.zeros([inputs.shape[0], weights.hh.shape[1]], inputs.dtype),) * parts
    outputs = []
    for x in inputs.unbind(1):
        memory = step(x, memory, weights)
        outputs.append(memory[0])
    return paddle.stack(outputs, 1), memory


def gradient_norms(kind: str, inputs: paddle.Tensor, weights: Weights) -> np.ndarray:
    """The norm of the gradient of the last output by the input of each step [T], the mean over sequences.

    The output is projected on a direction drawn for each sequence, so that no sum of its numbers cancels. Bengio et
    al. (IEEE Transactions on Neural Networks, 1994) say why it vanishes. Use float64: the norms fall below 1e-30.
    """
    inputs = inputs.detach()
    inputs.stop_gradient = False
    outputs, _ = unroll(kind, inputs, weights)
    last = outputs[:, -1]
    direction = paddle.to_tensor(np.random.default_rng(0).normal(size=last.shape), last.dtype)
    direction = direction / direction.norm(axis=-1, keepdim=True)
    [gradient] = paddle.grad((last * direction).sum(), [inputs])
    return gradient.norm(axis=-1).mean(0).numpy()  # [B, T, E] to [T]
