"""Image encoders: a radiograph to named arrays. `ENCODERS` maps a name to its loader.

    resnet101           ResNet-101 trained on ImageNet; its weights come from a local file or from Paddle
    efficientnet_lite0  EfficientNet-Lite0 trained on ImageNet; its weights come with a package of requirements.txt
    small               ours: a light ResNet-18 trained on drawn radiographs, shipped as encoder.safetensors beside this
                        file; its vector is the logit of each finding of `findings.LABELS`, sides apart
    random              a small network nobody trained, for tests

All but the last give two arrays of an image: "pooled", a vector, and "grid", a vector for each place of its last grid.
A fine-tuned one also gives "logits", a number for each of the labels among the facts of its file.

A loader takes the path of local weights, or None for its usual ones, and returns an `Encoder`, best by `build`.

    python -m medcap_paddle.encoder [--work WORK] [--start NAME|PATH] [--out PATH] ...

trains one on the MeSH tags of a collection: `small` from scratch, or `--start efficientnet_lite0` from ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import paddle
from paddle import nn
from paddle.vision.models import resnet101

from .image import Preprocessing
from .runtime.files import MedcapError
from .vision import job, lite0, networks
from .vision import weights as weight_files
from .vision.trainable import TRAINABLE, owner

SHIPPED = Path(__file__).with_name("encoder.safetensors")
FIX = "train one (make encoder, or python -m medcap_paddle.encoder)"


@dataclass(frozen=True)
class Encoder:
    network: nn.Layer  # in eval mode: float32 [B, 3, S, S] -> a tensor, or a tuple of them in the order of `arrays`
    name: str
    weights: str  # fingerprint: the same weights give the same, whatever file they come from
    source: str  # the file they came from
    preprocessing: Preprocessing
    arrays: dict[str, tuple[int, ...]]  # what it gives for an image: names and shapes, {"pooled": (D,)}


def build(network: nn.Layer, name: str, source: str, preprocessing: Preprocessing, arrays=("pooled",)) -> Encoder:
    """The encoder of a network that has its weights; `arrays` names what the network gives."""
    network.eval()
    with paddle.no_grad():
        given = networks.arrays(network, paddle.zeros([1, 3, preprocessing.size, preprocessing.size]))
    shapes = {array: tuple(tensor.shape[1:]) for array, tensor in zip(arrays, given, strict=True)}
    return Encoder(network, name, weight_files.fingerprint(network), source, preprocessing, shapes)


def _resnet101(weights: Path | None) -> Encoder:
    path = weights or weight_files.imagenet()
    tensors = weight_files.to_paddle(weight_files.read(path)[0], path)
    network = resnet101(num_classes=0, with_pool=False)
    weight_files.fill(network, tensors, path)
    given = networks.GridAndVector(network, network)
    return build(given, "resnet101", path.name, Preprocessing(224), given.arrays)


def _trained(name: str, path: Path) -> Encoder:
    """The encoder in a file of ours: its facts say the labels and the preprocessing."""
    tensors, facts = weight_files.read(path)
    if facts.get("encoder") != name:
        what = f"holds {facts.get('encoder')}" if facts else "is not an encoder of ours, or of an earlier version"
        raise MedcapError(f"{path} {what}, where {name} is wanted: {FIX}")
    preprocessing = Preprocessing.from_record(facts.get("preprocessing"), f"the encoder {path}", FIX)
    network = TRAINABLE[name].build(len(facts["labels"]))
    weight_files.fill(network, tensors, path)
    given = TRAINABLE[name].given(network, preprocessing.size)
    return build(given, name, path.name, preprocessing, given.arrays)


def _small(weights: Path | None) -> Encoder:
    return _trained("small", weights or SHIPPED)


def _efficientnet_lite0(weights: Path | None) -> Encoder:
    if weights and weight_files.read(weights)[1]:
        return _trained("efficientnet_lite0", weights)
    path = weights or lite0.imagenet()
    network = lite0.Lite0()
    weight_files.fill(network, lite0.trained(path), path)
    given = networks.GridAndVector(network, network.grid)
    return build(given, "efficientnet_lite0", path.name, TRAINABLE["efficientnet_lite0"].preprocessing, given.arrays)


def _random(_: Path | None) -> Encoder:
    return build(networks.untrained(), "random", "seed 0", Preprocessing(64))


ENCODERS: dict[str, Callable[[Path | None], Encoder]] = {
    "resnet101": _resnet101,
    "efficientnet_lite0": _efficientnet_lite0,
    "small": _small,
    "random": _random,
}


def load(name: str, weights: str | Path | None = None, arrays: Sequence[str] | None = None) -> Encoder:
    """The encoder of that name; `weights` is a local .pdparams, .pth or .safetensors to use instead of the usual file.

    It gives the arrays of these names, or all it has. MedcapError on an unknown name or array, and on weights that are
    damaged, of another network, or made with another transform.
    """
    if name not in ENCODERS:
        raise MedcapError(f"no encoder is called {name!r}: choose {', '.join(ENCODERS)}")
    encoder = ENCODERS[name](Path(weights) if weights else None)
    names = list(encoder.arrays if arrays is None else arrays)
    if missing := [array for array in names if array not in encoder.arrays]:
        raise MedcapError(f"the encoder {name} gives no {', '.join(missing)}: choose of {', '.join(encoder.arrays)}")
    if names == list(encoder.arrays):
        return encoder
    chosen = networks.Chosen(encoder.network, [list(encoder.arrays).index(array) for array in names])
    return replace(encoder, network=chosen, arrays={array: encoder.arrays[array] for array in names})


def choose(phantom_images: bool, weights: str | Path | None = None) -> str:
    """The name of the encoder that `weights` belong to; else "small" for drawings, ResNet-101 for real images where its
    weights are here or can be had, EfficientNet-Lite0 where not.
    """
    if weights:
        return owner(*weight_files.read(weights))
    if phantom_images:
        return "small"
    return "resnet101" if weight_files.imagenet_available() else "efficientnet_lite0"


def main() -> None:
    parser = job.parser("python -m medcap_paddle.encoder", "Train an encoder on the MeSH tags of a collection.")
    parser.add_argument("--work", default="work", help="the folder with reports.csv and images.csv")
    args = parser.parse_args()
    job.command(args, partial(job.Tagged, args.work), args.out or f"{args.work}/encoder.safetensors")


if __name__ == "__main__":
    main()
