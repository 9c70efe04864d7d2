"""Laws of classification: what a table of labels says, folds by patient, colour, losses, runs and their commands."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd
import pytest
from paddle.vision.models import alexnet, resnet18
from PIL import Image

from medcap_paddle.config import TrainingSettings
from medcap_paddle.image import Preprocessing, transform
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import backbones, classification, classify, folds, labels, picture
from medcap_paddle.vision.augment import augment
from medcap_paddle.vision.depthwise import Depthwise

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
LEAVES = {"rust": (200, 60, 60), "healthy": (60, 131, 60)}  # equally bright: 102 of 255
FAST = classify.Options(size=64, folds=2, changes=(("epochs", 1), ("batch_size", 8)))


def draw(folder, count=24, seed=0):
    """Blobs of a colour by turns, in images/; returns the names."""
    rng, names, colours = np.random.default_rng(seed), [], list(LEAVES.values())
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for k in range(count):
        pixels = np.full((48, 40, 3), 30) + rng.integers(0, 25, (48, 40, 1))
        y, x = rng.integers(4, 16, 2)
        pixels[y : y + 26, x : x + 20] = np.array(colours[k % len(colours)]) + rng.integers(0, 25, (26, 20, 1))
        names.append(f"leaf_{k}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / names[-1])
    return names


def leaves(folder, count=24):
    """Two classes, two leaves a plant, in labels.csv."""
    names = draw(folder, count)
    table = {"image": names, "label": [list(LEAVES)[k % 2] for k in range(count)]}
    pd.DataFrame({**table, "patient": [f"P{k // 2}" for k in range(count)]}).to_csv(folder / "labels.csv", index=False)
    return folder


def read(folder, cells, **options):
    """A table of labels beside drawn images."""
    rows = len(next(iter(cells.values())))
    cells = {"image": draw(folder, rows)} | cells
    pd.DataFrame(cells).to_csv(folder / "labels.csv", index=False)
    return labels.read(folder, folder / "labels.csv", **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of the leaves, the run, its metrics)"""
    folder = leaves(tmp_path_factory.mktemp("leaves"))
    out = folder / "run"
    return folder, out, classify.train(labels.read(folder, folder / "labels.csv"), out, FAST)


# What a table says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        ({"label": ["b", "a", "b"]}, "exclusive", ("a", "b")),
        ({"Finding Labels": ["Edema|Mass", "No Finding", "Mass"]}, "several", ("Edema", "Mass")),
        ({"labels": ["a|b", "a", "b"]}, "several", ("a", "b")),
        ({"tuberculosis": ["0", "1", "0"], "hospital": ["x", "y", "x"]}, "several", ("tuberculosis",)),
        ({"tuberculosis": ["no", "Yes", "no"]}, "several", ("tuberculosis",)),
        ({"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]}, "exclusive", ("a", "b", "c")),
        ({"a": [1, 0, 0], "b": [1, 1, 0]}, "several", ("a", "b")),
        ({"a": [0.5, 0.1, 0], "b": [0.25, 0.9, 1], "c": [0.25, 0, 0]}, "exclusive", ("a", "b", "c")),
    ],
)
def test_the_form_of_a_table_says_what_its_labels_are(tmp_path, cells, task, classes):
    found = read(tmp_path, cells)
    assert (found.task, found.classes, len(found)) == (task, classes, 3)
    if task == "exclusive":
        assert np.allclose(found.targets.sum(1), 1)
    for name in set(classes) & set(cells):
        words = {"no": 0, "Yes": 1}
        assert np.allclose(found.targets[:, classes.index(name)], [float(words.get(v, v)) for v in cells[name]])


def test_no_finding_is_no_label(tmp_path):
    found = read(tmp_path, {"Finding Labels": ["Edema|Mass", "No Finding", "Mass"]})
    assert found.targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    one = read(tmp_path, {"Finding Labels": ["Edema|Mass", "No Finding", "Mass"]}, columns=["Edema"])
    assert one.classes == ("Edema",) and one.targets.ravel().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("cells", "options", "why"),
    [
        ({"a": [0.5, 1, 0], "b": [0.1, 0, 1]}, {}, r"row 1 .*do not sum to 1: .*--columns.*--task"),
        ({"age": [50, 60, 70]}, {}, "neither a column label nor columns of numbers from 0 to 1"),
        ({"label": ["a", "a", "a"]}, {}, "has 1 classes: at least two"),
        ({"label": ["a|b", "a", "b"]}, {"task": "exclusive"}, "several at once, not exclusive"),
        ({"a": [1, 1, 0], "b": [1, 0, 1]}, {"task": "exclusive"}, "do not sum to 1 in each row"),
        ({"label": ["a", "b", "b"]}, {"columns": ["c"]}, "no label is called c: choose of a, b"),
        ({"a": [1, 0, 0]}, {"columns": ["b"]}, "has no column b: choose of a"),
        ({"a": [1, 0, 0], "b": ["x", "y", "z"]}, {"columns": ["b"]}, "column b has cells that are no numbers"),
        ({"a": [1, 0, 0]}, {"task": "both"}, "task is 'both': use exclusive or several"),
        ({"image": ["x.png", "y.png"], "label": ["a", "b"]}, {}, "labels no image of .*not found"),
    ],
)
def test_a_table_of_no_known_form_is_refused_with_a_remedy(tmp_path, cells, options, why):
    with pytest.raises(MedcapError, match=why):
        read(tmp_path, cells, **options)


def test_probabilities_that_do_not_sum_to_one_are_labels_where_it_is_said(tmp_path):
    found = read(tmp_path, {"a": [0.5, 1, 0], "b": [0.1, 0, 1]}, task="several")
    assert found.task == "several" and np.allclose(found.targets, [[0.5, 0.1], [1, 0], [0, 1]])


def test_every_row_is_an_image_or_left_out_with_its_reason(tmp_path):
    names = draw(tmp_path, 6)
    rows = [*zip(names, "ababab", strict=True), ("absent.png", "a"), (names[0], "b"), (names[1], "b"), (names[2], "")]
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    found = labels.read(tmp_path, tmp_path / "labels.csv")
    assert len(found) + len(found.left_out) == len(rows)
    reasons = [reason for _, reason in found.left_out]
    assert names[0] not in found.images and found.images.count(names[1]) == 1
    for reason, count in {"not found": 1, "several rows, different labels": 4, "a row of it stands above": 1}.items():
        assert reasons.count(reason) <= count, reasons
    assert {"not found", "several rows, different labels", "no label"} <= set(reasons)


def test_a_rare_class_is_left_out_and_said(tmp_path):
    cells = {"label": [*"aabbaabbc"]}
    found = read(tmp_path, cells)
    kept = found.frequent(2)
    assert kept.classes == ("a", "b") and len(kept) == 8 and len(kept.left_out) == 1
    assert kept.targets.sum(1).tolist() == [1] * 8 and "c" in kept.remarks[-1]
    with pytest.raises(MedcapError, match="on fewer than 5 images"):
        found.frequent(5)


# Folds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_patient_is_in_one_fold_and_classes_are_as_frequent_in_each(exclusive):
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 120, 300).astype(str)
    target = rng.random(300) < 0.3
    targets = np.stack([target, ~target], 1).astype("f4") if exclusive else target[:, None].astype("f4")
    fold = folds.assign(targets, exclusive, patients)
    assert set(fold) == set(range(5))
    assert pd.DataFrame({"fold": fold, "patient": patients}).groupby("patient").fold.nunique().max() == 1
    shares = [target[fold == k].mean() for k in range(5)]
    assert max(shares) - min(shares) < 0.06
    assert np.array_equal(fold, folds.assign(targets, exclusive, patients))
    stops = folds.tuning(targets, exclusive, patients)
    assert not set(patients[stops]) & set(patients[~stops]) and 0.05 < stops.mean() < 0.3


def test_several_labels_are_stratified_by_the_rarest_one():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]], "f4")
    assert folds.strata(targets, False).tolist() == [1, 0, 3, 2, 2, 1]


def test_too_few_patients_are_refused():
    with pytest.raises(MedcapError, match="2 patients do not make 5 folds"):
        folds.assign(np.eye(2)[[0, 1, 0, 1, 0]], True, list("ababa"))


def test_the_table_of_auc_is_that_of_scikit_learn_fold_by_fold():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, 200)
    scores, fold = target + rng.normal(0, 1, 200), np.arange(200) % 4
    table = folds.auc_table(scores[:, None], target[:, None], list(map(str, range(200))), fold, ["sick"])
    each = [roc_auc_score(target[fold == k], scores[fold == k]) for k in range(4)]
    assert np.allclose(table[[f"fold_{k}" for k in (1, 2, 3, 4)]].to_numpy()[0], each)
    assert table.auc[0] == pytest.approx(np.mean(each)) and table.low[0] < table.auc[0] < table.high[0]
    more = folds.auc_table(
        np.tile(scores, 9)[:, None], np.tile(target, 9)[:, None], [*range(1800)], np.tile(fold, 9), "s"
    )
    assert more.high[0] - more.low[0] < 0.6 * (table.high[0] - table.low[0])  # as 9 times the patients would have it


def test_a_forest_never_predicts_what_it_was_fitted_on():
    """Noise is told by heart in train, and not at all out of fold."""
    rng = np.random.default_rng(0)
    target, fold = rng.integers(0, 2, 60), np.arange(60) % 3
    noise = folds.forest(rng.normal(0, 1, (60, 20)), np.eye(2)[target], True, fold)
    assert np.allclose(noise.sum(1), 1)
    assert ((noise[:, 1] > 0.5) == target).mean() < 0.75
    known = folds.forest(target[:, None] + rng.normal(0, 0.1, (60, 20)), target[:, None], False, fold)
    assert ((known[:, 0] > 0.5) == target).all()


# Colour ---------------------------------------------------------------------------------------------------------------


def test_colour_reaches_the_network_and_gray_stays_as_it_was(tmp_path):
    [name, other] = draw(tmp_path, 2)
    seen = Preprocessing(32, (0, 0, 0), (1, 1, 1))
    coloured = picture.read(tmp_path / "images" / name)
    assert coloured.shape == (48, 40, 3) and np.array_equal(
        coloured, np.asarray(Image.open(tmp_path / "images" / name))
    )
    red, green, _ = transform(coloured, seen)
    assert (red - green).max() > 0.3
    gray = coloured[..., 0]
    for mode, pixels in (("gray", gray), ("rgb", np.repeat(gray[..., None], 3, 2))):
        Image.fromarray(pixels).save(tmp_path / f"{mode}.png")
        assert np.array_equal(picture.read(tmp_path / f"{mode}.png"), gray)
    assert np.array_equal(transform(np.repeat(gray[..., None], 3, 2), seen), transform(gray, seen))


def test_a_coloured_picture_is_augmented_as_each_of_its_channels_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20, 3), np.uint8)
    changed = augment(pixels, np.random.default_rng(5))
    for k in range(3):
        assert np.array_equal(changed[..., k], augment(pixels[..., k], np.random.default_rng(5)))


def test_transparency_is_black_and_deep_colours_are_refused(tmp_path):
    import cv2

    pixels = np.zeros((9, 9, 4), np.uint8)
    pixels[..., :2] = 200, 90
    pixels[:5, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    found = picture.read(tmp_path / "half.png")
    assert found[0, 0].tolist() == [200, 90, 0] and not found[8].any()
    cv2.imwrite(str(tmp_path / "deep.png"), np.random.default_rng(0).integers(0, 65535, (9, 9, 3)).astype(np.uint16))
    with pytest.raises(MedcapError, match="deep.png has colours of 16 bits a channel: save it with 8"):
        picture.read(tmp_path / "deep.png")


# Networks and losses --------------------------------------------------------------------------------------------------


def test_the_sizes_of_alexnet_are_those_of_the_formula():
    """Output = (input + 2 padding - kernel) / stride + 1, rounded down; pooled (input - 3) / 2 + 1."""
    network, x, side = backbones.AlexNet(), paddle.zeros([1, 3, 224, 224]), 224
    layers = iter(network.features)
    sides = []
    for channels, kernel, stride, padding, pools in backbones.CONVOLUTIONS:
        x, side = next(layers)(x), (side + 2 * padding - kernel) // stride + 1
        assert list(x.shape) == [1, channels, side, side]
        sides.append(side)
        next(layers)
        if pools:
            x, side = next(layers)(x), (side - 3) // 2 + 1
            assert x.shape[-1] == side
    assert sides == [55, 27, 13, 13, 13] and list(x.shape) == [1, 256, backbones.CELLS, backbones.CELLS]


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_gives_a_logit_a_class_and_all_of_it_learns(name):
    backbone = backbones.BACKBONES[name]
    network = backbones.Classifier(backbone, 3)
    pictures = paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (2, 3, 64, 64)).astype("f4"))
    assert list(network.trunk(pictures).shape) == [2, backbone.width]
    logits = network(pictures)
    assert list(logits.shape) == [2, 3]
    (logits * paddle.to_tensor([[1.0, 2, 3], [3, 1, 2]])).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if not p.stop_gradient)
    with pytest.raises(MedcapError, match="size 100: use 64, 96"):
        backbone.at(100)


@pytest.mark.parametrize(("name", "theirs"), [("alexnet", alexnet), ("resnet18", resnet18)])
def test_the_weights_of_paddles_networks_give_their_grid(tmp_path, name, theirs):
    """Theirs without its dense layers, on the same picture."""
    whole = theirs()
    paddle.save(whole.state_dict(), str(tmp_path / "w.pdparams"))
    network = backbones.build(name, 2, tmp_path / "w.pdparams")
    trunk = theirs(num_classes=0) if name == "alexnet" else theirs(num_classes=0, with_pool=True)
    trunk.set_state_dict({k: v for k, v in whole.state_dict().items() if k in trunk.state_dict()})
    network.eval(), trunk.eval()
    pictures = paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (1, 3, 224, 224)).astype("f4"))
    assert np.allclose(network.trunk(pictures).numpy(), trunk(pictures).flatten(1).numpy(), rtol=1e-3, atol=1e-4)
    other = {"alexnet": "resnet18", "resnet18": "alexnet"}[name]
    with pytest.raises(MedcapError, match="choose weights of this network"):
        backbones.build(other, 2, tmp_path / "w.pdparams")


@pytest.mark.parametrize(("kernel", "height", "width"), [(3, 7, 7), (5, 7, 4), (5, 2, 8), (3, 1, 1)])
def test_a_depthwise_convolution_is_the_library_s_in_values_and_gradients(kernel, height, width):
    """On a small grid of a CPU it is a matrix product; what is exported is the library's."""
    paddle.seed(kernel)
    layer, x = Depthwise(6, kernel, 1), paddle.randn([2, 6, height, width])
    x.stop_gradient, weigh, found = False, paddle.randn([2, 6, height, width]), []
    for forward in (layer, lambda x: paddle.nn.Conv2D.forward(layer, x)):
        y = forward(x)
        found.append([y, *paddle.grad((y * weigh).sum(), [x, layer.weight])])
    for ours, theirs in zip(*found, strict=True):
        assert np.allclose(ours, theirs, atol=1e-5) and ours.shape == theirs.shape


def test_grids_of_the_early_layers_give_what_the_pictures_give():
    """Also of mirrored ones; and an epoch sees its own augmented version."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (70, 60), np.uint8) for _ in range(3)]
    options = classify.Options(size=64, mirror=True, changes=(("epochs", 2),))
    grids, target = classification.early_grids(pixels, options), np.zeros(2, np.float32)
    assert grids.shape[:2] == (3, 4)
    model = backbones.build(options.backbone, 2, options.file)
    backbones.begin_head(model, rng.normal(0, 1, (40, 1280)), np.eye(2)[np.arange(40) % 2])
    pairs, seen = ([(item, target) for item in items] for items in (pixels, grids))
    for ours, theirs in ((seen, pairs), (classification.mirrored(seen), classification.mirrored(pairs))):
        model.eval()
        found = [classification.outputs(model.vector, which, options.preprocessing) for which in (ours, theirs)]
        assert np.allclose(*found, atol=0.02) and np.abs(found[0]).max() > 0.5
    epochs = [classification.Grids(seen, options.preprocessing, (0, epoch, 0))[0][0] for epoch in (1, 2, 3)]
    assert not np.array_equal(epochs[0], epochs[1]) and np.array_equal(epochs[0], epochs[2])


@pytest.mark.parametrize("whole", [False, True])
def test_early_layers_learn_only_where_the_whole_is_asked_for(tmp_path, whole):
    [*names], options = draw(tmp_path, 8), replace(FAST, whole=whole, weights="")
    pixels = [picture.read(tmp_path / "images" / name) for name in names]
    seen = pixels if whole else classification.early_grids(pixels, options)
    assert options.frozen != whole
    pairs = list(zip(seen, np.eye(2, dtype="f4")[np.arange(8) % 2], strict=True))
    before = backbones.build(options.backbone, 2, options.file)
    after = classification.fit(pairs, pairs, "exclusive", options, tmp_path / "fold")
    first, last = ([model.trunk.network.blocks[k].project[0].weight for model in (before, after)] for k in (0, -1))
    assert np.array_equal(*first) != whole and not np.array_equal(*last)


def test_folds_side_by_side_give_what_one_after_the_other_gives(run, tmp_path):
    folder, out, metrics = run
    asked = labels.read(folder, folder / "labels.csv")
    classify.train(asked, tmp_path / "run", replace(FAST, workers=2))
    tables = [pd.read_csv(place / "predictions.csv") for place in (out, tmp_path / "run")]
    assert np.allclose(tables[0].rust, tables[1].rust, atol=1e-3)


def test_first_weights_keep_their_statistics_and_random_ones_learn_them():
    pictures = paddle.to_tensor(np.random.default_rng(0).normal(0, 3, (4, 3, 64, 64)).astype("f4"))
    for begun in (True, False):
        network = backbones.Classifier(backbones.BACKBONES["resnet18"], 2, begun)
        network.train()
        before = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items() if "_mean" in name}
        network(pictures)
        same = [np.array_equal(before[name], network.state_dict()[name].numpy()) for name in before]
        assert all(same) if begun else not any(same)


def test_the_head_begins_as_a_linear_probe():
    from medcap_paddle.vision.probe import WEAK, coefficients

    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (60, 2)).astype("f4")
    vectors = (rng.normal(0, 1, (60, 512)) + 3 * targets[:, :1]).astype("f4")
    network = backbones.Classifier(backbones.BACKBONES["resnet18"], 2, True)
    backbones.begin_head(network, vectors, targets)
    network.eval()
    weight, bias = coefficients(vectors, targets, WEAK)
    assert np.allclose(network.head(paddle.to_tensor(vectors)).numpy(), vectors @ weight + bias, atol=1e-3)


def test_dense_cross_entropy_is_its_formula_and_that_of_the_class_where_labels_are_hard():
    rng = np.random.default_rng(0)
    logits, soft = rng.normal(0, 2, (7, 4)).astype("f4"), rng.dirichlet(np.ones(4), 7).astype("f4")
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert float(classify.dense_cross_entropy(*map(paddle.to_tensor, (logits, soft)))) == pytest.approx(
        -(soft * log_p).sum(1).mean(), rel=1e-5
    )
    hard = rng.integers(0, 4, 7)
    dense = classify.dense_cross_entropy(paddle.to_tensor(logits), paddle.to_tensor(np.eye(4, dtype="f4")[hard]))
    assert float(dense) == pytest.approx(-log_p[np.arange(7), hard].mean(), rel=1e-5)


@pytest.mark.parametrize("task", classify.LOSSES)
def test_a_step_against_the_gradient_lowers_the_loss(task):
    rng = np.random.default_rng(0)
    targets = rng.dirichlet(np.ones(3), 6).astype("f4")
    logits = paddle.to_tensor(rng.normal(0, 1, (6, 3)).astype("f4"), stop_gradient=False)
    loss = classify.LOSSES[task](logits, paddle.to_tensor(targets))
    loss.backward()
    assert float(classify.LOSSES[task](logits - 0.1 * logits.grad, paddle.to_tensor(targets))) < float(loss)


# Schedules ------------------------------------------------------------------------------------------------------------


def test_a_plateau_drops_after_epochs_without_a_better_figure():
    assert [
        loop.drops(figures) for figures in ([], [3, 2, 1], [1, 2], [1, 2, 2], [1, 2, 2, 2, 2], [2, 3, 1, 1, 0])
    ] == [*(0, 0, 0, 1, 2, 0)]


def test_schedules_step_and_plateau():
    module, seen = paddle.nn.Linear(2, 2), []
    settings = TrainingSettings(learning_rate=1.0, schedule="step")
    _, rate = loop.optimizer_of(module, settings, 9)
    rates = []
    for k in range(9):
        rate.step(k)
        rates.append(rate())
    assert np.allclose(rates, [1] * 3 + [0.1] * 3 + [0.01] * 3)
    _, rate = loop.optimizer_of(module, replace(settings, schedule="plateau"), 9, lambda: seen)
    for figure, expected in ((1, 1), (2, 1), (2, 0.1), (0.5, 0.1), (0.6, 0.1), (0.6, 0.01)):
        seen.append(figure)
        rate.step(len(seen))
        assert rate() == pytest.approx(expected)


# Runs and commands ----------------------------------------------------------------------------------------------------


def test_a_run_tells_leaves_by_their_colour_alone(run):
    _, out, metrics = run
    assert metrics.auc.min() > 0.9, metrics
    for name in (
        "run.json",
        "folds.csv",
        "predictions.csv",
        "metrics.csv",
        "left_out.csv",
        "results.png",
        "curves.png",
    ):
        assert (out / name).stat().st_size > 0
    assert "train_loss" in pd.read_csv(out / "fold1/history.csv").columns


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau"])
def test_a_part_of_train_is_set_aside_only_where_the_rate_waits_for_its_loss(run, tmp_path, monkeypatch, schedule):
    folder, given = run[0], []

    def trained(_, jobs, workers):
        given.extend([len(part) for part in job[:3]] for job in jobs)
        return [np.full((len(job[2]), len(job[2][0][1])), 0.5) for job in jobs]

    monkeypatch.setattr(classify, "side_by_side", trained)
    monkeypatch.setattr(classify.classifier_run, "write", lambda *_: None)
    labelled = labels.read(folder, folder / "labels.csv")
    classify.train(labelled, tmp_path, replace(FAST, backbone="alexnet", changes=(("schedule", schedule),)))
    for learnt, stops, held in given:
        assert learnt + stops + held == len(labelled) and bool(stops) == (schedule == "plateau")


def test_every_image_is_predicted_by_the_network_that_has_not_seen_its_patient(run):
    folder, out, _ = run
    table = pd.read_csv(out / "predictions.csv")
    assert sorted(table.image) == sorted(pd.read_csv(folder / "labels.csv").image)
    assert table.groupby("patient").fold.nunique().max() == 1
    assert np.allclose(table[["healthy", "rust"]].sum(axis=1), 1, atol=1e-5)
    loaded = classify.Run.load(out)
    row = table.iloc[0]
    own = loaded.by_network([picture.reduced(folder / "images" / row.image, 64)])[row.fold - 1, 0]
    assert np.allclose(own, [row.healthy, row.rust], atol=3e-3)  # training keeps the grids of early layers in float16


def test_the_same_call_trains_nothing_again_and_gives_the_same(run, capsys):
    folder, out, metrics = run
    before = {path: path.stat().st_mtime_ns for path in out.glob("fold*/weights.safetensors")}
    again = classify.train(labels.read(folder, folder / "labels.csv"), out, FAST)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("fold*/weights.safetensors")}
    pd.testing.assert_frame_equal(again, metrics)


def test_predict_and_evaluate_by_command(run, tmp_path, capsys):
    folder, out, metrics = run
    names = draw(tmp_path, 4, seed=9)
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [str(tmp_path / "images" / name) for name in names]
    classify.main(["predict", str(out), *paths, str(tmp_path / "broken.png"), "--out", str(tmp_path / "p.csv")])
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["image", "healthy", "rust"] and table.image.tolist() == paths
    assert table.rust[::2].min() > table.rust[1::2].max()
    assert "left out: 1" in (printed := capsys.readouterr().out) and "broken.png" in printed
    every = classify.predict(out, [tmp_path / "images"])[0]
    assert np.allclose(every.rust, table.rust)
    own = ["evaluate", str(folder), "--labels", str(folder / "labels.csv"), "--run", str(out)]
    classify.main(own)  # each image by the network that has not seen it
    same = pd.read_csv(out / "evaluation/predictions.csv").set_index("image").rust
    before = pd.read_csv(out / "predictions.csv").set_index("image").rust[same.index]
    assert np.allclose(same, before, atol=3e-3)  # training keeps the grids of early layers in float16
    pd.DataFrame({"image": names, "label": ["cat", "dog"] * 2}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(SystemExit, match="the labels are cat, dog, and .* tells healthy, rust"):
        classify.main(["evaluate", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--run", str(out)])


def test_several_labels_and_one_fold_by_command(tmp_path):
    """In a process of its own, as a user does it; from random weights, on a network of one's choice."""
    names = draw(tmp_path, 20)
    red = [int(k % 2 == 0) for k in range(20)]
    pd.DataFrame({"image": names, "red": red, "even": [0, 0, 1, 1] * 5}).to_csv(tmp_path / "labels.csv", index=False)
    command = [sys.executable, "-m", "medcap_paddle.vision.classify", "train", str(tmp_path)]
    command += ["--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "run"), "--backbone", "resnet18"]
    command += ["--size", "64", "--epochs", "1", "--folds", "1", "--batch", "4", "--schedule", "step"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "columns red, even: several" in done.stdout and "20 images of 20 patients" in done.stdout
    table = pd.read_csv(tmp_path / "run/predictions.csv")
    assert {"image", "red", "even"} <= set(table.columns) and set(table.fold) == {1}
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["task"] == "several" and facts["first_weights"] == "none" and facts["folds"] == 1
    classify.main(["evaluate", str(tmp_path), *command[5:7], "--run", str(tmp_path / "run")])
    seen = pd.read_csv(tmp_path / "run/evaluation/left_out.csv")
    assert len(seen) == 20 - len(table) and set(seen.reason) == {"trained on by every network"}


def test_wrong_options_are_refused(run, tmp_path):
    folder, out, _ = run
    asked = labels.read(folder, folder / "labels.csv")
    with pytest.raises(MedcapError, match="no backbone is called 'vgg': choose alexnet"):
        classify.Options(backbone="vgg")
    with pytest.raises(MedcapError, match="folds is 0"):
        classify.Options(folds=0)
    with pytest.raises(MedcapError, match="absent.pth not found"):
        classify.train(asked, tmp_path / "run", replace(FAST, weights=str(tmp_path / "absent.pth")))
    with pytest.raises(MedcapError, match="run.json not found: train again"):
        classify.predict(tmp_path / "nothing", [folder])
    with pytest.raises(MedcapError, match="no image can be read"):
        (tmp_path / "broken.png").write_bytes(b"no image")
        classify.predict(out, [tmp_path / "broken.png"])


class Colour(paddle.nn.Layer):
    """[B, 3, S, S] -> [B, 3], the mean colour: a network from outside the package that learns in seconds."""

    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1])

    def forward(self, images):
        return images.mean([2, 3]) * (1 + self.scale)


@pytest.fixture
def colour(monkeypatch):
    entry = backbones.Backbone(Colour, 3, names=lambda tensors, path: tensors, dropout=0.0)
    monkeypatch.setitem(backbones.BACKBONES, "colour", entry)
    return ["--backbone", "colour", "--size", "64", "--batch", "8", "--epochs", "8", "--rate", "0.05"]


def test_another_backbone_is_an_entry(run, tmp_path, colour):
    folder, *_ = run
    own = ["train", str(folder), "--labels", str(folder / "labels.csv"), "--out", str(tmp_path / "run"), "--folds", "2"]
    classify.main([*own, *colour])
    assert pd.read_csv(tmp_path / "run/metrics.csv").auc.min() > 0.9
    assert len(classify.predict(tmp_path / "run", [folder / "images"])[0]) == 24


def test_soft_labels_of_three_classes_are_learnt_as_shares(tmp_path, colour):
    """A leaf between two classes has a probability between theirs; the class of no leaf is left out and said."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "images").mkdir()
    for k in range(36):
        share = (0.0, 0.5, 1.0)[k % 3]
        pixels = share * np.array([200, 60, 60]) + (1 - share) * np.array([60, 131, 60]) + rng.normal(0, 6, (64, 64, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"images/{k}.png")
        rows.append((f"{k}.png", round(0.9 * share, 2), round(0.9 * (1 - share), 2), 0.1))
    pd.DataFrame(rows, columns=["image", "rust", "healthy", "blight"]).to_csv(tmp_path / "labels.csv", index=False)
    own = ["train", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "run")]
    classify.main([*own, *colour, "--folds", "3"])
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["task"] == "exclusive" and facts["classes"] == ["rust", "healthy"]
    assert any("left out: blight" in remark for remark in facts["remarks"])
    table = pd.read_csv(tmp_path / "run/predictions.csv")
    table["share"] = table.image.str.split(".").str[0].astype(int) % 3
    for _, part in table.groupby("fold"):  # a network each
        none, half, all_of_it = (part.rust[part.share == share] for share in range(3))
        assert none.max() < half.min() and half.max() < all_of_it.min()


def test_a_dicom_is_predicted_as_its_film(tmp_path, run):
    from test_dicom import write as write_dicom

    film = np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)
    film[10:30, 10:30] //= 4
    film[0, :2] = 0, 255  # a DICOM is shown from its darkest to its brightest pixel
    Image.fromarray(film).save(tmp_path / "film.png")
    write_dicom(tmp_path / "film.dcm", film, stored=8)
    table, left_out = classify.predict(run[1], [tmp_path / "film.png", tmp_path / "film.dcm"])
    assert not left_out and np.allclose(*table[["healthy", "rust"]].to_numpy(), atol=1e-3)
    assert len(classify.predict(run[1], [tmp_path])[0]) == 2


@pytest.mark.skipif(not (SHARED / "nih_cxr").exists(), reason="../shared is not there")
def test_real_tables_are_read():
    nih = labels.read(SHARED / "nih_cxr", SHARED / "nih_cxr/Data_Entry.csv")
    assert nih.task == "several" and "Pneumonia" in nih.classes and "No Finding" not in nih.classes
    assert len(nih) == 699 and len(set(nih.patients)) == 475
    assert nih.targets[:, nih.classes.index("Pneumonia")].sum() == 316
    tb = labels.read(SHARED / "tb_cxr", SHARED / "tb_cxr/labels.csv")
    assert tb.classes == ("tuberculosis",) and len(tb) == 493
