"""U-Net: a mask for every structure of an image, float32 [B, 3, S, S] -> logits [B, C, S, S].

Structures may overlap (a heart covers lung), so each has a sigmoid of its own, not a share of one softmax.

    UNet            as in its paper (Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, figure 1): valid convolutions,
                    crops, transposed convolutions; 572 -> 388. `padded`: convolutions that keep the size
    Mirrored        the same, over an image whose border is mirrored (section 2, overlap-tile): S -> S
    PyramidUNet     the expansive path over the grids of a pretrained encoder
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from ..runtime.files import MedcapError

DEPTH = 4  # poolings of the paper
WIDTH = 64  # channels of its first level


@paddle.jit.not_to_static  # of plain numbers: an export cannot translate it, nor the next
def output_size(size: int, depth: int = DEPTH) -> int:
    """The side that remains of a side of `size` pixels where no convolution pads: 572 -> 388.

    Each level loses 4 pixels in its two convolutions, on the way down and on the way up. MedcapError where a side that
    is to be halved is odd: pooling would drop its last row, and the two paths would not lie over each other.
    """
    lowest = size
    for level in range(1, depth + 1):
        lowest, odd = divmod(lowest - 4, 2)
        if odd:
            raise MedcapError(f"size {size}: level {level} halves an odd number of pixels; use {near(size, depth)}")
    if (found := sides(lowest, depth)[1]) < 1:
        raise MedcapError(f"size {size} leaves nothing: use {near(size, depth)}")
    return found


def sides(lowest: int, depth: int = DEPTH) -> tuple[int, int]:
    """The sides of the image and of the output where the lowest level begins with `lowest` pixels."""
    image, output = lowest, lowest - 4
    for _ in range(depth):
        image, output = 2 * image + 4, 2 * output - 4
    return image, output


def near(size: int, depth: int = DEPTH, cover: int = 1) -> int:
    """The least side of at least `size` pixels that a U-Net of valid convolutions takes and that leaves `cover`."""
    every = (sides(lowest, depth) for lowest in itertools.count(5))  # 5 leaves 1 pixel of the lowest level
    return next(image for image, output in every if image >= size and output >= cover)


def crop(grid: paddle.Tensor, size: int) -> paddle.Tensor:
    """The middle of [B, D, H, H]: [B, D, size, size]."""
    start = (grid.shape[-1] - size) // 2
    return grid[..., start : start + size, start : start + size]


def double(inputs: int, outputs: int, padding: int, norm: bool) -> nn.Sequential:
    """Two convolutions of 3 x 3, each followed by batch norm (where `norm`) and ReLU."""
    layers = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2D(channels, outputs, 3, padding=padding, bias_attr=None if not norm else False))
        layers += [nn.BatchNorm2D(outputs), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers)


class Up(nn.Layer):
    """A step of the expansive path: twice the side, half the channels, and the finer grid beside it."""

    def __init__(self, inputs: int, skip: int, outputs: int, padding: int, norm: bool):
        super().__init__()
        self.up = nn.Conv2DTranspose(inputs, outputs, 2, stride=2)
        self.convs = double(outputs + skip, outputs, padding, norm)

    def forward(self, coarse: paddle.Tensor, fine: paddle.Tensor) -> paddle.Tensor:
        coarse = self.up(coarse)
        return self.convs(paddle.concat([crop(fine, coarse.shape[-1]), coarse], 1))


class UNet(nn.Layer):
    """[B, 3, S, S] -> logits [B, `structures`, S', S'] with S' = `output_size(S)`, or S where `padded`.

    Reads the first `channels` of the image: a film is gray. The paper has `width` 64, `depth` 4, no norm. `fold` 2
    makes 4 channels of each square of 2 x 2 pixels before the first level and unfolds the logits (Shi et al.,
    "Efficient sub-pixel convolution", CVPR 2016): a quarter of the places to compute.
    """

    def __init__(
        self,
        structures: int,
        width: int = WIDTH,
        depth: int = DEPTH,
        padded: bool = False,
        norm: bool = False,
        channels: int = 1,
        fold: int = 1,
    ):
        super().__init__()
        self.channels, self.depth, self.padded, self.fold = channels, depth, padded, fold
        padding, widths = int(padded), [width * 2**level for level in range(depth + 1)]
        inputs = [channels * fold**2, *widths[:-1]]
        self.down = nn.LayerList([double(i, o, padding, norm) for i, o in zip(inputs, widths, strict=True)])
        self.up = nn.LayerList([Up(2 * w, w, w, padding, norm) for w in reversed(widths[:-1])])
        self.head = nn.Conv2D(width, structures * fold**2, 1)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        self.check(images.shape[-1])
        x, grids = F.pixel_unshuffle(images[:, : self.channels], self.fold), []
        for level in self.down:
            grids.append(level(F.max_pool2d(grids[-1], 2) if grids else x))
        x = grids.pop()
        for step in self.up:
            x = step(x, grids.pop())
        return F.pixel_shuffle(self.head(x), self.fold)

    def check(self, size: int) -> None:
        """MedcapError where images of that side do not fit."""
        if not self.padded:
            output_size(size // self.fold, self.depth)
        elif size % (step := self.fold * 2**self.depth):
            raise MedcapError(f"size {size}: a padded U-Net of {self.depth} poolings needs a multiple of {step}")


class Mirrored(nn.Layer):
    """A U-Net of valid convolutions whose output covers the image: the border that it loses is mirrored before."""

    def __init__(self, network: UNet):
        super().__init__()
        self.network = network

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        border = margin(images.shape[-1], self.network.depth)
        return crop(self.network(F.pad(images, border * 2, mode="reflect")), images.shape[-1])


@paddle.jit.not_to_static
def margin(size: int, depth: int = DEPTH) -> tuple[int, int]:
    """Pixels to mirror before and behind, so that the output covers `size`; MedcapError where the image has fewer."""
    border = near(size, depth, cover=size) - size
    if border - border // 2 >= size:
        raise MedcapError(f"size {size} is too small to be mirrored by {border - border // 2} pixels: use a larger one")
    return border // 2, border - border // 2


Pyramid = Callable[[paddle.Tensor], Sequence[paddle.Tensor]]


class PyramidUNet(nn.Layer):
    """[B, 3, S, S] -> logits [B, `structures`, S, S] from the grids of an encoder, finest first, at S / 2, S / 4, ...

    `grids` gives them, `channels` says how many channels each has, `widths` how many the steps up have: one more than
    there are grids below the finest, the last at the full size.
    """

    def __init__(self, encoder: nn.Layer, grids: Pyramid, channels: Sequence[int], structures: int, widths=None):
        super().__init__()
        self.encoder, self.grids = encoder, grids
        self.step = 2 ** len(channels)
        widths = widths or [128, 64, 32, 24, 16][-len(channels) :]
        coarse, skips, self.up = channels[-1], [*reversed(channels[:-1]), 1], nn.LayerList()
        for skip, width in zip(skips, widths, strict=True):  # beside the last step lies the image itself
            self.up.append(Up(coarse, skip, width, 1, True))
            coarse = width
        self.head = nn.Conv2D(coarse, structures, 1)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        if images.shape[-1] % self.step:
            raise MedcapError(f"size {images.shape[-1]}: this encoder needs a multiple of {self.step}")
        grids = [images[:, :1], *self.grids(images)]
        x = grids.pop()
        for step in self.up:
            x = step(x, grids.pop())
        return self.head(x)
