"""Laws of the baselines: they see nothing, score what they promise, and a model on blinded studies loses its images."""

import numpy as np
import pandas as pd
import pytest
from made_up_predictions import texts

from medcap_paddle import baselines
from medcap_paddle.baselines import BASELINES, best_constant
from medcap_paddle.dataset import Studies
from medcap_paddle.evaluate import read_predictions
from medcap_paddle.metrics import ngrams
from medcap_paddle.runtime.files import MedcapError

SCORES = {"cider": ngrams.constant_cider, "bleu4": lambda *sides: ngrams.constant_bleu(*sides)[:, 3]}


def studies(count, seed, reports=None):
    """Studies of 1 to 3 views, with two inputs of which the second is the first in a grid."""
    rng = np.random.default_rng(seed)
    pooled = [rng.normal(size=[rng.integers(1, 4), 8]).astype("float32") for _ in range(count)]
    ids = [f"S{seed}_{i}" for i in range(count)]
    table = pd.DataFrame({"study_id": ids, "report": reports or texts(count, seed, (3, 8))})
    grid = [np.repeat(views[:, None], 4, 1) for views in pooled]
    return Studies(table, {"pooled": pooled, "grid": grid}, [[1, 2]] * count, 0)


TRAIN, VAL, TEST = (studies(count, seed) for count, seed in ((60, 1), (30, 2), (20, 3)))


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_the_best_constant_beats_every_frequent_report(score):
    train, val = texts(60, 10, (3, 8)), texts(30, 11, (3, 8))
    best = best_constant(train, val, score)
    assert score(val, [best])[0] >= score(val, train[:50]).max()


def test_a_constant_of_several_sentences_is_found():
    sentences = ["the heart is normal .", "the lungs are clear .", "no effusion ."]
    train = [f"{a} {b}" for a in sentences for b in sentences if a != b]
    val = [" ".join(sentences)] * 3 + ["left effusion ."]
    for score in SCORES.values():
        assert best_constant(train, val, score) == " ".join(sentences)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_writes_a_run_of_train_texts_that_can_be_evaluated(name, tmp_path):
    predictions = baselines.write(name, tmp_path, TRAIN, VAL, TEST)
    table = read_predictions(tmp_path / name / "predictions.csv")
    assert list(table.columns) == ["study_id", "reference", "prediction"]
    assert list(table.study_id) == list(TEST.table.study_id) and list(table.reference) == list(TEST.table.report)
    assert list(table.prediction) == predictions == BASELINES[name](TRAIN, VAL, TEST, 0)
    words = {word for text in TRAIN.table.report for word in text.split()}
    assert {word for text in predictions for word in text.split()} <= words


def test_the_neighbour_of_a_train_study_is_itself():
    assert BASELINES["neighbour"](TRAIN, VAL, TRAIN, 0) == list(TRAIN.table.report)
    other = studies(5, 4)
    del other.inputs["pooled"]
    with pytest.raises(MedcapError, match='needs the input "pooled"'):
        BASELINES["neighbour"](TRAIN, VAL, other, 0)


def test_random_reports_are_those_of_their_seed():
    first, again, other = (BASELINES["random"](TRAIN, VAL, TEST, seed) for seed in (1, 1, 2))
    assert first == again != other and set(first) <= set(TRAIN.table.report)


def test_the_most_frequent_report_is_written_for_all():
    reports = ["a .", "b .", "b .", "c ."]
    assert BASELINES["frequent"](studies(4, 5, reports), VAL, TEST, 0) == ["b ."] * 20


def test_a_baseline_from_outside_is_written_and_one_text_a_study_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(BASELINES, "shortest", lambda train, *_: [min(train.table.report, key=len)] * len(TEST))
    assert len(set(baselines.write("shortest", tmp_path, TRAIN, VAL, TEST))) == 1
    monkeypatch.setitem(BASELINES, "one", lambda *_: ["a ."])
    with pytest.raises(ValueError, match="one wrote 1 texts for 20 studies"):
        baselines.write("one", tmp_path, TRAIN, VAL, TEST)


def test_shuffled_studies_have_the_inputs_of_another_one_and_keep_their_text():
    blind = baselines.shuffled(TEST)
    assert blind.table is TEST.table and blind.tokens is TEST.tokens
    places = {id(views): i for i, views in enumerate(TEST.inputs["pooled"])}
    taken = [places[id(views)] for views in blind.inputs["pooled"]]
    assert sorted(taken) == list(range(20)) and all(i != j for i, j in enumerate(taken))
    for i, j in enumerate(taken):
        assert blind.inputs["grid"][i] is TEST.inputs["grid"][j], "all inputs come from the same study"


def test_the_mean_image_is_the_same_for_every_study():
    blind = baselines.mean_image(TEST, TRAIN)
    assert all(views is blind.inputs["pooled"][0] for views in blind.inputs["pooled"])
    expected = np.concatenate(TRAIN.inputs["pooled"]).mean(0, dtype="float64")
    np.testing.assert_allclose(blind.inputs["pooled"][0][0], expected, rtol=1e-6)
    assert blind.inputs["grid"][0].shape == (1, 4, 8) and len(blind.inputs["grid"]) == len(TEST)
