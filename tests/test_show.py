"""Laws of show: a figure is shown once, what is drawn is what was counted, bad input is drawn around."""

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from medcap_paddle import show


@pytest.fixture
def reports():
    return pd.DataFrame(
        {
            "split": ["train", "train", "train", "val"],
            "report": ["a .", "a b c .", " ".join(["a"] * 200), "a ."],
            "mesh": ["normal", "Opacity/lung/left;Opacity/lung/right", "Opacity;Nodule", ""],
        }
    )


def test_lengths_counts_what_the_cut_shortens(reports):
    [ax] = show.lengths(reports, cut=4).axes
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text.split(":")[0] for text in legend] == ["train", "val"]
    assert "66.7% cut" in legend[0] and "0.0% cut" in legend[1]
    heights = [polygon.get_xy()[:, 1].max() for polygon in ax.patches]
    assert heights[0] == pytest.approx(200 / 3) and heights[1] == pytest.approx(100)  # the longest report is drawn too


def test_tags_counts_a_heading_once_a_study(reports):
    [ax] = show.tags(reports, top=2).axes
    bars = {label.get_text(): bar.get_width() for label, bar in zip(ax.get_yticklabels(), ax.patches, strict=True)}
    assert bars == {"normal": 25.0, "Opacity": 50.0}
    assert show.tags(reports.assign(mesh="")).axes


def test_an_image_that_cannot_be_read_leaves_the_others(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    cv2.imwrite(str(good), np.zeros((8, 6), np.uint8))
    bad.write_bytes(b"no image")
    figure = show.radiographs([good, bad, good], ["a", "b", "c"], columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", ""]
    assert [len(ax.images) for ax in figure.axes] == [1, 0, 1, 0]
    assert figure.axes[1].texts[0].get_text() == "cannot be read"
    read = show.reading([([good, bad], "heart .", [("lstm", "lungs .")])])
    assert [len(ax.images) for ax in read.axes[0].child_axes] == [1, 0]


def test_figures_are_closed_so_that_a_notebook_shows_them_once(reports):
    show.lengths(reports, cut=60)
    show.tags(reports)
    assert not plt.get_fignums()
