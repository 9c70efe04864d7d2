"""Laws of retrieval: never itself, its patient, val or test; the order of train is nothing; medoids agree best."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from made_up_predictions import texts
from test_baselines import studies

from medcap_paddle import baselines
from medcap_paddle.baselines import BASELINES
from medcap_paddle.dataset import Studies
from medcap_paddle.evaluate import read_predictions
from medcap_paddle.knowledge import retrieval
from medcap_paddle.knowledge.retrieval import DISTANCES, Index, RetrievalSettings
from medcap_paddle.metrics import ngrams
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.splits import tune_part

TRAIN, TEST = studies(60, 1), studies(20, 3)
BOTH = pytest.mark.parametrize("settings", [RetrievalSettings(distance=name) for name in DISTANCES])


def with_columns(of: Studies, **columns) -> Studies:
    return Studies(of.table.assign(**columns), of.inputs, of.tokens, of.pad)


def joined(*parts: Studies) -> Studies:
    inputs = {name: [views for part in parts for views in part.inputs[name]] for name in parts[0].inputs}
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Studies(table, inputs, [ids for part in parts for ids in part.tokens], 0)


@BOTH
def test_the_nearest_are_those_of_brute_force(settings):
    known, asked = (retrieval.vectors(s).astype(float) for s in (TRAIN, TEST))
    mean, deviation = known.mean(0), known.std(0)
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    if settings.distance == "cosine":
        known, asked = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (known, asked))
    distance = ((asked[:, None] - known[None]) ** 2).sum(-1)
    for k in (1, 7):
        expected = distance.argsort(1, kind="stable")[:, :k]
        np.testing.assert_array_equal(Index.of(TRAIN, settings).search(TEST, k), expected)


@BOTH
def test_a_study_never_finds_itself(settings):
    """Also where train holds it, and where it is asked for with all of train."""
    planted = joined(TRAIN, TEST)
    for asked in (TEST, planted):
        found = Index.of(planted, settings).search(asked, 30)
        own = planted.table.study_id.to_numpy()[found] == asked.table.study_id.to_numpy()[:, None]
        assert not own.any()
    assert len(set(found[0])) == 30


@BOTH
def test_a_study_never_finds_its_patient(settings):
    """The others of the patient are the same images: nothing is nearer."""
    copy = with_columns(TEST, study_id=[f"again {i}" for i in range(20)], patient=[f"P{i}" for i in range(20)])
    train = joined(with_columns(TRAIN, patient=""), copy)
    asked = with_columns(TEST, patient=[f"P{i}" for i in range(20)])
    found = train.table.study_id.to_numpy()[Index.of(train, settings).search(asked, 5)]
    assert not (found == copy.table.study_id.to_numpy()[:, None]).any()
    unknown = with_columns(TEST, patient="")  # of nobody known: the copies are the nearest
    first = train.table.study_id.to_numpy()[Index.of(train, settings).search(unknown, 1)[:, 0]]
    assert list(first) == list(copy.table.study_id)


@BOTH
def test_the_order_of_train_changes_nothing(settings):
    """Two of a kind are in it, so that there are ties."""
    twins = joined(TRAIN, with_columns(TRAIN, study_id=[f"twin {i}" for i in range(60)]))
    order = np.random.default_rng(0).permutation(120)
    other = retrieval.take(twins, order)
    ids = [s.table.study_id.to_numpy()[Index.of(s, settings).search(TEST, 9)] for s in (twins, other)]
    np.testing.assert_array_equal(*ids)
    assert retrieval.medoids(twins, TEST, settings, [9]) == retrieval.medoids(other, TEST, settings, [9])


@pytest.mark.parametrize("split", ["val", "test"])
def test_only_train_is_indexed(split):
    with pytest.raises(MedcapError, match=f"studies of {split} cannot be indexed"):
        Index.of(with_columns(TRAIN, split=["train"] * 59 + [split]))


def test_what_cannot_be_found_is_refused():
    with pytest.raises(MedcapError, match="S1_0 has 59 train studies of other patients"):
        Index.of(TRAIN).search(TRAIN, 60)
    with pytest.raises(MedcapError, match="'hamming': use one of cosine, euclidean"):
        Index.of(TRAIN, RetrievalSettings(distance="hamming"))
    with pytest.raises(MedcapError, match='needs the input "logits"'):
        Index.of(TRAIN, RetrievalSettings(array="logits"))


def test_the_medoid_of_equal_reports_is_that_report_and_of_one_the_nearest():
    same = with_columns(TRAIN, report="the heart is normal .")
    assert set(retrieval.medoids(same, TEST, ks=[5])[5]) == {"the heart is normal ."}
    nearest = TRAIN.table.report.to_numpy()[Index.of(TRAIN).search(TEST, 1)[:, 0]]
    assert retrieval.medoids(TRAIN, TEST, ks=[1])[1] == list(nearest)


def test_the_medoid_agrees_best_with_the_others_by_cider():
    reports = texts(7, 5, (3, 8))
    frequency = ngrams.document_frequency(texts(50, 6, (3, 8)))
    agreement = retrieval.agreement(reports, frequency)
    for place, text in enumerate(reports):
        others = reports[:place] + reports[place + 1 :]
        by_hand = ngrams.cider(others, [text] * 6, frequency)
        np.testing.assert_allclose(np.delete(agreement[:, place], place), by_hand, atol=1e-9)
    means = [(agreement[:, j].sum() - agreement[j, j]) / 6 for j in range(7)]
    assert retrieval.medoid(agreement) == int(np.argmax(means))


def test_the_medoids_of_several_k_are_those_of_each():
    together = retrieval.medoids(TRAIN, TEST, ks=[1, 3, 8])
    assert all(retrieval.medoids(TRAIN, TEST, ks=[k])[k] == together[k] for k in together)
    assert {text for each in together.values() for text in each} <= set(TRAIN.table.report)


def test_the_tune_part_is_a_tenth_of_the_patients_whatever_the_order():
    ids = [f"S{i}" for i in range(200)]
    part = tune_part(ids, 0)
    assert len(part) == 20 and part < set(ids) and part == tune_part(ids[::-1], 0) != tune_part(ids, 1)
    patient_of = {study: f"P{i // 4}" for i, study in enumerate(ids)}
    part = tune_part(ids, 0, patient_of)
    assert len(part) == 20 and not {patient_of[s] for s in part} & {patient_of[s] for s in set(ids) - part}
    assert len(tune_part(["S1", "S2"], 0)) == 1


def test_settings_are_chosen_without_val_and_tune_finds_nothing_of_itself(monkeypatch):
    rest, tune = retrieval.split_tune(TRAIN, 0)
    assert sorted([*rest.table.study_id, *tune.table.study_id]) == sorted(TRAIN.table.study_id)
    assert set(tune.table.study_id) == tune_part(TRAIN.table.study_id, 0)
    best, table = retrieval.choose(TRAIN, 0, ks=[1, 2, 4])
    assert best.k == table.k.iloc[0] and list(table["CIDEr novel"]) == sorted(table["CIDEr novel"], reverse=True)
    asked = []
    monkeypatch.setattr(
        retrieval, "medoids", lambda train, s, *_: asked.append((train, s)) or {1: list(s.table.report)}
    )
    retrieval.choose(TRAIN, 0)
    assert set(asked[0][0].table.study_id) == set(rest.table.study_id)


def test_the_medoid_is_a_run_that_can_be_evaluated(tmp_path):
    predictions = baselines.write("medoid", tmp_path, TRAIN, TEST, TEST)
    assert list(read_predictions(tmp_path / "medoid/predictions.csv").prediction) == predictions
    assert set(predictions) <= set(TRAIN.table.report) and {"medoid", "template"} <= set(BASELINES)


def test_faiss_lives_beside_paddle_and_says_nothing():
    """Both bring threads of their own; loaded in either order both compute, and nothing is logged."""
    code = (
        "import medcap_paddle, logging; logging.basicConfig(level=logging.INFO)\n"
        "import numpy as np\n"
        "def a():\n"
        "    from medcap_paddle.knowledge.retrieval import _faiss\n"
        "    index = _faiss().IndexFlatIP(64); x = np.eye(64, dtype='float32'); index.add(x)\n"
        "    assert (index.search(x, 1)[1][:, 0] == np.arange(64)).all()\n"
        "def b():\n"
        "    import paddle; assert float(paddle.ones([64, 64]).matmul(paddle.ones([64, 64])).sum()) == 64 ** 3\n"
    )
    for order in ("a(); b(); a()", "b(); a(); b()"):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code + order], capture_output=True, text=True)
        assert done.returncode == 0 and "faiss" not in done.stderr, done.stderr
