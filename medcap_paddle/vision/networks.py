"""Small networks of ours, and what an encoder gives: float32 [B, 3, S, S] -> named arrays of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision.models import resnet18

SURE = 6.0  # logit: a finding is there, or not there, with a probability of .998


class Small(nn.Layer):
    """ResNet-18 (He et al., CVPR 2016) with one block a stage instead of two, and a neck that keeps places apart.

    [B, 3, S, S] -> the logit of each label, [B, L]. Pooling the whole picture, as ResNet does, would have to learn left
    and right from the padding. The first convolution steps by 4 at once instead of by 2 and pooling: on a CPU that
    saves a third of the training.
    """

    def __init__(self, labels: int):
        super().__init__()
        self.trunk = resnet18(num_classes=0, with_pool=False)  # [B, 512, S / 32, S / 32]
        self.trunk.conv1 = nn.Conv2D(3, 64, 7, stride=4, padding=3, bias_attr=False)
        self.trunk.maxpool = nn.Identity()
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            setattr(self.trunk, stage, getattr(self.trunk, stage)[:1])
        self.neck = nn.Sequential(
            *(nn.Conv2D(512, 128, 1, bias_attr=False), nn.BatchNorm2D(128), nn.ReLU()),
            *(nn.AdaptiveAvgPool2D(3), nn.Flatten()),  # a grid of 3 x 3 at any size
            *(nn.Linear(128 * 9, 512, bias_attr=False), nn.BatchNorm1D(512), nn.ReLU()),
        )
        rare = nn.initializer.Constant(-3.0)  # a finding is there in one of twenty studies
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, labels, bias_attr=paddle.ParamAttr(initializer=rare)))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.neck(self.trunk(images)))


def logits_of(network: Small, size: int) -> Callable[[paddle.Tensor], paddle.Tensor]:
    """The vector of a trained `Small` for images of `size`: the logit of each finding, cut off at SURE, from its grid.

    The findings, not the 512 numbers before them: on 2,000 reports a captioner learns those by heart (validation
    perplexity 4.27, that of a model that sees nothing) and reads these. Logits, since a linear reader loses the
    doubtful ones among probabilities; cut off, so that a strange image stays in range.
    """
    if size >= 96 and size // 32 % 3 < 2:  # the same 3 x 3 cells; oneDNN pools adaptively in float32 only
        stride = size // 96
        network.neck[3] = nn.AvgPool2D(size // 32 - 2 * stride, stride)
    return lambda grid: F.hardtanh(network.head(network.neck(grid)), -SURE, SURE)


def mean(grid: paddle.Tensor) -> paddle.Tensor:
    """[B, D, H, W] -> [B, D]."""
    return F.adaptive_avg_pool2d(grid, 1).flatten(1)


class GridAndVector(nn.Layer):
    """The last grid of a network: "pooled" [B, P], what `pool` makes of it, and "grid" [B, H x W, D] itself; and
    "logits" [B, L], what `head` makes of the vector, where it is given.
    """

    def __init__(self, network: nn.Layer, trunk: Callable, pool: Callable = mean, head: Callable | None = None):
        super().__init__()
        self.add_sublayer("0", network)  # the names of its tensors, and so its fingerprint, are those of a Sequential
        self.parts = trunk, pool, head
        self.arrays = ("pooled", "grid", "logits") if head else ("pooled", "grid")

    def forward(self, images: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        trunk, pool, head = self.parts
        grid = trunk(images)  # [B, D, H, W]
        vector = pool(grid)
        given = vector, grid.flatten(2).transpose([0, 2, 1])
        return (*given, head(vector)) if head else given


class Chosen(nn.Layer):
    """Some of what a network gives, by their places."""

    def __init__(self, network: nn.Layer, places: Sequence[int]):
        super().__init__()
        self.network, self.places = network, tuple(places)

    def forward(self, images: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        given = arrays(self.network, images)
        return tuple(given[place] for place in self.places)


def untrained() -> nn.Layer:
    """Two convolutions, pooled to a 4 x 4 grid: [B, 256] of order 1, always the same."""
    network = nn.Sequential(
        *(nn.Conv2D(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2D(16, 16, 5, 2, 2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2D(4), nn.Flatten()),
    )
    rng = np.random.default_rng(0)  # not paddle.seed, which would change everybody's numbers
    for layer in (network[0], network[2]):
        fan_in = np.prod(layer.weight.shape[1:])
        layer.weight.set_value(rng.normal(0, np.sqrt(2 / fan_in), layer.weight.shape).astype(np.float32))
        layer.bias.set_value(np.zeros(layer.bias.shape, np.float32))
    return network


def arrays(network: nn.Layer, images: paddle.Tensor) -> Sequence[paddle.Tensor]:
    """What the network gives for [B, 3, S, S]: one tensor [B, ...] or several."""
    given = network(images)
    return given if isinstance(given, (tuple, list)) else [given]
