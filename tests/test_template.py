"""Laws of the template: it tells what is given and denies nothing of it; a report is completed and else left alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcap_paddle.clinical import labels, phrasing
from medcap_paddle.clinical.findings import KINDS, LABELS, Finding, label_vector
from medcap_paddle.dataset import Studies
from medcap_paddle.knowledge import template
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.text import clean
from medcap_paddle.vision import probe

ALL = [
    Finding(name, side) for name in phrasing.PHRASES for side in (("left", "bilateral") if KINDS[name].side else ("",))
]
NORMAL = (
    "the heart is normal in size . the mediastinum is unremarkable . the lungs are clear . "
    "no pneumothorax or pleural effusion . no acute bony abnormality ."
)
SENTENCES = [part + " ." for part in NORMAL.removesuffix(" .").split(" . ")] + [
    "there is mild cardiomegaly .",
    "no focal consolidation .",
]


def sentences(report):
    return [part.strip() + " ." for part in report.split(" .") if part.strip()]


@pytest.mark.parametrize("finding", ALL, ids=str)
def test_a_template_and_a_completed_report_tell_their_finding_and_do_not_deny_it(finding):
    for report in (template.write((finding,)), template.complete(NORMAL, [finding]), template.complete("", [finding])):
        assert template.tells(report, finding) and clean(report) == report
        assert not any(template.denies(sentence, finding) for sentence in sentences(report))
        observed = template.observations(finding)
        said = {column for part in labels.sentences(report) for column in labels.present(part)}
        assert said == observed, "and no other observation"


@settings(max_examples=40)
@given(st.lists(st.sampled_from(ALL), max_size=4), st.lists(st.sampled_from(SENTENCES), max_size=5))
def test_any_findings_complete_any_report_once(findings, parts):
    report = clean(" ".join(parts))
    once = template.complete(report, findings)
    assert template.complete(once, findings) == once
    for finding in findings:
        assert template.tells(once, finding)
    assert template.complete(report, []) == report


@pytest.mark.parametrize(
    "name, gone",
    [
        ("cardiomegaly", "heart is normal"),
        ("mediastinal widening", "mediastinum is unremarkable"),
        ("opacity", "lungs are clear"),
        ("pleural effusion", "no pneumothorax or pleural effusion"),
        ("rib fracture", "no acute bony"),
    ],
)
def test_the_sentence_that_denies_a_finding_goes_and_the_others_stay(name, gone):
    finding = Finding(name, "left" if KINDS[name].side else "")
    completed = template.complete(NORMAL, [finding])
    expected = [template.sentence(finding) if gone in part else part for part in sentences(NORMAL)]
    assert completed == " ".join(expected), "the new sentence stands in the place of the old one"


def test_what_is_told_is_not_told_twice():
    report = "there is a small left pleural effusion . the heart is normal in size ."
    assert template.complete(report, [Finding("pleural effusion", "left")]) == report
    assert template.complete("mild scoliosis .", [Finding("scoliosis", "right")]) == "mild scoliosis ."
    assert template.complete("no scoliosis .", [Finding("scoliosis", "right")]).startswith("no scoliosis . there is")


def test_a_sentence_that_also_affirms_something_is_kept_and_the_report_does_not_contradict_itself():
    mixed = "there is cardiomegaly but no pleural effusion ."
    assert template.complete(mixed, [Finding("pleural effusion", "left")]) == mixed


@pytest.mark.parametrize("name", phrasing.PHRASES)
def test_every_kind_is_recognised_in_its_own_phrases(name):
    """But for two phrases, of which the labeller reads nothing."""
    finding = Finding(name, "left" if KINDS[name].side else "")
    told = [template.tells(clean(phrasing._fill(phrase, finding)), finding) for phrase in phrasing.PHRASES[name].say]
    assert told[0] and sum(told) >= len(told) - 1
    assert not template.tells(NORMAL, finding)


def test_logits_become_findings_the_surest_first():
    logits = np.full(len(LABELS), -5.0)
    place = {label: i for i, label in enumerate(LABELS)}
    for label, value in {
        "cardiomegaly": 1,
        "pneumothorax left": 3,
        "atelectasis left": 2,
        "atelectasis right": 0.5,
    }.items():
        logits[place[label]] = value
    expected = [Finding("pneumothorax", "left"), Finding("atelectasis", "bilateral"), Finding("cardiomegaly")]
    assert template.detected(logits, 0) == expected and template.detected(logits, 2.5) == expected[:1]
    assert template.detected(logits, 0.7)[1] == Finding("atelectasis", "left") and not template.detected(logits, 9)
    logits[place["blunted costophrenic angle left"]], logits[place["pleural effusion right"]] = 1, 2
    assert [f.name for f in template.detected(logits, 0.7)].count("blunted costophrenic angle") == 0


def made_up(count, seed, mesh=True, logits=False):
    """Studies whose vector says their cardiomegaly and effusion."""
    rng = np.random.default_rng(seed)
    shown = rng.random([count, 2]) < 0.4
    kinds = (Finding("cardiomegaly"), Finding("pleural effusion", "left"))
    found = [[kind for kind, yes in zip(kinds, row, strict=True) if yes] for row in shown]
    pooled = [(row + rng.normal(0, 0.1, [2, 2])).astype("float32") for row in shown]
    terms = ["Cardiomegaly", "Pleural Effusion/left"]
    cells = [";".join(t for t, yes in zip(terms, row, strict=True) if yes) if mesh else "" for row in shown]
    table = pd.DataFrame({"study_id": [f"S{seed}_{i}" for i in range(count)], "mesh": cells})
    table["report"] = [template.write(tuple(findings)) for findings in found]
    inputs = {"pooled": pooled}
    if logits:
        inputs["logits"] = [np.stack([label_vector(findings) * 9 - 5] * 2) for findings in found]
    return Studies(table, inputs, [[1]] * count, 0)


@pytest.mark.parametrize("own", [False, True])
def test_a_template_of_what_is_seen_is_the_report_of_what_is_there(own):
    train, test = made_up(150, 1, logits=own), made_up(40, 2, logits=own)
    assert template.baseline(train, test, test, 0) == list(test.table.report)


def test_logits_of_train_are_out_of_fold():
    """Noise cannot be read by a model that has not seen it; in sample it can."""
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=[80, 60]), (rng.random([80, 1]) < 0.5).astype(float)
    groups = [f"P{i // 2}" for i in range(80)]
    inside = probe.linear(features, targets, np.ones(80, bool))
    outside = probe.out_of_fold(features, targets, groups)
    auc = [probe.auc_per_label(scores, targets, ["x"])["x"] for scores in (inside, outside)]
    assert auc[0] > 0.85 and auc[1] < 0.7
    twins = np.repeat(features[:40], 2, 0), np.repeat(targets[:40], 2, 0)  # two of a patient, alike in all
    apart = probe.auc_per_label(probe.out_of_fold(*twins, groups), twins[1], ["x"])["x"]
    assert apart < 0.75, "a patient is in one fold"


def test_a_label_that_is_too_rare_has_the_log_odds_of_its_share():
    targets = np.zeros([99, 2])
    targets[:2, 0], targets[:50, 1] = 1, 1
    weight, bias = probe.coefficients(np.random.default_rng(0).normal(size=[99, 3]), targets)
    assert not weight[:, 0].any() and weight[:, 1].any()
    np.testing.assert_allclose(bias[0], np.log(2.5 / 97.5))


def test_without_terms_and_without_logits_there_is_no_template():
    train = made_up(20, 1, mesh=False)
    with pytest.raises(MedcapError, match="no MeSH terms to learn findings from"):
        template.logits(train, train)
    assert template.logits(made_up(20, 1, mesh=False, logits=True), made_up(5, 2, logits=True)).shape == (
        5,
        len(LABELS),
    )


def test_the_threshold_is_that_of_the_best_clinical_f1():
    truth = ["there is cardiomegaly .", "the lungs are clear ."]
    written = {-1.0: ["there is cardiomegaly ."] * 2, 0.0: truth, 1.0: ["the lungs are clear ."] * 2}
    best, scores = template.choose(written.__getitem__, truth, written)
    assert best == 0.0 and scores == pytest.approx({-1.0: 2 / 3, 0.0: 1.0, 1.0: 0.0})
