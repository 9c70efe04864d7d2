"""Laws of phrasing: a report says its findings and no others, and is read back."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcap_paddle.clinical import labels, phrasing
from medcap_paddle.clinical.findings import Finding
from medcap_paddle.clinical.phrasing import LANGUAGE
from medcap_paddle.phantom.collection import plan
from medcap_paddle.text import clean


def sentences(text: str) -> set[str]:
    return set(re.findall(r"[^.]+\.", text.replace(". ", ".")))


NORMAL = {sentence for phrases in LANGUAGE["normal"].values() for sentence in phrases} | {LANGUAGE["vascularity"]}


def test_a_normal_report_mentions_no_finding():
    for seed in range(50):
        text, impression = phrasing.write_report([], np.random.default_rng(seed))
        assert sentences(text) <= NORMAL
        assert impression in LANGUAGE["no_acute"]


@pytest.mark.parametrize("name", phrasing.PHRASES)
def test_a_report_states_its_finding_and_does_not_deny_it(name):
    rng = np.random.default_rng(1)
    for _ in range(20):
        finding = phrasing.sample_finding(name, rng)
        text, impression = phrasing.write_report([finding], rng)
        assert sentences(text) - NORMAL
        if name in LANGUAGE["denied"]:
            assert not re.search(rf"\b[Nn]o [\w ]*{name.split()[-1]}", text)
        elif phrasing.PHRASES[name].topic != "pleura":  # a raised diaphragm does not speak for the pleura
            assert not sentences(text) & set(LANGUAGE["normal"].get(phrasing.PHRASES[name].topic, ()))
        for word in ("left", "right"):  # the other side is never named
            if finding.side not in ("", word, "bilateral"):
                assert word not in (text + impression).lower().replace("right upper", "")
        assert not re.search(r"[{}~]|  |\ba [aeiou]| \.", text + impression)


def test_the_phantom_says_what_it_said_before_labels_were_phrased():
    """The digest was computed from the code before UNQUALIFIED was added: new phrases change no drawn study."""
    studies = [(s.findings, s.sections, s.caption, s.patient, s.images) for s in plan(300, seed=0)]
    before = "fa00cf4a6eb2adb5d061d900c09ea9dc558cd47aec5cc68c23902f36434b858e"
    assert hashlib.sha256(repr(studies).encode()).hexdigest() == before


# --- labels: findings of which the name is known --------------------------------------------------------------------

OBSERVED = {  # the CheXpert observation of each; None: it is none of the 14
    **{"cardiomegaly": "Cardiomegaly", "pulmonary edema": "Edema", "consolidation": "Consolidation"},
    **{"infiltrate": "Lung Opacity", "pneumonia": "Pneumonia", "atelectasis": "Atelectasis", "mass": "Lung Lesion"},
    **{"nodule": "Lung Lesion", "pleural effusion": "Pleural Effusion", "pneumothorax": "Pneumothorax"},
    **dict.fromkeys(["pleural thickening", "fibrosis"], "Pleural Other"),  # so CheXpert counts fibrosis
    **dict.fromkeys(["emphysema", "hernia", "hiatal hernia"]),
    "tuberculosis": "Pneumonia",  # CheXpert counts an infection as pneumonia
}
UNSAID = "left right bilateral both apical apex bas(e|al|ilar) lobe mild(ly)? moderate severe small large acute old"
EVERYTHING = frozenset(phrasing.UNQUALIFIED)


def test_every_phrase_of_a_label_says_its_observation_and_no_other():
    assert OBSERVED.keys() == phrasing.UNQUALIFIED.keys()
    for name, phrases in phrasing.UNQUALIFIED.items():
        for phrase in (*phrases.say, phrases.impression):
            for text in (phrase, clean(phrase)):
                said = {labels.OBSERVATIONS[k] for k in labels.label([text])[0].nonzero()[0]}
                assert said == {OBSERVED[name] or "No Finding"}, text
            assert not re.search(rf"\b({UNSAID.replace(' ', '|')})\b", phrase, re.I), phrase


@settings(max_examples=200)
@given(st.sets(st.sampled_from(sorted(EVERYTHING))))
def test_a_report_of_labels_is_read_and_labelled_as_they_are(names):
    """Any of them together, also those that exclude each other; before and after cleaning."""
    text, impression = phrasing.write_labelled(names, EVERYTHING)
    for form in (text, clean(text)):
        assert set(phrasing.read_report(form)) == {Finding(name) for name in names}
        said = {labels.OBSERVATIONS[k] for k in labels.label([form])[0].nonzero()[0]}
        assert said == ({OBSERVED[name] for name in names} - {None} or {"No Finding"})
    assert (impression in LANGUAGE["no_acute"]) == (not names)


@given(st.sets(st.sampled_from(sorted(EVERYTHING)), min_size=1), st.sets(st.sampled_from(sorted(EVERYTHING))))
def test_a_report_of_labels_denies_only_what_is_labelled(names, others):
    known = names | others
    text = phrasing.write_labelled(names, known)[0]
    normal = {s for topic, denied in LANGUAGE["denies"].items() if known >= set(denied) for s in SAID[topic]}
    stated = {phrase for name in names for phrase in phrasing.UNQUALIFIED[name].say}
    assert sentences(text) <= {sentence.replace(". ", ".") for sentence in stated | normal}


SAID = {topic: set(LANGUAGE["normal"][topic]) for topic in LANGUAGE["denies"]}
SAID["pleura"] |= {sentence for phrases in LANGUAGE["denied"].values() for sentence in phrases}


# --- reading ----------------------------------------------------------------------------------------------------------


def made_up(studies: int, seed: int = 0):
    """Findings of made-up studies, all kinds by turns, and their FINDINGS."""
    rng = np.random.default_rng(seed)
    findings = [[phrasing.sample_finding(name, rng)] for name in phrasing.PHRASES for _ in range(10)]
    findings += [phrasing.sample_findings(rng) for _ in range(studies)]
    return findings, [phrasing.write_report(study, rng)[0] for study in findings]


def test_a_report_is_read_back():
    for findings, text in zip(*made_up(400), strict=True):
        read = {finding.name: finding for finding in phrasing.read_report(text)}
        assert phrasing.read_report(clean(text)) == list(read.values())
        assert read.keys() == {finding.name for finding in findings}
        for finding in findings:
            reported = read[finding.name]
            assert (reported.side, reported.place) == (finding.side, finding.place)
            assert reported.severity in (finding.severity, "")  # some phrases do not state it


def test_no_finding_is_read_from_normal_or_foreign_sentences():
    for seed in range(50):
        assert phrasing.read_report(phrasing.write_report([], np.random.default_rng(seed))[0]) == []
    for denied in LANGUAGE["denied"].values():
        assert phrasing.read_report(" ".join(denied)) == []
    assert phrasing.read_report("") == phrasing.read_report("The nodule measures < 1 cm. Chest. . ") == []
    mute = Finding("monitor leads")  # drawn, but there are no phrases for it
    assert phrasing.read_report(phrasing.write_report([mute], np.random.default_rng(0))[0]) == []


@pytest.mark.parametrize("lost", ["XXXX", "xxxx", "<unk>"])
def test_a_sentence_that_lost_a_word_reports_nothing(lost):
    text = "there is severe cardiomegaly . there is a small left pleural effusion ."
    assert [finding.name for finding in phrasing.read_report(text)] == ["cardiomegaly", "pleural effusion"]
    assert [finding.name for finding in phrasing.read_report(text.replace("severe", lost))] == ["pleural effusion"]


def test_equal_findings_agree():
    findings, texts = made_up(100)
    found = phrasing.agreement(findings, [phrasing.read_report(text) for text in texts])
    assert (found["recall"], found["false"], found["laterality"]) == (1, 0, 1)
    assert found["n_true"] == found["n_reported"] == sum(map(len, findings)) > found["n_sided"] > 0


def test_a_finding_on_the_other_side_is_found_with_the_wrong_laterality():
    other = {"left": "right", "right": "left"}
    findings = [[finding for finding in study if finding.side in other] for study in made_up(100)[0]]
    swapped = [[replace(finding, side=other[finding.side]) for finding in study] for study in findings]
    found = phrasing.agreement(findings, swapped)
    assert (found["recall"], found["false"], found["laterality"]) == (1, 0, 0)


def test_shares_are_of_all_findings_of_all_studies():
    true = [
        [Finding("cardiomegaly"), Finding("nodule", "left"), Finding("mass", "left")],
        [],
        [Finding("scar", "left")],
    ]
    reported = [[Finding("nodule", "left")], [Finding("mass", "left")], [Finding("scar", "right"), Finding("kyphosis")]]
    found = phrasing.agreement(true, reported)
    assert found == {"recall": 2 / 4, "false": 2 / 4, "laterality": 1 / 2, "n_true": 4, "n_reported": 4, "n_sided": 2}
    both = [Finding("nodule", "left"), Finding("nodule", "right")]
    assert phrasing.agreement([[Finding("nodule", "bilateral")]], [both])["laterality"] == 1
    assert phrasing.agreement([both], [both[:1]])["laterality"] == 0  # one of two sides is not both
    assert all(np.isnan(phrasing.agreement([[]], [[]])[share]) for share in ("recall", "false", "laterality"))
