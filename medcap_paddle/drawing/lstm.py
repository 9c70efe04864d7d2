"""A diagram of the decoder that is built by hand in notebook 04."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .axes import axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lstm_step() -> Figure:
    """One step of `models.lstm`: the LSTM on the left, the gate that shows the image to each memory on the right."""
    figure, [[ax]] = axes(11, 5)
    ax.set(xlim=(-1.2, 15.8), ylim=(-1.7, 5.5), aspect="equal")
    ax.axis("off")
    ax.fill([1, 8.5, 8.5, 1], [0.1, 0.1, 4.9, 4.9], color="#eef2f8", zorder=0)
    for points in (
        *([(0, 4.2), (9.3, 4.2)], [(0, 0.7), (6.4, 0.7), (6.4, 2.9), (7.3, 2.9)]),  # c on top, x and h below
        *([(1.5, -1.2), (1.5, 0.7)], [(0, -0.5), (1.2, -0.5)]),  # word and image
        *([(2.3, 0.7), (2.3, 3.9)], [(3.7, 0.7), (3.7, 2.9), (4.7, 2.9)], [(5, 0.7), (5, 2.6)], [(5, 3.1), (5, 3.9)]),
        *([(7.6, 4.2), (7.6, 3.2)], [(7.6, 2.7), (7.6, 0.7), (12.4, 0.7)], [(12.7, 0.7), (14.6, 0.7)]),  # h
        *([(10.2, 0.7), (10.2, 2.6)], [(10.2, 4.5), (10.2, 3.2)], [(10.5, 2.9), (12.7, 2.9), (12.7, 1)]),  # the gate
    ):
        ax.plot(*zip(*points, strict=True), color="black", lw=1, zorder=1)
        ax.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "fc": "black"}, zorder=1)
    gates = {(2.3, 1.8): "$f$", (3.7, 1.8): "$i$", (5, 1.8): "$g$", (6.4, 1.8): "$o$", (10.2, 1.8): r"$\beta$"}
    layers = {**gates, (12.7, 2): "$W_v$", (13.6, 0.7): "$W_p$"}
    signs = {(2.3, 4.2): "×", (5, 2.9): "×", (5, 4.2): "+", (7.6, 3.55): r"$\tanh$", (7.6, 2.9): "×"}
    signs |= {(1.5, -0.5): "+", (10.2, 2.9): "×", (12.7, 0.7): "+"}
    names = {(-0.6, 4.2): "$c_{t-1}$", (-0.6, 0.7): "$h_{t-1}$", (9.7, 4.2): "$c_t$", (9.2, 1): "$h_t$"}
    names |= {(1.5, -1.5): "word", (-0.6, -0.5): "image $v$", (10.2, 4.8): "image $v$", (15.2, 0.7): "logits"}
    for texts, style, color in ((layers, "square", "#f6e3b4"), (signs, "circle", "white"), (names, "", "")):
        box = {"boxstyle": style, "fc": color, "ec": "black"} if style else None
        for (x, y), text in texts.items():
            ax.text(x, y, text, ha="center", va="center", fontsize=8 if "tanh" in text else 11, bbox=box)
    return figure
