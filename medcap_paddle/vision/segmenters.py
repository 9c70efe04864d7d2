"""Networks that draw masks: `SEGMENTERS` maps a name to how one is built, begun and trained.

    unet         padded, with batch norm, a quarter of the width: the usual one, from scratch
    unet_valid   as in its paper, valid convolutions over a mirrored border
    unet_lite0   over EfficientNet-Lite0, from ImageNet; its weights come with a package of requirements.txt
    unet_resnet18, unet_resnet34   over a ResNet, from ImageNet where a file of its weights is given (torchvision's or
                 Paddle's), else from scratch

Seconds of CPU for one step (batch of 8, 256 pixels, four structures, one thread): `unet` 1.5, with width 24 2.5. The
shipped network had 14 epochs on small images (128 pixels: .4) and 4 on those of 256.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import paddle
from paddle import nn
from paddle.vision.models import resnet18, resnet34

from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime.files import MedcapError
from . import lite0, weights
from .augment import Augmentation
from .unet import Mirrored, PyramidUNet, UNet

GRAY = Preprocessing(256, (0.5,) * 3, (0.25,) * 3)
MOVED = Augmentation((0.9, 1.15), turn=0.1, shift=0.06, gamma=0.4, contrast=0.3)
SETTINGS = TrainingSettings(batch_size=8, epochs=12, learning_rate=2e-3, warmup=0.05, patience=12)


@dataclass(frozen=True)
class Segmenter:
    """How a network is built, begun and trained."""

    build: Callable[[int], nn.Layer]  # for C channels: float32 [B, 3, S, S] -> logits [B, C, S, S]
    step: int  # sides must be multiples of it
    begin: Callable[[nn.Layer, Path | None], None] | None = None  # set first weights, from a file or the usual ones
    preprocessing: Preprocessing = GRAY
    settings: TrainingSettings = SETTINGS
    augmentation: Augmentation = MOVED

    def at(self, size: int | None) -> Preprocessing:
        """The preprocessing for images of that size, None for the usual one; MedcapError on one that does not fit."""
        size = size or self.preprocessing.size
        if size < 2 * self.step or size % self.step:
            raise MedcapError(f"size {size}: use a multiple of {self.step}, {2 * self.step} at least")
        return replace(self.preprocessing, size=size)


def unet(structures: int) -> nn.Layer:
    return UNet(structures, width=16, padded=True, norm=True, fold=2)


def unet_valid(structures: int) -> nn.Layer:
    return Mirrored(UNet(structures, width=16))


def unet_lite0(structures: int) -> nn.Layer:
    encoder = lite0.Lite0()
    return PyramidUNet(encoder, encoder.stages, [16, 24, 40, 112, 320], structures)


class ResNetPyramid(nn.Layer):
    """The grids of a ResNet (He et al., CVPR 2016): 64 channels at S / 2, 64 at S / 4, 128, 256, 512 at S / 32."""

    def __init__(self, network: Callable[..., nn.Layer]):
        super().__init__()
        self.trunk = network(num_classes=0, with_pool=False)

    def grids(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        trunk = self.trunk
        out = [trunk.relu(trunk.bn1(trunk.conv1(images)))]
        x = trunk.maxpool(out[0])
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            x = stage(x)
            out.append(x)
        return out


def unet_resnet(network: Callable[..., nn.Layer], structures: int) -> nn.Layer:
    encoder = ResNetPyramid(network)
    return PyramidUNet(encoder, encoder.grids, [64, 64, 128, 256, 512], structures)


def begin_lite0(network: PyramidUNet, path: Path | None) -> None:
    weights.fill(network.encoder, lite0.trained(path), path or lite0.imagenet())


def begin_resnet(network: PyramidUNet, path: Path | None) -> None:
    """MedcapError where the weights are those of another ResNet."""
    if path:
        weights.fill(network.encoder.trunk, weights.to_paddle(weights.read(path)[0], path), path)


RESNET = Preprocessing(256)  # ImageNet's mean and deviation
SLOWER = replace(SETTINGS, learning_rate=1e-3)
SEGMENTERS: dict[str, Segmenter] = {
    "unet": Segmenter(unet, step=32),
    "unet_valid": Segmenter(unet_valid, step=4, preprocessing=replace(GRAY, size=244)),
    "unet_lite0": Segmenter(
        unet_lite0,
        step=32,
        begin=begin_lite0,
        preprocessing=Preprocessing(256, (lite0.MEAN,) * 3, (lite0.STD,) * 3),
        settings=SLOWER,
    ),
    "unet_resnet18": Segmenter(
        lambda structures: unet_resnet(resnet18, structures), 32, begin_resnet, RESNET, settings=SLOWER
    ),
    "unet_resnet34": Segmenter(
        lambda structures: unet_resnet(resnet34, structures), 32, begin_resnet, RESNET, settings=SLOWER
    ),
}


def named(name: str) -> Segmenter:
    """The entry of that name; MedcapError where there is none."""
    if name not in SEGMENTERS:
        raise MedcapError(f"no segmenter is called {name!r}: choose {', '.join(SEGMENTERS)}")
    return SEGMENTERS[name]
