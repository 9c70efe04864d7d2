"""Laws of show: a figure is shown once, what is drawn is what was counted, bad input is drawn around."""

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from medcap_paddle import show
from medcap_paddle.drawing import words
from medcap_paddle.metrics import guards

HISTORY = {"epoch": [1, 2, 3], "train_perplexity": [9.0, 5.0, 4.0], "val_perplexity": [6.0, 4.0, 5.0], "seconds": 1.0}


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
    cv2.imwrite(str(good), np.arange(0, 240, 5, np.uint8).reshape(8, 6))
    bad.write_bytes(b"no image")
    figure = show.radiographs([good, bad, good], ["a", "b", "c"], columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", ""]
    assert [len(ax.images) for ax in figure.axes] == [1, 0, 1, 0]
    assert figure.axes[1].texts[0].get_text() == "cannot be read"
    read = show.reading([([good, bad], "heart .", [("lstm", "lungs .", None)])])
    assert [len(ax.images) for ax in read.axes[0].child_axes] == [1, 0]


def drawn(ax):
    """The words of each style that are drawn in an axes, line by line: {(color, weight): [[word, ...], ...]}."""
    found = {}
    for text in ax.texts:
        if text.get_fontfamily() == ["monospace"]:
            found.setdefault((text.get_color(), text.get_weight()), []).append(text.get_text().split())
    return found


def test_reading_writes_every_word_once_in_the_color_of_its_reliance():
    reliance = [0.0, 3.0, -0.9, 1.0, -0.1]
    written = [("$a$", "the x-ray costs $5 .", reliance), ("b", "", []), ("c", "plain .", None)]
    figure = show.reading([([], "the heart costs $5 and $6 .", written), ([], "normal .", [])])
    black, *styles = ("black", "normal"), *((b.style["color"], b.style.get("weight", "normal")) for b in words.RELIANCE)
    against, none, some, most = styles
    assert drawn(figure.axes[0]) == {
        black: [["the", "heart", "costs", "$5", "and", "$6", "."], ["(nothing)"], ["plain", "."]],
        **{against: [["costs"]], none: [["the", "."]], some: [["$5"]], most: [["x-ray"]]},
    }
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [band.label for band in words.RELIANCE]
    assert [text.get_color() for text in legend.get_texts()] == [color for color, _ in styles]
    figure.canvas.draw()  # a dollar in a title is not a formula
    with pytest.raises(ValueError, match="1 values for 2 words"):
        show.reading([([], "normal .", [("a", "normal .", [0.1])])])


def test_words_of_any_style_stand_where_the_whole_line_has_them():
    """Also where a report has several lines, and words that a line could be broken within."""
    text = " ".join(["x-xxxx", "éa", "4", "well-expanded"] * 12)
    values = np.random.default_rng(0).normal(0, 2, len(text.split()))
    [ax] = show.reading([([], "normal .", [("a", text, values)])]).axes
    layers = {}
    for layer in ax.texts:
        if layer.get_fontfamily() == ["monospace"]:
            layers.setdefault(layer.get_position(), []).append(layer.get_text())
    merged = ["".join(max(letters) for letters in zip(*lines, strict=True)) for lines in list(layers.values())[1:]]
    assert len(merged) > 2 and " ".join(merged) == text


def test_no_legend_where_no_word_has_a_number():
    assert not show.reading([([], "normal .", [("a", "normal .", None)])]).legends


def test_the_bands_are_those_of_their_labels():
    for factor, label in ((0.49, "less"), (0.51, "about"), (1.99, "about"), (2, "2 to 10"), (10, "at least 10")):
        ax = show.reading([([], "a .", [("b", "word", [np.log(factor)])])]).axes[0]
        [band] = [band for band in words.RELIANCE if band.style["color"] == ax.texts[-1].get_color()]
        assert band.label.startswith(label), factor


def test_curves_draw_what_the_history_has():
    whole = pd.DataFrame(HISTORY)
    rewarded = whole.drop(columns="train_perplexity").assign(reward=[0.1, 0.2, 0.3])
    drawn = {
        "teacher": (whole, [["train", "val", "best: 4.00, epoch 2"]]),
        "no val": (whole.drop(columns="val_perplexity"), [["train"]]),
        "rewarded": (rewarded, [["val"], ["reward"]]),
        "rewarded, no val": (rewarded.drop(columns="val_perplexity"), [["reward"]]),
        "encoder": (pd.DataFrame({"epoch": [1], "loss": [0.2], "seconds": [1.0]}), [["loss"]]),
    }
    guarded = rewarded.assign(length=[30, 31, 32], different=[0.9, 0.8, 0.7])
    drawn["guarded"] = (guarded, [["val"], ["reward"], ["length"], ["different"]])
    for name, (history, expected) in drawn.items():
        figure = show.curves(history)
        assert [[line.get_label() for line in ax.lines] for ax in figure.axes] == expected, name
        for ax in figure.axes:
            lines = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("best")}
            for label, values in lines.items():
                column = label if label in history else f"{label}_perplexity"
                assert list(values) == list(history[column])
        figure.canvas.draw()
    assert not show.curves().axes[0].lines


def test_guards_stand_in_a_row_of_small_panels():
    history = pd.DataFrame(HISTORY).assign(reward=0.5, **dict.fromkeys(guards.NAMES, 0.5))
    figure = show.curves(history)
    figure.canvas.draw()
    boxes = {ax.get_ylabel().replace(" ", "_"): ax.get_window_extent() for ax in figure.axes}
    small, large = ([boxes[name] for name in boxes if (name in guards.NAMES) == guard] for guard in (True, False))
    assert len(small) == len(guards.NAMES) and len({round(box.y0) for box in small}) == 1
    assert max(box.y1 for box in small) < min(box.y0 for box in large)
    assert max(box.height for box in small) < min(box.height for box in large)
    assert figure.get_figwidth() <= 10


def test_the_drawing_of_a_step_has_every_gate():
    [ax] = show.lstm_step().axes
    texts = [text.get_text() for text in ax.texts]
    assert {"$f$", "$i$", "$g$", "$o$", r"$\beta$", "$h_t$", "$c_t$", "word", "logits"} <= set(texts)


def test_auc_per_label_puts_the_best_on_top():
    [ax] = show.auc_per_label({"a": 0.9, "b": 0.4, "c": 0.7}).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "c", "a"]
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == pytest.approx([0.4, 0.7, 0.9])
    assert ax.get_xlim()[0] == pytest.approx(0.4)  # worse than chance is drawn too


def test_intervals_order_the_runs_by_the_first_figure():
    def run(value):
        return {"figures": {"cider": {"value": value, "low": value - 0.1, "high": value + 0.1}}}

    [ax] = show.intervals({"low": run(0.2), "high": run(0.5)}).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["low", "high"]  # from the bottom
    assert [text.get_text() for text in ax.texts] == ["0.200", "0.500"]


def test_grouped_draws_a_bar_for_each_cell():
    table = pd.DataFrame({"lstm": {"Edema (2)": 0.5, "Fracture (3)": 1.0}, "constant": {"Edema (2)": 0.0}})
    [ax] = show.grouped(table, "recall").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Edema (2)", "Fracture (3)"]
    assert [[bar.get_width() for bar in bars] for bars in ax.containers] == [[0.5, 1.0], [0.0, 0.0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["lstm", "constant"]


def test_figures_are_closed_so_that_a_notebook_shows_them_once(reports):
    show.lengths(reports, cut=60)
    show.tags(reports)
    show.lstm_step()
    assert not plt.get_fignums()
