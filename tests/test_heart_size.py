"""Measurements of drawn masks whose answers are known, and what the words of a report say beside them."""

import medcap_paddle  # noqa: F401 isort: skip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dicom import write

from medcap_paddle.clinical.heart_size import heart_size
from medcap_paddle.phantom.draw import draw
from medcap_paddle.runtime import drawing
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import anatomy, measure

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "jsrt").exists(), reason="no radiographs beside the project")


def rectangle(rows, columns, shape=(100, 120)):
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def chest(**changed):
    """The heart is 40 wide, the chest 100: .4. The lungs are 40 x 60 and 30 x 60."""
    masks = {
        "heart": rectangle((50, 80), (45, 85)),
        "right_lung": rectangle((20, 80), (10, 50)),
        "left_lung": rectangle((20, 80), (80, 110)),
    }
    return masks | changed


def test_ratio_areas_and_symmetry_of_a_known_chest():
    found = anatomy.measure(chest())
    assert (found.heart, found.thorax) == ((45, 85), (10, 110))
    assert found.ratio == 0.4 and not found.enlarged
    assert (found.right_area, found.left_area, found.symmetry) == (2400, 1800, 0.75)
    assert anatomy.measure(chest(heart=rectangle((50, 80), (40, 95)))).enlarged


def test_the_widths_are_the_greatest_at_any_height():
    """The heart is widest below the place where the chest is: both extents count."""
    lung = rectangle((20, 80), (10, 50)) | rectangle((70, 75), (0, 50))
    heart = rectangle((50, 80), (45, 85)) | rectangle((60, 62), (40, 90))
    found = anatomy.measure(chest(heart=heart, right_lung=lung))
    assert found.heart == (40, 90) and found.thorax == (0, 110)


@pytest.mark.parametrize("shift", [(0, 5), (10, -5), (-15, 8)])
def test_moving_the_patient_changes_nothing(shift):
    moved = {name: np.roll(mask, shift, (0, 1)) for name, mask in chest().items()}
    before, after = anatomy.measure(chest()), anatomy.measure(moved)
    assert (after.ratio, after.symmetry) == (before.ratio, before.symmetry)


@pytest.mark.parametrize("scale", [2, 3])
def test_larger_pixels_change_nothing_but_areas(scale):
    large = {name: np.kron(mask, np.ones((scale, scale), bool)) for name, mask in chest().items()}
    before, after = anatomy.measure(chest()), anatomy.measure(large)
    assert (after.ratio, after.symmetry) == (before.ratio, before.symmetry)
    assert after.right_area == scale**2 * before.right_area


FAILURES = {
    "heart is empty": chest(heart=np.zeros((100, 120), bool)),
    "right lung is empty": chest(right_lung=np.zeros((100, 120), bool)),
    "left lung is a speck": chest(left_lung=rectangle((20, 30), (80, 85))),
    "no mask of the left lung": {name: mask for name, mask in chest().items() if name != "left_lung"},
    "may be mirrored": {name: mask[:, ::-1] for name, mask in chest().items()},
    "in the right half of the chest": chest(heart=rectangle((50, 80), (25, 65))),
    "one lung is hidden": chest(left_lung=rectangle((20, 80), (98, 110))),
    "no frontal film": chest(left_lung=rectangle((60, 90), (80, 110)), right_lung=rectangle((5, 65), (10, 50))),
    "beyond the lungs": chest(heart=rectangle((50, 80), (45, 115))),
}


@pytest.mark.parametrize("words", FAILURES)
def test_what_cannot_be_measured_is_refused_in_words(words):
    with pytest.raises(MedcapError, match=words):
        anatomy.measure(FAILURES[words])


# Beside the words -----------------------------------------------------------------------------------------------------

WORDS = {
    "normal": [
        "heart size is normal",
        "The heart is normal in size.",
        "No cardiomegaly.",
        "cardiac silhouette is unremarkable .",
        "the heart is not enlarged",
        "lungs are clear . heart size and mediastinal contours are within normal limits .",
    ],
    "enlarged": ["mild cardiomegaly", "The lungs are normal. The heart is enlarged.", "heart size is mildly enlarged"],
    "borderline": ["heart size is top normal", "heart size at the upper limits of normal", "borderline cardiomegaly"],
    "": ["the lungs are clear", "heart size is not normal", "normal heart rate", "congestive heart failure", ""],
}


@pytest.mark.parametrize("size", WORDS)
def test_what_a_report_says_of_the_heart(size):
    assert {words: heart_size(words) for words in WORDS[size]} == dict.fromkeys(WORDS[size], size)


def test_words_and_ratio_disagree_where_both_cannot_be_right():
    assert "normal, but its ratio is 0.58, above 0.50" in measure.disagreement("heart size is normal .", 0.58)
    assert "enlarged, but its ratio is 0.42, below 0.50" in measure.disagreement("there is cardiomegaly .", 0.42)
    for words, ratio in (
        ("heart size is normal", 0.44),
        ("cardiomegaly", 0.6),
        ("heart is borderline", 0.7),
        ("", 0.7),
    ):
        assert not measure.disagreement(words, ratio)


@pytest.mark.parametrize("offset", [-0.9, 0.0, 0.9])
def test_near_the_threshold_nothing_is_said(offset):
    ratio = anatomy.ENLARGED + offset * measure.UNSURE
    assert not measure.disagreement("heart size is normal", ratio) and not measure.disagreement("cardiomegaly", ratio)


def test_the_picture_has_a_line_as_wide_as_the_heart():
    masks = chest()
    found = anatomy.measure(masks)
    plain, lined = (measure.picture(np.zeros((100, 120), np.uint8), masks, given) for given in (None, found))
    widths = {int(row.sum()) for row in (lined == measure.YELLOW).all(2) if row.any()}
    assert widths == {found.heart[1] - found.heart[0], found.thorax[1] - found.thorax[0]}
    assert not (plain == measure.YELLOW).all(2).any()


# Films ----------------------------------------------------------------------------------------------------------------


def test_what_is_no_frontal_radiograph_is_refused_in_words(tmp_path):
    """A drawing, a lateral view and a broken file: no ratio, and no exception either."""
    Image.fromarray(draw([], "frontal", 3, size=128)).save(tmp_path / "drawn.png", pnginfo=drawing.mark())
    write(
        tmp_path / "LL.dcm", np.random.default_rng(0).integers(0, 4096, (96, 96)).astype(np.uint16), ViewPosition="LL"
    )
    (tmp_path / "broken.png").write_bytes(b"no image")
    reasons = {"drawn.png": "is a drawing", "LL.dcm": "of view LL", "broken.png": "not a readable"}
    for film, words in zip(measure.measured([tmp_path / name for name in reasons]), reasons.values(), strict=True):
        assert film.anatomy is None and words in film.sentence and "not measured" in film.sentence


def test_a_film_from_the_front_is_not_judged():
    large = anatomy.measure(chest(heart=rectangle((50, 80), (35, 100))))
    for view, judged in (("PA", True), ("", True), ("AP", False)):
        film = measure.Measured("film", np.zeros((100, 120), np.uint8), {}, large, view=view)
        assert bool(film.doubt("heart size is normal")) == judged and ("not judged" in film.sentence) != judged


@needs_shared
def test_a_radiograph_is_measured_and_its_mirror_image_is_refused(tmp_path):
    path = SHARED / "jsrt/images/JPCLN001.jpg"
    with Image.open(path) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    film, mirrored = measure.measured([path, tmp_path / "mirrored.png"])
    assert 0.3 < film.anatomy.ratio < 0.7 and "cardiothoracic ratio 0." in film.sentence
    words = "cardiomegaly" if film.anatomy.ratio < anatomy.ENLARGED else "heart size is normal"
    lines = measure.beside([path], words, tmp_path / "out")
    assert (tmp_path / "out/JPCLN001.png").exists() and "its picture" in lines[-1]
    assert measure.near(film.anatomy.ratio) or "warning: the words call the heart" in lines[1]
    assert mirrored.anatomy is None and "may be mirrored" in mirrored.sentence
