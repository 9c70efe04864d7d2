"""How fast the parts of a network learn, epoch by epoch: first what is new, then all of it, each at its own rate.

A network may name parts of itself, by the names of sublayers and parameters. What is in no part learns at
`learning_rate`, a part at its factor times that; `frozen` is the number of first epochs in which the part `FROZEN` does
not learn (field: discriminative fine-tuning and gradual unfreezing, Howard and Ruder, ACL 2018, sections 3.2 and 3.3).

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"visual": ("views", "places"), "knowledge": ("nodes", "graph")}

A network may bring a loss of its own, whose targets are among its inputs. It is the mean over the studies, of no axis:

    auxiliary(inputs, tokens) -> [ ]
"""

from __future__ import annotations

from collections.abc import Mapping

from paddle import Tensor, nn

from ..config import TrainingSettings
from .files import MedcapError

RATES = {"visual": "visual_rate", "knowledge": "knowledge_rate"}  # part: the setting that is its factor
FROZEN = "visual"
Groups = list[tuple[list[Tensor], float]]  # parameters and the factor of their learning rate


class WithAuxiliary(nn.Layer):
    """What a network gives, and its own loss beside it: in one pass, as `paddle.DataParallel` must see it."""

    def __init__(self, module: nn.Layer):
        super().__init__()
        self.module = module

    def forward(self, inputs: Mapping[str, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.module(inputs, tokens), self.module.auxiliary(inputs, tokens).astype("float32")


def check(module: nn.Layer, settings: TrainingSettings) -> None:
    """MedcapError when a factor is negative, or when the settings name a part that the network does not name."""
    parts = _parts(module)
    for part, rate in RATES.items():
        if getattr(settings, rate) < 0:
            raise MedcapError(f"{rate} is {getattr(settings, rate)}: use 0 or more")
        unusual = {rate: getattr(settings, rate) != 1, "frozen": part == FROZEN and settings.frozen > 0}
        for name in (name for name, yes in unusual.items() if yes and part not in parts):
            usual = getattr(TrainingSettings, name)
            raise MedcapError(
                f"{name} is {getattr(settings, name)}, but {type(module).__name__} names no part {part!r}: "
                f"set {name} to {usual} or give the decoder parts (docs/extend.md)"
            )
    for part, names in parts.items():
        for name in names:
            if not _parameters(module, (name,)):
                raise MedcapError(f"part {part!r} of {type(module).__name__} names {name}, which it has not: fix parts")


def groups(module: nn.Layer, settings: TrainingSettings, epoch: int) -> Groups:
    """The parameters of each part and the factor of their learning rate in that epoch, which counts from 1."""
    found = []
    for part, rate in RATES.items():
        frozen = part == FROZEN and epoch <= settings.frozen
        factor = 0.0 if frozen else getattr(settings, rate)
        found.append((_parameters(module, _parts(module).get(part, ())), factor))
    return found


def apply(found: Groups) -> None:
    """Set the factors, which Paddle's optimizers take from each parameter.

    At 0 a parameter keeps its bytes. Its moments follow its gradient, so that it can go on at any time; the gradient
    does not count in the global norm, which would clip that of the others for it.
    """
    for parameters, factor in found:
        for parameter in parameters:
            parameter.optimize_attr["learning_rate"] = factor
            parameter.need_clip = factor > 0


def _parts(module: nn.Layer) -> Mapping[str, tuple[str, ...]]:
    return getattr(module, "parts", {})


def _parameters(module: nn.Layer, names: tuple[str, ...]) -> list[Tensor]:
    return [
        parameter
        for name, parameter in module.named_parameters()
        if any(name == own or name.startswith(f"{own}.") for own in names)
    ]
