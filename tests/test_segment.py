"""Losses and overlaps keep their laws; image and mask move together; folders, runs and commands say what they do."""

import medcap_paddle  # noqa: F401 isort: skip
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_dicom import write

from medcap_paddle.image import Preprocessing
from medcap_paddle.runtime.files import MedcapError, read_table, read_tensors
from medcap_paddle.vision import masked, masks, overlap, segment, segmenter_run
from medcap_paddle.vision.augment import Augmentation, augment, augment_masked
from medcap_paddle.vision.films import films, restored, squared
from medcap_paddle.vision.mask_losses import LOSSES, dice, dice_rare
from medcap_paddle.vision.segmentation import Plan, Segmentation, repeats, split
from medcap_paddle.vision.segmenter_run import COLUMNS
from medcap_paddle.vision.segmenters import SEGMENTERS
from medcap_paddle.vision.structures import Structured, cleaned, largest
from medcap_paddle.vision.unet import UNet

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "jsrt").exists(), reason="no radiographs beside the project")
MASKS = st.integers(0, 2**12 - 1).map(lambda n: np.array([n >> k & 1 for k in range(12)], bool).reshape(3, 4))
EMPTY, FULL = np.zeros((3, 4), bool), np.ones((3, 4), bool)


# Overlaps -------------------------------------------------------------------------------------------------------------


@given(MASKS, MASKS)
def test_overlaps_are_brute_force_counts_and_know_no_order(a, b):
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    both, either = sum(x and y for x, y in pairs), sum(x or y for x, y in pairs)
    if either:
        assert overlap.iou(a, b) == both / either
        assert overlap.dice(a, b) == 2 * both / (both + either)
        assert np.isclose(overlap.dice(a, b), 2 * overlap.iou(a, b) / (1 + overlap.iou(a, b)))
    assert overlap.measure(a, a) == {"dice": 1, "iou": 1, "hd95": 0}
    assert np.array_equal([*overlap.measure(a, b).values()], [*overlap.measure(b, a).values()], equal_nan=True)


@given(MASKS, MASKS)
def test_hausdorff_is_the_brute_force_percentile(a, b):
    def edge(mask):
        inside = {tuple(place) for place in np.argwhere(mask).tolist()}
        return [(y, x) for y, x in inside if not {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} <= inside]

    if a.any() and b.any():
        ways = [
            [min(np.hypot(p[0] - q[0], p[1] - q[1]) for q in edge(v)) for p in edge(u)] for u, v in [(a, b), (b, a)]
        ]
        assert np.isclose(overlap.hausdorff95(a, b), max(np.percentile(way, 95) for way in ways))


def test_disjoint_and_empty_masks():
    half = FULL.copy()
    half[:, 2:] = False
    assert overlap.dice(half, ~half) == overlap.iou(half, ~half) == 0
    assert overlap.measure(EMPTY, EMPTY) == {"dice": 1, "iou": 1, "hd95": 0}
    for a, b in ((EMPTY, FULL), (FULL, EMPTY)):
        assert overlap.dice(a, b) == overlap.iou(a, b) == 0 and np.isnan(overlap.hausdorff95(a, b))
    with pytest.raises(MedcapError, match="same size"):
        overlap.dice(EMPTY, EMPTY.T)


def test_hausdorff_of_a_shifted_square_is_the_shift():
    a = np.zeros((40, 40), bool)
    a[5:20, 5:20] = True
    assert overlap.hausdorff95(a, np.roll(a, 7, 1)) == 7


def test_means_count_what_is_empty_and_what_is_undefined():
    pairs = [(FULL, FULL), (FULL, EMPTY), (EMPTY, EMPTY), (EMPTY, FULL)]
    rows = [{"positive": bool(b.any()), **overlap.measure(a, b)} for a, b in pairs]
    found = overlap.means(rows, ["p", "q", "r", "s"], 200)
    assert (found["images"], found["positive"], found["undefined"]) == (4, 2, 2)
    assert found["dice"]["value"] == 0.5 and found["dice_positive"]["value"] == 0.5
    assert found["hd95"]["value"] == 0
    assert found["dice"]["low"] < 0.5 < found["dice"]["high"]
    one_patient = overlap.means(rows, ["p"] * 4, 200)["dice"]
    assert one_patient["low"] == one_patient["high"] == 0.5  # images of one patient are not four patients


# Losses ---------------------------------------------------------------------------------------------------------------


def sample(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, [2, 2, 4, 5]).astype("float32"), (rng.random([2, 2, 4, 5]) < 0.4).astype("float32")


@pytest.mark.parametrize("name", LOSSES)
class TestLoss:
    def test_is_a_number_for_every_structure_of_every_image(self, name):
        logits, targets = map(paddle.to_tensor, sample())
        values = LOSSES[name](logits, targets)
        assert values.shape == [2, 2] and (values > 0).all()
        alone = LOSSES[name](logits[1:, :1], targets[1:, :1])
        assert np.isclose(values[1, 0].item(), alone.item())

    def test_is_0_where_the_network_is_sure_and_right_and_greatest_where_it_is_wrong(self, name):
        _, targets = sample()
        sure = paddle.to_tensor((targets * 2 - 1) * 30)
        right, wrong = LOSSES[name](sure, paddle.to_tensor(targets)), LOSSES[name](-sure, paddle.to_tensor(targets))
        assert (right < 1e-4).all() and (wrong > 0.8).all()
        empty = paddle.zeros([1, 1, 4, 5])
        assert LOSSES[name](empty - 30, empty).item() < 1e-4

    def test_gradient_is_the_numeric_one_and_a_step_against_it_lowers_the_loss(self, name):
        start, targets = sample()
        logits = paddle.to_tensor(start.astype("float64"), stop_gradient=False)
        targets = paddle.to_tensor(targets.astype("float64"))
        loss = LOSSES[name](logits, targets).sum()
        loss.backward()
        gradient, step = logits.grad.numpy(), 1e-5
        for place in itertools.islice(np.ndindex(*start.shape), 0, None, 13):
            moved = [logits.detach().numpy().copy() for _ in range(2)]
            moved[0][place] += step
            moved[1][place] -= step
            up, down = (LOSSES[name](paddle.to_tensor(values), targets).sum().item() for values in moved)
            assert np.isclose((up - down) / (2 * step), gradient[place], rtol=1e-4, atol=1e-8)
        after = LOSSES[name](logits.detach() - 0.1 * logits.grad, targets).sum()
        assert after.item() < loss.item()
        assert (gradient[targets.numpy() > 0] < 0).all()  # up where something is


def test_losses_are_brute_force_sums():
    logits, targets = sample()
    p, t = 1 / (1 + np.exp(-logits[0, 0].astype(float))).ravel(), targets[0, 0].ravel()
    there = np.where(t > 0, p, 1 - p)
    expected = {
        "cross_entropy": -np.log(there).mean(),
        "focal": -((1 - there) ** 2 * np.log(there)).mean(),
        "dice": 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1),
    }
    expected["cross_entropy_focal_dice"] = sum(expected.values())
    rare = 1 - (2 * (p * t).sum() + 0.1) / (p.sum() + t.sum() + 0.1)  # .5% of 20 pixels
    expected["cross_entropy_dice_rare"] = expected["cross_entropy"] + rare
    for name, value in expected.items():
        assert np.isclose(LOSSES[name](*map(paddle.to_tensor, (logits, targets)))[0, 0].item(), value, rtol=1e-5)


def test_a_wrong_mask_of_what_is_absent_is_pulled_down_by_the_rare_loss():
    """The gradient of a wrong pixel, where 400 of 6,400 are predicted and none is there."""
    slopes = {}
    for loss in (dice, dice_rare):
        logits = paddle.to_tensor(np.where(np.arange(6400) < 400, 1.0, -9.0).reshape(1, 1, 80, 80))
        logits.stop_gradient = False
        loss(logits, paddle.zeros_like(logits)).sum().backward()
        slopes[loss] = logits.grad[0, 0, 0, 0].item()
    assert slopes[dice_rare] > 10 * slopes[dice] > 0


# Image and mask together ----------------------------------------------------------------------------------------------


def test_image_and_mask_move_alike():
    """A picture that is itself a mask stays one where no tone changes."""
    picture = np.zeros((60, 80), np.uint8)
    picture[10:40, 20:35] = 255
    masks = np.stack([picture > 0, ~(picture > 0)])
    how = Augmentation((0.8, 1.3), turn=0.4, shift=0.1, gamma=0, noise=0, mirror=True)
    results = set()
    for seed in range(12):
        moved, both = augment_masked(picture, masks, np.random.default_rng(seed), how)
        assert np.array_equal(moved > 127, both[0])
        results.add(both[0].tobytes())
        assert not (both[0] & both[1]).any()
    assert len(results) == 12
    full = augment_masked(picture, masks, np.random.default_rng(0))[0]
    assert np.array_equal(augment(picture, np.random.default_rng(0)), full)


@pytest.mark.parametrize("shape", [(50, 80), (80, 50), (64, 64), (20, 30)])
def test_a_mask_comes_back_from_the_square_where_it_was(shape):
    mask = np.zeros(shape, bool)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = True
    square = squared(mask.astype(np.uint8) * 255, Preprocessing(64)) > 127
    back = restored(square.astype(np.float32), shape) > 0.5
    assert back.shape == shape and overlap.dice(back, mask) > 0.85
    assert overlap.hausdorff95(back, mask) <= 1.5


# Folders --------------------------------------------------------------------------------------------------------------


def disks(folder, count=12, structures=("heart",), shape=(40, 48), seed=0):
    """Noise with a bright disk, and its mask under every name."""
    rng = np.random.default_rng(seed)
    for part in ("images", *(f"masks/{name}" for name in structures)):
        (folder / part).mkdir(parents=True, exist_ok=True)
    y, x = np.indices(shape)
    for k in range(count):
        mask = (y - rng.uniform(12, 28)) ** 2 + (x - rng.uniform(12, 36)) ** 2 < rng.uniform(6, 11) ** 2
        pixels = rng.integers(20, 70, shape) + 120 * mask
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"images/p{k}.png")
        for name in structures:
            Image.fromarray(mask).save(folder / f"masks/{name}/p{k}.png")
    return folder


def test_what_is_not_drawn_is_not_empty(tmp_path):
    disks(tmp_path, 3, ("heart", "left_lung", "right_lung"))
    (tmp_path / "masks/heart/p1.png").unlink()
    Image.new("1", (48, 40)).save(tmp_path / "masks/heart/p2.png")
    found = films(masked.items(tmp_path), ["heart", "lungs"], Preprocessing(32))
    assert found.known.tolist() == [[True, True], [False, True], [True, True]]
    assert found.masks[:, 0].any((1, 2)).tolist() == [True, False, False]


def test_folders_that_cannot_be_meant_are_refused(tmp_path):
    with pytest.raises(MedcapError, match="no radiographs with masks"):
        masked.items(tmp_path)
    disks(tmp_path, 2)
    mask = tmp_path / "masks/heart/p1.png"
    wrong = {
        r"\[40, 50\], its image \[40, 48\]": Image.new("1", (50, 40)),
        "a mask has two": Image.fromarray(np.arange(1920, dtype=np.uint16).reshape(40, 48).astype(np.uint8)),
    }
    for words, picture in wrong.items():
        picture.save(mask)
        with pytest.raises(MedcapError, match=words):
            masked.items(tmp_path)[1].load()
    mask.write_bytes(b"no mask")
    with pytest.raises(MedcapError, match="p1.png is not readable as a mask"):
        masked.items(tmp_path)[1].load()
    mask.rename(mask.with_name("other.png"))
    with pytest.raises(MedcapError, match="other.png has no image"):
        masked.items(tmp_path)


def test_patients_stay_together(tmp_path):
    disks(tmp_path, 40)
    rows = "".join(f"p{k}.png,patient {k // 4}\n" for k in range(40))
    (tmp_path / "metadata.csv").write_text("image,patient\n" + rows)
    _, table = split([tmp_path], 0)
    parts = {}
    for _, _, _, patient, part in table:
        parts.setdefault(patient, set()).add(part)
    assert len(parts) == 10 and all(len(found) == 1 for found in parts.values())
    assert set.union(*parts.values()) == {"train", "tune", "val"}
    assert split([tmp_path], 0)[1] == table


@needs_shared
def test_the_folders_beside_the_project_are_read():
    jsrt, tb = masked.items(SHARED / "jsrt"), masked.items(SHARED / "tb_cxr")
    assert set(jsrt[0].masks) == {"heart", "left_lung", "right_lung", "clavicles"} and set(tb[0].masks) == {"lungs"}
    _, masks = jsrt[0].load()
    centre = {name: np.nonzero(mask)[1].mean() for name, mask in masks.items()}
    assert centre["right_lung"] < centre["heart"] < centre["left_lung"]  # the patient's sides
    _, masks = tb[0].load()
    assert 0.1 < masks["lungs"].mean() < 0.6


# Training and the commands --------------------------------------------------------------------------------------------


def task_of(tmp_path, batch_size=4):
    disks(tmp_path, 6, ("heart", "left_lung", "right_lung"))
    for k in (0, 3):
        (tmp_path / f"masks/heart/p{k}.png").unlink()
    names = ["heart", "left_lung", "lungs", "right_lung"]
    how = replace(SEGMENTERS["unet"].at(64) and SEGMENTERS["unet"], preprocessing=Preprocessing(32))
    how = replace(how, settings=replace(how.settings, batch_size=batch_size))
    paddle.seed(0)
    network = Structured(UNet(3, width=4, depth=2, padded=True), names)
    found = films(masked.items(tmp_path), names, how.preprocessing)
    return Segmentation(network, found, found, how, "cross_entropy_dice")


def test_parts_of_a_batch_add_up_and_missing_structures_teach_nothing(tmp_path):
    task = task_of(tmp_path, 6)
    [(rows, batch, share)] = task.batches(1)
    whole, numbers = task.loss(task.module, batch, slice(0, rows), share)
    parts = [task.loss(task.module, batch, part, share)[0].item() for part in (slice(0, 2), slice(2, 6))]
    assert np.isclose(sum(parts), whole.item(), rtol=1e-5)
    assert numbers[1].item() == 6 * 4 - 2 and np.isclose(whole.item(), numbers[0].item() / 22, rtol=1e-5)
    images, masks, known = batch
    other = paddle.where(known[..., None, None] > 0, masks, 1 - masks)
    assert task.loss(task.module, [images, other, known], slice(0, rows), share)[0].item() == whole.item()


def run(*arguments, capsys=None):
    argv, sys.argv = sys.argv, ["segment", *map(str, arguments)]
    try:
        segment.main()
    finally:
        sys.argv = argv


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learnt to find disks, its folder of images, and its history."""
    data, out = disks(tmp_path_factory.mktemp("data"), 40), tmp_path_factory.mktemp("run") / "disks"
    settings = replace(SEGMENTERS["unet"].settings, epochs=8, learning_rate=5e-3, warmup=0.0)
    return out, data, segment.train(Plan((data,), out, settings=settings, size=64))


def test_training_raises_the_dice_and_keeps_the_best_epoch(trained):
    out, data, history = trained
    assert history.tune_heart.max() > 0.6 > history.tune_heart.min()
    assert np.allclose(history.tune_error, 1 - history.tune_heart)
    found = segment.evaluate(segment.load(out), [data], out)
    [facts] = [facts for by_name in found.values() for facts in by_name.values()]
    assert facts["images"] == 5 and facts["dice"]["value"] > 0.5  # an eighth of the images, never the learnt ones


def test_predict_writes_a_mask_of_the_image_s_size_a_structure(trained, tmp_path, capsys):
    out, data, _ = trained
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="broken.png is not a readable PNG.*\n1 images were left out"):
        run("predict", out, data / "images/p3.png", tmp_path / "broken.png", "--out", tmp_path / "out")
    assert "masks of heart for 1 images" in capsys.readouterr().out
    with Image.open(tmp_path / "out/heart/p3.png") as mask:
        assert mask.size == (48, 40) and mask.mode == "1"
        drawn = np.asarray(mask)
    with Image.open(data / "masks/heart/p3.png") as mask:
        assert overlap.dice(drawn, np.asarray(mask)) > 0.5
    assert (tmp_path / "out/overlays/p3.png").exists()


def test_images_of_one_name_are_refused_before_anything_is_written(trained, tmp_path):
    out, data, _ = trained
    with pytest.raises(SystemExit, match="would have the same mask p3.png"):
        run("predict", out, data / "images", data / "images/p3.png", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_is_refused_where_it_was_changed_and_images_where_they_were_learnt(trained, tmp_path):
    out, data, _ = trained
    learnt = tmp_path / "learnt"
    table = read_table(out / "images.csv", COLUMNS, "")
    for part in ("images", "masks/heart"):
        (learnt / part).mkdir(parents=True)
        for name in table.image[table.split == "train"]:
            (learnt / part / f"other_{name}").write_bytes((data / part / name).read_bytes())
    with pytest.raises(MedcapError, match="has learnt from all images"):
        segment.evaluate(segment.load(out), [learnt], out)
    config = (out / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"heart"', '"lungs"'))
    with pytest.raises(MedcapError, match="changed by hand"):
        segment.load(tmp_path)


# A run as a file ------------------------------------------------------------------------------------------------------


def test_a_packed_run_draws_the_same_and_knows_what_it_has_learnt(trained, tmp_path):
    """In half precision: a few pixels at a border may differ."""
    out, data, _ = trained
    file = tmp_path / "disks.safetensors"
    run("pack", out, "--out", file, "--note", "drawn here")
    whole, packed = segment.load(out), segment.load(file)
    assert (packed.names, packed.learnt, packed.preprocessing) == (whole.names, whole.learnt, whole.preprocessing)
    assert len(packed.learnt) == 35 and read_tensors(file, "")[1]["note"] == "drawn here"
    pixels, _ = masked.items(data)[0].load()
    with segmenter_run.drawer(whole, 1) as a, segmenter_run.drawer(packed, 1) as b:
        assert overlap.dice(a(pixels)["heart"], b(pixels)["heart"]) > 0.95
    run("evaluate", file, data, "--out", tmp_path / "measured")
    assert len((tmp_path / "measured/overlaps.csv").read_text().splitlines()) == 1 + 5
    with pytest.raises(SystemExit, match="--out where the run is a file"):
        run("evaluate", file, data)


def test_films_drawn_together_have_the_masks_they_have_alone(trained):
    """Nine of several sizes are two batches; order and keys stay."""
    out, data, _ = trained
    network = segment.load(out)
    pixels = masked.items(data)[0].load()[0]
    films = {k: pixels[: len(pixels) - k] for k in range(segmenter_run.AT_ONCE + 1)}
    together = [*segmenter_run.drawn(network, films.items(), len(films))]
    assert [key for key, *_ in together] == [*films]
    with segmenter_run.drawer(network, len(films)) as draw:
        for key, film, found in together:
            assert film is films[key] and found.keys() == draw(film).keys()
            assert all(overlap.dice(mask, draw(film)[name]) > 0.999 for name, mask in found.items())


def test_an_image_stored_anew_in_a_folder_of_the_same_name_counts_as_learnt(trained, tmp_path):
    out, data, _ = trained
    again = tmp_path / data.name
    for part in ("images", "masks/heart"):
        (again / part).mkdir(parents=True)
        for path in sorted((data / part).iterdir()):
            with Image.open(path) as picture:
                picture.save(again / part / path.name, optimize=True, comment="anew", compress_level=1)
    network = segment.load(out)
    assert len(network.unseen(masked.items(again))) == len(network.unseen(masked.items(data))) == 5


def test_a_run_continues_from_one_on_smaller_images(trained, tmp_path):
    out, data, history = trained
    settings = replace(SEGMENTERS["unet"].settings, epochs=1, learning_rate=1e-4)
    more = segment.train(Plan((data,), tmp_path, settings=settings, size=96, start=out))
    assert more.tune_heart[0] > history.tune_heart[0]  # not from scratch


def test_run_lengths_are_those_of_the_masks_in_both_conventions(trained, tmp_path):
    out, data, _ = trained
    for form in ("siim", "kaggle"):
        run("predict", out, data / "images", "--out", tmp_path / form, "--run-lengths", form)
        runs = masks.read_csv(tmp_path / form / "heart.csv", (40, 48), form)
        assert len(runs) == 40
        for name, found in runs.items():
            assert np.array_equal(found.mask(), masks.read_png(tmp_path / form / f"heart/{name}.png"))


def test_a_dicom_and_a_folder_are_drawn_and_without_a_run_by_the_shipped_network(trained, tmp_path, capsys):
    out, data, _ = trained
    (tmp_path / "films").mkdir()
    write(tmp_path / "films/1.2.3.dcm", np.random.default_rng(0).integers(0, 4096, (60, 50)).astype(np.uint16))
    run("predict", out, tmp_path / "films", data / "images/p3.png", "--out", tmp_path / "own")
    assert masks.read_png(tmp_path / "own/heart/1.2.3.png").shape == (60, 50)
    run("predict", "shipped", tmp_path / "films", "--out", tmp_path / "ours")
    run("predict", tmp_path / "films", "--out", tmp_path / "same")
    names = {"heart", "left_lung", "right_lung", "lungs", "clavicles"}
    for folder in ("ours", "same"):
        assert {path.parent.name for path in (tmp_path / folder).rglob("1.2.3.png")} == names | {"overlays"}
    assert "masks of clavicles, heart, left_lung, lungs, right_lung for 1 images" in capsys.readouterr().out


@needs_shared
def test_the_shipped_network_says_what_it_has_learnt_from_and_is_small():
    network, facts = segment.load(), read_tensors(segment.SHIPPED, "")[1]
    assert segment.SHIPPED.stat().st_size < 10e6 and all(word in facts["note"] for word in ("JSRT", "SCR", "Shenzhen"))
    for folder, count in (("jsrt", 20), ("tb_cxr", 62)):
        found = masked.items(SHARED / folder)
        unseen = network.unseen(found)
        assert len(unseen) == count and {item.place for item in found} - {item.place for item in unseen} <= set(
            network.learnt.values()
        )


@needs_shared
def test_the_shipped_network_draws_films_that_it_has_not_learnt_from():
    unseen = segment.load().unseen(masked.items(SHARED / "jsrt"))[:3]
    rows = [*segment.measured(segment.load(), unseen)]
    least = {"lungs": 0.95, "left_lung": 0.95, "right_lung": 0.95, "heart": 0.88, "clavicles": 0.75}
    assert len(rows) == 15 and all(row["dice"] > least[row["structure"]] for row in rows)


def test_rare_structures_are_shown_more_often():
    present = np.zeros((16, 2), bool)
    present[:, 0], present[:4, 1] = True, True
    assert repeats(present).tolist() == [2] * 4 + [1] * 12  # the root of 1 / a quarter
    assert (repeats(np.ones((3, 2), bool)) == 1).all() and (repeats(np.zeros((3, 2), bool)) == 1).all()


def test_a_network_begins_with_images_that_show_the_structure(trained, tmp_path):
    found = films(masked.items(trained[1]), ["heart"], Preprocessing(32))
    found.masks[::2] = False
    assert len(found.showing(0)) == 20 and found.showing(0).masks.any((1, 2, 3)).all()
    with pytest.raises(MedcapError, match="nodule is not learnt: choose heart"):
        segment.train(Plan((trained[1],), tmp_path, size=64, showing="nodule"))


def test_specks_are_removed_and_a_union_follows():
    left, right = np.zeros((2, 20, 30), bool)
    left[5:15, 20:28], left[0, 0] = True, True
    right[5:15, 2:9] = True
    found = cleaned({"left_lung": left, "lungs": left | right, "right_lung": right, "other": left})
    assert list(found) == ["left_lung", "lungs", "right_lung", "other"]
    assert found["left_lung"].sum() == 80 and not found["lungs"][0, 0] and found["other"][0, 0]
    assert np.array_equal(found["lungs"], found["left_lung"] | found["right_lung"])
    assert not largest(left & False).any() and largest(left, 2).sum() == 81
