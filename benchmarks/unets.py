"""Our U-Nets in PyTorch, with the names of `medcap_paddle.vision`: the same weights give the same logits."""

import torch
import torch.nn.functional as F
from torch import nn

STAGES = (  # of Lite0: widening, kernel, stride, channels, blocks
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)


def double(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Up(nn.Module):
    def __init__(self, inputs: int, skip: int, outputs: int):
        super().__init__()
        self.up, self.convs = nn.ConvTranspose2d(inputs, outputs, 2, 2), double(outputs + skip, outputs)

    def forward(self, coarse, fine):
        return self.convs(torch.cat([fine, self.up(coarse)], 1))


class UNet(nn.Module):
    """Padded, with batch norm, over squares of 2 x 2 pixels: the shipped one."""

    def __init__(self, structures: int, width: int = 16, depth: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([double(i, o) for i, o in zip([4, *widths], widths, strict=False)])
        self.up = nn.ModuleList([Up(2 * w, w, w) for w in reversed(widths[:-1])])
        self.head = nn.Conv2d(width, structures * 4, 1)

    def forward(self, images):
        x, grids = F.pixel_unshuffle(images[:, :1], 2), []
        for level in self.down:
            grids.append(level(F.max_pool2d(grids[-1], 2) if grids else x))
        x = grids.pop()
        for step in self.up:
            x = step(x, grids.pop())
        return F.pixel_shuffle(self.head(x), 2)


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
    """Where the stride is 2, one pixel more on the right and at the bottom, as TensorFlow pads an even side."""
    k, norm = kernel // 2, nn.BatchNorm2d(outputs, eps=1e-3)
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, k if stride == 1 else 0, groups=groups, bias=False), norm]
    whole = nn.Sequential(*layers, *([nn.ReLU6()] if act else []))
    if stride == 2:
        whole.register_forward_pre_hook(lambda _, inputs: F.pad(inputs[0], (k - 1, k, k - 1, k)))
    return whole


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, widen: int, kernel: int, stride: int):
        super().__init__()
        wide = widen * inputs
        self.expand = conv(inputs, wide) if widen > 1 else nn.Identity()
        self.depthwise, self.project = conv(wide, wide, kernel, stride, wide), conv(wide, outputs, act=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class Encoder(nn.Module):
    """The stages of EfficientNet-Lite0: the last grid of each size, finest first."""

    def __init__(self):
        super().__init__()
        self.stem, inputs, blocks = conv(3, 32, 3, 2), 32, []
        for widen, kernel, stride, channels, count in STAGES:
            for k in range(count):
                blocks.append(Block(inputs, channels, widen, kernel, 1 if k else stride))
                inputs = channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images):
        x, out = self.stem(images), []
        for block in self.blocks:
            y = block(x)
            if y.shape[-1] < x.shape[-1]:
                out.append(x)
            x = y
        return [*out, x]


class PyramidUNet(nn.Module):
    def __init__(self, structures: int):
        super().__init__()
        self.encoder, inputs, steps = Encoder(), 320, []
        for skip, width in zip((112, 40, 24, 16, 1), (128, 64, 32, 24, 16), strict=True):
            steps.append(Up(inputs, skip, width))
            inputs = width
        self.up, self.head = nn.ModuleList(steps), nn.Conv2d(inputs, structures, 1)

    def forward(self, images):
        *fine, x = self.encoder(images)
        for step, grid in zip(self.up, [*reversed(fine), images[:, :1]], strict=True):
            x = step(x, grid)
        return self.head(x)


NETWORKS = {"unet": UNet, "unet_lite0": PyramidUNet}
