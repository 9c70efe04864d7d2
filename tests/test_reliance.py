"""Laws of image reliance: nothing where nothing is seen, the difference of two log-probabilities, and kept by a run."""

import shutil
from dataclasses import replace

import numpy as np
import paddle
import pandas as pd
import pytest
from conftest import SENTENCES, made_up

from medcap_paddle import baselines, evaluate, generate, models, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.models import reliance, train_inputs
from medcap_paddle.runtime.files import MedcapError

CONFIG = choose("tiny").change(
    decoder={"embed": 32, "hidden": 32, "dropout": 0.0, "feature_dropout": 0.0},
    training={"epochs": 15, "batch_size": 8, "learning_rate": 1e-2, "patience": 15},
    generation={"beam_size": 2, "min_length": 0},
)


@pytest.fixture(scope="module")
def trained(studies, tmp_path_factory):
    """A run that has learned to read its images."""
    split, val, vocab = studies
    run_dir = tmp_path_factory.mktemp("runs") / "lstm"
    model = models.build(CONFIG.decoder, split.shapes, len(vocab))
    runs.save(run_dir, CONFIG, vocab, split, {"content": "a"})
    train.fit(model, split, val, run_dir, CONFIG.training)
    return run_dir


@pytest.fixture
def run(trained):
    return runs.load(trained)


def words_of(run, studies, texts, rows=None):
    rows = np.arange(len(texts)) if rows is None else rows
    return reliance.per_word(run.model, run.vocab, studies.batch(rows).inputs, run.mean, texts)


def log_p(run, views, text):
    """log p of each word, one step after the other, for a study of `views` [K, D]: float64."""
    state = run.model.init_state({"pooled": paddle.to_tensor(views[None])})
    bos, *ids = vocabulary.encode(run.vocab, text)[:-1]
    out = []
    for token, word in zip([bos, *ids], ids, strict=False):
        logits, state = run.model.step(paddle.to_tensor([token]), state)
        logits = logits[0].numpy().astype("float64")
        out.append(logits[word] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return np.array(out)


# a word ---------------------------------------------------------------------------------------------------------------


def test_it_is_the_difference_of_two_log_probabilities_word_by_word(run, studies):
    _, val, _ = studies
    texts = list(val.table.report[:8])
    for i, gain in enumerate(words_of(run, val, texts)):
        seen, blind = log_p(run, val.inputs["pooled"][i], texts[i]), log_p(run, run.mean["pooled"][None], texts[i])
        np.testing.assert_allclose(gain, seen - blind, atol=1e-4)
        assert gain.sum() == pytest.approx(seen.sum() - blind.sum(), abs=1e-3)  # of the whole report


def test_the_mean_image_adds_nothing(run, studies):
    split, val, _ = studies
    blind = baselines.mean_image(val, split)
    for gain, text in zip(words_of(run, blind, list(val.table.report)), val.table.report, strict=True):
        assert len(gain) == len(text.split()) and not gain.any()


def test_neither_the_mates_of_a_batch_nor_padding_count(run, studies):
    _, val, _ = studies
    texts = list(val.table.report)
    together = words_of(run, val, texts)
    for i in range(6):
        [alone] = words_of(run, val, [texts[i]], [i])
        np.testing.assert_allclose(alone, together[i], atol=1e-5)
    longest = " ".join([max(texts, key=len)] * 3)
    np.testing.assert_allclose(words_of(run, val, [texts[0], longest])[0], together[0], atol=1e-5)


def test_a_report_of_ones_own_image_leans_on_it_and_that_of_another_does_not(run, studies):
    _, val, _ = studies
    own = np.concatenate(words_of(run, val, list(val.table.report)))
    foreign = np.concatenate(words_of(run, baselines.shuffled(val), list(val.table.report)))
    assert own.mean() > 0.05 > foreign.mean()


def test_a_word_that_opens_a_sentence_of_the_image_leans_most(run):
    """After "the heart" nothing is open: "is enlarged ." follows from the words."""
    study, _ = made_up(1, seed=0, vocab=run.vocab)
    views = np.zeros([1, 8], "float32")
    views[0, 0] = 1.0  # the first sentence and no other
    seen = replace(study, inputs={"pooled": [views]})
    [gain] = words_of(run, seen, [SENTENCES[0]])
    assert gain[0] > 0.2 and gain[0] > 2 * np.abs(gain[1:]).max()


def test_a_word_that_the_run_does_not_know_is_refused(run, studies):
    with pytest.raises(MedcapError, match="'zebra' is not in the vocabulary of the run: write <unk>"):
        words_of(run, studies[1], ["the zebra ."])
    assert len(words_of(run, studies[1], ["the <unk> ."])[0]) == 3


def test_a_text_without_words_has_none(run, studies):
    for texts in (["", ""], ["", "normal chest ."]):
        gains = words_of(run, studies[1], texts)
        assert [len(gain) for gain in gains] == [len(text.split()) for text in texts]
    sums = reliance.sums(run.model, run.vocab, studies[1].batch([0]).inputs, run.mean, [""])
    assert sums["image_gain"].tolist() == [0.0] and sums["predicted_words"].tolist() == [0]


# a table --------------------------------------------------------------------------------------------------------------


def test_predictions_hold_the_sum_over_the_words_of_each(run, studies, tmp_path):
    _, val, vocab = studies
    out = tmp_path / "predictions.csv"
    table = generate.predict(run.model, vocab, val, CONFIG, batch_size=5, out=out, known=run.known)
    assert table.predicted_words.tolist() == [len(text.split()) for text in table.prediction]
    gains = words_of(run, val, list(table.prediction))
    np.testing.assert_allclose(table.image_gain, [gain.sum() for gain in gains], atol=1e-4)
    again = generate.predict(run.model, vocab, val, CONFIG, batch_size=5, out=out, known=run.known)
    assert again.equals(table)
    plain = generate.predict(run.model, vocab, val, CONFIG, batch_size=5, out=out)  # another table: it is written anew
    assert list(plain) == list(table)[:-3] and plain.equals(table[list(plain)])
    other = replace(run.known, mean={name: 2 * array for name, array in run.mean.items()})
    assert (generate.predict(run.model, vocab, val, CONFIG, out=out, known=other).image_gain != table.image_gain).any()


def figure(table):
    return evaluate.evaluate({"r": table.astype(str)}, number=10)["r"]["figures"]["image_reliance"]["value"]


def test_the_order_of_the_studies_changes_nothing(run, studies):
    _, val, vocab = studies
    order = np.random.default_rng(0).permutation(len(val))
    turned = replace(
        val,
        table=val.table.iloc[order].reset_index(drop=True),
        inputs={"pooled": [val.inputs["pooled"][i] for i in order]},
        tokens=[val.tokens[i] for i in order],
    )
    first, second = (generate.predict(run.model, vocab, part, CONFIG, 5, known=run.known) for part in (val, turned))
    np.testing.assert_allclose(second.image_gain, first.image_gain[order], atol=1e-4)
    assert figure(first) == pytest.approx(figure(second), abs=1e-5) and figure(first) > 0


def test_shuffled_images_are_relied_on_as_much(run, studies):
    """Each report follows the image that was given, whosever it is: whether it is true is another question."""
    _, val, vocab = studies
    own, others = (
        generate.predict(run.model, vocab, part, CONFIG, known=run.known) for part in (val, baselines.shuffled(val))
    )
    np.testing.assert_allclose(np.sort(own.image_gain), np.sort(others.image_gain), atol=1e-4)
    assert figure(own) == pytest.approx(figure(others), abs=1e-5)


def test_a_blind_model_relies_on_nothing(run, studies):
    split, val, vocab = studies
    blind = baselines.mean_image(val, split)
    assert figure(generate.predict(run.model, vocab, blind, CONFIG, known=run.known)) == 0


# a run ----------------------------------------------------------------------------------------------------------------


def test_the_mean_is_over_images_not_over_studies():
    rng = np.random.default_rng(0)
    grids = [rng.normal(size=[count, 4, 8]).astype("float32") for count in (1, 3, 2)]
    mean = train_inputs.mean({"grid": grids, "pooled": [grid[:, 0] for grid in grids]})
    np.testing.assert_allclose(mean["grid"], np.concatenate(grids).mean(0), rtol=1e-5, atol=1e-6)
    assert mean["pooled"].shape == (8,) and mean["pooled"].dtype == "float32"


def test_a_run_keeps_the_mean_of_its_train_inputs(run, studies):
    assert list(run.mean) == ["pooled"]
    assert (run.mean["pooled"] == train_inputs.mean(studies[0].inputs)["pooled"]).all()


def test_a_run_keeps_what_is_typical_and_patients_are_not_compared_with_themselves(studies, tmp_path):
    train = studies[0]
    train_inputs.write(tmp_path, train, {})
    kept = train_inputs.read(tmp_path, {}, "")
    vectors = train.inputs["pooled"]
    assert np.array_equal(kept.percentiles(vectors), train_inputs.of(train).percentiles(vectors))
    assert kept.percentiles([vectors[0] + 1e3]) == 100
    twice = replace(  # every study a second time: of one patient or of two
        train, table=pd.concat([train.table] * 2), inputs={"pooled": [*vectors, *vectors]}
    )
    same = train_inputs.of(replace(twice, table=twice.table.assign(patient=[*range(len(train))] * 2)))
    others = train_inputs.of(replace(twice, table=twice.table.assign(study_id=[*map(str, range(len(twice)))])))
    assert same.typicality.distances.min() > 0 == others.typicality.distances.min()


def test_too_few_train_studies_have_no_typicality(studies, tmp_path):
    few = replace(studies[0], table=studies[0].table[:3], inputs={"pooled": studies[0].inputs["pooled"][:3]})
    train_inputs.write(tmp_path, few, {})
    kept = train_inputs.read(tmp_path, {}, "")
    assert kept.typicality is None and np.isnan(kept.percentiles(few.inputs["pooled"])).all()


def test_a_run_of_an_older_version_says_what_it_lacks(trained, studies, tmp_path):
    """Its weights are used as before. To run 04 again adds the file and leaves the weights."""
    shutil.copytree(trained, tmp_path / "old")
    (tmp_path / "old" / train_inputs.FILE).unlink()
    old = runs.load(tmp_path / "old")
    with pytest.raises(MedcapError, match="an older version, which kept no inputs.safetensors: run 04_train"):
        old.mean  # noqa: B018
    weights = (tmp_path / "old/weights.safetensors").read_bytes()
    runs.save(tmp_path / "old", CONFIG, studies[2], studies[0], {"content": "a"})
    assert "pooled" in runs.load(tmp_path / "old").mean
    assert (tmp_path / "old/weights.safetensors").read_bytes() == weights


def test_the_inputs_of_another_run_are_refused(trained, studies, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    train_inputs.write(tmp_path / "run", studies[0], {"content": "b"})
    with pytest.raises(MedcapError, match="inputs.safetensors is of other features"):
        runs.load(tmp_path / "run")
