"""Losses of masks. `LOSSES` maps a name to a function of logits and targets, [B, C, H, W] each -> [B, C]: a number for
every structure of every image, so that a structure that nobody has drawn in an image can be left out.

    cross_entropy, dice, dice_rare, focal, and sums of them
"""

from __future__ import annotations

from collections.abc import Callable

import paddle
import paddle.nn.functional as F

Loss = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]
SMOOTH = 1.0  # pixels: where mask and prediction are empty the loss is 0, and its gradient is finite
RARE = 0.005  # the same as a share of the image
GAMMA = 2.0  # of the focal loss, as in its paper
PLACES = [2, 3]


def cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """The mean over the pixels of -log p of what is there; a sigmoid a structure, since structures overlap."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(PLACES)


def dice(logits: paddle.Tensor, targets: paddle.Tensor, smooth: float = SMOOTH) -> paddle.Tensor:
    """1 - Dice with probabilities for pixels, 2 sum(p t) / (sum(p) + sum(t)).

    After Milletari et al. ("V-Net", 3DV 2016), whose denominator has squares.
    """
    p = F.sigmoid(logits)
    both, total = (p * targets).sum(PLACES), (p + targets).sum(PLACES)
    return 1 - (2 * both + smooth) / (total + smooth)


def dice_rare(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """`dice` for a structure that many images lack. There its loss is s / (s + smooth) for s predicted pixels: nearly 1
    and nearly flat where smooth is a pixel, so that nothing pulls a wrong mask down to none.
    """
    return dice(logits, targets, smooth=RARE * logits.shape[2] * logits.shape[3])


def focal(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Cross-entropy times (1 - p of what is there) ^ GAMMA: easy pixels count little (Lin et al., ICCV 2017, eq. 4)."""
    nll = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return ((1 - paddle.exp(-nll)) ** GAMMA * nll).mean(PLACES)


def total(*losses: Loss) -> Loss:
    """The sum of losses."""
    return lambda logits, targets: sum(loss(logits, targets) for loss in losses)


LOSSES: dict[str, Loss] = {
    "cross_entropy_dice": total(cross_entropy, dice),  # the first is the usual one
    "cross_entropy_dice_rare": total(cross_entropy, dice_rare),
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
    "focal_dice": total(focal, dice),
    "cross_entropy_focal_dice": total(cross_entropy, focal, dice),
}
