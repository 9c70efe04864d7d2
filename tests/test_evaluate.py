"""Laws of the figures: equal to pycocoevalcap, fair to the image, honest about their uncertainty."""

import json

import numpy as np
import pandas as pd
import pytest

from medcap_paddle import evaluate
from medcap_paddle.baselines import ConstantScorer, best_constant
from medcap_paddle.files import MedcapError

WORDS = "the heart lungs are is clear normal small large left right effusion no pneumothorax .".split()


def texts(count, seed, words=(3, 25)):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(*words))) + " ." for _ in range(count)]


def table(references, predictions):
    ids = [f"S{i}" for i in range(len(references))]
    return pd.DataFrame({"study_id": ids, "reference": references, "prediction": predictions})


def coco(references, predictions):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    pairs = [{i: [t] for i, t in enumerate(side)} for side in (references, predictions)]
    bleu = Bleu(4).compute_score(*pairs, verbose=0)[0]
    names = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
    return dict(zip(names, [*bleu, Rouge().compute_score(*pairs)[0], Cider().compute_score(*pairs)[0]], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_pycocoevalcaps(seed):
    references, predictions = texts(40, seed), texts(40, seed + 100)
    ours = evaluate.figures(evaluate.statistics(references, predictions), np.ones([1, 40]))
    for name, value in coco(references, predictions).items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9), name


def test_bleu_of_a_resample_is_that_of_its_studies():
    references, predictions = texts(30, 1), texts(30, 2)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5)
    ours = evaluate.figures(evaluate.statistics(references, predictions), weights)
    for r, row in enumerate(weights):
        chosen = np.repeat(np.arange(30), row)
        expected = coco([references[i] for i in chosen], [predictions[i] for i in chosen])
        for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
            assert ours[name][r] == pytest.approx(expected[name], abs=1e-9), name


def test_identical_text_scores_one_and_strangers_zero():
    references = texts(20, 3)
    figures = evaluate.evaluate(table(references, references), resamples=50)
    for name in ("bleu1", "bleu4", "rouge_l", "sentence_bleu"):
        assert figures[name]["value"] == pytest.approx(1.0, abs=1e-6)
    strangers = evaluate.evaluate(table(references, ["zebra giraffe"] * 20), resamples=50)
    assert strangers["cider"]["value"] == 0 and strangers["bleu4"]["value"] < 1e-6


def test_intervals_hold_the_value_and_shrink_with_more_studies():
    widths = []
    for count in (20, 320):
        figures = evaluate.evaluate(table(texts(count, 4), texts(count, 5)), resamples=300)
        assert all(f["low"] <= f["value"] <= f["high"] for f in figures.values())
        widths.append(figures["bleu1"]["high"] - figures["bleu1"]["low"])
    assert widths[1] < widths[0] / 2


def test_perplexity_is_of_the_corpus_not_a_mean_of_studies():
    predictions = table(texts(2, 6), texts(2, 7)).assign(nll=["10", "1"], words=["5", "10"])
    assert evaluate.evaluate(predictions, resamples=10)["perplexity"]["value"] == pytest.approx(np.exp(11 / 15))
    assert "perplexity" not in evaluate.evaluate(predictions.drop(columns=["nll", "words"]), resamples=10)


def test_protocol_r2gen_cuts_and_hides_rare_words():
    long = " ".join(["heart"] * 80) + " ."
    both = table([long, "a zebra ."], [long, "a zebra ."])
    references, predictions = evaluate.prepare(both, "r2gen", vocab={"heart", "a", "."})
    assert [len(t.split()) for t in (references[0], predictions[0])] == [59, 59]
    assert references[1] == "a <unk> ." and predictions[1] == "a zebra ."
    references, _ = evaluate.prepare(both, "full", vocab={"heart"})
    assert len(references[0].split()) == 81 and references[1] == "a zebra ."


def test_raw_and_cleaned_text_score_the_same():
    raw = table(["The heart is LARGE. No effusion!"], ["The heart, is large."])
    cleaned = table(["the heart is large . no effusion ."], ["the heart is large ."])
    assert evaluate.prepare(raw) == evaluate.prepare(cleaned)


def test_an_empty_prediction_scores_nothing_but_counts():
    references = texts(4, 8)
    figures = evaluate.evaluate(table(references, [*references[:3], ""]), resamples=10)
    assert 0.7 < figures["rouge_l"]["value"] < 0.76


@pytest.mark.parametrize(
    "content, message",
    [
        ("study_id,reference\nS1,a\n", "no column prediction"),
        ("study_id,reference,prediction\n", "no predictions"),
        ("study_id,reference,prediction\nS1,a,b\nS1,a,b\n", "S1 more than once"),
        ("", "not a readable CSV"),
    ],
)
def test_unusable_predictions_are_refused(content, message, tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(MedcapError, match=message):
        evaluate.read_predictions(path)


def test_an_empty_reference_is_named():
    with pytest.raises(MedcapError, match="S1 is empty after cleaning"):
        evaluate.prepare(table(["heart .", "..."], ["a", "b"]))


def test_a_run_gets_its_metrics(tmp_path):
    table(texts(5, 1), texts(5, 2)).to_csv(tmp_path / "predictions.csv", index=False)
    metrics = evaluate.evaluate_run(tmp_path, "val", None)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (metrics["split"], metrics["protocol"], metrics["studies"]) == ("val", "r2gen", 5)
    assert set(metrics["figures"]["cider"]) == {"value", "low", "high"}


# constants ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["the heart is normal .", "zebra heart .", "the the the the the", "", "."])
def test_a_constant_is_scored_as_the_library_scores_it(text):
    references = texts(30, 9)
    scorer, expected = ConstantScorer(references), coco(references, [text] * 30)
    assert scorer.cider(text) == pytest.approx(expected["cider"], abs=1e-9)
    assert scorer.bleu4(text) == pytest.approx(expected["bleu4"], abs=1e-9)


@pytest.mark.parametrize("metric", ["cider", "bleu4"])
def test_the_best_constant_beats_every_frequent_report(metric):
    train, val = texts(60, 10, (3, 8)), texts(30, 11, (3, 8))
    score = getattr(ConstantScorer(val), metric)
    best = best_constant(train, val, metric)
    assert score(best) >= max(map(score, train[:50]))
