"""Laws of masks: run lengths in two conventions, and pictures of 1 bit a pixel."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import masks
from medcap_paddle.vision.masks import RUN_LENGTHS, decode, encode

SHARED = Path(__file__).parents[2] / "shared"
FORMS = list(RUN_LENGTHS)
HAND = np.array([[0, 1, 0], [1, 1, 0]], bool)  # down the columns: 0 1 | 1 1 | 0 0


def random_mask(rng: np.random.Generator) -> np.ndarray:
    """From empty to full, from one pixel to 40 x 40, in runs of any length."""
    shape = tuple(int(n) for n in rng.integers(1, 41, 2))
    mask = rng.random(shape) < rng.choice([0, 0.02, 0.5, 0.9, 1])
    return np.repeat(np.repeat(mask, rng.integers(1, 4), 0), rng.integers(1, 4), 1)


def brute_force(cell: str, shape: tuple[int, int], form: str) -> np.ndarray:
    """Pixel by pixel, as the two conventions are told in words."""
    height, width = shape
    numbers, mask, end = [int(word) for word in cell.split()], np.zeros(shape, bool), 0
    for number, length in [] if cell in ("", "-1") else zip(numbers[::2], numbers[1::2], strict=True):
        start = number - 1 if form == "kaggle" else end + number
        for pixel in range(start, end := start + length):
            assert pixel < height * width
            mask[pixel % height, pixel // height] = True
    return mask


# --- run lengths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_random_masks_come_back(form):
    rng = np.random.default_rng(0)
    empty = 0
    for _ in range(1000):
        mask = random_mask(rng)
        cell = encode(mask, form)
        assert np.array_equal(decode(cell, mask.shape, form), mask)
        assert np.array_equal(brute_force(cell, mask.shape, form), mask)
        assert (cell == RUN_LENGTHS[form].none) == (not mask.any())
        empty += not mask.any()
    assert 0 < empty < 500


def test_the_conventions_as_they_are_told():
    """Kaggle: start from 1 and length. SIIM-ACR: the gap since the end of the run before, and length."""
    assert encode(HAND, "kaggle") == "2 3" and encode(HAND, "siim") == "1 3"
    two = np.array([[1, 0, 1], [1, 0, 1]], bool)  # 1 1 | 0 0 | 1 1
    assert encode(two, "kaggle") == "1 2 5 2" and encode(two, "siim") == "0 2 2 2"
    assert encode(two[:, 1:2], "kaggle") == "" and encode(two[:, 1:2], "siim") == "-1"
    example = "387620 23 996 33 986 43 977 51 968 58 962 65 956 70 952 74 949 76 946 79"  # of the challenge's page
    mask = decode(example, (1024, 1024), "siim")
    rows, columns = mask.nonzero()
    assert mask.sum() == 23 + 33 + 43 + 51 + 58 + 65 + 70 + 74 + 76 + 79
    assert sorted(set(columns)) == list(range(378, 388))  # a column each: one region
    assert all(np.diff(np.sort(rows[columns == column])).max() == 1 for column in set(columns))


@pytest.mark.parametrize("form", FORMS)
def test_every_number_that_is_not_zero_is_of_the_mask(form):
    assert encode(HAND.astype(np.uint8) * 255, form) == encode(HAND.astype(np.float32), form) == encode(HAND, form)
    with pytest.raises(MedcapError, match=r"expected a mask \[H, W\]"):
        encode(np.zeros((2, 2, 3)), form)


@pytest.mark.parametrize(
    "cell, form, reason",
    [
        ("1 2 3", "siim", "3 numbers are not pairs"),
        ("1 a", "siim", "'a' is not a whole number"),
        ("1 2.0", "kaggle", "'2.0' is not a whole number"),
        ("1 2 -1 2", "siim", "'-1' is not a whole number"),
        ("1 0", "siim", "run 1 has no pixel"),
        ("1 3 3 2", "kaggle", r"two runs overlap at pixel 2 .*\"siim\""),
        ("4 4", "siim", "outside of the 6 pixels"),
        ("4 4", "kaggle", "outside of the 6 pixels"),
        ("0 1", "kaggle", "outside of the 6 pixels"),
        ("9" * 5000 + " 1", "siim", "outside of the 6 pixels"),
        ("1 " + "9" * 30, "kaggle", "outside of the 6 pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused(cell, form, reason):
    with pytest.raises(MedcapError, match=reason):
        decode(cell, (2, 3), form)


def test_runs_of_kaggle_may_come_in_any_order():
    assert np.array_equal(decode("5 2 1 2", (2, 3), "kaggle"), decode("1 2 5 2", (2, 3), "kaggle"))


def test_the_wrong_convention_does_not_pass_on_a_lung():
    """Of a region that is as large as those of the challenge, each convention refuses what the other wrote."""
    y, x = np.indices((256, 256))
    region = (((y - 100) / 60) ** 2 + ((x - 180) / 25) ** 2) < 1
    for form, other in (FORMS, FORMS[::-1]):
        with pytest.raises(MedcapError, match=f'read it as "{form}"'):
            decode(encode(region, form), region.shape, other)
    with pytest.raises(MedcapError, match="use one of kaggle, siim"):
        encode(region, "coco")


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_table_comes_back_with_its_regions_joined(tmp_path, form):
    rng = np.random.default_rng(1)
    whole = {f"图 {k}": rng.random((12, 9)) < 0.4 * (k % 3) for k in range(9)}
    left = np.arange(9) < 4
    masks.write_csv(tmp_path / "rle.csv", [(k, m & part) for k, m in whole.items() for part in (left, ~left)], form)
    lines = (tmp_path / "rle.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "ImageId,EncodedPixels" and len(lines) == 1 + 3 + 2 * 6  # three have no pixel: a row each
    found = masks.read_csv(tmp_path / "rle.csv", (12, 9), form)
    assert list(found) == list(whole)
    for image, runs in found.items():
        assert np.array_equal(runs.mask(), whole[image])


def test_the_header_and_cells_of_the_challenge_are_read(tmp_path):
    """Its table has a blank behind each comma. Regions that two readers drew may overlap: any of them counts."""
    (tmp_path / "rle.csv").write_text("ImageId, EncodedPixels\na, -1\nb, 1 3\nb, 0 2\nc,-1\n")
    found = masks.read_csv(tmp_path / "rle.csv", {"a": (2, 3), "b": (2, 3), "c": (1, 1)})
    assert {image: runs.mask().sum() for image, runs in found.items()} == {"a": 0, "b": 4, "c": 0}
    assert found["b"].write() == "0 4"


@pytest.mark.parametrize(
    "rows, reason",
    [
        ("a,0 1\nb,1 2 3\n", r"row 2 \(b\): 3 numbers are not pairs"),
        ("a,5 3\n", r"row 1 \(a\): a run lies outside"),
        ("c,0 1\n", "row 1: the size of c is not known"),
        (",0 1\n", "row 1 has no ImageId"),
        ("a,0 1\na,-1\n", "row 2: a has a region in one row and none in another"),
        ("a,-1\na,0 1\n", "row 2: a has a region in one row and none in another"),
        ("a,0 1,2\n", "line 2 has 3 cells"),
    ],
)
def test_a_table_that_cannot_be_meant_names_file_and_row(tmp_path, rows, reason):
    (tmp_path / "rle.csv").write_text("ImageId,EncodedPixels\n" + rows)
    with pytest.raises(MedcapError, match=rf"rle\.csv.*{reason}"):
        masks.read_csv(tmp_path / "rle.csv", {"a": (2, 3), "b": (2, 3)})


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_mask_is_a_png_of_one_bit(tmp_path):
    mask = np.random.default_rng(0).random((31, 17)) < 0.3
    masks.write_png(tmp_path / "deep/m.png", mask)
    with Image.open(tmp_path / "deep/m.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "1", (17, 31))
    assert np.array_equal(masks.read_png(tmp_path / "deep/m.png", (31, 17)), mask)
    with pytest.raises(MedcapError, match=r"m\.png is \[H, W\] = \[31, 17\], its image \[17, 31\]"):
        masks.read_png(tmp_path / "deep/m.png", (17, 31))


def kinds(mask):
    """The same mask as pictures of other kinds."""
    colour = np.where(mask[..., None], [200, 0, 3], 0).astype(np.uint8)
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # index 1 is black
    yield "gray", Image.fromarray(mask.astype(np.uint8) * 255), mask
    yield "ones", Image.fromarray(mask.astype(np.uint8)), mask
    yield "deep", Image.fromarray(mask.astype(np.uint16)), mask
    yield "colour", Image.fromarray(colour), mask
    yield "palette", palette, ~mask


def test_whatever_is_not_black_is_of_the_mask(tmp_path):
    mask = np.random.default_rng(0).random((8, 9)) < 0.4
    for name, picture, wanted in kinds(mask):
        picture.save(tmp_path / f"{name}.png")
        assert np.array_equal(masks.read_png(tmp_path / f"{name}.png"), wanted), name
    for value in (False, True):
        masks.write_png(tmp_path / "all.png", np.full((3, 4), value))
        assert (masks.read_png(tmp_path / "all.png") == value).all()


def test_a_picture_that_may_mean_something_else_is_refused(tmp_path):
    rng, mask = np.random.default_rng(0), np.eye(16, dtype=bool)
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[..., 3] = mask * 255  # black everywhere: the mask is its transparency
    pictures = {
        "levels.png": (Image.fromarray(rng.integers(0, 9, (16, 16), dtype=np.uint8)), "has 9 values, a mask has two"),
        "blurred.jpg": (Image.fromarray(mask.astype(np.uint8) * 255), "values, a mask has two.*read_labels"),
        "gray.png": (Image.fromarray(mask.astype(np.uint8) + 1), "values 1 and 2, and none is 0"),
        "clear.png": (Image.fromarray(clear), "transparent pixels"),
    }
    for name, (picture, reason) in pictures.items():
        picture.save(tmp_path / name)
        with pytest.raises(MedcapError, match=rf"{name} .*{reason}"):
            masks.read_png(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "levels.png").read_bytes()[:60])
    with pytest.raises(MedcapError, match=r"broken\.png is not readable as a mask"):
        masks.read_png(tmp_path / "broken.png")
    with pytest.raises(MedcapError, match=r"nothing\.png not found"):
        masks.read_png(tmp_path / "nothing.png")


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_are_one_mask_a_structure(tmp_path, mode):
    numbers = np.random.default_rng(0).integers(0, 4, (7, 5), dtype=np.uint8)
    picture = Image.fromarray(numbers, mode)
    if mode == "P":
        picture.putpalette([9] * 12)  # all of one colour: the index is the label
    picture.save(tmp_path / "labels.png")
    found = masks.read_labels(tmp_path / "labels.png", {"heart": 1, "left_lung": 2, "right_lung": 3})
    assert list(found) == ["heart", "left_lung", "right_lung"]
    for number, mask in enumerate(found.values(), 1):
        assert np.array_equal(mask, numbers == number)
    with pytest.raises(MedcapError, match=r"labels\.png has the label 3, expected 0 or heart 1, left_lung 2"):
        masks.read_labels(tmp_path / "labels.png", {"heart": 1, "left_lung": 2})


def test_sixteen_bits_a_colour_are_refused(tmp_path):
    """PIL would keep the upper eight, and a mask of ones would be empty."""
    cv2.imwrite(str(tmp_path / "deep.png"), np.repeat(np.eye(8, dtype=np.uint16)[..., None], 3, 2))
    with pytest.raises(MedcapError, match=r"deep\.png is not readable as a mask \(it has 16 bits a colour\)"):
        masks.read_png(tmp_path / "deep.png")


@pytest.mark.skipif(not (SHARED / "jsrt").exists(), reason="the JSRT images lie beside the project, if at all")
@pytest.mark.parametrize("form", FORMS)
def test_masks_of_real_radiographs_come_back(form):
    for path in sorted((SHARED / "jsrt/masks").glob("*/JPCLN00[1-4].png")):
        mask = masks.read_png(path, (512, 512))
        assert 0.005 < mask.mean() < 0.5
        assert np.array_equal(decode(encode(mask, form), mask.shape, form), mask)
