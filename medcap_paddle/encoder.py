"""Image encoders: a radiograph to named arrays. `ENCODERS` maps a name to its loader.

    resnet101   ResNet-101 trained on ImageNet, pooled, 2048 numbers; weights come from a local file or from Paddle
    small       ours: a light ResNet-18 trained on drawn radiographs, shipped as encoder.safetensors beside this file;
                its vector is the logit of each finding of `findings.LABELS`, sides apart
    random      a small network nobody trained, for tests

A loader takes the path of local weights, or None for its usual ones, and returns an `Encoder`, best by `build`.

    python -m medcap_paddle.encoder [--work WORK] [--out PATH] ...    train one on the MeSH tags of a collection
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import paddle
from paddle import nn
from paddle.vision.models import resnet101

from .image import Preprocessing
from .runtime.files import MedcapError
from .vision import job, networks
from .vision import weights as weight_files

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
    network = nn.Sequential(resnet101(num_classes=0), nn.Flatten())
    weight_files.fill(network[0], tensors, path)
    return build(network, "resnet101", path.name, Preprocessing(224))


def _small(weights: Path | None) -> Encoder:
    path = weights or SHIPPED
    tensors, facts = weight_files.read(path)
    if facts.get("encoder") != "small":
        raise MedcapError(f"{path} is not an encoder of ours, or of an earlier version: {FIX}")
    preprocessing = Preprocessing.from_record(facts.get("preprocessing"), f"the encoder {path}", FIX)
    network = networks.Small(len(facts["labels"]))
    weight_files.fill(network, tensors, path)
    return build(networks.finding_logits(network, preprocessing.size), "small", path.name, preprocessing)


def _random(_: Path | None) -> Encoder:
    return build(networks.untrained(), "random", "seed 0", Preprocessing(64))


ENCODERS: dict[str, Callable[[Path | None], Encoder]] = {"resnet101": _resnet101, "small": _small, "random": _random}


def load(name: str, weights: str | Path | None = None) -> Encoder:
    """The encoder of that name; `weights` is a local .pdparams, .pth or .safetensors to use instead of the usual file.

    MedcapError on an unknown name, and on weights that are damaged, of another network, or made with another transform.
    """
    if name not in ENCODERS:
        raise MedcapError(f"no encoder is called {name!r}: choose {', '.join(ENCODERS)}")
    return ENCODERS[name](Path(weights) if weights else None)


def choose(phantom_images: bool, weights: str | Path | None = None) -> str:
    """The name of the encoder that `weights` belong to; else "small" for drawings, ResNet-101 where it can be had."""
    if weights:
        return weight_files.read(weights)[1].get("encoder", "resnet101")
    return "resnet101" if not phantom_images and weight_files.imagenet_available() else "small"


def main() -> None:
    parser = job.parser("python -m medcap_paddle.encoder", "Train an encoder on the MeSH tags of a collection.")
    parser.add_argument("--work", default="work", help="the folder with reports.csv and images.csv")
    args = parser.parse_args()
    job.command(args, job.Tagged(args.work, args.size), args.out or f"{args.work}/encoder.safetensors")


if __name__ == "__main__":
    main()
