"""Files of weights: ours, torchvision's and Paddle's; and the weights of ResNet-101 for ImageNet.

ours          .safetensors as `files.write_tensors` has it: float16 tensors and facts. Facts of every encoder:
              encoder (a name of `encoder.ENCODERS`), preprocessing (its record); more in `vision.job`
torchvision   .safetensors with the names of torchvision's state_dict
Paddle        .pdparams, a pickle
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import urllib.request
import warnings
from pathlib import Path

import numpy as np
from paddle import nn
from paddle.utils import download
from paddle.vision.models import resnet

from ..runtime.files import MedcapError, digest, read_tensors, require

URL, MD5 = resnet.model_urls["resnet101"]
PATIENCE = 4.0  # seconds to find out whether there is a network
Tensors = dict[str, np.ndarray]


class _Arrays(pickle.Unpickler):
    """Reads a pickle of arrays, and refuses to call anything else: a weights file must not run code."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode", "OrderedDict"}

    def find_class(self, module: str, name: str):
        if module.split(".")[0] in ("numpy", "_codecs", "collections") and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")


def read(path: str | Path) -> tuple[Tensors, dict]:
    """Arrays by name, and the facts of a file of ours ({} of others). MedcapError when it cannot be read."""
    from safetensors import safe_open

    path = require(path, "check the path of the weights")
    try:
        if path.suffix != ".safetensors":
            return _pickled(path), {}
        with safe_open(path, "numpy") as file:
            if "medcap_paddle" not in (file.metadata() or {}):
                return {name: file.get_tensor(name) for name in file.keys()}, {}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise MedcapError(f"{path} is not a readable weights file ({error}): fetch it again") from error
    return read_tensors(path, "fetch it or train it again")


def _pickled(path: Path) -> Tensors:
    with path.open("rb") as file:
        tensors = _Arrays(file, encoding="latin1").load()
    # paddle.save of a network stores (name, array) pairs in some versions, and a table of names
    tensors = {name: value[1] if isinstance(value, tuple) else value for name, value in tensors.items()}
    return {name: value for name, value in tensors.items() if isinstance(value, np.ndarray)}


def from_torchvision(tensors: Tensors) -> Tensors:
    """Torchvision's names of a ResNet to Paddle's; what only training or classifying needs is dropped."""
    return {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for name, value in tensors.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def fill(network: nn.Layer, tensors: Tensors, path: str | Path) -> None:
    """Set every tensor of the network, and use every tensor of the file; MedcapError when one does not fit."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    wrong = [name for name in wanted if name in found and found[name] != wanted[name]]
    for problem, names in (
        ("lacks", sorted(wanted.keys() - found.keys())),
        ("has unknown", sorted(found.keys() - wanted.keys())),
        ("has other shapes for", wrong),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise MedcapError(f"{path} {problem} {', '.join(names[:3])}{more}: choose weights of this network")
    network.set_state_dict({name: value.astype(np.float32) for name, value in tensors.items()})


def fingerprint(network: nn.Layer) -> str:
    """12 hexadecimal digits: the same weights give the same, whatever file they come from."""
    state = sorted(network.state_dict().items())
    return digest(*(part for name, tensor in state for part in (name, tensor.numpy())))[:12]


# ResNet-101 for ImageNet ----------------------------------------------------------------------------------------------


def reachable(url: str, seconds: float = PATIENCE) -> bool:
    """Whether the address answers in time. In a thread, since looking up a name knows no timeout."""
    answers = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds) as reply:
                answers.append(reply.status == 200)
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers == [True]


def imagenet_available() -> bool:
    """Whether ResNet-101's weights are on this machine or can be downloaded; if not, a warning says what follows."""
    if _cached().exists() or reachable(URL):
        return True
    warnings.warn(
        "No ImageNet weights of ResNet-101 here and no network to get them: using our small encoder, which was trained "
        f"on drawn radiographs only and reads real ones poorly. {by_hand()}",
        stacklevel=3,
    )
    return False


def imagenet() -> Path:
    """Paddle's own copy of ResNet-101's weights, downloaded when needed; MedcapError when that is impossible."""
    # Paddle's downloader tries again for ever, so it is called only when it can succeed.
    if not (_cached().exists() and hashlib.md5(_cached().read_bytes()).hexdigest() == MD5) and not reachable(URL):
        state = "has another md5" if _cached().exists() else "not found"
        raise MedcapError(f"{_cached()} {state}, and no network to download it. {by_hand()}")
    return Path(download.get_weights_path_from_url(URL, MD5))


def by_hand() -> str:
    return (
        f"To use ResNet-101, fetch {URL} (md5 {MD5}) and put it in {_cached().parent}, "
        "or give a local .pdparams, or a .safetensors with torchvision names, as weights."
    )


def _cached() -> Path:
    return Path(download.WEIGHTS_HOME) / Path(URL).name
