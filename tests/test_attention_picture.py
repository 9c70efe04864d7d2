"""Laws of the picture of attention: a panel a word, the map over the square that the encoder saw, one scale for all."""

import numpy as np
import pytest

from medcap_paddle.drawing import attention

FILM = np.full([20, 10], 200, "uint8")


def drawn(weights, words):
    return [ax for ax in attention.words(FILM, words, np.array(weights, "float32"), columns=2).axes if ax.images]


def test_a_panel_a_word_with_its_share_of_this_view():
    panels = drawn([[0.5, 0, 0, 0], [0, 0.1, 0.1, 0.1], [0, 0, 0, 1]], ["$a", "b", "c"])
    assert [ax.get_title().strip() for ax in panels] == ["$a", "b", "c"]
    assert [ax.texts[0].get_text() for ax in panels] == ["50%", "30%", "100%"]


def test_the_map_covers_the_square_around_the_film():
    [ax] = drawn([[0, 0.5, 0, 0]], ["a"])
    film, places = ax.images
    assert places.get_extent() == [-5, 15, 20, 0] and ax.get_xlim() == (0, 10)
    assert film.get_array().max() < 200  # darkened
    assert np.asarray(places.get_array()).round(3).tolist() == [[0, 1], [0, 0]]


def test_one_scale_for_all_words():
    faint, strong = drawn([[0.1, 0.1, 0.1, 0.1], [0.8, 0, 0, 0]], ["a", "b"])
    assert np.asarray(faint.images[1].get_array()).max() == pytest.approx(0.125)
    assert np.asarray(strong.images[1].get_array()).max() == pytest.approx(1)


def test_nothing_looked_at_is_drawn_too():
    assert len(drawn([[0, 0, 0, 0]], ["a"])) == 1


@pytest.mark.parametrize("shape", [(2, 4), (1, 5)])
def test_weights_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        attention.words(FILM, ["a"], np.zeros(shape))
