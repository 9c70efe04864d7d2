"""Files of weights: ours, torchvision's and Paddle's; and the weights of ResNet-101 for ImageNet.

ours          .safetensors as `files.write_tensors` has it: float16 tensors and facts. Facts of every encoder:
              encoder (a name of `encoder.ENCODERS`), preprocessing (its record); more in `vision.job`
torchvision   .safetensors or .pth (see `pth`) with the names of torchvision's state_dict
Paddle        .pdparams, a pickle; of paddle.vision, or of PaddleClas
"""

from __future__ import annotations

import hashlib
import pickle
import re
import threading
import urllib.request
import warnings
from pathlib import Path

import numpy as np
from paddle import nn
from paddle.utils import download
from paddle.vision.models import resnet

from ..runtime.files import MedcapError, digest, read_tensors, require
from . import pth

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


# Files that are none, by how they begin; they are what a failed download leaves.
IMPOSTORS = {b"version https://git-lfs": "a pointer of Git LFS (git lfs pull fetches the file)", b"<": "a web page"}


def read(path: str | Path) -> tuple[Tensors, dict]:
    """Arrays by name, and the facts of a file of ours ({} of others). MedcapError when it cannot be read.

    The content tells the format.
    """
    from safetensors import safe_open

    path = require(path, "check the path of the weights")
    try:
        with path.open("rb") as file:
            head = file.read(64)
        for beginning, what in IMPOSTORS.items():
            if head.startswith(beginning):
                raise ValueError(f"it is {what}")
        if path.suffix != ".safetensors" and head[8:10] != b'{"':
            return (pth.read if pth.is_pth(head) else _pickled)(path), {}
        with safe_open(path, "numpy") as file:
            if "medcap_paddle" not in (file.metadata() or {}):
                return {name: file.get_tensor(name) for name in file.keys()}, {}
    except MemoryError as error:
        raise MedcapError(f"{path} asks for more memory than there is: fetch it again, or free memory") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        remedy = "fetch it again, or give a .pdparams, a .pth or a .safetensors of a state_dict"
        raise MedcapError(f"{path} is not a readable weights file ({error}): {remedy}") from error
    return read_tensors(path, "fetch it or train it again")


def _pickled(path: Path) -> Tensors:
    with path.open("rb") as file:
        tensors = _Arrays(file, encoding="latin1").load()
    # paddle.save of a network stores (name, array) pairs in some versions, and a table of names
    tensors = {name: value[1] if isinstance(value, tuple) else value for name, value in tensors.items()}
    return {name: value for name, value in tensors.items() if isinstance(value, np.ndarray)}


# Names of a ResNet ----------------------------------------------------------------------------------------------------

# PaddleClas: conv0, conv1, conv2 and short of block n, counted through (since 2.2) or as res4b7 (before).
CLAS = re.compile(r"(?:blocks\.(\d+)|res([2-5])([a-z])(\d*))\.(conv[0-2]|short)\.(_?conv|bn|_batch_norm)\.(.+)")
CLAS_STEM = re.compile(r"(?:stem\.0|conv1?)\.(_?conv|bn|_batch_norm)\.(.+)")
CLAS_VD = ("stem.1.", "conv1_1.", "conv1_2.")
CLAS_ANY = re.compile(r"^(stem|blocks)\.\d|^conv\d?(_\d)?\._|^res\d[a-z]|^bb_\d")
UNUSED = ("fc.", "out.")  # layers that classify


def to_paddle(tensors: Tensors, path: str | Path, blocks: tuple[int, ...] = (3, 4, 23, 3)) -> Tensors:
    """The names of torchvision or PaddleClas for a ResNet of these `blocks` to paddle.vision's.

    What only training or classifying needs is dropped. MedcapError for PaddleClas' other networks.
    """
    used = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(UNUSED) and not name.endswith("num_batches_tracked")
    }
    if any(name.startswith(CLAS_VD) for name in used):
        raise MedcapError(
            f"{path} is of a ResNet_vd of PaddleClas, another network (three convolutions at its entry): {by_hand()}"
        )
    if not any(CLAS_ANY.search(name) for name in used):
        return {n.replace("running_mean", "_mean").replace("running_var", "_variance"): v for n, v in used.items()}
    named = {name: _clas_name(name, blocks) for name in used}
    if strange := sorted(name for name, ours in named.items() if not ours):
        raise MedcapError(f"{path} has names of PaddleClas, and {strange[0]} is no name of its ResNet-101: {by_hand()}")
    return {named[name]: value for name, value in used.items()}


def _clas_name(name: str, blocks: tuple[int, ...]) -> str:
    """paddle.vision's name of a tensor of PaddleClas' ResNet, "" where it has none."""
    if found := CLAS_STEM.fullmatch(name):
        return f"{'conv1' if 'conv' in found[1] else 'bn1'}.{found[2]}"
    if not (found := CLAS.fullmatch(name)):
        return ""
    if found[1]:
        stage, index = 0, int(found[1])
        while stage < len(blocks) and index >= blocks[stage]:
            stage, index = stage + 1, index - blocks[stage]
    else:
        stage, index = int(found[2]) - 2, int(found[4] or ord(found[3]) - ord("a"))
    is_conv = "conv" in found[6]
    if found[5] == "short":
        part = f"downsample.{0 if is_conv else 1}"
    else:
        part = f"{'conv' if is_conv else 'bn'}{int(found[5][-1]) + 1}"
    return f"layer{stage + 1}.{index}.{part}.{found[7]}"


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
        "No ImageNet weights of ResNet-101 here and no network to get them: using the smaller EfficientNet-Lite0, also "
        f"of ImageNet. {by_hand()}",
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
        "or give as weights torchvision's ResNet-101 (.pth, .safetensors) or PaddleClas' ResNet101_pretrained.pdparams."
    )


def _cached() -> Path:
    return Path(download.WEIGHTS_HOME) / Path(URL).name
