"""Encoder and decoder keep the seam and see no padding; IMPRESSION and FINDINGS of a collection, none lost unsaid."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from collections import Counter
from pathlib import Path

import iu_xray
import numpy as np
import paddle
import pandas as pd
import pytest

from medcap_paddle import generate
from medcap_paddle.beam_search import beam_search
from medcap_paddle.config import Config, GenerationSettings, TrainingSettings
from medcap_paddle.evaluate import read_predictions
from medcap_paddle.loss import token_nll
from medcap_paddle.metrics import METRICS, comparison
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.sequence import impressions, seq2seq

IU_XRAY = Path(__file__).resolve().parents[2] / "shared" / "iu_xray"
V, BOS, EOS = 11, 0, 1
WORDS = np.array([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0], [4, 4, 4, 0, 0]], "float32")
TOKENS = paddle.to_tensor(np.array([[BOS, 5, 6, 7], [BOS, 4, 4, EOS], [BOS, 9, 3, 2]]))
SETTINGS = {name: seq2seq.Seq2Seq.Settings(16, 12, 2, attention) for name, attention in {"none": 0, "with": 8}.items()}


def inputs(words=WORDS):
    return {seq2seq.WORDS: paddle.to_tensor(words)}


@pytest.fixture(params=SETTINGS)
def model(request):
    model = seq2seq.build(SETTINGS[request.param], V, seed=1)
    model.eval()
    return model


# the network ----------------------------------------------------------------------------------------------------------


def test_stepping_is_teacher_forcing(model):
    logits, state = model(inputs(), TOKENS), model.init_state(inputs())
    assert all(part.shape[0] == 3 for part in state)
    for t in range(TOKENS.shape[1]):
        step, state = model.step(TOKENS[:, t], state)
        assert np.allclose(step, logits[:, t], atol=1e-5)


def test_padding_changes_nothing(model):
    wide = np.pad(WORDS, [(0, 0), (0, 4)])
    whole = model(inputs(), TOKENS).numpy()
    assert np.allclose(model(inputs(wide), TOKENS), whole, atol=1e-5)
    for row, length in enumerate((5, 2, 3)):
        alone = model(inputs(WORDS[row : row + 1, :length]), TOKENS[row : row + 1])
        assert np.allclose(alone[0], whole[row], atol=1e-5)


def test_another_word_changes_the_answer(model):
    other = WORDS.copy()
    other[:, 0] = 10
    assert np.abs(model(inputs(), TOKENS).numpy() - model(inputs(other), TOKENS).numpy()).max() > 1e-4


def test_a_text_without_words_is_answered(model):
    logits, _ = model.step(TOKENS[:, 0], model.init_state(inputs(np.zeros([3, 4], "float32"))))
    assert bool(paddle.isfinite(logits).all())


def test_weights_are_shares_of_the_words_that_are_there():
    model = seq2seq.build(SETTINGS["with"], V)
    model.eval()
    weights = model.attention(inputs(), TOKENS).numpy()  # [B, T, N]
    assert weights.shape == (3, 4, 5)
    assert (weights.transpose(0, 2, 1)[WORDS == 0] == 0).all() and (weights.transpose(0, 2, 1)[WORDS > 0] > 0).all()
    assert np.allclose(weights.sum(-1), 1, atol=1e-6)
    nothing = model.attention(inputs(np.zeros([3, 4], "float32")), TOKENS).numpy()
    assert (nothing == 0).all()


def test_without_attention_there_are_no_weights():
    with pytest.raises(ValueError, match="without attention"):
        seq2seq.build(SETTINGS["none"], V).attention(inputs(), TOKENS)


def test_the_loss_begins_near_that_of_an_even_guess(model):
    model.output.weight.set_value(model.output.weight * 0)
    assert np.allclose(token_nll(model(inputs(), TOKENS), TOKENS), np.log(V), atol=1e-5)


def test_beam_of_one_is_greedy(model):
    settings = GenerationSettings(beam_size=1, min_length=0, length_penalty=0.0, no_repeat_ngram=0)
    found = [places[0][0] for places in beam_search(model, inputs(), BOS, EOS, settings, max_length=6)]
    state, token, greedy = model.init_state(inputs()), paddle.full([3], BOS, "int64"), [[], [], []]
    for _ in range(6):
        logits, state = model.step(token, state)
        token = logits.argmax(-1)
        for ids, one in zip(greedy, token.tolist(), strict=True):
            ids.append(one)
    assert found == [ids[: ids.index(EOS)] if EOS in ids else ids for ids in greedy]


# the data -------------------------------------------------------------------------------------------------------------


def texts(number, **sections):
    return iu_xray.study(number, f"The heart {number % 3} is seen.", images=0, **sections)


def test_a_collection_needs_no_images_and_loses_nothing(data, tmp_path):
    studies = [texts(n, IMPRESSION=f"No disease {n}.") for n in range(1, 7)] + [texts(7), texts(8, IMPRESSION="XXXX.")]
    iu_xray.collection(data, [*studies, texts(9, IMPRESSION="Not in the split.")])
    iu_xray.annotate(data, train=[1, 2, 3, 4, 7], val=[5, 8], test=[6, 10])
    table, left_out = impressions.table(data, tmp_path)
    assert list(table.study_id) == [f"CXR{n}" for n in range(1, 7)] + (["CXR8"] if len(table) == 7 else [])
    assert dict(zip(table.study_id, table.split, strict=True))["CXR6"] == "test"
    assert table.report[0] == "no disease 1 ." and table.findings[0] == "the heart 1 is seen ."
    assert left_out["not in annotation.json"] == left_out["in annotation.json, not in the collection"] == 1
    assert len(table) + left_out.total() == 10


def test_the_tables_of_notebook_01_are_the_other_source(tmp_path):
    columns = ["study_id", "split", "patient", "findings", "impression"]
    rows = [["A", "train", "", "Clear lungs.", "Normal."], ["B", "train", "", "Clear lungs.", ""]]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "reports.csv", index=False)
    table, left_out = impressions.table("", tmp_path)
    assert list(table.report) == ["normal ."] and left_out == Counter({"no IMPRESSION": 1})


def test_nothing_to_learn_from_is_said(data, tmp_path):
    with pytest.raises(MedcapError, match="reports.csv not found: run 01_reports.ipynb"):
        impressions.table("", tmp_path)
    iu_xray.collection(data, [texts(n) for n in range(5)])
    with pytest.raises(MedcapError, match=r"no train study .*no IMPRESSION: 5.*give a collection"):
        impressions.table(data, tmp_path)


@pytest.fixture(scope="module")
def made_up():
    """The conclusion is the word that FINDINGS hold at any place."""
    rng, rows = np.random.default_rng(0), []
    for number in range(60):
        told = ["effusion", "nodule", "nothing"][number % 3]
        place = int(rng.integers(0, 4))
        words = ["the", "lungs", "show", "today"]
        findings = " ".join([*words[:place], told, *words[place:], "."])
        rows.append([f"S{number}", "train", "", findings, f"there is {told} ."])
    table = pd.DataFrame(rows, columns=impressions.COLUMNS)
    return table, impressions.vocabulary_of(table, 1)


def test_words_are_ids_and_never_zero(made_up):
    table, vocab = made_up
    studies = impressions.studies(table, vocab)
    arrays, _ = studies.batch(range(60))
    back = [" ".join(vocab.to_tokens([int(i) - 1 for i in row if i])) for row in arrays[seq2seq.WORDS]]
    assert back == list(table.findings)
    long = impressions.studies(table.assign(findings="the " * 500), vocab)
    assert all(len(row) == impressions.READ for row in long.inputs[seq2seq.WORDS])


def test_thirds_are_as_large_and_by_length(made_up):
    table, vocab = made_up
    lengths = np.random.default_rng(1).integers(1, 40, 60)
    studies = impressions.studies(table.assign(findings=["the " * n for n in lengths]), vocab)
    third = impressions.thirds(studies)
    assert list(np.bincount(third)) == [0, 20, 20, 20]
    assert (
        lengths[third == 1].max() <= lengths[third == 2].min() <= lengths[third == 2].max() <= lengths[third == 3].min()
    )


def test_the_tune_part_shares_no_patient_with_the_rest(made_up):
    table = made_up[0].assign(patient=[f"P{n // 4}" for n in range(60)])
    held = impressions.tune_rows(table)
    assert 0 < held.sum() < 30 and not set(table.patient[held]) & set(table.patient[~held])
    assert list(impressions.tune_rows(made_up[0])) != list(held)


def test_batches_hold_texts_of_similar_length(made_up):
    """Every study once an epoch, in another order in the next one, and little of what is read is padding."""
    table, vocab = made_up
    lengths = np.random.default_rng(1).integers(1, 100, 60)
    studies = impressions.studies(table.assign(findings=["the " * n for n in lengths]), vocab)
    task = seq2seq.ReadingForcing(None, studies, None, TrainingSettings(batch_size=10))
    first, second = ([*task.sampler(np.random.default_rng(epoch))] for epoch in (1, 2))
    assert sorted(sum(first, [])) == list(range(60)) and first != second
    assert max(np.ptp(lengths[rows]) for rows in first) < 40


@pytest.mark.parametrize("attention", [0, 16])
def test_it_learns_what_to_conclude(made_up, attention, tmp_path):
    table, vocab = made_up
    studies = impressions.studies(table, vocab)
    model = seq2seq.build(seq2seq.Seq2Seq.Settings(16, 24, 2, attention, dropout=0.0), len(vocab))
    seq2seq.fit(model, studies, None, tmp_path, TrainingSettings(batch_size=20, epochs=50, learning_rate=1e-2))
    config = Config(generation=impressions.GENERATION)
    written = generate.predict(model, vocab, studies, config, out=tmp_path / "predictions.csv")
    assert list(written.prediction) == list(table.report)
    assert list(read_predictions(tmp_path / "predictions.csv").study_id) == list(table.study_id)


def test_baselines_write_what_they_say(made_up, tmp_path):
    table, vocab = made_up
    table = table.assign(findings="clear lungs . a nodule . no effusion .")
    table.loc[:40, "report"] = "normal ."
    studies = impressions.studies(table, vocab)
    written = impressions.write_baselines(tmp_path, studies, studies)
    assert {name: set(one.prediction) for name, one in written.items()} == {
        "no_acute": {"no acute cardiopulmonary abnormality ."},
        "frequent": {"normal ."},
        "lead": {"clear lungs ."},
        "copied": {"clear lungs . a nodule . no effusion ."},
    }
    for name, one in written.items():
        assert list(read_predictions(tmp_path / name / "predictions.csv").prediction) == list(one.prediction)


def test_versus_best_is_the_house_s_evaluation(monkeypatch):
    """Against the best rival of each metric: one is best by ROUGE-L, the other by CIDEr."""
    monkeypatch.setattr(comparison, "METRICS", {name: METRICS[name] for name in impressions.HEADLINES})
    references = [f"there is a nodule in the {side} lung number {n} ." for side in ("left", "right") for n in range(8)]
    rare = [text if n % 4 == 0 else "nothing ." for n, text in enumerate(references)]
    texts = {"common": ["there is a in the lung number ."] * 16, "rare": rare, "mine": references[:9] + rare[9:]}
    ids = [f"S{n}" for n in range(16)]
    tables = {
        run: pd.DataFrame({"study_id": ids, "reference": references, "prediction": written})
        for run, written in texts.items()
    }
    known = set(" ".join(references).split())
    found = impressions.versus_best(tables, ["common", "rare"], known)
    assert {name: best for name, (best, _) in found.items()} == {"rouge_l": "common", "cider": "rare"}
    for name, (best, runs) in found.items():
        expected = comparison.evaluate(tables, vocab=known, reference_run=best)
        assert "p" not in runs[best]
        for run, entry in runs.items():
            assert {**entry, "protocol": "r2gen"} == expected[run]["figures"][name]


@pytest.mark.skipif(not IU_XRAY.exists(), reason="the real reports are not beside the project")
def test_the_real_reports(tmp_path):
    table, left_out = impressions.table(IU_XRAY, tmp_path)
    assert dict(Counter(table.split)) == {"train": 2063, "val": 296}
    assert left_out == Counter({"not in annotation.json": 896, "no IMPRESSION": 6})
    lengths = table.findings[table.split == "train"].str.split().str.len()
    assert (lengths < impressions.READ).mean() > 0.995
