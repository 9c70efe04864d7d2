"""Measurements of drawn masks whose answers are known."""

import numpy as np
import pytest

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import anatomy


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
    assert anatomy.measure(chest(heart=rectangle((50, 80), (30, 85)))).enlarged


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
    "beyond the lungs": chest(heart=rectangle((50, 80), (45, 115))),
}


@pytest.mark.parametrize("words", FAILURES)
def test_what_cannot_be_measured_is_refused_in_words(words):
    with pytest.raises(MedcapError, match=words):
        anatomy.measure(FAILURES[words])
