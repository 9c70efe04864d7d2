"""Networks that learn findings from labelled radiographs: `TRAINABLE` maps a name of `encoder.ENCODERS` to how.

    small               from scratch: `findings.LABELS`, from drawings or MeSH tags
    efficientnet_lite0  fine-tuned from ImageNet: the findings that the collection names (`targets.NAMED`)

The file that a training leaves has the name among its facts, as "encoder", beside labels and preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddle import nn

from ..clinical.targets import DRAWN, NAMED, Targets
from ..config import TrainingSettings
from ..image import Preprocessing
from ..runtime.files import MedcapError
from . import lite0, networks, probe
from .augment import GENTLE, Augmentation
from .weights import Tensors, fill, read


@dataclass(frozen=True)
class Trainable:
    """How a network is built, begun and trained, and what it then gives as an encoder."""

    build: Callable[[int], nn.Layer]  # for L labels: float32 [B, 3, S, S] -> logits [B, L]
    given: Callable[[nn.Layer, int], networks.GridAndVector]  # what it gives as an encoder, for images of that size
    scores: str  # the array that has a number for each label
    auc: Callable[..., tuple[dict[str, float], list[str]]]  # how well these read the labels: a function of `probe`
    targets: Targets
    preprocessing: Preprocessing  # at its usual size
    settings: TrainingSettings  # batch_size is that of a process
    augmentation: Augmentation = GENTLE
    shared: bool = False  # batch_size is that of all processes together
    cells: int = 1  # so many equal cells must cover a side of the last grid
    origin: str = ""  # what its usual first weights have learnt
    begin: Callable[[Path | None], Tensors] | None = None  # these, from a file or the usual one; None: random ones
    head: str = ""  # its last layer, a Linear that begins as a linear probe; "": as random as the others

    def at(self, size: int | None) -> Preprocessing:
        """The preprocessing for images of that size, None for the usual one; MedcapError on one it is not made for."""
        if size is None or self._fits(size):
            return replace(self.preprocessing, size=size or self.preprocessing.size)
        sizes = ", ".join(str(32 * n) for n in range(1, 8) if self._fits(32 * n))
        why = f"{self.cells} x {self.cells} equal cells must cover the last grid"
        raise MedcapError(f"size {size}: use {sizes} ...: {why}")

    def augmented(self, labels: Sequence[str]) -> Augmentation:
        """How pictures are changed for these labels: never mirrored where one has a side."""
        sided = any(label.endswith((" left", " right")) for label in labels)
        return replace(self.augmentation, mirror=self.augmentation.mirror and not sided)

    def _fits(self, size: int) -> bool:
        grid = size // 32
        return size % 32 == 0 and grid >= self.cells and grid % self.cells < 2


def _small(network: networks.Small, size: int) -> networks.GridAndVector:
    return networks.GridAndVector(network, network.trunk, networks.logits_of(network, size))


def _lite0(network: lite0.Lite0, _: int) -> networks.GridAndVector:
    return networks.GridAndVector(network, network.grid, head=network.fc)


TRAINABLE: dict[str, Trainable] = {
    "small": Trainable(
        build=networks.Small,
        given=_small,
        scores="pooled",
        auc=probe.fitted,
        targets=DRAWN,
        preprocessing=Preprocessing(128),
        settings=TrainingSettings(batch_size=12, epochs=5, learning_rate=1e-3, warmup=0.05, weight_decay=0.01),
        cells=3,
    ),
    "efficientnet_lite0": Trainable(
        build=lite0.FineTuned,
        given=_lite0,
        scores="logits",
        auc=probe.direct,
        targets=NAMED,
        preprocessing=Preprocessing(224, (lite0.MEAN,) * 3, (lite0.STD,) * 3),
        settings=TrainingSettings(batch_size=16, epochs=8, learning_rate=2e-4, warmup=0.05, weight_decay=0.05),
        augmentation=Augmentation((0.9, 1.25), turn=0.12, shift=0.08, gamma=0.4, contrast=0.3, mirror=True),
        shared=True,
        origin="ImageNet",
        begin=lite0.trained,
        head="fc",
    ),
}
USUAL = next(iter(TRAINABLE))


def owner(tensors: Tensors, facts: dict) -> str:
    """The name of the encoder that weights belong to."""
    return facts.get("encoder", "efficientnet_lite0" if lite0.is_theirs(tensors) else "resnet101")


def resolve(start: str | None) -> tuple[str, Path | None]:
    """The name of a network and the file to begin from (None: its usual first weights), of a name or a path.

    MedcapError where it is neither, and where the file is of a network that is not trained here.
    """
    names = ", ".join(TRAINABLE)
    if not start or start in TRAINABLE:
        return start or USUAL, None
    if not Path(start).exists():
        raise MedcapError(f"{start} not found, and no network of that name is trained here: give {names} or a file")
    name = owner(*read(start))
    if name not in TRAINABLE:
        raise MedcapError(f"{start} is of {name}, which is not trained here: give {names} or a file of one of them")
    return name, Path(start)


def begin(network: nn.Layer, how: Trainable, labels: Sequence[str], start: Path | None) -> bool:
    """Set the first weights, those of the file `start`, else the usual ones; tell whether the head is still to be set.

    It is kept where the file has the same labels. MedcapError where a tensor does not fit.
    """
    tensors, facts = read(start) if start else ({}, {})
    if how.begin and not facts:
        tensors = how.begin(start)
    anew = bool(how.head) and facts.get("labels") != list(labels)
    if anew and facts:
        print(f"{start.name} has other labels: its trunk is kept, the head begins anew")
    if anew:
        own = network.state_dict()
        tensors |= {name: own[name].numpy() for name in own if name.startswith(f"{how.head}.")}
    if tensors:
        fill(network, tensors, start or how.origin)
    return anew
