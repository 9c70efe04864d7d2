"""Laws of an evaluation: fair to the image, honest about its uncertainty, and done again when something changed."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_predictions import table, texts

from medcap_paddle import evaluate
from medcap_paddle.metrics import METRICS, Metric, meteor, per_study, ratio
from medcap_paddle.reports import Collection
from medcap_paddle.runtime.files import MedcapError


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR starts a Java machine: test_metrics.py does."""
    monkeypatch.setattr(meteor.shutil, "which", lambda _: None)


def one(predictions, **options):
    """The figures of one run."""
    return evaluate.evaluate({"run": predictions}, **{"number": 100} | options)["run"]["figures"]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=4))
def test_any_text_has_figures_that_are_numbers_or_undefined(pairs):
    table_ = table(*zip(*pairs, strict=True))
    table_["reference"] = "heart " + table_.reference  # an empty one is refused
    metrics = evaluate.evaluate({"run": table_}, number=20)
    json.dumps(metrics, allow_nan=False)
    for entry in metrics["run"]["figures"].values():
        numbers = [value for name, value in entry.items() if name != "protocol" and value is not None]
        assert np.isfinite(numbers).all() and (entry["value"] is None) <= bool(metrics["run"]["notes"])


def test_identical_text_scores_one_and_strangers_zero():
    references = texts(20, 3)
    figures = one(table(references, references))
    for name in ("bleu1", "bleu4", "rouge_l", "sentence_bleu"):
        assert figures[name]["value"] == pytest.approx(1.0, abs=1e-6)
    strangers = one(table(references, ["zebra giraffe"] * 20))
    assert strangers["cider"]["value"] == 0 and strangers["bleu4"]["value"] < 1e-6


def test_intervals_hold_the_value_and_shrink_with_more_studies():
    widths = []
    for count in (20, 320):
        figures = one(table(texts(count, 4), texts(count, 5)), number=300)
        assert all(f["low"] <= f["value"] <= f["high"] for f in figures.values() if "low" in f)
        widths.append(figures["bleu1"]["high"] - figures["bleu1"]["low"])
    assert widths[1] < widths[0] / 2


def test_perplexity_is_of_the_corpus_not_a_mean_of_studies():
    predictions = table(texts(2, 6), texts(2, 7)).assign(nll=["10", "1"], words=["5", "10"])
    assert one(predictions)["perplexity"]["value"] == pytest.approx(np.exp(11 / 15))
    assert "perplexity" not in one(predictions.drop(columns=["nll", "words"]))


def test_image_reliance_is_over_the_words_of_all_studies():
    gains = {"image_gain": ["9", "-1", "0"], "predicted_words": ["3", "13", "0"]}  # the third prediction is empty
    predictions = table(texts(3, 6), texts(3, 7))
    figures = one(predictions.assign(**gains), number=300)
    entry = figures["image_reliance"]
    assert entry["value"] == pytest.approx(8 / 16) and -1 / 13 <= entry["low"] < entry["high"] <= 3
    for column in gains:
        assert "image_reliance" not in one(predictions.assign(**gains).drop(columns=column))
    empty = predictions.assign(prediction="", image_gain="0", predicted_words="0")
    metrics = evaluate.evaluate({"r": empty}, number=10)["r"]
    assert metrics["figures"]["image_reliance"]["value"] is None and "No prediction has a word." in metrics["notes"]


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
    figures = one(table(references, [*references[:3], ""]))
    assert 0.7 < figures["rouge_l"]["value"] < 0.76


@pytest.mark.parametrize(
    "content, message",
    [
        ("study_id,reference\nS1,a\n", "no column prediction"),
        ("study_id,reference,prediction\n", "no predictions"),
        ("study_id,reference,prediction\nS1,a,b\nS1,a,b\n", "S1 more than once"),
        ("study_id,reference,prediction\nS1,a,b\n,a,b\n", "row 3, has no study_id"),
        ("", "not a readable CSV"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,2\nS2,a,b,nan,2\n", "an unusable `nll` for S2"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,\n", "an unusable `words` for S1"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,0\n", "an unusable `words` for S1"),
        ("study_id,reference,prediction,image_gain\nS1,a,b,inf\n", "an unusable `image_gain` for S1"),
        ("study_id,reference,prediction,predicted_words\nS1,a,b,-1\n", "an unusable `predicted_words` for S1"),
    ],
)
def test_unusable_predictions_are_refused(content, message, tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(MedcapError, match=message):
        evaluate.read_predictions(path)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(MedcapError, match="'r2d2': use one of r2gen, full, original"):
        evaluate.evaluate({"r": table(["a ."], ["a ."])}, "r2d2")


def test_an_empty_reference_is_named():
    with pytest.raises(MedcapError, match="S1 is empty after cleaning"):
        evaluate.prepare(table(["heart .", "..."], ["a", "b"]))


def test_runs_get_their_metrics(tmp_path):
    metrics = evaluate.evaluate({"lstm": table(texts(5, 1), texts(5, 2))}, split="val", number=20)
    evaluate.write_runs(tmp_path, metrics)
    written = json.loads((tmp_path / "lstm/metrics.json").read_text())
    assert written == json.loads(json.dumps(metrics["lstm"]))
    assert (written["split"], written["protocol"], written["studies"]) == ("val", "r2gen", 5)
    assert {"value", "low", "high", "protocol"} <= set(written["figures"]["cider"])


# runs against each other ----------------------------------------------------------------------------------------------


def test_a_run_equals_itself_and_beats_nonsense():
    references = texts(40, 1)
    runs = {"constant": table(references, texts(40, 2)), "same": table(references, texts(40, 2))}
    runs["right"] = table(references, references)
    metrics = evaluate.evaluate(runs, number=200)
    assert metrics["same"]["figures"]["cider"]["p"] == 1.0
    assert metrics["right"]["figures"]["cider"]["p"] <= 0.01
    assert "p" not in metrics["constant"]["figures"]["cider"]


def test_the_order_of_rows_does_not_matter():
    run = table(texts(12, 1), texts(12, 2))
    metrics = evaluate.evaluate({"a": run, "b": run.iloc[::-1]}, number=20)
    assert metrics["a"]["figures"]["bleu4"]["value"] == metrics["b"]["figures"]["bleu4"]["value"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.iloc[1:], "different studies .1 differ, such as S0"),
        (lambda t: t.assign(reference=["another ."] * len(t)), "different references for S0"),
    ],
)
def test_runs_of_other_studies_are_refused(change, message):
    run = table(texts(4, 1), texts(4, 2))
    with pytest.raises(MedcapError, match=message):
        evaluate.evaluate({"a": run, "b": change(run)}, number=10)


def test_strata_are_the_studies_they_name():
    references = [
        "the lungs are clear .",
        "there is cardiomegaly .",
        "heart size is normal .",
        "left pleural effusion .",
    ]
    metrics = evaluate.evaluate({"r": table(references, references)}, train={references[0]}, number=10)["r"]
    sizes = {name: stratum["studies"] for name, stratum in metrics["strata"].items()}
    assert sizes == {"normal": 2, "abnormal": 2, "seen in train": 1, "novel": 3}


def test_clinical_figures_reward_findings_not_words():
    references = ["there is cardiomegaly .", "the lungs are clear .", "left pleural effusion ."]
    same = ["the heart is enlarged .", "no acute disease .", "small left effusion ."]
    opposite = [
        "there is no cardiomegaly .",
        "the lungs are not clear , there is pneumonia .",
        "no left pleural effusion .",
    ]
    right, wrong = (one(table(references, p))["clinical_macro_f1"]["value"] for p in (same, opposite))
    assert right == 1.0 and wrong == 0.0


def test_given_labels_take_the_place_of_ours():
    run = table(["there is cardiomegaly ."], ["there is cardiomegaly ."])
    given = pd.DataFrame({name: ["0"] for name in evaluate.OBSERVATIONS} | {"study_id": ["S0_IM-1"]})
    assert one(run)["clinical_micro_precision"]["value"] == 1.0
    assert one(run, labels=given)["clinical_micro_precision"]["value"] == 0.0
    with pytest.raises(MedcapError, match="no row for S0"):
        one(run, labels=given.assign(study_id="S9"))
    with pytest.raises(MedcapError, match="S0_IM-1 more than once"):
        one(run, labels=pd.concat([given, given]))


@pytest.mark.parametrize("protocol", evaluate.PROTOCOLS)
def test_every_figure_names_its_protocol(protocol):
    figures = one(table(texts(5, 1), texts(5, 2)), protocol=protocol)
    assert figures["sentence_bleu"]["protocol"] == "original"
    assert {f["protocol"] for n, f in figures.items() if n != "sentence_bleu"} <= {protocol}


@pytest.mark.parametrize("text", ["心脏不大。", "القلب طبيعي", "💔 \x00", "=HYPERLINK(1)"])
def test_strange_text_is_scored_or_named(text):
    run = table(["the heart is normal ."] * 2, [text, "the heart is normal ."])
    assert 0 <= one(run)["bleu1"]["value"] <= 1


def test_a_reference_in_another_script_is_scored():
    figures = one(table(["心脏 不大 。", "肺 清晰"], ["心脏 不大 。", "肺 清晰"]))
    assert figures["rouge_l"]["value"] == 1.0 and figures["sentence_bleu"]["value"] == 0.0  # the original kept letters


def test_a_vocabulary_without_full_stops_takes_none_away_and_unknown_words_agree():
    run = table(["heart normal", "a zebra"], ["heart normal", "a <unk>"])
    references, predictions = evaluate.prepare(run, vocab={"heart", "normal", "a"})
    assert references == predictions == ["heart normal .", "a <unk> ."]
    seen = evaluate.evaluate({"r": run}, train=["heart normal"], number=10)["r"]["strata"]["seen in train"]
    assert seen["studies"] == 1


def test_one_study_has_figures():
    figures = one(table(["the heart is normal ."], ["the heart is normal ."]))
    assert figures["bleu4"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert figures["cider"]["value"] is None  # with one reference no word is rarer than another


def test_a_hundred_thousand_rows_need_little_more_memory_than_two_thousand(tmp_path):
    """In a process of its own, whose peak is its own; without java, which has a memory of its own."""
    code = """if True:
        import resource, sys
        from medcap_paddle import evaluate
        from medcap_paddle.metrics import meteor
        meteor.shutil.which = lambda _: None
        evaluate.evaluate({"run": evaluate.read_predictions(sys.argv[1])}, number=100)
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks, short, rng = [], texts(200, 1, (3, 5)), np.random.default_rng(0)
    for rows in (2_000, 100_000):
        path = tmp_path / f"{rows}.csv"
        table(*rng.choice(short, [2, rows]).tolist()).to_csv(path, index=False)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 400  # MB: 4 kB a row, which holds its texts; the blocks of resamples are of one size


def test_the_command_prints_one_table(tmp_path, capsys):
    for name in "ab":
        table(texts(5, 1), texts(5, ord(name))).to_csv(tmp_path / f"{name}.csv", index=False)
    reports = pd.DataFrame({"split": "train", "report": texts(5, 9) * 3})
    reports.to_csv(tmp_path / "reports.csv", index=False)
    paths = [str(tmp_path / f"{name}.csv") for name in "ab"]
    evaluate.main([*paths, "--train", str(tmp_path / "reports.csv"), "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert all(path in printed for path in paths) and "CIDEr by stratum" in printed
    assert set(json.loads((tmp_path / "out.json").read_text())) == set(paths)
    given = pd.DataFrame({"study_id": [f"S{i}" for i in range(5)]} | dict.fromkeys(evaluate.OBSERVATIONS, "0"))
    given.to_csv(tmp_path / "labels.csv", index=False)
    evaluate.main([paths[0], "--labels", str(tmp_path / "labels.csv")])
    printed = capsys.readouterr().out
    assert "abnormal (5)" in printed and "normal (0)" not in printed
    assert "Without --train no rare word" in printed and "METEOR needs java" in printed
    with pytest.raises(SystemExit, match="c.csv not found"):
        evaluate.main([str(tmp_path / "c.csv")])
    with pytest.raises(SystemExit, match="is not among the files"):
        evaluate.main([*paths, "--against", "constant"])


def test_seeds_get_a_row_for_their_mean_and_nothing_else_does():
    references = texts(30, 1)
    runs = {"lstm": texts(30, 2), "lstm_seed1": references, "lstm_seed2": texts(30, 3), "other_seed1": texts(30, 4)}
    tables = {name: table(references, predictions) for name, predictions in runs.items()}
    metrics = evaluate.evaluate(tables, number=100, reference_run="other_seed1")
    assert set(metrics) == {*runs, "lstm, mean of 3 seeds"}
    mean = metrics["lstm, mean of 3 seeds"]
    assert mean["seeds"] == ["lstm", "lstm_seed1", "lstm_seed2"]
    for name, entry in mean["figures"].items():
        values = [metrics[seed]["figures"][name]["value"] for seed in mean["seeds"]]
        assert entry["by_seed"] == values and entry["value"] == pytest.approx(np.mean(values))
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert "p" in entry


def test_equal_seeds_add_nothing_to_the_interval_and_different_ones_widen_it():
    references, predictions = texts(30, 1), texts(30, 2)
    same = {name: table(references, predictions) for name in ("a", "a_seed1", "a_seed2")}
    metrics = evaluate.evaluate(same, number=200)
    alone, mean = metrics["a"]["figures"]["cider"], metrics["a, mean of 3 seeds"]["figures"]["cider"]
    assert (mean["low"], mean["high"]) == pytest.approx((alone["low"], alone["high"]))
    mixed = evaluate.evaluate(same | {"a_seed2": table(references, references)}, number=200)
    wide = mixed["a, mean of 3 seeds"]["figures"]["cider"]
    assert wide["high"] - wide["low"] > 2 * (mean["high"] - mean["low"])


def test_the_mean_over_seeds_is_no_run(tmp_path):
    references = texts(10, 1)
    tables = {name: table(references, texts(10, k)) for k, name in enumerate(("a", "a_seed1"))}
    metrics = evaluate.evaluate(tables, number=50)
    evaluate.write_runs(tmp_path, metrics)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a_seed1"]
    assert len(evaluate.compare(metrics)) == 3 and len(evaluate.by_stratum(metrics)) == 2


def test_an_evaluation_with_a_metric_from_outside_is_done_again(tmp_path, monkeypatch):
    """Its code may have changed, which nobody would notice."""
    references = texts(8, 1)
    tables = {name: table(references, texts(8, k)) for k, name in enumerate(("lstm", "constant"))}
    monkeypatch.setitem(METRICS, "own", Metric(lambda pairs: per_study([1.0] * 8), ratio, "own"))
    first = evaluate.evaluate_runs(tmp_path, tables)
    assert first["lstm"]["figures"]["own"]["value"] == 1
    monkeypatch.setitem(METRICS, "own", Metric(lambda pairs: per_study([2.0] * 8), ratio, "own"))
    assert evaluate.evaluate_runs(tmp_path, tables)["lstm"]["figures"]["own"]["value"] == 2
    monkeypatch.delitem(METRICS, "own")
    assert "own" not in evaluate.evaluate_runs(tmp_path, tables)["lstm"]["figures"]


def test_an_evaluation_is_done_again_after_a_metric_failed_and_when_java_was_installed(tmp_path, monkeypatch):
    tables, done, whole = {"lstm": table(texts(8, 1), texts(8, 2))}, [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda *a, **k: done.append(1) or whole(*a, **k, number=20))
    evaluate.evaluate_runs(tmp_path, tables)
    evaluate.evaluate_runs(tmp_path, tables)
    assert len(done) == 1
    monkeypatch.setattr(meteor.shutil, "which", lambda _: "java")
    monkeypatch.setattr(meteor, "SECONDS", 0)  # too slow
    assert "METEOR failed" in evaluate.evaluate_runs(tmp_path, tables)["lstm"]["notes"][0]
    evaluate.evaluate_runs(tmp_path, tables)
    assert len(done) == 3


def test_the_provenance_says_what_is_drawn():
    counts = {"studies": {"test": 1234}, "radiographs": {}, "left_out": {}}
    collection = Collection("somewhere", "real", "phantom", "7:1:2 seed 0", "r2gen", **counts)
    features = {"encoder": "small", "source": "a file", "weights": "abc", "precision": "float32"}
    text = evaluate.provenance(collection, features, "test")
    assert "1,234 test studies (split 7:1:2 seed 0); real reports; images DRAWN" in text
    assert text.endswith("features small (a file abc, float32)")


def test_an_evaluation_is_not_done_twice_and_every_change_is_noticed(tmp_path, monkeypatch):
    references, done, whole = texts(8, 1), [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda *a, **k: done.append(1) or whole(*a, **k, number=20))
    tables = {name: table(references, texts(8, k)) for k, name in enumerate(("lstm", "lstm_seed1", "constant"))}
    options = {"vocab": ["heart", "."], "train": references[:2], "split": "val"}
    first = evaluate.evaluate_runs(tmp_path, tables, **options)
    assert evaluate.evaluate_runs(tmp_path, tables, **options) == first and len(done) == 1
    assert json.loads((tmp_path / "lstm/metrics.json").read_text()) == first["lstm"]
    assert evaluate.compare(evaluate.evaluate_runs(tmp_path, tables, **options)).equals(evaluate.compare(first))
    (tmp_path / "constant/metrics.json").write_text("{}")
    changes = [{}, {"vocab": ["heart"]}, {"train": []}, {"split": "test"}]
    for k, change in enumerate(changes):
        evaluate.evaluate_runs(tmp_path, tables, **options | change)
        assert len(done) == k + 2, change
    evaluate.evaluate_runs(tmp_path, tables | {"lstm": table(references, texts(8, 9))}, **options | changes[-1])
    assert len(done) == 6
    for name, value in (("RULES", "newer code"), ("knowledge", lambda: {"phrases": {}})):
        monkeypatch.setattr(evaluate, name, value)
        evaluate.evaluate_runs(tmp_path, tables, **options)
    assert len(done) == 8
