"""The mean of a network's weights over its last steps (Polyak and Juditsky, SIAM J. Control Optim. 1992): steadier than
those of any one step where a batch says little about the whole.

It is exponential, as in Tarvainen and Valpola (NeurIPS 2017, section 2): mean = decay x mean + (1 - decay) x weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from .files import MedcapError

MARK = "mean "  # before the names of its tensors in a checkpoint


class Average:
    """The mean over about `steps` steps; with 1 or fewer it is the network itself. MedcapError on a negative number."""

    def __init__(self, module: nn.Layer, steps: float):
        if steps < 0:
            raise MedcapError("averaging is negative: use 0, which keeps the weights of the last step, or more")
        self.module, self.share = module, 1 / max(steps, 1)
        tensors = module.state_dict() if self.share < 1 else {}
        self.mean = {name: tensor.clone().detach() for name, tensor in tensors.items() if tensor.is_floating_point()}

    @paddle.no_grad()
    def update(self) -> None:
        """After a step."""
        own = self.module.state_dict()
        for name, mean in self.mean.items():
            mean.lerp_(own[name].astype(mean.dtype), paddle.full([], self.share, mean.dtype))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the mean for its weights, until the end of the block."""
        own = self.module.state_dict()
        before = {name: own[name].clone() for name in self.mean}
        for name, mean in self.mean.items():
            own[name].set_value(mean)
        try:
            yield
        finally:
            for name, tensor in before.items():
                own[name].set_value(tensor)

    def weights(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by name, in the mean."""
        with self.in_place():
            return {name: value.numpy().copy() for name, value in self.module.state_dict().items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it."""
        return {MARK + name: mean.numpy() for name, mean in self.mean.items()}

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """From the tensors of a checkpoint."""
        for name, mean in self.mean.items():
            mean.set_value(values[MARK + name])
