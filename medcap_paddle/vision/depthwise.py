"""A convolution of each channel by itself that can be trained on a CPU: on a small grid it is one matrix product."""

from __future__ import annotations

from functools import cache

import numpy as np
import paddle
from paddle import nn

SMALL = 8  # cells of a side; on larger grids the matrices would be larger than the grids


class Depthwise(nn.Conv2D):
    """`nn.Conv2D` with as many groups as channels: [B, C, H, W] -> [B, C, H', W'].

    On a CPU, on a small grid and with stride 1, each kernel becomes the matrix of all places by all places that it
    stands for: Paddle's own kernel takes five times as long to train there. What is exported keeps the convolution.
    """

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__(channels, channels, kernel, stride, "SAME", groups=channels, bias_attr=False)
        self.dense = stride == 1 and kernel % 2 == 1

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not (self.dense and paddle.in_dynamic_mode() and max(x.shape[2:]) <= SMALL and x.place.is_cpu_place()):
            return super().forward(x)
        batch, channels, height, width = x.shape
        places, kernel = height * width, self.weight.flatten(1)  # [C, k x k]
        moves = paddle.to_tensor(_moves(self.weight.shape[-1], height, width))
        matrix = paddle.matmul(kernel, moves).reshape([channels, places, places])
        rows = x.reshape([batch, channels, places]).transpose([1, 0, 2])  # [C, B, places]
        return paddle.matmul(rows, matrix).transpose([1, 0, 2]).reshape(x.shape)


@cache
def _moves(kernel: int, height: int, width: int) -> np.ndarray:
    """float32 [k x k, places x places]: from which place to which place each cell of a kernel carries, 1 or 0."""
    shifts = [step - kernel // 2 for step in range(kernel)]
    down, right = ([np.eye(side, k=-shift) for shift in shifts] for side in (height, width))
    return np.stack([np.kron(y, x) for y in down for x in right]).reshape(kernel**2, -1).astype(np.float32)
