"""Laws of the phantom's masks: they lie where the painter painted, and change nothing of what is painted."""

import csv
import json
from functools import cache

import cv2
import numpy as np
import pytest

from medcap_paddle import phantom
from medcap_paddle.clinical.findings import Finding
from medcap_paddle.phantom import __main__ as command
from medcap_paddle.phantom import anatomy, pneumothorax
from medcap_paddle.phantom.body import SIGN
from medcap_paddle.phantom.draw import draw
from medcap_paddle.runtime.drawing import is_drawing
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision.masks import read_csv, read_png

SIZE = 160
OTHER = {"left": "right", "right": "left"}
SEEDS = range(6)
CASES = [case for case in pneumothorax.plan(60, seed=1) if case.positive]  # 13, of all sizes


@cache
def masks(*findings: Finding, seed: int = 0) -> dict[str, np.ndarray]:
    return anatomy.masks(findings, seed, SIZE)


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2)) > 0


def shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    return ~grown(~mask, by)


# --- masks and pictures -----------------------------------------------------------------------------------------------


def test_masks_change_nothing_of_the_picture():
    findings = [Finding("nodule", "left", "scattered"), Finding("pneumothorax", "right"), Finding("scoliosis")]
    before = draw(findings, "frontal", 3, SIZE)
    first, second = anatomy.masks(findings, 3, SIZE), anatomy.masks(iter(findings), 3, SIZE)
    assert np.array_equal(draw(findings, "frontal", 3, SIZE), before)
    assert all(np.array_equal(first[name], second[name]) for name in anatomy.STRUCTURES)
    nothing = {"fold": dict.fromkeys(SIGN, 0.0), "apical": dict.fromkeys(SIGN, 0.0)}
    assert np.array_equal(draw(findings, "frontal", 3, SIZE, changes=nothing), before)


@pytest.mark.parametrize("seed", SEEDS)
def test_structures_lie_in_the_picture_and_apart(seed):
    findings = Finding("pleural effusion", "right"), Finding("pneumothorax", "left"), Finding("nodule", "right")
    for found in (masks(seed=seed), masks(*findings, seed=seed)):
        assert list(found) == list(anatomy.STRUCTURES)
        assert all(mask.shape == (SIZE, SIZE) and mask.dtype == bool for mask in found.values())
        left, right, heart = (found[name] for name in ("left_lung", "right_lung", "heart"))
        assert not (left & right).any() and not (heart & (left | right)).any()
        assert 0.06 < left.mean() < right.mean() < 0.25 and 0.03 < heart.mean() < 0.12  # the heart lies to the left
        x = np.arange(SIZE)
        assert (right.sum(0) @ x) / right.sum() < SIZE / 2 < (left.sum(0) @ x) / left.sum()
    absent = ("pneumothorax", "effusion", "nodule")
    assert not any(masks(seed=seed)[name].any() for name in absent)
    assert all(found[name].any() for name in absent)


@pytest.mark.parametrize("structure", ["left_lung", "right_lung"])
def test_a_mask_of_a_lung_fits_its_picture_better_than_a_shifted_one(structure):
    """Inside it is darker than in a seam around it; of all shifts by a few pixels, none tells them apart better."""

    def contrast(picture, mask):
        seam = grown(mask, 3) & ~grown(mask, 1)
        return picture[seam].mean() - picture[shrunk(mask, 1) & ~shrunk(mask, 4)].mean()

    for seed in SEEDS:
        picture, mask = draw([], "frontal", seed, SIZE).astype(float), masks(seed=seed)[structure]
        shifted = [np.roll(mask, (dy, dx), (0, 1)) for dx in (-6, 0, 6) for dy in (-6, 0, 6) if dx or dy]
        assert contrast(picture, mask) > 5 + max(contrast(picture, moved) for moved in shifted)


@pytest.mark.parametrize(
    "finding, structure",
    [
        (Finding("nodule", "right", "upper lobe", "severe"), "nodule"),
        (Finding("nodule", "", "scattered"), "nodule"),
        (Finding("pleural effusion", "left", "", "severe"), "effusion"),
        (Finding("blunted costophrenic angle", "bilateral"), "effusion"),
    ],
)
@pytest.mark.parametrize("take", [0, 1])
def test_a_mask_is_where_its_finding_changes_the_picture(finding, structure, take):
    """Also when the patient stood otherwise for another exposure."""
    for seed in SEEDS:
        pictures = [draw(found, "frontal", seed, SIZE, take).astype(int) for found in ([], [finding])]
        changed = np.abs(pictures[1] - pictures[0]) > 12
        mask = anatomy.masks([finding], seed, SIZE, take)[structure]
        assert not (changed & ~grown(mask, 3)).any()
        assert changed[shrunk(mask, 2)].mean() > (0.9 if structure == "nodule" else 0.6)  # the heart is white already


def test_an_effusion_lies_at_the_base():
    rows = np.arange(SIZE)[:, None]
    for seed in SEEDS:
        for side in SIGN:
            found = masks(Finding("pleural effusion", side), seed=seed)
            lung, fluid = found[f"{side}_lung"], found["effusion"]
            assert (fluid & lung).sum() > 0.5 * fluid.sum() and not (fluid & found[f"{OTHER[side]}_lung"]).any()
            assert (fluid * rows).sum() / fluid.sum() > np.quantile(np.nonzero(lung)[0], 0.85)
            more = masks(Finding("pleural effusion", side, "", "severe"), seed=seed)["effusion"]
            assert more.sum() > fluid.sum() and not (fluid & ~more).any()


# --- pneumothorax -----------------------------------------------------------------------------------------------------


def of(case, size=SIZE):
    return anatomy.masks(case.findings, case.patient, size, changes=case.changes)


def test_the_air_of_a_pneumothorax_lies_within_the_lung_of_its_side():
    for case in CASES:
        found, sides = of(case), case.findings[0].sides
        air = found["pneumothorax"]
        assert air.any() and not (air & ~np.any([found[f"{side}_lung"] for side in sides], 0)).any()
        assert all((air & found[f"{side}_lung"]).any() for side in sides)


def test_it_takes_from_a_thin_cap_to_more_than_half_of_a_lung_on_either_side():
    share, sides = [], set()
    for case in (case for case in pneumothorax.plan(300) if case.positive):
        found, (side, *_) = of(case), case.findings[0].sides
        lung = found[f"{side}_lung"]
        share.append((found["pneumothorax"] & lung).sum() / lung.sum())
        sides.add(case.findings[0].side)
    assert 0.005 < min(share) < 0.03 and 0.55 < max(share) < 0.8 and 0.06 < np.median(share) < 0.3
    assert sides == {"left", "right", "bilateral"}


def test_apical_air_lies_over_the_apex():
    rows = np.arange(SIZE)[:, None]
    for case in (case for case in CASES if any(case.changes["apical"].values())):
        found, (side, *_) = of(case), case.findings[0].sides
        lung = np.nonzero(found[f"{side}_lung"])[0]
        air = found["pneumothorax"] & found[f"{side}_lung"]
        assert (air * rows).sum() / air.sum() < np.quantile(lung, 0.3)
        low = lung.min() + (case.changes["apical"][side] + 0.1) * (lung.max() - lung.min())
        assert np.nonzero(air)[0].max() < low


def test_no_vessels_are_seen_in_the_air():
    """Their edges are fewer there than in the other lung; a mask that is shuffled to another patient loses that."""
    size, own, shuffled = 256, [], []
    sides = ["left", "right"] * 4
    found = []
    for seed, side in enumerate(sides):
        findings = [Finding("pneumothorax", side, "", "severe")]
        picture = cv2.GaussianBlur(draw(findings, "frontal", seed, size).astype(np.float32), (0, 0), 1)
        mask = anatomy.masks(findings, seed, size)
        edges = np.abs(cv2.Laplacian(picture, cv2.CV_32F))
        found.append((edges, shrunk(mask["pneumothorax"], 3), shrunk(mask[f"{OTHER[side]}_lung"], 3)))
    for k, (edges, air, other) in enumerate(found):
        own.append(edges[air].mean() / edges[other].mean())
        shuffled.append(edges[found[(k + 1) % len(found)][1]].mean() / edges[other].mean())
    assert max(own) < 0.9 and np.mean(own) < 0.8 * np.mean(shuffled)
    assert all(mine < moved for mine, moved in zip(own, shuffled, strict=True))


def test_the_share_is_that_of_the_challenge_and_signs_that_confuse_are_on_both_sides():
    for images in (1, 9, 50, 400):
        positive = [case.positive for case in pneumothorax.plan(images, seed=images)]
        assert len(positive) == images and sum(positive) == round(0.22 * images)
    cases = pneumothorax.plan(400)
    assert len({case.patient for case in cases}) == 400
    for name in ("bulla", "fold"):
        share = [
            np.mean([name in {f.name for f in c.findings} or (name == "fold" and any(c.changes["fold"].values()))
                     for c in cases if c.positive == positive])
            for positive in (False, True)
        ]  # fmt: skip
        assert all(0.1 < value < 0.35 for value in share)


def test_a_fold_of_the_skin_changes_the_picture_and_no_mask():
    for seed in SEEDS:
        changes = {"fold": {"right": 1.0, "left": 0.0}}
        folded, plain = (draw([], "frontal", seed, SIZE, changes=c).astype(int) for c in (changes, None))
        changed = np.abs(folded - plain) > 5
        assert 50 < changed[:, : SIZE // 2].sum() and changed[:, SIZE // 2 :].sum() == 0
        assert all(np.array_equal(a, masks(seed=seed)[k]) for k, a in anatomy.masks([], seed, SIZE, 0, changes).items())


# --- the collection ---------------------------------------------------------------------------------------------------


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_collection_holds_what_it_says(tmp_path, monkeypatch):
    arguments = [str(tmp_path / "in"), "--pneumothorax", "18", "--seed", "2", "--size", "64"]
    monkeypatch.setattr("sys.argv", ["phantom", *arguments])
    command.main()
    folder, cases = tmp_path / "in", {case.name: case for case in pneumothorax.plan(18, seed=2)}
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{name}.png" for name in cases]
    assert len({row["patient"] for row in rows}) == 18 and sum(row["pneumothorax"] == "1" for row in rows) == 4
    runs = read_csv(folder / "train-rle.csv", (64, 64))
    for row in rows:
        case = cases[row["image"][:-4]]
        assert is_drawing(folder / "images" / row["image"])
        picture = cv2.imread(str(folder / "images" / row["image"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(picture, draw(case.findings, "frontal", case.patient, 64, changes=case.changes))
        for name, mask in of(case, 64).items():
            assert np.array_equal(read_png(folder / "masks" / name / row["image"], (64, 64)), mask)
        air = runs[case.name].mask()
        assert np.array_equal(air, of(case, 64)["pneumothorax"]) and air.any() == (row["pneumothorax"] == "1")


def test_it_is_the_same_whatever_the_number_of_processes_and_resumes(tmp_path):
    one, two = (pneumothorax.make(tmp_path / str(n), 18, seed=3, size=48, workers=n) for n in (1, 2))
    whole = content(one)
    assert whole == content(two)
    before = {path: path.stat().st_mtime_ns for path in one.rglob("*.png")}
    pneumothorax.make(one, 18, seed=3, size=48)  # already there
    assert before == {path: path.stat().st_mtime_ns for path in one.rglob("*.png")}

    kept, *lost = sorted(one.glob("images/*.png"))
    marker = one / "phantom.json"
    marker.write_text(marker.read_text().replace('"complete": true', '"complete": false'))
    for path in (*lost, one / "train-rle.csv"):
        path.unlink()
    pneumothorax.make(one, 18, seed=3, size=48, workers=1)
    assert content(one) == whole and kept.stat().st_mtime_ns == before[kept]


def test_it_replaces_what_this_package_made_and_nothing_else(tmp_path):
    folder = phantom.make(tmp_path / "in", studies=2, seed=3, size=32, workers=1)
    pneumothorax.make(folder, 2, size=32, workers=1)
    assert not (folder / "ecgen-radiology").exists() and len(list(folder.glob("images/*.png"))) == 2
    assert json.loads((folder / "phantom.json").read_text())["collection"] == "pneumothorax"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/film.png").write_text("")
    with pytest.raises(MedcapError, match="holds another collection"):
        pneumothorax.make(tmp_path / "other", 2)
    with pytest.raises(MedcapError, match="0 images are no collection"):
        pneumothorax.make(tmp_path / "none", 0)
