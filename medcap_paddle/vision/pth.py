"""A .pth of PyTorch to arrays, without torch: the state_dict of a network, in either format of torch.save.

    since 1.6   a zip: <name>/data.pkl, the object, and <name>/data/<key>, the bytes of a storage
    before      pickles of a magic number, a version, the system, the object and the keys of the storages; then of
                each storage its number of elements (8 bytes) and its bytes

A tensor is a view of a storage: offset, size and strides, which are honoured. The pickle may call the names below and
no others: a weights file must not run code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
OLD = pickle.dumps(MAGIC, 2)  # how a file of the old format begins
ZIP = b"PK\x03\x04"
LARGEST_PICKLE = 1 << 28  # bytes: names and shapes only
TYPES = {
    **{"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4", "Short": "i2"},
    **{"Char": "i1", "Byte": "u1", "Bool": "?"},
}
# Below these names a checkpoint of a training keeps the weights.
CHECKPOINTS = ("state_dict", "model_state_dict", "model", "net", "network")
STATE = "with torch: torch.save(model.state_dict(), path)"


@dataclass(frozen=True)
class _Storage:
    key: str
    kind: str  # one of TYPES
    count: int  # of elements


@dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, content: Callable[[_Storage], np.ndarray]) -> np.ndarray:
        """The tensor, contiguous; ValueError where it leaves its storage."""
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"a tensor of size {self.size} and strides {self.stride}")
        elements = int(np.prod(self.size, dtype=object))
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if elements and (last >= self.storage.count or elements > self.storage.count):
            raise ValueError(f"a tensor of size {self.size} is larger than its storage")
        flat = content(self.storage)
        if self.storage.kind == "BFloat16":  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        strides = tuple(step * flat.itemsize for step in self.stride)
        if not elements:
            return np.zeros(self.size, flat.dtype)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides).copy()


class _Views(pickle.Unpickler):
    """The object, its tensors as `_View`; UnpicklingError where it wants to call anything else."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _view if name == "_rebuild_tensor_v2" else _parameter
        if module == "torch" and name.endswith("Storage") and name[: -len("Storage")] in TYPES:
            return name[: -len("Storage")]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, and is no state_dict ({STATE})")

    def persistent_load(self, found: object) -> _Storage:
        if not isinstance(found, tuple) or len(found) < 5 or found[0] != "storage" or found[1] not in TYPES:
            raise pickle.UnpicklingError(f"storage {found!r}")
        _, kind, key, _, count, *view = found
        if not isinstance(count, int) or not 0 <= count < 1 << 40 or any(view):
            raise pickle.UnpicklingError(f"storage {found!r}")
        return _Storage(str(key), kind, count)


def _view(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: object) -> _View:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _View(storage, offset, tuple(size), tuple(stride))


def _parameter(tensor: _View, *_: object) -> _View:
    return tensor


def is_pth(head: bytes) -> bool:
    """Whether a file that begins so is one of torch.save."""
    return head.startswith((ZIP, OLD))


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name. Nearly anything is raised where the file is damaged, and ValueError with a remedy where it is
    of torch but no state_dict.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            return _read_zip(file)
        file.seek(0)
        return _read_old(file)


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "constants.pkl" in entries or any(name.startswith("code/") for name in entries):
            raise ValueError(f"it is a TorchScript program and no state_dict ({STATE})")
        if "data.pkl" not in entries:
            raise ValueError("it is a zip of other things")
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED:  # torch never compresses: nothing can swell
                raise ValueError(f"{entry.filename} is compressed")
        order = archive.read(entries["byteorder"]) if "byteorder" in entries else b"little"
        if entries["data.pkl"].file_size > LARGEST_PICKLE:
            raise ValueError("its table of tensors is too large")
        with archive.open(entries["data.pkl"]) as table:
            found = _Views(table).load()

        def content(storage: _Storage) -> np.ndarray:
            return _array(archive.read(entries[f"data/{storage.key}"]), storage, order == b"little")

        return _arrays(found, content)


def _read_old(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, _, system, found, keys = (_Views(file).load() for _ in range(5))
    if magic != MAGIC or not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError("it is not of torch")
    little, kinds = system.get("little_endian", True), {s.key: s for s in _storages(found)}
    loaded = {}
    for key in map(str, keys):
        storage, count = kinds.get(key), int.from_bytes(file.read(8), "little" if little else "big")
        if storage is None or storage.count != count:
            raise ValueError(f"storage {key} has {count} elements")
        loaded[key] = _array(file.read(count * np.dtype(TYPES[storage.kind]).itemsize), storage, little)
    return _arrays(found, lambda storage: loaded[storage.key])


def _array(data: bytes, storage: _Storage, little: bool) -> np.ndarray:
    """The elements of a storage; ValueError where it is cut off."""
    kind = np.dtype(TYPES[storage.kind]).newbyteorder("<" if little else ">")
    if len(data) != storage.count * kind.itemsize:
        raise ValueError(f"storage {storage.key} has {len(data)} bytes, not {storage.count * kind.itemsize}")
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="))


def _storages(found: object) -> list[_Storage]:
    if isinstance(found, _View):
        return [found.storage]
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ()
    return [storage for value in inner for storage in _storages(value)]


def _arrays(found: object, content: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a state_dict, or of the one within a checkpoint, without the prefix of parallel training."""
    views = _views(found)
    if not views and isinstance(found, dict):
        views = next((inner for name in CHECKPOINTS if (inner := _views(found.get(name)))), {})
    if not views:
        raise ValueError(f"it holds no tensors by name ({STATE})")
    prefix = "module." if all(name.startswith("module.") for name in views) else ""
    return {name[len(prefix) :]: view.array(content) for name, view in views.items()}


def _views(found: object) -> dict[str, _View]:
    items = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, _View)}
