"""Laws of the metrics: equal to pycocoevalcap's, the same for a resample as for its studies, and open to new ones."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_predictions import WORDS, coco, table, texts

from medcap_paddle import show
from medcap_paddle.evaluate import compare, evaluate, prepare, report
from medcap_paddle.metrics import (
    METRICS,
    Metric,
    Pairs,
    bootstrap,
    diversity,
    measure,
    meteor,
    ngrams,
    per_study,
    ratio,
)
from medcap_paddle.runtime.files import MedcapError

COCO = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
SOME = st.lists(st.sampled_from([*WORDS, "<unk>", "x-xxxx", "éa", "4"]), min_size=1, max_size=9).map(" ".join)


@pytest.fixture(autouse=True)
def without_java(monkeypatch, request):
    """METEOR starts a Java machine: two tests are enough."""
    if "java" not in request.keywords:
        monkeypatch.setattr(meteor.shutil, "which", lambda _: None)


def pairs(references, predictions):
    return Pairs(
        table(references, predictions), list(references), list(predictions), np.zeros([len(references), 14], int)
    )


def values(references, predictions, weights=None, names=COCO):
    """Metrics [R] of texts that are prepared already, for weights [R, n] of the studies."""
    weights = np.ones([1, len(references)]) if weights is None else weights
    both = pairs(references, predictions)
    return {name: METRICS[name].combine(weights @ METRICS[name].counts(both)) for name in names}


# values ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(SOME, SOME | st.just("")), min_size=2, max_size=6))
def test_metrics_are_pycocoevalcaps_and_within_their_bounds(both):
    references, predictions = zip(*both, strict=True)
    ours, back = values(references, predictions), values(references[::-1], predictions[::-1])
    for name, value in coco(references, predictions).items():
        if name == "cider" and not ngrams.document_frequency(references).differ:  # undefined: the library says 0
            assert value == 0 and np.isnan([ours[name][0], back[name][0]]).all()
            continue
        assert ours[name][0] == pytest.approx(value, abs=1e-9), name
        assert 0 <= ours[name][0] <= (10 if name == "cider" else 1) + 1e-9, name
        assert back[name] == pytest.approx(ours[name], abs=1e-9), "the order of the studies does not matter"


def test_bleu_of_a_resample_is_that_of_its_studies():
    references, predictions = texts(30, 1), texts(30, 2)
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=5)
    ours = values(references, predictions, weights)
    for r, row in enumerate(weights):
        chosen = np.repeat(np.arange(30), row)
        expected = coco([references[i] for i in chosen], [predictions[i] for i in chosen])
        for name in COCO[:-1]:
            assert ours[name][r] == pytest.approx(expected[name], abs=1e-9), name


def test_texts_are_counted_in_blocks_with_the_same_result(monkeypatch):
    references, predictions = texts(30, 1), texts(30, 2)
    whole = [f(references, predictions) for f in (ngrams.cider, ngrams.bleu_counts)]
    monkeypatch.setattr(ngrams, "BLOCK", 7)
    for value, f in zip(whole, (ngrams.cider, ngrams.bleu_counts), strict=True):
        np.testing.assert_allclose(f(references, predictions), value, atol=1e-12)


def test_cider_takes_the_document_frequencies_of_other_texts():
    references, predictions, train = texts(10, 1), texts(10, 2), texts(50, 3)
    frequency = ngrams.document_frequency(train)
    assert (frequency.texts, frequency.occurs["heart"]) == (50, sum("heart" in text.split() for text in train))
    own = ngrams.document_frequency(references)
    assert (ngrams.cider(references, predictions, own) == ngrams.cider(references, predictions)).all()
    foreign = ngrams.cider(references, predictions, frequency)
    assert foreign[:4] == pytest.approx(ngrams.cider(references[:4], predictions[:4], frequency))  # whatever the batch
    assert np.abs(foreign - ngrams.cider(references, predictions)).max() > 1e-3
    assert ngrams.cider(train[:5], train[:5], frequency) == pytest.approx([10] * 5)


def test_texts_without_a_word_score_nothing():
    assert ngrams.cider([""], [""]).tolist() == [0.0] and ngrams.bleu_counts([""], [""]).sum() == 0
    assert ngrams.cider(["heart .", "lungs ."], ["", ""]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("text", ["the heart is normal .", "zebra heart .", "the the the the the", "", "."])
def test_a_constant_is_scored_as_if_it_were_written_for_every_study(text):
    references = texts(30, 9)
    others = texts(3, 10)  # which texts are scored beside it does not matter
    expected = coco(references, [text] * 30)
    assert ngrams.constant_cider(references, [*others, text])[-1] == pytest.approx(expected["cider"], abs=1e-9)
    assert ngrams.constant_bleu(references, [text, *others])[0] == pytest.approx(
        [expected[name] for name in COCO[:4]], abs=1e-9
    )
    assert ngrams.constant_cider(references, [text])[0] == pytest.approx(ngrams.cider(references, [text] * 30).mean())


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="METEOR needs java")
def test_meteor_is_pycocoevalcaps_of_each_study_and_of_the_corpus():
    from pycocoevalcap.meteor.meteor import Meteor

    references = ["the heart is normal .", "no effusion .", "the lungs are clear", "opacities in both lungs ."]
    predictions = ["the heart is normal .", "a lung .", "zebra", "both of the lungs have an opacity ."]
    corpus, alone = Meteor().compute_score(*({i: [t] for i, t in enumerate(s)} for s in (references, predictions)))
    counted = meteor.counts(references, predictions)
    assert meteor.score(counted.sum(0)) == pytest.approx(corpus, abs=1e-9)
    assert meteor.score(counted) == pytest.approx(alone, abs=1e-9) and alone[0] == 1.0 and alone[2] == 0.0


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="METEOR needs java")
def test_a_java_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(meteor, "SECONDS", 0.01)
    with pytest.raises(MedcapError, match=r"METEOR failed \(TimeoutExpired\)"):
        meteor.counts(["a"], ["a"])


def test_without_java_there_is_a_dash_a_note_and_no_wait():
    assert meteor.missing() == "METEOR needs java"
    metrics = evaluate({"r": table(texts(3, 1), texts(3, 2))}, number=10)
    assert compare(metrics).loc["r", "METEOR"] == "-" and metrics["r"]["notes"] == ["METEOR needs java"]


@pytest.mark.parametrize("answer, rows", [("1 2 3", 1), ("", 0), (" ".join("1" * 23), 2)])
def test_a_jar_without_counts_for_every_study_is_noted(monkeypatch, answer, rows):
    done = type("Done", (), {"stdout": "\n".join([answer] * rows)})
    monkeypatch.setattr(meteor.shutil, "which", lambda _: "java")
    monkeypatch.setattr(meteor.subprocess, "run", lambda *_, **__: done)
    metrics = evaluate({"r": table(texts(3, 1), texts(3, 2))}, number=10)
    assert metrics["r"]["notes"] == ["METEOR gave no counts for some studies"]
    assert "meteor" not in metrics["r"]["figures"] and "cider" in metrics["r"]["figures"]


def test_a_model_that_repeats_itself_is_seen():
    references = texts(10, 1)

    def seen(predictions):
        return dict(zip(diversity.DIGITS, diversity.counts(references, predictions)[0], strict=True))

    stuck, alive = seen(["the heart the heart the heart the heart ."] * 10), seen(references)
    assert (stuck["different_reports"], stuck["most_frequent_share"]) == (1, 1.0)
    assert stuck["repeated_trigrams"] > 0.5 and stuck["words_used"] == 3
    assert alive["different_share"] == 1.0 and alive["length_ratio"] == 1.0


# the bootstrap --------------------------------------------------------------------------------------------------------


def test_resamples_need_bounded_memory_and_are_the_same_in_blocks(monkeypatch):
    blocks = list(bootstrap.resamples(1_000_000, 30))
    assert all(block.size <= 2_000_000 for block in blocks) and sum(map(len, blocks)) == 30
    assert all((block.sum(1) == 1_000_000).all() for block in blocks)
    whole = np.concatenate(list(bootstrap.resamples(10, 30)))
    monkeypatch.setattr(bootstrap, "BLOCK", 40)
    blocks = list(bootstrap.resamples(10, 30))
    assert len(blocks) == 8 and (np.concatenate(blocks) == whole).all()


def test_the_interval_of_a_mean_is_that_of_the_bootstrap_of_scipy():
    from scipy.stats import bootstrap as reference

    scores = np.random.default_rng(3).random(50)
    ours = bootstrap.spreads({"mean": per_study(scores)}, {"mean": ratio}, 5000)["mean"].as_json()
    theirs = reference((scores,), np.mean, n_resamples=5000, method="percentile", random_state=1).confidence_interval
    assert ours["value"] == pytest.approx(scores.mean())
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_a_figure_that_is_undefined_in_some_resamples_has_the_interval_of_the_others():
    """The study with the only positive is drawn in 63% of the resamples: too few. With four positives in 98%."""
    for positives, enough in ((1, False), (4, True)):
        counted = np.zeros([100, 2])
        counted[:positives] = 1

        def share(summed):
            return np.divide(summed[..., 0], summed[..., 1], out=np.full(len(summed), np.nan), where=summed[..., 1] > 0)

        spread = bootstrap.spreads({"f1": counted}, {"f1": share}, 2000)["f1"]
        entry = spread.as_json()
        assert entry["defined"] == pytest.approx(1 - (1 - positives / 100) ** 100, abs=0.03)
        assert (entry["value"], entry["low"], entry["high"]) == ((1, 1, 1) if enough else (1, None, None))
        other = bootstrap.Spread(0.5, np.full(2000, 0.5))
        bootstrap.compare_to({"f1": spread}, {"f1": other})
        assert ("p" in other.as_json()) == enough


def test_an_undefined_figure_goes_through_seeds_p_and_tables():
    same = ["the heart is normal ."] * 5
    runs = {name: table(same, texts(5, k)) for k, name in enumerate(("a", "a_seed1", "b"))}
    metrics = evaluate(runs, number=50, reference_run="b")
    for run, content in metrics.items():
        entry = content["figures"]["cider"]
        assert (entry["value"], entry["low"], entry["high"]) == (None, None, None) and "p" not in entry, run
        assert any(note.startswith("CIDEr is undefined") for note in content["notes"]), run
    assert metrics["a, mean of 2 seeds"]["figures"]["cider"]["by_seed"] == [None, None]
    assert set(compare(metrics)["CIDEr"]) == {"-"}
    assert "nan" not in report(metrics).lower()
    json.dumps(metrics, allow_nan=False)
    show.intervals(metrics, ["cider", "bleu4", "clinical_macro_f1"])


def test_a_run_with_an_undefined_headline_comes_last():
    entries = {"a": None, "b": 0.2, "c": 0.0}
    metrics = {k: {"figures": {"cider": {"value": v, "low": v, "high": v}}} for k, v in entries.items()}
    assert list(compare(metrics).index) == ["b", "c", "a"]


# the table of metrics -------------------------------------------------------------------------------------------------


def words(both):
    return per_study([len(text.split()) for text in both.predictions])


@pytest.fixture
def registered(monkeypatch):
    """A metric from outside the package."""
    monkeypatch.setitem(METRICS, "words", Metric(words, ratio, heading="words", digits=1))


def test_a_metric_from_outside_gets_interval_p_strata_mean_over_seeds_and_a_column(registered):
    references = texts(40, 1)
    runs = {"constant": texts(40, 2), "long": texts(40, 3, (30, 40)), "long_seed1": texts(40, 4, (30, 40))}
    tables = {name: table(references, predictions) for name, predictions in runs.items()}
    metrics = evaluate(tables, "full", number=200)
    entry = metrics["long"]["figures"]["words"]
    mean = np.mean([len(text.split()) for text in runs["long"]])
    assert entry["value"] == pytest.approx(mean) and entry["low"] < mean < entry["high"] and entry["p"] <= 0.01
    assert entry["protocol"] == "full" and "p" not in metrics["constant"]["figures"]["words"]
    strata = metrics["long"]["strata"].values()
    assert sum(s["studies"] * s["figures"]["words"]["value"] for s in strata) / 40 == pytest.approx(mean)
    assert metrics["long, mean of 2 seeds"]["figures"]["words"]["by_seed"][0] == pytest.approx(mean)
    assert compare(metrics).loc["long", "words"] == f"{mean:.1f}"


def test_metrics_that_share_counts_share_the_work():
    calls = []

    def counts(both):
        calls.append(both)
        return np.ones([len(both.references), 2])

    runs = [pairs(texts(3, 1), texts(3, seed)) for seed in (2, 3)]
    kept, notes = measure({"a": Metric(counts, ratio), "b": Metric(counts, ratio)}, runs)
    assert calls == runs and [list(own) for own in kept] == [[counts]] * 2 and notes == []


def test_slow_starters_count_all_runs_at_once():
    calls = []

    def counts(both):
        calls.append(list(both.table.prediction))
        return words(both)

    runs = [pairs(texts(3, 1), texts(3, seed)) for seed in (2, 3)]
    kept, _ = measure({"a": Metric(counts, ratio, stacked=True)}, runs)
    assert calls == [texts(3, 2) + texts(3, 3)]
    assert all((own[counts] == words(both)).all() for own, both in zip(kept, runs, strict=True))


def test_a_metric_that_fails_leaves_a_note_and_one_of_another_shape_is_refused():
    def fails(_):
        raise MedcapError("the service is down")

    runs = [pairs(texts(3, 1), texts(3, 2))]
    assert measure({"a": Metric(fails, ratio)}, runs) == ([{}], ["the service is down"])
    with pytest.raises(ValueError, match=r"shape \(3,\): expected \(3, c\)"):
        measure({"a": Metric(lambda both: np.ones(3), ratio)}, runs)
    with pytest.raises(ValueError, match=r"shape \(3, 1\): expected \(1, c\)"):
        measure({"a": Metric(lambda both: np.ones([3, 1]), ratio, interval=False)}, runs)


def test_every_metric_of_the_house_is_used_under_the_protocol_of_the_papers():
    run = table(texts(5, 1), texts(5, 2)).assign(nll="10", words="5", image_gain="1", predicted_words="4")
    figures = evaluate({"r": run}, train=["a report ."], number=10)["r"]["figures"]
    assert set(figures) == set(METRICS) - {"meteor"}
    assert prepare(run)[0] == texts(5, 1)


# what a mean hides ----------------------------------------------------------------------------------------------------


def novel_run(train=8):
    """Runs of 40 studies of which `train` are verbatim in train and written word for word."""
    references = texts(40, 1, (3, 8))
    predictions = references[:train] + texts(40 - train, 2, (3, 8))
    return references, evaluate({"r": table(references, predictions)}, train=references[:train], number=200)["r"]


def test_cider_novel_is_the_mean_over_the_novel_stratum():
    references, metrics = novel_run()
    novel = metrics["strata"]["novel"]
    assert novel["studies"] == 32
    entry = metrics["figures"]["cider_novel"]
    assert entry["value"] == pytest.approx(novel["figures"]["cider"]["value"])
    assert entry["low"] < entry["value"] < entry["high"] and entry["value"] < metrics["figures"]["cider"]["value"]
    strata = metrics["strata"]
    assert strata["novel"]["figures"]["cider_novel"]["value"] == pytest.approx(entry["value"])
    assert strata["seen in train"]["figures"]["cider_novel"]["value"] is None


def test_cider_novel_keeps_the_document_frequencies_of_all():
    references, predictions = texts(40, 1, (3, 8)), texts(40, 2, (3, 8))
    figures = evaluate({"r": table(references, predictions)}, train=references[:8], number=10)["r"]["figures"]
    both = prepare(table(references, predictions))
    assert figures["cider_novel"]["value"] == pytest.approx(ngrams.cider(*both)[8:].mean())


def test_without_train_there_is_no_cider_novel_and_where_all_is_seen_a_note():
    references, predictions = texts(6, 1), texts(6, 2)
    run = {"r": table(references, predictions)}
    assert "cider_novel" not in evaluate(run, number=10)["r"]["figures"]
    seen = evaluate(run, train=references, number=10)["r"]
    assert seen["figures"]["cider_novel"]["value"] is None and any("novel reports" in note for note in seen["notes"])


def test_novel_studies_order_the_table_where_train_is_known():
    """The first run writes what is in train word for word, the second is better on the others."""
    references, other = texts(40, 1, (3, 8)), texts(40, 2, (3, 8))
    runs = {
        "lucky": table(references, references[:20] + other[20:]),
        "able": table(references, other[:20] + [" ".join(text.split()[:-1]) for text in references[20:]]),
    }
    runs = {name: runs[name] for name in ("lucky", "able")}
    assert list(compare(evaluate(runs, number=20)).index) == ["lucky", "able"]
    shown = compare(evaluate(runs, train=references[:20], number=20))
    assert list(shown.index) == ["able", "lucky"]
    assert all("[" in shown.loc["able", name] for name in ("CIDEr novel", "CIDEr"))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.data())
def test_median_and_share_of_the_best_are_those_of_the_drawn_studies(scores, data):
    size = len(scores)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any)))
    kept = per_study(scores)
    drawn = np.sort(np.repeat(np.array(scores, float), weights))[::-1]
    assert METRICS["cider_median"].combine(kept, weights[None])[0] == pytest.approx(np.median(drawn))
    best, count = METRICS["cider_top5"].combine(kept, weights[None])[0], 0.05 * len(drawn)
    whole, part = int(count), count - int(count)
    held = drawn[:whole].sum() + (part * drawn[whole] if part else 0)
    assert np.isnan(best) if not drawn.sum() else best == pytest.approx(held / drawn.sum())


def test_median_and_share_have_intervals_and_p():
    references = texts(40, 1, (3, 8))
    runs = {"constant": table(references, texts(40, 2, (3, 8))), "right": table(references, references)}
    right = evaluate(runs, number=200)["right"]["figures"]
    assert right["cider_median"]["value"] == pytest.approx(10) and right["cider_median"]["p"] <= 0.01
    assert right["cider_top5"]["value"] == pytest.approx(0.05) and right["cider_top5"]["low"] == pytest.approx(0.05)


def test_clinical_relevance_exceeds_one_and_ignores_what_was_missed():
    references = ["left pneumothorax . there is cardiomegaly .", "the lungs are clear ."]
    said = {
        "all": references,
        "sure": ["left pneumothorax .", "no acute disease ."],
        "wrong": ["right pleural effusion .", "no acute disease ."],
        "none": ["no acute disease ."] * 2,
    }
    metrics = evaluate({name: table(references, texts) for name, texts in said.items()}, number=10)
    value = {
        run: [content["figures"][name]["value"] for name in ("clinical_relevance", "clinical_relevance_f1")]
        for run, content in metrics.items()
    }
    assert value["sure"] == pytest.approx([1.5, 2 * 1.5 / (1.5 + 2.5)])
    assert value["all"] == pytest.approx([2.5 / 2, 1.0]), "telling all is worse than telling one: the flaw"
    assert value["wrong"] == pytest.approx([0, 0]) and value["none"] == [None, 0]
