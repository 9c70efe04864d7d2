"""Laws of encoder.py: weights fit exactly or are refused, no network is found out fast, training learns sides."""

import pickle
import time

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd
import pytest
from paddle.vision.models import resnet101
from PIL import Image
from safetensors.numpy import save_file

from medcap_paddle import encoder
from medcap_paddle.files import MedcapError, write_table
from medcap_paddle.findings import LABELS
from medcap_paddle.image import transform
from medcap_paddle.phantom import plan


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
    assert loaded[0].weights == loaded[1].weights and loaded[0].dim == 2048
    for name, tensor in ours.state_dict().items():
        assert np.array_equal(loaded[0].network[0].state_dict()[name].numpy(), tensor.numpy()), name
    picture = paddle.rand([1, 3, 64, 64])
    with paddle.no_grad():
        np.testing.assert_array_equal(loaded[0].network(picture).numpy(), ours(picture).flatten(1).numpy())
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
        encoder._fill(network, tensors, tmp_path / "some.safetensors")


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
    monkeypatch.setattr(encoder.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setattr(encoder, "URL", "https://203.0.113.1/resnet101.pdparams")  # reserved: answers nobody
    monkeypatch.setattr(encoder, "PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(MedcapError) as error:
        encoder.load("resnet101")
    for said in (encoder.URL, encoder.MD5, str(tmp_path)):
        assert said in str(error.value)
    with pytest.warns(UserWarning, match="small encoder"):
        assert encoder.choose(phantom_images=False) == "small"
    assert time.monotonic() - start < 5


def test_a_name_server_that_never_answers_does_not_hold_us_up(monkeypatch):
    def hang(*_, **__):
        time.sleep(3)
        raise OSError

    monkeypatch.setattr(encoder.urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert not encoder.reachable("https://example.org", seconds=0.3)
    assert time.monotonic() - start < 2


def test_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setattr(encoder, "reachable", lambda url: True)
    assert encoder.choose(phantom_images=True) == "small"
    assert encoder.choose(phantom_images=False) == "resnet101"


def test_random_is_the_same_each_time_and_of_order_one():
    first, second = encoder.load("random"), encoder.load("random")
    assert first.weights == second.weights
    pictures = paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (4, 3, 64, 64)).astype("float32"))
    values = first.network(pictures).numpy()
    assert values.shape == (4, first.dim) and 0.05 < values.std() < 5


def bright_sides(count, seed=0):
    """Noise with a bright square on the left, on the right, both or none, and labels that say which."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        sides = (rng.random(2) < 0.5).astype(np.float32)
        pixels = rng.integers(0, 90, (40, 40), np.uint8)
        pixels[12:26, 4:16] += np.uint8(120 * sides[0])
        pixels[12:26, 24:36] += np.uint8(120 * sides[1])
        pairs.append((pixels, sides))
    return pairs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    options = {"labels": ["left", "right"], "size": 32, "epochs": 2, "batch_size": 8, "out": out}
    return out, *encoder.train(bright_sides(96), **options)


def test_training_lowers_the_loss_and_tells_sides(trained):
    _, network, history = trained
    assert history[-1] < 0.6 * history[0]
    features, targets = encoder.outputs(network, bright_sides(64, seed=1), 32)
    auc = encoder.areas(features, targets, ["left", "right"])
    assert min(auc.values()) > 0.9, auc


def test_saved_encoder_is_the_trained_one(trained):
    out, network, _ = trained
    loaded = encoder.load("small", out)
    features, _ = encoder.outputs(network, bright_sides(8, seed=2), 32)
    pictures = np.stack([transform(pixels, 32) for pixels, _ in bright_sides(8, seed=2)])
    with paddle.no_grad():
        kept = loaded.network(paddle.to_tensor(pictures)).numpy()
        mirrored = loaded.network(paddle.to_tensor(np.ascontiguousarray(pictures[..., ::-1]))).numpy()
    assert np.linalg.norm(kept - features) < 0.02 * np.linalg.norm(features)  # float16
    assert np.linalg.norm(kept - mirrored) > 0.1 * np.linalg.norm(kept)
    assert encoder.choose(phantom_images=False, weights=out) == "small"


def test_training_continues_from_an_encoder(trained):
    out, _, history = trained
    options = {"size": 32, "epochs": 1, "batch_size": 8, "learning_rate": 1e-4}
    _, again = encoder.train(bright_sides(32), ["left", "right"], start=out, **options)
    assert again[0] < 0.8 * history[0]
    with pytest.raises(MedcapError, match="encoder.safetensors has other shapes for head"):
        encoder.train(bright_sides(32), ["left"], start=out, **options)


def test_training_is_deterministic():
    runs = [encoder.train(bright_sides(16), ["a", "b"], size=32, epochs=1, batch_size=8)[1] for _ in range(2)]
    assert runs[0] == runs[1]


def test_augmentation_never_mirrors_and_stays_near():
    rng, pixels = np.random.default_rng(0), np.zeros((80, 80), np.uint8)
    pixels[20:60, 10:30] = 200
    for _ in range(50):
        moved = encoder.augment(pixels, rng)
        x = (moved * np.arange(80.0)).sum() / moved.sum()
        assert moved.shape == pixels.shape and abs(x - 19.5) < 10
    assert not np.array_equal(moved, pixels)


def test_training_studies_are_seen_by_nobody_else_and_always_the_same():
    assert encoder.SEEDS > max(study.patient for study in plan(200, seed=0))
    assert encoder.SEEDS > 2**32  # redraw names patients by a 32-bit checksum
    (first, ids), (again, _) = encoder.phantoms(range(3, 5)), encoder.phantoms(range(3, 5))
    assert ids == ["3", "3", "4", "4"] and first[0][1].shape == (len(LABELS),)
    for (pixels, targets), (same_pixels, same_targets) in zip(first, again, strict=True):
        assert np.array_equal(pixels, same_pixels) and np.array_equal(targets, same_targets)
    assert not np.array_equal(first[0][0], first[2][0])


def test_real_images_train_with_their_tags(tmp_path):
    Image.fromarray(np.full((300, 200), 80, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    write_table(
        tmp_path / "reports.csv",
        pd.DataFrame({"study_id": ["A", "B", "C"], "split": ["train", "train", "val"], "mesh": ["Cardiomegaly"] * 3}),
    )
    images = pd.DataFrame({"study_id": ["A", "B", "C"], "path": [str(tmp_path / f"{k}.png") for k in "aba"]})
    write_table(tmp_path / "images.csv", images)
    pairs, ids = encoder.tagged(tmp_path, ["train"], 96)
    assert ids == ["A"] and pairs[0][0].shape == (100, 67) and (pairs[0][0] == 80).all()
    assert [LABELS[k] for k in np.flatnonzero(pairs[0][1])] == ["cardiomegaly"]


def test_batches_hold_every_image_once():
    pairs = [(np.full((8, 8), k, np.uint8), np.array([k], np.float32)) for k in range(10)]
    in_order = np.concatenate([targets for _, targets in encoder.batches(pairs, 8, 4)])
    assert in_order.ravel().tolist() == list(range(10))
    shuffled = np.concatenate([t for _, t in encoder.batches(pairs, 8, 4, np.random.default_rng(0))]).ravel()
    assert len(set(shuffled)) == 8 and list(shuffled) != sorted(shuffled)


def test_probe_finds_what_features_hold_and_names_what_it_left_out():
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 3)) < [0.3, 0.3, 0.005]).astype(np.float32)
    features = rng.normal(0, 1, (300, 6)).astype(np.float32)
    features[:, 0] += 4 * targets[:, 0]
    train = np.arange(300) < 200
    auc, left_out = encoder.probe(features, targets, train, ~train, ["shown", "hidden", "rare"])
    assert auc["shown"] > 0.95 and 0.3 < auc["hidden"] < 0.7 and left_out == ["rare"]


def test_by_study_joins_views():
    rows = np.array([[1.0, 0], [5, 5], [3, 2]])
    joined, ids = encoder.by_study(rows, ["a", "b", "a"])
    assert ids == ["a", "b"] and joined.tolist() == [[3, 2], [5, 5]]


@pytest.fixture
def few(monkeypatch):
    """The command on one core and a handful of small pictures."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 255, (96, 96), np.uint8), (rng.random(len(LABELS)) < 0.5).astype("f4")) for _ in range(24)
    ]
    monkeypatch.setattr(encoder, "phantoms", lambda indices, *_: (pairs, [str(k // 2) for k in range(24)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["encoder", *map(str, arguments), "--size", "96", "--epochs", "1"])
        encoder.main()

    return command


def test_the_command_leaves_an_encoder_that_can_be_used_and_continued(few, tmp_path, capsys):
    few("--out", tmp_path / "mine.safetensors")
    mine = encoder.load("small", tmp_path / "mine.safetensors")
    assert (mine.image_size, mine.dim) == (96, encoder.load("small").dim)
    assert "mean of" in capsys.readouterr().out and not list(tmp_path.glob("unfinished*"))
    few("--out", tmp_path / "more.safetensors", "--start", tmp_path / "mine.safetensors", "--seed", "1")
    facts = encoder._tensors(tmp_path / "more.safetensors")[1]
    assert (facts["started_from"], facts["images"], facts["seed"]) == ("mine.safetensors", "24", "1")


def test_an_encoder_that_is_stopped_does_not_replace_a_good_one(few, tmp_path, monkeypatch):
    out = tmp_path / "mine.safetensors"
    out.write_bytes(b"good")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "probe_network", stop)
    with pytest.raises(SystemExit, match="stopped"):
        few("--out", out)
    assert out.read_bytes() == b"good" and (tmp_path / "unfinished-mine.safetensors").exists()


def test_too_few_unseen_studies_or_none_give_an_encoder_without_a_figure(few, tmp_path, monkeypatch, capsys):
    pairs, ids = encoder.phantoms(range(24))
    monkeypatch.setattr(encoder, "tagged", lambda work, splits, size: (pairs, ids) if "train" in splits else ([], []))
    (tmp_path / "reports.csv").touch()
    for name, arguments in (("few", ()), ("none", ("--work", tmp_path))):
        few("--out", tmp_path / f"{name}.safetensors", *arguments)
        facts = encoder._tensors(tmp_path / f"{name}.safetensors")[1]
        assert "auc" not in facts and facts["images"] == "24"
        assert "nan" not in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_do(few, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="reports.csv not found: run 01_reports.ipynb"):
        few("--work", tmp_path)
    monkeypatch.setattr("sys.argv", ["encoder", "--size", "100"])
    with pytest.raises(SystemExit):
        encoder.main()
    assert "--size must be 96, 128" in capsys.readouterr().err


def test_the_command_uses_a_process_a_core(monkeypatch):
    spawned = []
    monkeypatch.setattr("sys.argv", ["encoder"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(encoder.dist, "spawn", lambda run, args, **options: spawned.append((run, options["nprocs"])))
    monkeypatch.setattr(encoder.paddle.device, "get_device", lambda: "cpu")
    encoder.main()
    assert spawned == [(encoder.run, 3)] and encoder.os.environ["OMP_NUM_THREADS"] == "1"
