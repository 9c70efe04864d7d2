"""Networks that classify images: a trunk that gives a vector, and a head of batch norm, dropout and a linear layer.

    alexnet             five convolutions (Krizhevsky et al., NeurIPS 2012, in the widths of "One weird trick for
                        parallelizing convolutional neural networks", 2014); the head stands for its three dense layers
    resnet18            He et al., CVPR 2016
    efficientnet_lite0  see `lite0`

`BACKBONES` says how each is built, begun and trained. Another network is one more entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.vision.models import resnet18

from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime.files import MedcapError
from . import lite0, networks, weights
from .augment import GENTLE, Augmentation
from .probe import WEAK, coefficients
from .trainable import TRAINABLE

# of each convolution of AlexNet: channels, kernel, stride, padding, and whether pooling (3 x 3, stride 2) follows
CONVOLUTIONS = (
    *((64, 11, 4, 2, True), (192, 5, 1, 2, True)),
    *((384, 3, 1, 1, False), (256, 3, 1, 1, False), (256, 3, 1, 1, True)),
)
CELLS = 6  # AlexNet's last grid is 6 x 6 at 224 pixels, and is pooled to that at other sizes
EARLY = 11  # of the 16 blocks of Lite0
NONE = "none"  # in place of a file: no first weights


class AlexNet(nn.Layer):
    """float32 [B, 3, S, S] -> [B, 9216], the 256 channels of 6 x 6 cells."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for channels, kernel, stride, padding, pools in CONVOLUTIONS:
            layers += [nn.Conv2D(inputs, channels, kernel, stride, padding), nn.ReLU()]
            layers += [nn.MaxPool2D(3, 2)] if pools else []
            inputs = channels
        self.features = nn.Sequential(*layers)  # numbered as torchvision numbers them

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return nn.functional.adaptive_avg_pool2d(self.features(images), CELLS).flatten(1)


class ResNet18(nn.Layer):
    """float32 [B, 3, S, S] -> [B, 512], the mean of the last grid."""

    def __init__(self):
        super().__init__()
        self.network = resnet18(num_classes=0, with_pool=False)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return networks.mean(self.network(images))


class Lite0(nn.Layer):
    """float32 [B, 3, S, S] -> [B, 1280], in two parts, `early` and `late`.

    Edges and textures are those of ImageNet: the early part may stay as it is, and then gives its grids once for all
    folds. Most of the time is in its depthwise convolutions, which are slow on a CPU.
    """

    def __init__(self):
        super().__init__()
        self.network = lite0.Lite0(classes=1)
        self.network.fc = self.network.dropout = nn.Identity()  # the head stands for them
        self.first = [self.network.stem, *self.network.blocks[:EARLY]]  # a list: no names of their own

    def early(self, images: paddle.Tensor) -> paddle.Tensor:
        """[B, 112, S / 16, S / 16]."""
        for layer in self.first:
            images = layer(images)
        return images

    def late(self, grid: paddle.Tensor) -> paddle.Tensor:
        for block in self.network.blocks[EARLY:]:
            grid = block(grid)
        return networks.mean(self.network.head(grid))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.late(self.early(images))


# The names in files of weights ----------------------------------------------------------------------------------------


def _within(tensors: weights.Tensors) -> weights.Tensors:
    return {f"network.{name}": value for name, value in tensors.items() if not name.startswith("fc.")}


def _alexnet_names(tensors: weights.Tensors, path: Path) -> weights.Tensors:
    """Of torchvision (features.0.weight) or Paddle (_conv1._conv.weight); their dense layers are left out."""
    places = [str(k) for k, layer in enumerate(AlexNet().features) if isinstance(layer, nn.Conv2D)]
    found = {}
    for name, value in tensors.items():
        if theirs := re.fullmatch(r"_conv(\d)\.(?:_conv\.)?(weight|bias)", name):
            name = f"features.{places[int(theirs[1]) - 1]}.{theirs[2]}"
        if name.startswith("features."):
            found[name] = value
    return found


def _resnet18_names(tensors: weights.Tensors, path: Path) -> weights.Tensors:
    return _within(weights.to_paddle(tensors, path, (2, 2, 2, 2)))


def _lite0_names(tensors: weights.Tensors, path: Path) -> weights.Tensors:
    return _within(lite0.to_paddle(tensors))


# The table ------------------------------------------------------------------------------------------------------------

_LITE0 = TRAINABLE["efficientnet_lite0"]
# of any network that begins with weights
TUNED = replace(_LITE0.settings, learning_rate=3e-4, clip=1.0, averaging=0.6)
SCRATCH = TrainingSettings(batch_size=16, epochs=30, learning_rate=1e-3, schedule="plateau", patience=6)


@dataclass(frozen=True)
class Backbone:
    """How a network is built, begun and trained."""

    trunk: Callable[[], nn.Layer]  # float32 [B, 3, S, S] -> [B, width]
    width: int
    names: Callable[[weights.Tensors, Path], weights.Tensors]  # tensors of a file, under the names of the trunk
    preprocessing: Preprocessing = Preprocessing(224)  # at its usual size
    usual: Callable[[], Path] | None = None  # the file that it begins from where none is given; None: random weights
    settings: TrainingSettings = SCRATCH  # from random weights
    dropout: float = 0.2
    augmentation: Augmentation = GENTLE

    def first(self, given: str | None) -> Path | None:
        """The file to begin from; `given` is a path, NONE or nothing. None: random weights."""
        if given and given != NONE:
            return Path(given)
        return self.usual() if self.usual and not given else None

    def at(self, size: int | None) -> Preprocessing:
        """The preprocessing for images of that size; MedcapError where the network cannot take it."""
        if size is None or (size % 32 == 0 and size >= 64):
            return replace(self.preprocessing, size=size or self.preprocessing.size)
        raise MedcapError(f"size {size}: use 64, 96, 128 ...: a cell of the last grid is 32 pixels wide")


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone(
        AlexNet, 256 * CELLS**2, _alexnet_names, settings=replace(SCRATCH, learning_rate=2e-4), dropout=0.5
    ),
    "resnet18": Backbone(ResNet18, 512, _resnet18_names),
    "efficientnet_lite0": Backbone(
        trunk=Lite0,
        width=1280,
        names=_lite0_names,
        preprocessing=_LITE0.preprocessing,
        usual=lite0.imagenet,
        # Little: with the amounts of `trainable`, which are for drawings, pneumonia in real films was read worse.
        augmentation=Augmentation((0.95, 1.15), turn=0.05, shift=0.04, gamma=0.1, contrast=0.15, noise=0.0),
    ),
}
USUAL = "efficientnet_lite0"


def named(name: str) -> Backbone:
    """The entry of that name; MedcapError where there is none."""
    if name not in BACKBONES:
        raise MedcapError(f"no backbone is called {name!r}: choose {', '.join(BACKBONES)}")
    return BACKBONES[name]


class Classifier(nn.Layer):
    """float32 [B, 3, S, S] -> logits [B, classes].

    `begun`: with first weights, whose batch norm statistics stay, in training too; a batch of a few images has noise
    for statistics. `frozen`: the early layers of the trunk, where it has such, stay as they are.
    """

    def __init__(self, backbone: Backbone, classes: int, begun: bool = False, frozen: bool = False):
        super().__init__()
        self.begun, self.trunk, width = begun, backbone.trunk(), backbone.width
        self.frozen = frozen and hasattr(self.trunk, "early")
        for layer in self.trunk.first if self.frozen else ():
            for parameter in layer.parameters():
                parameter.stop_gradient = True
        self.head = nn.Sequential(nn.BatchNorm1D(width), nn.Dropout(backbone.dropout), nn.Linear(width, classes))

    def forward(self, seen: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.vector(seen))

    def vector(self, seen: paddle.Tensor) -> paddle.Tensor:
        """[B, width] of images, or of the grids that the early layers gave for them."""
        return self.trunk(seen) if seen.shape[1] == 3 else self.trunk.late(seen)

    def train(self) -> None:
        super().train()
        for layer in self.sublayers() if self.begun else ():
            if isinstance(layer, nn.BatchNorm1D | nn.BatchNorm2D):
                layer.eval()


class Early(nn.Layer):
    """The early layers of a trunk: [B, 3, S, S] -> [B, C, G, G]."""

    def __init__(self, trunk: nn.Layer):
        super().__init__()
        self.trunk = trunk

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.trunk.early(images)


def build(name: str, classes: int, file: Path | None, whole: bool = False) -> Classifier:
    """The network, begun from the weights of `file` where there is one; then only its late layers learn, unless the
    `whole` is asked for. MedcapError where the weights do not fit.
    """
    backbone = named(name)
    network = Classifier(backbone, classes, begun=file is not None, frozen=file is not None and not whole)
    if file:
        weights.fill(network.trunk, backbone.names(weights.read(file)[0], file), file)
    return network


def begin_head(network: Classifier, vectors: np.ndarray, targets: np.ndarray) -> None:
    """Set the head to a linear probe of train vectors [N, D]: a random one would spoil the trunk in its first steps
    (Kumar et al., ICLR 2022). Its batch norm takes their mean and variance; targets [N, K].
    """
    weight, bias = coefficients(vectors, (targets > 0.5).astype(float), WEAK)
    norm, _, linear = network.head
    mean, variance = vectors.mean(0), vectors.var(0)
    deviation = np.sqrt(variance + norm._epsilon)
    values = {"weight": weight * deviation[:, None], "bias": bias + mean @ weight}
    for name, tensor in {"_mean": mean, "_variance": variance}.items():
        norm.state_dict()[name].set_value(tensor.astype(np.float32))
    for name, tensor in values.items():
        linear.state_dict()[name].set_value(tensor.astype(np.float32))
