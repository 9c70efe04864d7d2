"""Laws of the encoder's training: it learns sides, resumes with identical weights, and says how well it reads."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd
import pytest
from PIL import Image

from medcap_paddle import encoder
from medcap_paddle.clinical.findings import LABELS
from medcap_paddle.image import Preprocessing, transform
from medcap_paddle.phantom import pretrain as drawings
from medcap_paddle.phantom.collection import plan
from medcap_paddle.runtime.files import MedcapError, lock, write_table
from medcap_paddle.vision import job, pretrain, probe
from medcap_paddle.vision import weights as weight_files
from medcap_paddle.vision.augment import augment
from medcap_paddle.vision.trainable import TRAINABLE

ROOT = Path(__file__).parent.parent
SEEN = Preprocessing(32)
SETTINGS = replace(pretrain.SETTINGS, epochs=2, batch_size=8)
SIDES = ["left", "right"]


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
    folder = tmp_path_factory.mktemp("encoder")
    settings = replace(SETTINGS, epochs=3)
    network, history = pretrain.train(bright_sides(96), SEEN, settings, folder / "training", SIDES)
    pretrain.save(network, folder / "encoder.safetensors", SIDES, SEEN)
    return folder / "encoder.safetensors", network, history


def test_training_lowers_the_loss_and_tells_sides(trained):
    _, network, history = trained
    assert list(history.epoch) == [1, 2, 3] and history.loss[2] < 0.6 * history.loss[0]
    features, targets = pretrain.outputs(network, bright_sides(64, seed=1), SEEN)
    auc = probe.auc_per_label(features, targets, SIDES)
    assert min(auc.values()) > 0.9, auc


def test_saved_encoder_is_the_trained_one(trained):
    out, network, _ = trained
    loaded = encoder.load("small", out)
    features, _ = pretrain.outputs(network, bright_sides(8, seed=2), SEEN)
    pictures = np.stack([transform(pixels, SEEN) for pixels, _ in bright_sides(8, seed=2)])
    with paddle.no_grad():
        kept = loaded.network(paddle.to_tensor(pictures))[0].numpy()
        mirrored = loaded.network(paddle.to_tensor(np.ascontiguousarray(pictures[..., ::-1])))[0].numpy()
    assert np.linalg.norm(kept - features) < 0.02 * np.linalg.norm(features)  # float16
    assert np.linalg.norm(kept - mirrored) > 0.1 * np.linalg.norm(kept)
    assert encoder.choose(phantom_images=False, weights=out) == "small" and loaded.preprocessing == SEEN


def test_training_continues_from_an_encoder(trained, tmp_path):
    out, _, history = trained
    settings = replace(SETTINGS, epochs=1, learning_rate=1e-4)
    _, again = pretrain.train(bright_sides(32), SEEN, settings, tmp_path, SIDES, start=out)
    assert again.loss[0] < 0.8 * history.loss[0]
    with pytest.raises(MedcapError, match="encoder.safetensors has other shapes for head"):
        pretrain.train(bright_sides(32), SEEN, settings, tmp_path, ["left"], start=out)


def test_training_is_deterministic(tmp_path):
    settings, pairs = replace(SETTINGS, epochs=1), bright_sides(16)
    runs = [pretrain.train(pairs, SEEN, settings, tmp_path / name, SIDES)[1] for name in "ab"]
    assert runs[0].loss[0] == runs[1].loss[0]
    other = pretrain.train(pairs, SEEN, replace(settings, seed=1), tmp_path / "c", SIDES)[1]
    assert runs[0].loss[0] != other.loss[0]


def test_interrupted_training_resumes_at_the_last_epoch_with_identical_weights(tmp_path, monkeypatch, capsys):
    pairs, settings = bright_sides(24), replace(SETTINGS, epochs=3)
    whole, _ = pretrain.train(pairs, SEEN, settings, tmp_path / "whole", SIDES)
    augment, seen = pretrain.augment, []

    def interrupted(pixels, rng, how):
        seen.append(1)
        return augment(pixels, rng, how)

    monkeypatch.setattr(pretrain, "augment", interrupted)
    batches = pretrain.Labelling.batches

    def stop(self, epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        return batches(self, epoch)

    monkeypatch.setattr(pretrain.Labelling, "batches", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(pairs, SEEN, settings, tmp_path / "parts", SIDES)
    monkeypatch.setattr(pretrain.Labelling, "batches", batches)
    seen.clear()
    resumed, history = pretrain.train(pairs, SEEN, settings, tmp_path / "parts", SIDES)
    assert len(seen) == 24 and len(history) == 3  # one epoch
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert np.array_equal(expected.numpy(), found.numpy()), name
    again, _ = pretrain.train(pairs, SEEN, settings, tmp_path / "parts", SIDES)
    assert len(seen) == 24 and "up to date: nothing to do" in capsys.readouterr().out
    assert weight_files.fingerprint(again) == weight_files.fingerprint(whole)


def test_a_checkpoint_of_other_images_is_not_continued(tmp_path):
    settings = replace(SETTINGS, epochs=1)
    pretrain.train(bright_sides(16), SEEN, settings, tmp_path, SIDES)
    pairs = bright_sides(16)
    pairs[3][0][0, 0] ^= 1
    again, _ = pretrain.train(pairs, SEEN, settings, tmp_path, SIDES)
    fresh, _ = pretrain.train(pairs, SEEN, settings, tmp_path / "fresh", SIDES)
    assert weight_files.fingerprint(again) == weight_files.fingerprint(fresh)


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path):
    pairs = bright_sides(16)
    pairs[5] = (pairs[5][0], np.array([np.nan, 0], np.float32))
    with pytest.raises(MedcapError, match="the loss of batch . of 2 is not a number in epoch 1"):
        pretrain.train(pairs, SEEN, SETTINGS, tmp_path, SIDES)
    with pytest.raises(MedcapError, match="7 images for a process are fewer than a batch of 8: give more"):
        pretrain.train(bright_sides(7), SEEN, SETTINGS, tmp_path, SIDES)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path):
    """Without the batch norm, which knows its batch."""
    task = pretrain.Labelling(bright_sides(8), SEEN, SETTINGS)
    network = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3 * 32 * 32, 2))
    gradients = []
    for parts in ([slice(0, 8)], [slice(0, 5), slice(5, 8)]):
        (rows, batch, share), *_ = task.batches(1)
        assert (rows, share) == (8, 1)
        for part in parts:
            task.loss(network, batch, part, share)[0].backward()
        gradients.append(network[1].weight.grad.numpy())
        network.clear_gradients()
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


def test_augmentation_never_mirrors_and_stays_near():
    rng, pixels = np.random.default_rng(0), np.zeros((80, 80), np.uint8)
    pixels[20:60, 10:30] = 200
    for _ in range(50):
        moved = augment(pixels, rng)
        x = (moved * np.arange(80.0)).sum() / moved.sum()
        assert moved.shape == pixels.shape and abs(x - 19.5) < 10
    assert not np.array_equal(moved, pixels)


def test_only_labels_without_sides_allow_a_mirrored_picture():
    lite, pixels = TRAINABLE["efficientnet_lite0"], np.zeros((40, 40), np.uint8)
    pixels[:, :12] = 200
    for labels, mirrors in (("pneumonia", "normal"), True), (("pneumonia", "opacity left"), False):
        rng, how = np.random.default_rng(0), lite.augmented(labels)
        sides = {
            bool(moved[:, :20].sum() > moved[:, 20:].sum()) for moved in (augment(pixels, rng, how) for _ in range(40))
        }
        assert (sides == {True, False}) == mirrors
    assert not TRAINABLE["small"].augmented(("pneumonia",)).mirror


def test_an_augmented_image_depends_on_seed_epoch_and_number_only():
    pairs = bright_sides(6)
    images = pretrain.Images(pairs, SEEN, seed=(0, 1, 0))
    forwards, backwards = [images[k][0] for k in range(6)], [images[k][0] for k in reversed(range(6))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not np.array_equal(forwards[0], pretrain.Images(pairs, SEEN, seed=(0, 2, 0))[0][0])
    assert np.array_equal(pretrain.Images(pairs, SEEN)[0][0], transform(pairs[0][0], SEEN))


def test_batches_hold_every_image_once():
    pairs = [(np.full((8, 8), k, np.uint8), np.array([k], np.float32)) for k in range(10)]
    plain, mixed = pretrain.Images(pairs, Preprocessing(8)), pretrain.Images(pairs, Preprocessing(8), seed=(0, 1))
    in_order = np.concatenate([targets.numpy() for _, targets in plain.batches(4)])
    assert in_order.ravel().tolist() == list(range(10))
    shuffled = np.concatenate([targets.numpy() for _, targets in mixed.batches(4)]).ravel()
    assert len(set(shuffled)) == 8 and list(shuffled) != sorted(shuffled)


def test_an_image_that_raises_an_error_does_not_hang():
    pairs = [*bright_sides(9), ("no array", np.zeros(2, np.float32))]
    with pytest.raises(AttributeError):
        list(pretrain.Images(pairs, SEEN).batches(4))


# Where the images come from -------------------------------------------------------------------------------------------


def test_training_studies_are_seen_by_nobody_else_and_always_the_same():
    assert drawings.SEEDS > max(study.patient for study in plan(200, seed=0))
    assert drawings.SEEDS > 2**32  # redraw names patients by a 32-bit checksum
    (first, ids), (again, _) = drawings.phantoms(range(3, 5)), drawings.phantoms(range(3, 5))
    assert ids == ["3", "3", "4", "4"] and first[0][1].shape == (len(LABELS),)
    for (pixels, targets), (same_pixels, same_targets) in zip(first, again, strict=True):
        assert np.array_equal(pixels, same_pixels) and np.array_equal(targets, same_targets)
    assert not np.array_equal(first[0][0], first[2][0])


def test_processes_share_out_the_drawings():
    whole = drawings.Drawn(8).training(0, 1)
    shares = [pair for rank in range(2) for pair in drawings.Drawn(8).training(rank, 2)]
    assert len(whole) == 8 and all(np.array_equal(a[0], b[0]) for a, b in zip(whole, shares, strict=True))
    assert drawings.HELD_OUT > 10_000


@pytest.fixture
def collection(tmp_path):
    """Three studies; the image of the second is broken."""
    Image.fromarray(np.repeat(np.full((2, 200), [[60], [100]], np.uint8), 150, 0)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    terms = pd.DataFrame(
        {"study_id": ["A", "B", "C"], "split": ["train", "train", "val"], "mesh": ["Cardiomegaly"] * 3}
    )
    images = pd.DataFrame({"study_id": ["A", "B", "C"], "path": [str(tmp_path / f"{k}.png") for k in "aba"]})
    write_table(tmp_path / "reports.csv", terms)
    write_table(tmp_path / "images.csv", images)
    return tmp_path


def test_real_images_train_with_their_tags(collection):
    pairs, ids = job.tagged(collection, ["train"], 96)
    assert (
        ids == ["A"]
        and pairs[0][0].shape == (100, 67)
        and (np.unique(pairs[0][0], axis=1).ravel() == [60] * 50 + [100] * 50).all()
    )
    assert [LABELS[k] for k in np.flatnonzero(pairs[0][1])] == ["cardiomegaly"]
    source = job.Tagged(collection, 96)
    assert [len(source.training(rank, 2)) for rank in range(2)] == [1, 0] and source.unseen()[1] == ["C"]


def test_a_replaced_image_is_another_input(collection):
    source = job.Tagged(collection, 96)
    before = source.inputs()
    assert source.inputs() == before
    Image.fromarray(np.full((30, 20), [[60], [100]] * 15, np.uint8)).save(collection / "a.png")
    assert source.inputs() != before


# What features know ---------------------------------------------------------------------------------------------------


def test_probe_finds_what_features_hold_and_names_what_it_left_out():
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 3)) < [0.3, 0.3, 0.005]).astype(np.float32)
    features = rng.normal(0, 1, (300, 6)).astype(np.float32)
    features[:, 0] += 4 * targets[:, 0]
    train = np.arange(300) < 200
    auc, left_out = probe.probe(features, targets, train, ~train, ["shown", "hidden", "rare"])
    assert auc["shown"] > 0.95 and 0.3 < auc["hidden"] < 0.7 and left_out == ["rare"]


def test_by_study_joins_views():
    rows = np.array([[1.0, 0], [5, 5], [3, 2]])
    joined, ids = probe.by_study(rows, ["a", "b", "a"])
    assert ids == ["a", "b"] and joined.tolist() == [[3, 2], [5, 5]]


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """The command on one core and a handful of small pictures."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 255, (96, 96), np.uint8), (rng.random(len(LABELS)) < 0.5).astype("f4")) for _ in range(24)
    ]
    monkeypatch.setattr(drawings, "phantoms", lambda *_, **__: (pairs, [str(k // 2) for k in range(24)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments, module=drawings):
        monkeypatch.setattr("sys.argv", ["encoder", *map(str, arguments), "--size", "96", "--epochs", "1"])
        module.main()

    return command


def test_the_command_leaves_an_encoder_that_can_be_used_and_continued(few, tmp_path, capsys):
    few("--out", tmp_path / "mine.safetensors")
    mine = encoder.load("small", tmp_path / "mine.safetensors")
    assert mine.preprocessing.size == 96 and mine.arrays == {"pooled": (len(LABELS),), "grid": (9, 512)}
    assert "mean of" in capsys.readouterr().out and not list(tmp_path.glob("*.training"))
    few("--out", tmp_path / "more.safetensors", "--start", tmp_path / "mine.safetensors", "--seed", "1")
    facts = weight_files.read(tmp_path / "more.safetensors")[1]
    assert (facts["started_from"], facts["images"], facts["seed"]) == ("mine.safetensors", 24, 1)


def test_a_finished_encoder_is_not_trained_again(few, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mine.safetensors"
    few("--out", out)
    whole = monkeypatch.setattr(job, "run", lambda job: pytest.fail("it trains again"))
    (tmp_path / "mine.safetensors.training").mkdir()  # as if it had been killed while it removed this
    few("--out", out)
    assert "mine.safetensors is up to date: nothing to do" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.training")) and whole is None
    for change in (["--seed", "1"], ["--rate", "0.1"], ["--images", "12"], ["--start", out]):
        with pytest.raises(pytest.fail.Exception, match="it trains again"):
            few("--out", out, *change)


def test_an_interrupted_command_keeps_what_it_has_and_replaces_no_good_encoder(few, tmp_path, monkeypatch):
    out = tmp_path / "mine.safetensors"
    few("--out", tmp_path / "whole.safetensors")
    out.write_bytes(b"good")
    measure = job.probe_network

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "probe_network", stop)
    with pytest.raises(SystemExit, match="interrupted"):
        few("--out", out)
    assert out.read_bytes() == b"good" and (tmp_path / "mine.safetensors.training/weights.safetensors").exists()
    monkeypatch.setattr(job, "probe_network", measure)
    monkeypatch.setattr(pretrain.Labelling, "batches", lambda *_: pytest.fail("it trains again"))
    few("--out", out)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes() and not list(tmp_path.glob("*.training"))


def test_too_few_unseen_studies_or_none_give_an_encoder_without_a_figure(few, collection, monkeypatch, capsys):
    pairs, ids = drawings.phantoms(range(24))
    monkeypatch.setattr(job, "tagged", lambda work, splits, *_: (pairs, ids) if "train" in splits else ([], []))
    out = collection / "few.safetensors"
    few("--out", out)
    few("--work", collection, module=encoder)
    for path in (out, collection / "encoder.safetensors"):
        facts = weight_files.read(path)[1]
        assert "auc" not in facts and facts["images"] == 24
    output = capsys.readouterr().out
    assert "no AUC" in output and "nan" not in output


def test_the_command_refuses_what_it_cannot_do(few, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="reports.csv not found: run 01_reports.ipynb"):
        few("--work", tmp_path, module=encoder)
    with pytest.raises(SystemExit, match="absent.safetensors not found"):
        few("--start", tmp_path / "absent.safetensors", "--out", tmp_path / "out.safetensors")
    with lock(tmp_path / "out.safetensors"), pytest.raises(SystemExit, match="is being written by another process"):
        few("--out", tmp_path / "out.safetensors")
    monkeypatch.setattr("sys.argv", ["encoder", "--size", "100"])
    for module in (encoder, drawings):
        with pytest.raises(SystemExit):
            module.main()
        assert "--size: use 96, 128" in capsys.readouterr().err


def test_the_command_uses_a_process_a_core(few, tmp_path, monkeypatch):
    spawned = []

    class Context:
        def join(self):
            return True

    def spawn(run, args, **options):
        spawned.append((run, args[0].out, options["nprocs"]))
        return Context()

    monkeypatch.setattr(job.dist, "spawn", spawn)
    monkeypatch.setattr(job.paddle.device, "get_device", lambda: "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    few("--out", tmp_path / "mine.safetensors")
    assert spawned == [(job._run_beside, tmp_path / "mine.safetensors", 3)] and os.environ["OMP_NUM_THREADS"] == "1"


SCRIPT = """
import sys
import medcap_paddle
from medcap_paddle.phantom import pretrain
pretrain.MEASURED = 4
if __name__ == "__main__":
    pretrain.main()
"""


@pytest.fixture
def launch(tmp_path):
    """The command with two processes; `until` tells when to kill it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}

    def launch(out, images, until=None):
        options = {"--images": images, "--size": 96, "--epochs": 3, "--out": out}
        command = [sys.executable, script, *(str(word) for option in options.items() for word in option)]
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if until:
            wait_for(until)
            os.kill(child.pid, signal.SIGKILL)
        output = child.communicate(timeout=300)[0]
        return child.returncode, output

    return launch


def wait_for(condition, seconds=120):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)


def test_two_processes_that_are_killed_resume_to_an_identical_encoder(launch, tmp_path):
    """The processes that it has started end with it: `communicate` waits for them."""
    whole, out = tmp_path / "whole.safetensors", tmp_path / "mine.safetensors"
    folder = tmp_path / "mine.safetensors.training"
    launch(out, 24, until=(folder / "checkpoint.safetensors").exists)
    assert not out.exists() and folder.exists()
    code, output = launch(out, 24)
    assert code == 0 and "begins anew" not in output and not folder.exists(), output
    code, output = launch(whole, 24)
    assert code == 0 and whole.read_bytes() == out.read_bytes(), output
    assert weight_files.read(out)[1]["images"] == 24


def test_the_reason_of_a_process_that_ends_reaches_the_user(launch, tmp_path):
    code, output = launch(tmp_path / "mine.safetensors", 8)
    assert code == 1 and "4 images for a process are fewer than a batch of 12: give more" in output
    assert "Traceback" not in output and "training was ended" in output
