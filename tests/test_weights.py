"""Laws of foreign weights: a .pth gives its tensors without torch and runs no code; PaddleClas' names are translated;
what cannot be used says what to do.
"""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from paddle.vision.models import resnet50, resnet101
from safetensors.numpy import save_file

from medcap_paddle import encoder
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import pth
from medcap_paddle.vision import weights as weight_files

SHARED = Path(__file__).parents[2] / "shared/cases/c23_weights"
KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte", "b1": "Bool", "i4": "Int"}


# A tiny writer of torch's formats -------------------------------------------------------------------------------------


class Tensor:
    """What torch.save sees: a view of a storage."""

    def __init__(self, flat, size, stride, offset=0, kind=None):
        self.flat, self.view = flat, (offset, tuple(size), tuple(stride))
        self.kind = kind or KINDS[flat.dtype.str[1:]]


def tensor(array):
    array = np.asarray(array)
    return Tensor(
        array.reshape(-1), array.shape, [s // array.itemsize for s in np.zeros(array.shape, array.dtype).strides]
    )


def permuted(array, axes=(2, 3, 1, 0)):
    """The same tensor, stored with its axes in another order: as TensorFlow has them."""
    stored = np.ascontiguousarray(array.transpose(axes))
    strides = [0] * array.ndim
    for k, axis in enumerate(axes):
        strides[axis] = stored.strides[k] // array.itemsize
    return Tensor(stored.reshape(-1), array.shape, strides)


def called(module, name):
    """A function that a pickle calls by this name."""
    function = types.FunctionType((lambda *_: None).__code__, {}, name)
    function.__module__, function.__qualname__ = module, name
    return function


@pytest.fixture
def torch(monkeypatch):
    """Modules with the names that torch's pickles call, while one is written."""
    top, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = called("torch._utils", "_rebuild_tensor_v2")
    utils._rebuild_parameter = called("torch._utils", "_rebuild_parameter")
    for kind in pth.TYPES:
        setattr(top, f"{kind}Storage", called("torch", f"{kind}Storage"))
    monkeypatch.setitem(sys.modules, "torch", top)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return top


def pickled(torch, value, file, storages, old=False):
    class Pickler(pickle.Pickler):
        def persistent_id(self, one):
            if not isinstance(one, tuple) or not one or one[0] != "a storage":
                return None
            flat, kind = one[1:]
            key = storages.setdefault(id(flat), (str(len(storages)), flat))[0]
            count = flat.size
            return ("storage", getattr(torch, f"{kind}Storage"), key, "cpu", count, *([None] if old else []))

        def reducer_override(self, one):
            if not isinstance(one, Tensor):
                return NotImplemented
            rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
            return rebuild, (("a storage", one.flat, one.kind), *one.view, False, OrderedDict())

    Pickler(file, 2).dump(value)


def save_new(torch, value, path, order="little", compress=zipfile.ZIP_STORED, extra=()):
    storages = {}
    with zipfile.ZipFile(path, "w", compress) as archive:
        with archive.open("weights/data.pkl", "w") as file:
            pickled(torch, value, file, storages)
        archive.writestr("weights/byteorder", order)
        for key, flat in storages.values():
            data = flat.astype(flat.dtype.newbyteorder("<" if order == "little" else ">"))
            archive.writestr(f"weights/data/{key}", data.tobytes())
        for name in ("weights/version", *extra):
            archive.writestr(name, "3\n")
    return path


def save_old(torch, value, path):
    storages = {}
    with path.open("wb") as file:
        for thing in (pth.MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}):
            pickle.dump(thing, file, 2)
        pickled(torch, value, file, storages, old=True)
        pickle.dump([key for key, _ in storages.values()], file, 2)
        for _, flat in storages.values():
            file.write(flat.size.to_bytes(8, "little") + flat.tobytes())
    return path


SAVERS = {"zip": save_new, "old": save_old}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.normal(size=(4, 3, 2, 5)).astype("f4"),
        "fc.weight": rng.normal(size=(3, 4)),
        "half": rng.normal(size=7).astype("f2"),
        "num_batches_tracked": np.array(3),
        "empty": np.zeros((0, 3), "f4"),
        "flags": np.array([True, False]),
    }


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("wrap", ["plain", "checkpoint", "parallel"])
def test_a_pth_gives_its_tensors(tmp_path, torch, arrays, save, wrap):
    state = OrderedDict({name: tensor(array) for name, array in arrays.items()})
    state["conv.weight"] = permuted(arrays["conv.weight"])
    if wrap == "parallel":
        state = OrderedDict({f"module.{name}": value for name, value in state.items()})
    value = {"epoch": 3, "state_dict": state, "best": 0.5} if wrap == "checkpoint" else state
    found, facts = weight_files.read(SAVERS[save](torch, value, tmp_path / "w.pth"))
    assert facts == {} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name], array) and found[name].dtype == array.dtype, name


@pytest.mark.parametrize("save", SAVERS)
def test_strides_offsets_and_shared_storages_are_honoured(tmp_path, torch, save):
    flat = np.arange(60, dtype="f4")
    views = {"every second": ((5,), (2,), 3), "transposed": ((4, 3), (1, 4), 10), "last": ((), (), 59)}
    state = {name: Tensor(flat, *view) for name, view in views.items()}
    found = weight_files.read(SAVERS[save](torch, state, tmp_path / "w.pth"))[0]
    assert found["every second"].tolist() == [3, 5, 7, 9, 11] and found["last"] == 59
    assert np.array_equal(found["transposed"], flat[10:22].reshape(3, 4).T)


def test_other_byte_orders_and_bfloat16(tmp_path, torch, arrays):
    state = {"w": tensor(arrays["fc.weight"])}
    found = weight_files.read(save_new(torch, state, tmp_path / "w.pth", "big"))[0]
    assert np.array_equal(found["w"], arrays["fc.weight"])
    upper = (arrays["conv.weight"].view("u4") >> 16).astype("u2").reshape(-1)
    state = {"w": Tensor(upper, (120,), (1,), kind="BFloat16")}
    found = weight_files.read(save_new(torch, state, tmp_path / "w.pth"))[0]["w"]
    np.testing.assert_allclose(found, arrays["conv.weight"].reshape(-1), rtol=0.01)


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize(
    "view",
    [
        ((9,), (1,), 3),
        ((3,), (5,), 0),
        ((3,), (1,), -1),
        ((3,), (-1,), 5),
        ((10**6, 10**6), (0, 0), 0),
        ((3, 2), (1,), 0),
    ],
)
def test_a_view_beyond_its_storage_is_refused(tmp_path, torch, save, view):
    path = SAVERS[save](torch, {"w": Tensor(np.arange(10, dtype="f4"), *view)}, tmp_path / "w.pth")
    with pytest.raises(MedcapError, match="w.pth is not a readable weights file .a tensor of size"):
        weight_files.read(path)


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("name", [("os", "system"), ("builtins", "eval"), ("torchvision.models.resnet", "ResNet")])
def test_a_pth_cannot_call_anything_else(tmp_path, torch, save, name, monkeypatch):
    module, function = name

    class Evil:
        def __reduce__(self):
            return call, ("raise SystemExit",)

    home = types.ModuleType(module)
    call = called(module, function)
    setattr(home, function, call)
    for k in range(module.count(".") + 1):
        monkeypatch.setitem(sys.modules, module.rsplit(".", k)[0] if k else module, home)
    if module == "builtins":
        call = eval
        monkeypatch.undo()
    path = tmp_path / "evil.pth"
    if module == "builtins":
        content = b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/data.pkl", content)
    else:
        SAVERS[save](torch, {"w": Evil()}, path)
    monkeypatch.undo()
    with pytest.raises(MedcapError, match=rf"evil.pth .*it wants to call {module}.{function}, .*state_dict"):
        weight_files.read(path)


def test_what_is_no_state_dict_says_so(tmp_path, torch, arrays):
    path, state = tmp_path / "w.pth", {"w": tensor(arrays["fc.weight"])}
    for value in ({}, {"epoch": 3}, [tensor(arrays["half"])], 7):
        for save in SAVERS.values():
            with pytest.raises(MedcapError, match="w.pth .*holds no tensors by name .*state_dict"):
                weight_files.read(save(torch, value, path))
    for options, reason in (
        ({"extra": ["weights/constants.pkl"]}, "TorchScript"),
        ({"compress": zipfile.ZIP_DEFLATED}, "is compressed"),
    ):
        with pytest.raises(MedcapError, match=f"w.pth .*{reason}"):
            weight_files.read(save_new(torch, state, path, **options))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(MedcapError, match="a zip of other things"):
        weight_files.read(path)


@pytest.mark.parametrize("save", SAVERS)
def test_a_damaged_pth_is_named(tmp_path, torch, arrays, save):
    state = {name: tensor(array) for name, array in arrays.items()}
    whole = SAVERS[save](torch, state, tmp_path / "whole.pth").read_bytes()
    path, rng = tmp_path / "cut.pth", np.random.default_rng(0)
    for length in rng.integers(0, len(whole) - 1, 60):
        path.write_bytes(whole[:length])
        with pytest.raises(MedcapError, match="cut.pth is not a readable weights file"):
            weight_files.read(path)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            weight_files.read(path)
        except MedcapError as error:
            assert "cut.pth" in str(error)


@pytest.mark.parametrize("old", [False, True])
def test_torch_itself_writes_what_is_read(tmp_path, arrays, old):
    real = pytest.importorskip("torch")
    state = {name: real.from_numpy(np.array(array)) for name, array in arrays.items()}
    state["conv.weight"] = state["conv.weight"].to(memory_format=real.channels_last)
    real.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    found = weight_files.read(tmp_path / "w.pth")[0]
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    "content, what", [(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"<!DOCTYPE html>", "web page")]
)
@pytest.mark.parametrize("suffix", ["pth", "pdparams", "safetensors"])
def test_what_a_failed_download_leaves_is_named(tmp_path, content, what, suffix):
    (tmp_path / f"w.{suffix}").write_bytes(content)
    with pytest.raises(MedcapError, match=f"w.{suffix} .*{what}"):
        weight_files.read(tmp_path / f"w.{suffix}")


def test_the_content_tells_the_format(tmp_path, torch, arrays):
    save_file({"w": arrays["fc.weight"]}, tmp_path / "w.bin")
    save_new(torch, {"w": tensor(arrays["fc.weight"])}, tmp_path / "w.pdparams")
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"w": arrays["fc.weight"]}))
    for name in ("w.bin", "w.pdparams", "w.pth"):
        assert np.array_equal(weight_files.read(tmp_path / name)[0]["w"], arrays["fc.weight"]), name


# Names of a ResNet-101 ------------------------------------------------------------------------------------------------

BLOCKS = (3, 4, 23, 3)


@pytest.fixture(scope="module")
def ours():
    rng = np.random.default_rng(0)
    shapes = {name: tuple(t.shape) for name, t in resnet101(num_classes=0).state_dict().items()}
    return {name: np.full(shape, rng.random(), "f4") for name, shape in shapes.items()}


def clas(name, style):
    """PaddleClas' name of a tensor of paddle.vision's, of 2.2 ("new") or before ("old")."""
    conv, bn = ("conv", "bn") if style == "new" else ("_conv", "_batch_norm")
    parts = name.split(".")
    if len(parts) == 2:
        return f"{'stem.0' if style == 'new' else 'conv'}.{conv if 'conv' in name else bn}.{parts[1]}"
    stage, index, what, tail = int(parts[0][5:]) - 1, int(parts[1]), parts[2], parts[-1]
    if style == "new":
        block = f"blocks.{sum(BLOCKS[:stage]) + index}"
    else:
        letter = ("a" if index == 0 else f"b{index}") if stage == 2 else "abcd"[index]
        block = f"res{stage + 2}{letter}"
    if what == "downsample":
        return f"{block}.short.{bn if parts[3] == '1' else conv}.{tail}"
    return f"{block}.conv{int(what[-1]) - 1}.{conv if what.startswith('conv') else bn}.{tail}"


def torch_name(name):
    return name.replace("._mean", ".running_mean").replace("._variance", ".running_var")


NAMINGS = {
    "torchvision": torch_name,
    "PaddleClas": lambda name: clas(name, "new"),
    "PaddleClas before 2.2": lambda name: clas(name, "old"),
    "paddle.vision": lambda name: name,
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_names_of_every_origin_are_translated(ours, naming):
    given = {NAMINGS[naming](name): value for name, value in ours.items()}
    classify = "out" if naming == "PaddleClas before 2.2" else "fc"
    given |= {f"{classify}.weight": np.zeros((2048, 1000)), f"{classify}.bias": np.zeros(1000)}
    found = weight_files.to_paddle(given, "w")
    assert found.keys() == ours.keys() and all(found[name] is value for name, value in ours.items())


@pytest.mark.parametrize("save", ["old", "zip", "PaddleClas"])
def test_an_encoder_is_the_same_whatever_file_it_came_from(tmp_path, torch, ours, save, monkeypatch):
    if save == "PaddleClas":
        path = tmp_path / "ResNet101_pretrained.pdparams"
        path.write_bytes(pickle.dumps({clas(name, "new"): value for name, value in ours.items()}))
    else:
        state = {torch_name(n): permuted(v) if v.ndim == 4 else tensor(v) for n, v in ours.items()}
        path = SAVERS[save](torch, state, tmp_path / "resnet101-63fe2227.pth")
    monkeypatch.undo()  # no torch
    loaded = encoder.load("resnet101", path)
    assert loaded.source == path.name and encoder.choose(True, path) == "resnet101"
    state = loaded.network.state_dict()
    for name, value in ours.items():
        assert name.startswith("fc.") or np.array_equal(state[f"0.{name}"].numpy(), value), name


@pytest.mark.parametrize(
    "names, reason",
    [
        (["stem.0.conv.weight", "stem.1.conv.weight"], "a ResNet_vd of PaddleClas, another network"),
        (["conv1_1._conv.weight", "conv1_2._conv.weight"], "a ResNet_vd of PaddleClas"),
        (["conv1._conv.weight", "res2a_branch2a.conv2d_weights"], "res2a_branch2a.conv2d_weights is no name"),
        (["blocks.0.conv7.conv.weight"], "blocks.0.conv7.conv.weight is no name"),
        (["blocks.0.attention.qkv.weight"], "is no name"),
        (["blocks.99.conv0.conv.weight"], "has unknown layer|lacks"),
    ],
)
def test_another_network_of_paddleclas_says_what_helps(tmp_path, names, reason):
    path = tmp_path / "ResNet.pdparams"
    path.write_bytes(pickle.dumps({name: np.zeros(3, "f4") for name in names}))
    with pytest.raises(MedcapError, match=f"ResNet.pdparams .*({reason})") as error:
        encoder.load("resnet101", path)
    assert weight_files.URL in str(error.value) or "choose weights of this network" in str(error.value)


def test_a_smaller_resnet_is_refused(tmp_path, torch, monkeypatch):
    shapes = {name: tuple(t.shape) for name, t in resnet50(num_classes=0).state_dict().items()}
    save_old(torch, {torch_name(n): tensor(np.zeros(s, "f4")) for n, s in shapes.items()}, tmp_path / "resnet50.pth")
    monkeypatch.undo()
    with pytest.raises(MedcapError, match="resnet50.pth lacks layer3.10.*: choose weights of this network"):
        encoder.load("resnet101", tmp_path / "resnet50.pth")


@pytest.mark.skipif(not SHARED.exists(), reason="needs the cases")
@pytest.mark.parametrize(
    "name, reason",
    [("resnet101-63fe2227.pth", "no tensors"), ("ResNet101_pretrained.pdparams", "no name of its ResNet-101")]
    + [("ResNet101_vd_pretrained.pdparams", "another network")],
)
def test_the_cases(name, reason):
    with pytest.raises(MedcapError, match=f"{name} .*{reason}"):
        encoder.load("resnet101", SHARED / name)
