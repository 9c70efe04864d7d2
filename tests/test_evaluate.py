"""Laws of the figures: equal to pycocoevalcap, fair to the image, honest about their uncertainty."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcap_paddle import evaluate
from medcap_paddle.baselines import ConstantScorer, best_constant
from medcap_paddle.files import MedcapError

WORDS = "the heart lungs are is clear normal small large left right effusion no pneumothorax .".split()


@pytest.fixture(autouse=True)
def without_java(monkeypatch, request):
    """METEOR starts a Java machine: one test is enough."""
    if "java" not in request.keywords:
        monkeypatch.setattr(evaluate.shutil, "which", lambda _: None)


def texts(count, seed, words=(3, 25)):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(*words))) + " ." for _ in range(count)]


def table(references, predictions):
    ids = [f"S{i}" for i in range(len(references))]
    return pd.DataFrame({"study_id": ids, "reference": references, "prediction": predictions})


def one(predictions, **options):
    """The figures of one run."""
    return evaluate.evaluate({"run": predictions}, **{"number": 100} | options)["run"]["figures"]


def coco(references, predictions):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    pairs = [{i: [t] for i, t in enumerate(side)} for side in (references, predictions)]
    bleu = Bleu(4).compute_score(*pairs, verbose=0)[0]
    names = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
    return dict(zip(names, [*bleu, Rouge().compute_score(*pairs)[0], Cider().compute_score(*pairs)[0]], strict=True))


SOME = st.lists(st.sampled_from([*WORDS, "<unk>", "x-xxxx", "éa", "4"]), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(SOME, SOME | st.just("")), min_size=2, max_size=6))
def test_figures_are_pycocoevalcaps_and_within_their_bounds(pairs):
    references, predictions = zip(*pairs, strict=True)
    stats = evaluate.statistics(references, predictions)
    ours = evaluate.figures(stats, np.ones([1, len(pairs)]))
    for name, value in coco(references, predictions).items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9), name
        assert 0 <= ours[name][0] <= (10 if name == "cider" else 1) + 1e-9, name
    back = evaluate.figures(evaluate.statistics(references[::-1], predictions[::-1]), np.ones([1, len(pairs)]))
    for name in ours:
        assert back[name] == pytest.approx(ours[name], abs=1e-9), "the order of the studies does not matter"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=4))
def test_any_text_has_figures_that_are_numbers(pairs):
    table_ = table(*zip(*pairs, strict=True))
    table_["reference"] = "heart " + table_.reference  # an empty one is refused
    for entry in one(table_, number=20).values():
        assert np.isfinite([value for name, value in entry.items() if name != "protocol"]).all()


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
        ("", "not a readable CSV"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,2\nS2,a,b,nan,2\n", "no usable nll for S2"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,\n", "no usable words for S1"),
        ("study_id,reference,prediction,nll,words\nS1,a,b,1.5,0\n", "no usable words for S1"),
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
        (lambda t: t.iloc[1:], "not of the same studies .1 differ, such as S0"),
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
    with pytest.raises(MedcapError, match="S0 more than once"):
        one(run, labels=pd.concat([given, given]))


def test_degeneration_is_seen():
    references = texts(10, 1)
    stuck = evaluate.degeneration(references, ["the heart the heart the heart the heart ."] * 10)
    assert (stuck["different_reports"], stuck["most_frequent_share"]) == (1, 1.0)
    assert stuck["repeated_trigrams"] > 0.5 and stuck["words_used"] == 3
    alive = evaluate.degeneration(references, references)
    assert alive["different_share"] == 1.0 and alive["length_ratio"] == 1.0


@pytest.mark.parametrize("protocol", evaluate.PROTOCOLS)
def test_every_figure_names_its_protocol(protocol):
    figures = one(table(texts(5, 1), texts(5, 2)), protocol=protocol)
    assert figures["sentence_bleu"]["protocol"] == "original"
    assert {f["protocol"] for n, f in figures.items() if n != "sentence_bleu"} <= {protocol}


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="METEOR needs java")
def test_meteor_is_pycocoevalcaps_of_each_study_and_of_the_corpus():
    from pycocoevalcap.meteor.meteor import Meteor

    references = ["the heart is normal .", "no effusion .", "the lungs are clear", "opacities in both lungs ."]
    predictions = ["the heart is normal .", "a lung .", "zebra", "both of the lungs have an opacity ."]
    corpus, alone = Meteor().compute_score(*({i: [t] for i, t in enumerate(s)} for s in (references, predictions)))
    counted, reason = evaluate.meteor(references, predictions)
    assert reason == "" and evaluate.meteor_score(counted.sum(0)) == pytest.approx(corpus, abs=1e-9)
    assert evaluate.meteor_score(counted) == pytest.approx(alone, abs=1e-9) and alone[0] == 1.0 and alone[2] == 0.0


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="METEOR needs java")
def test_a_java_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(evaluate, "METEOR_SECONDS", 0.01)
    assert evaluate.meteor(["a"], ["a"]) == (None, "METEOR failed (TimeoutExpired)")


def test_without_java_there_is_a_dash_and_no_wait():
    assert evaluate.meteor(["a"], ["a"]) == (None, "METEOR needs java")
    figures = evaluate.evaluate({"r": table(texts(3, 1), texts(3, 2))}, number=10)
    assert evaluate.compare(figures).loc["r", "METEOR"] == "-" and figures["r"]["notes"] == ["METEOR needs java"]


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
    assert figures["cider"]["value"] == 0.0  # with one reference no word is rarer than another


def test_resamples_need_bounded_memory_and_are_the_same_in_blocks():
    blocks = list(evaluate.resamples(1_000_000, 30))
    assert all(block.size <= 2_000_000 for block in blocks) and sum(map(len, blocks)) == 30
    assert all((block.sum(1) == 1_000_000).all() for block in blocks)


def test_a_hundred_thousand_rows_need_little_more_memory_than_two_thousand(tmp_path):
    """In a process of its own, whose peak is its own; without java, which has a memory of its own."""
    code = """if True:
        import resource, sys
        from medcap_paddle import evaluate
        evaluate.shutil.which = lambda _: None
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
    with pytest.raises(SystemExit, match="c.csv not found"):
        evaluate.main([str(tmp_path / "c.csv")])
    with pytest.raises(SystemExit, match="none of the files"):
        evaluate.main([*paths, "--against", "constant"])


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


def test_seeds_get_a_row_for_their_mean_and_nothing_else_does():
    references = texts(30, 1)
    runs = {"lstm": texts(30, 2), "lstm_seed1": references, "lstm_seed2": texts(30, 3), "other_seed1": texts(30, 4)}
    tables = {name: table(references, predictions) for name, predictions in runs.items()}
    metrics = evaluate.evaluate(tables, number=100, against="other_seed1")
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
