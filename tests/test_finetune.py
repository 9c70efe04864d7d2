"""Laws of fine-tuning: labels are those of the collection, statistics stay, the head is in their order, it resumes."""

from dataclasses import replace
from types import SimpleNamespace

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from medcap_paddle import encoder, features, show
from medcap_paddle.clinical import targets
from medcap_paddle.clinical.findings import LABELS
from medcap_paddle.runtime.files import MedcapError, write_table
from medcap_paddle.vision import job, lite0, pretrain, probe, trainable
from medcap_paddle.vision import weights as weight_files

NAME = "efficientnet_lite0"
LITE0 = trainable.TRAINABLE[NAME]
SEEN = LITE0.at(64)
SETTINGS = replace(LITE0.settings, epochs=2, batch_size=8)
SIDES = ["left", "right"]


def bright_sides(count, seed=0):
    """Noise with a bright square on the left, on the right, both or none, and labels that say which."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        sides = (rng.random(2) < 0.5).astype(np.float32)
        pixels = rng.integers(0, 90, (64, 64), np.uint8)
        for x, bright in zip((6, 38), sides, strict=True):
            pixels[20:42, x : x + 20] += np.uint8(120 * bright)
        pairs.append((pixels, sides))
    return pairs


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(file, network) after two epochs of 24 pictures."""
    folder = tmp_path_factory.mktemp("tuned")
    network, _ = pretrain.train(bright_sides(24), SEEN, SETTINGS, folder / "training", SIDES, name=NAME)
    pretrain.save(network, folder / "tuned.safetensors", SIDES, SEEN, name=NAME)
    return folder / "tuned.safetensors", network


# Labels ---------------------------------------------------------------------------------------------------------------


def test_a_finding_that_a_collection_names_is_a_label_of_its_own():
    assert targets.named("Pneumonia;Infiltrate/lung") == {"pneumonia", "infiltrate"}
    assert targets.named("Opacity/lung/base/left") == {"opacity", "opacity left"}
    assert targets.named("Atelectasis") == {"atelectasis"} and targets.named(
        "Pulmonary Atelectasis/base/bilateral"
    ) == {*("atelectasis", "atelectasis left", "atelectasis right")}
    assert targets.named("normal") == {"normal"} and targets.named("") == targets.named("No Indexing") == set()
    assert targets.named("Tuberculosis") == {"tuberculosis"} and targets.named("Lung  Lesion") == {"lung lesion"}


def test_labels_are_those_that_enough_train_studies_have_and_enough_have_not():
    n = targets.MINIMUM
    cells = ["Cardiomegaly;Nodule"] * n + ["Cardiomegaly;Mass"] * (n - 1) + ["Cardiomegaly", "normal"]
    assert targets.frequent(cells) == targets.frequent(cells[::-1]) == ("nodule",)
    assert targets.frequent(cells + ["normal"] * n) == ("cardiomegaly", "nodule", "normal")
    assert targets.named_vector("Nodule;Mass", ("mass", "nodule", "normal")).tolist() == [1, 1, 0]
    assert targets.DRAWN.labels(cells) == LABELS


# The network ----------------------------------------------------------------------------------------------------------


def test_before_training_the_head_is_a_linear_probe_of_the_vectors():
    pairs = bright_sides(24)
    network, task = LITE0.build(2), pretrain.Labelling(pairs, SEEN, SETTINGS)
    assert trainable.begin(network, LITE0, SIDES, None)
    pretrain.probe_first(network, LITE0, task)
    vectors, targets = pretrain.outputs(network, pairs, SEEN, LITE0, "pooled")
    logits, _ = pretrain.outputs(network, pairs, SEEN, LITE0)
    weight, bias = probe.coefficients(vectors, targets, probe.WEAK)
    assert np.allclose(logits, vectors @ weight + bias, atol=1e-3)
    assert all(auc > 0.8 for auc in probe.auc_per_label(logits, targets, SIDES).values())


def test_a_label_that_all_or_none_have_gets_its_log_odds():
    features, targets = np.random.default_rng(0).normal(0, 1, (20, 3)), np.zeros((20, 2))
    targets[:, 1] = 1
    weight, bias = probe.coefficients(features, targets)
    assert not weight.any() and np.allclose(1 / (1 + np.exp(-bias)), [0.5 / 21, 20.5 / 21])


def test_statistics_stay_those_of_imagenet_while_all_else_learns(tuned):
    first = lite0.trained()
    for name, tensor in tuned[1].state_dict().items():
        stays = name.endswith(("._mean", "._variance"))
        assert name.startswith("fc.") or np.array_equal(tensor.numpy(), first[name].astype("float32")) == stays, name


def test_the_encoder_is_the_trained_network_and_gives_three_arrays(tuned):
    path, network = tuned
    loaded = encoder.load(NAME, path)
    assert loaded.arrays == {"pooled": (1280,), "grid": (4, 1280), "logits": (2,)} and loaded.preprocessing == SEEN
    assert weight_files.read(path)[1]["labels"] == SIDES and encoder.choose(False, path) == NAME
    pairs = bright_sides(6, seed=2)
    pictures, _ = next(pretrain.Images(pairs, SEEN).batches(6))
    with paddle.no_grad():
        pooled, grid, logits = (tensor.numpy() for tensor in loaded.network(pictures))
    expected, _ = pretrain.outputs(network, pairs, SEEN, LITE0)
    assert np.linalg.norm(logits - expected) < 0.05 * np.linalg.norm(expected)  # float16
    tensors, _ = weight_files.read(path)
    assert np.allclose(grid.mean(1), pooled, atol=1e-4)
    assert np.allclose(pooled @ tensors["fc.weight"].astype("f4") + tensors["fc.bias"], logits, atol=1e-3)


def test_the_file_gives_features_like_any_other(tuned, tmp_path):
    """Also by the exported program, which notebook 02 uses."""
    Image.fromarray(bright_sides(1)[0][0]).save(tmp_path / "a.png")
    table = pd.DataFrame({"image_id": ["a"], "path": [str(tmp_path / "a.png")]})
    index = features.extract(table, encoder.load(NAME, tuned[0]), tmp_path / "features.h5", exact=True)
    assert index.arrays == {"pooled": (1, 1280), "grid": (1, 4, 1280), "logits": (1, 2)}


def test_without_facts_it_is_imagenet_as_before():
    assert encoder.load(NAME).arrays == {"pooled": (1280,), "grid": (49, 1280)}
    assert encoder.load(NAME, lite0.imagenet()).weights == encoder.load(NAME).weights


def test_a_file_of_another_network_is_refused(tuned, tmp_path):
    with pytest.raises(MedcapError, match=f"encoder.safetensors holds small, where {NAME} is wanted"):
        encoder.load(NAME, encoder.SHIPPED)
    with pytest.raises(MedcapError, match=f"tuned.safetensors holds {NAME}, where small is wanted"):
        encoder.load("small", tuned[0])


# Training -------------------------------------------------------------------------------------------------------------


def test_interrupted_it_resumes_to_identical_weights(tuned, tmp_path, monkeypatch):
    batches = pretrain.Labelling.batches

    def stop(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(self, epoch)

    monkeypatch.setattr(pretrain.Labelling, "batches", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(bright_sides(24), SEEN, SETTINGS, tmp_path, SIDES, name=NAME)
    assert (tmp_path / "checkpoint.safetensors").exists()
    monkeypatch.setattr(pretrain.Labelling, "batches", batches)
    resumed, history = pretrain.train(bright_sides(24), SEEN, SETTINGS, tmp_path, SIDES, name=NAME)
    assert len(history) == 2
    for (name, expected), found in zip(tuned[1].state_dict().items(), resumed.state_dict().values(), strict=True):
        assert np.array_equal(expected.numpy(), found.numpy()), name


def test_it_continues_with_its_head_or_with_a_new_one_for_other_labels(tuned, capsys):
    path, network = tuned
    for labels, kept in ((SIDES, True), (SIDES[::-1], False), (["a", "b", "c"], False)):
        again = LITE0.build(len(labels))
        assert trainable.begin(again, LITE0, labels, path) != kept
        assert np.allclose(again.head[0].weight.numpy(), network.head[0].weight.numpy(), atol=2e-3)
        same = again.fc.weight.shape == network.fc.weight.shape and np.allclose(
            again.fc.weight, network.fc.weight, atol=2e-3
        )
        assert same == kept
        assert ("other labels" in capsys.readouterr().out) != kept


def test_start_is_a_name_or_a_file_of_a_network_that_is_trained(tuned, tmp_path):
    assert trainable.resolve(None) == trainable.resolve("small") == ("small", None)
    assert trainable.resolve(NAME) == (NAME, None) and trainable.resolve(str(tuned[0])) == (NAME, tuned[0])
    assert trainable.resolve(str(lite0.imagenet())) == (NAME, lite0.imagenet())
    with pytest.raises(MedcapError, match="resnet101 not found, and no network of that name is trained here: give sm"):
        trainable.resolve("resnet101")
    paddle.save({"conv1.weight": np.zeros(3, "float32")}, str(tmp_path / "other.pdparams"))
    with pytest.raises(MedcapError, match="other.pdparams is of resnet101, which is not trained here: give small, eff"):
        trainable.resolve(str(tmp_path / "other.pdparams"))


def test_sizes_suit_the_network():
    assert LITE0.at(None).size == 224 and LITE0.at(160).size == 160
    for how, size, use in ((LITE0, 100, "32, 64"), (trainable.TRAINABLE["small"], 160, "96, 128, 192, 224")):
        with pytest.raises(MedcapError, match=f"size {size}: use {use}"):
            how.at(size)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path):
    """30 train and 24 val studies of one picture: some bright on the left, which is a pneumonia."""
    terms, images = [], []
    for k, (pixels, sides) in enumerate(bright_sides(54, seed=5)):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        terms.append([f"S{k}", "train" if k < 30 else "val", "Pneumonia" if sides[0] else "normal"])
        images.append([f"S{k}", str(tmp_path / f"{k}.png")])
    write_table(tmp_path / "reports.csv", pd.DataFrame(terms, columns=["study_id", "split", "mesh"]))
    write_table(tmp_path / "images.csv", pd.DataFrame(images, columns=["study_id", "path"]))
    return tmp_path


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["encoder", *map(str, arguments), "--size", "64", "--epochs", "1"])
        encoder.main()

    return command


def test_the_command_fine_tunes_on_the_labels_of_a_collection(command, collection, capsys):
    out = collection / "mine.safetensors"
    command("--work", collection, "--start", NAME, "--out", out)
    facts = weight_files.read(out)[1]
    assert (facts["encoder"], facts["labels"], facts["started_from"]) == (NAME, ["normal", "pneumonia"], "ImageNet")
    assert facts["images"] == 30 and 0 <= facts["auc"] <= 1 and "mean of 2 labels" in capsys.readouterr().out
    loaded, source = encoder.load(NAME, out), job.Tagged(collection, 64, NAME)
    pairs, ids = source.unseen()
    network = LITE0.build(2)
    weight_files.fill(network, weight_files.read(out)[0], out)
    auc, _ = pretrain.probe_network(network, pairs, ids, loaded.preprocessing, source.labels, NAME)
    assert np.mean(list(auc.values())) == pytest.approx(facts["auc"], abs=0.02)  # float16
    command("--work", collection, "--start", NAME, "--out", out)
    assert "mine.safetensors is up to date: nothing to do" in capsys.readouterr().out
    command("--work", collection, "--start", out, "--out", collection / "more.safetensors")
    assert weight_files.read(collection / "more.safetensors")[1]["started_from"] == "mine.safetensors"


def test_a_collection_without_labels_is_refused(command, collection):
    table = pd.read_csv(collection / "reports.csv")
    write_table(collection / "reports.csv", table.assign(mesh="normal"))
    with pytest.raises(SystemExit, match="no finding is named in the mesh of 10 of the 30 train studies"):
        command("--work", collection, "--start", NAME)


def test_processes_share_out_a_batch(collection):
    options = dict.fromkeys(["size", "epochs", "rate", "seed"])
    for start, processes, batch in ((NAME, 1, 16), (NAME, 2, 8), (NAME, 40, 1), ("small", 2, 12)):
        made = job._job(
            SimpleNamespace(start=start, **options), lambda *_: job.Tagged(collection, 64, NAME), "", processes
        )
        assert made.settings.batch_size == batch and made.settings.epochs == trainable.TRAINABLE[start].settings.epochs


# AUC with an interval -------------------------------------------------------------------------------------------------


def test_an_auc_and_its_interval_over_patients():
    rng = np.random.default_rng(0)
    target = rng.random(80) < 0.4
    scores = np.round(rng.normal(0, 1, 80) + target, 1)  # some are equal
    patients = [str(k) for k in range(80)]
    value, low, high = probe.auc_interval(scores, target, patients)
    assert value == pytest.approx(roc_auc_score(target, scores)) and low < value < high
    assert probe.auc_interval(np.tile(scores, 3), np.tile(target, 3), patients * 3) == pytest.approx((value, low, high))
    more = probe.auc_interval(np.tile(scores, 3), np.tile(target, 3), [str(k) for k in range(240)])
    assert more[2] - more[1] < 0.8 * (high - low)  # as if the films of a patient were three patients
    nobody = probe.auc_interval(scores, np.zeros(80), patients)
    assert all(np.isnan(nobody))
    alone = probe.auc_interval(scores, np.arange(80) == 3, patients)
    assert np.isfinite(alone[0]) and np.isnan(alone[1])  # absent from a third of the resamples


def test_a_forest_has_the_best_row_of_the_last_series_on_top():
    nothing = float("nan")
    figures = {
        "frozen": {"a": (0.9, 0.8, 1.0), "b": (0.5, 0.4, 0.6)},
        "tuned": {"a": (0.7, nothing, nothing), "b": (0.8, 0.7, 0.9)},
    }
    [ax] = show.forest(figures, "AUC").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.9, 0.5], [0.7, 0.8]]
    [several] = show.forest({name: figures["frozen"] for name in "abcd"}, "AUC").axes
    assert len({line.get_color() for line in several.lines}) == 4
