"""Laws of the report labeler, on sentences of our own, and of its scores against scikit-learn."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from medcap_paddle.clinical import labels
from medcap_paddle.clinical.labels import OBSERVATIONS, averages, clinical, counts, label
from medcap_paddle.runtime.files import MedcapError, write_table
from medcap_paddle.text import clean

# One sentence for each observation, without a verb so that it can be put into others.
MENTIONS = {
    "Enlarged Cardiomediastinum": "mediastinal widening",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "left basilar opacity",
    "Lung Lesion": "pulmonary nodule",
    "Edema": "interstitial edema",
    "Consolidation": "lobar consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "subsegmental atelectasis",
    "Pneumothorax": "apical pneumothorax",
    "Pleural Effusion": "small pleural effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "rib fracture",
    "Support Devices": "central venous catheter",
}
TEXTS = [
    "The heart is mildly enlarged, the lungs are clear.",
    "Small left-sided pleural effusion. No pneumothorax, no focal consolidation. Old rib fractures.",
    "1. Cardiomegaly without edema. 2. Patchy right-lower-lobe opacity, may represent pneumonia. ",
    "XXXX opacity in the left base is XXXX atelectasis versus scarring. There is a 2.5 cm nodule.",
    "No acute findings!",
]


def names(text: str) -> set[str]:
    return {name for name, value in zip(OBSERVATIONS, label([text])[0], strict=True) if value}


@pytest.mark.parametrize("observation", OBSERVATIONS[:-1])
def test_affirmed_is_present_negated_absent_uncertain_present(observation):
    mention = MENTIONS[observation]
    alone = {observation, "No Finding"} if observation == "Support Devices" else {observation}
    for frame in (
        "There is {}.",
        "Stable {} on the right.",
        "No change in {}.",
        "There is no significant change in {}.",
    ):
        assert names(frame.format(mention)) == alone, frame
    for frame in ("Possible {}.", "This may represent {}.", "{} cannot be excluded.", "Cannot rule out {}."):
        assert names(frame.format(mention)) == alone, frame
    for frame in (
        "No {}.",
        "There is no evidence of {}.",
        "Lungs are without {}.",
        "{} is not seen.",
        "Negative for {}.",
    ):
        assert names(frame.format(mention)) == {"No Finding"}, frame


@pytest.mark.parametrize(
    "text, expected",
    [
        ("No pleural effusion or pneumothorax.", set()),
        ("no pleural effusion pneumothorax or focal consolidation .", set()),
        ("No pneumothorax. Pleural effusion on the left.", {"Pleural Effusion"}),
        ("no pneumothorax . pleural effusion on the left .", {"Pleural Effusion"}),
        ("No pneumothorax, but a pleural effusion.", {"Pleural Effusion"}),
        ("No nodule above 2.5 cm or mass.", set()),
        ("Cardiomegaly without edema.", {"Cardiomegaly"}),
        ("The pneumothorax has resolved. Pneumonia.", {"Pneumonia"}),
        ("Consolidation suggests pneumonia.", {"Consolidation", "Pneumonia"}),
        ("Atelectasis versus scarring.", {"Atelectasis", "Lung Opacity"}),
        ("Large hydropneumothorax.", {"Pneumothorax", "Pleural Effusion"}),
        ("The cardiac silhouette is moderately enlarged.", {"Cardiomegaly"}),
        ("The cardiomediastinal silhouette is moderately enlarged.", {"Enlarged Cardiomediastinum"}),
        ("The heart is not enlarged.", set()),
        ("Heart size normal, aorta prominent.", set()),
        ("Mediastinal contours are normal.", set()),
        ("Small pericardial effusion.", set()),
        ("Old granulomatous infection.", set()),
        ("Nodular opacity in the left apex.", {"Lung Lesion"}),
        ("blunting of the costophrenic xxxx <unk> effusion .", {"Pleural Effusion"}),
    ],
)
def test_scope_and_phrases(text, expected):
    assert names(text) == (expected or {"No Finding"})


def test_no_finding_is_the_absence_of_everything_but_devices():
    assert names("") == names(" . ") == names("The lungs are clear.") == {"No Finding"}
    assert names("A pacemaker is in place.") == {"Support Devices", "No Finding"}
    assert names("A pacemaker is in place. Cardiomegaly.") == {"Support Devices", "Cardiomegaly"}


def test_raw_and_cleaned_text_have_the_same_labels():
    raw = TEXTS + [
        f"No {a}, {b}. Stable {a}!" for a, b in zip(MENTIONS.values(), reversed(MENTIONS.values()), strict=True)
    ]
    assert np.array_equal(label(raw), label(clean(text) for text in raw))


def test_a_report_has_the_labels_of_its_sentences():
    mentions = [text + " ." for text in MENTIONS.values()]
    assert label([" ".join(mentions)])[0].tolist() == [1] * 13 + [0]
    assert label(mentions)[:, :-1].tolist() == np.eye(13).tolist()


def test_order_of_the_texts_does_not_matter():
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.array_equal(label(TEXTS)[order], label(TEXTS[i] for i in order))


@given(st.lists(st.text() | st.text(st.sampled_from("no.' 19éEDEMA\n<>/İ")), max_size=4))
def test_any_text_has_labels(texts):
    found = label(texts)
    assert found.dtype == np.int8 and found.shape == (len(texts), 14) and set(found.flat) <= {0, 1}
    assert np.array_equal(found[:, -1], (found[:, :-2].sum(1) == 0))


def test_unknown_words_leave_no_trace():
    label(["warm up ."])
    size = len(labels.pipeline().vocab.strings), labels.present.cache_info().currsize
    label(f"pseudoword{chr(97 + i % 26)}{chr(97 + i // 26)} seen ." for i in range(500))
    after = len(labels.pipeline().vocab.strings), labels.present.cache_info().currsize
    assert after[0] == size[0] and after[1] <= size[1] + 1


def test_every_phrase_speaks_for_its_key():
    """A phrase of the file that another one swallows, or that its own blocks forbid, would never be found."""
    for key, rows in labels.knowledge()["phrases"].items():
        for pattern in labels.patterns({key: rows}, []):
            words = pattern["pattern"]
            if not isinstance(words, str):
                words = " ".join(
                    t["ORTH"] if isinstance(t["ORTH"], str) else t["ORTH"]["IN"][0] for t in words if "OP" not in t
                )
            assert set(key.split(" + ")) <= names(words + " ."), words


@pytest.fixture
def two_raters():
    rng = np.random.default_rng(1)
    reference = (rng.random((60, 14)) < 0.2).astype(np.int8)
    reference[:, 5] = 0  # a class without reference positives
    predicted = np.where(rng.random((60, 14)) < 0.15, 1 - reference, reference)
    predicted[:, 7] = 0  # a class that is never predicted
    return reference, predicted


def test_scores_are_those_of_scikit_learn(two_raters):
    reference, predicted = two_raters
    ours = clinical(reference, predicted)
    per_class = precision_recall_fscore_support(reference, predicted, zero_division=np.nan)
    for name, *values in zip(OBSERVATIONS, *per_class, strict=True):
        found = [ours["classes"][name][k] for k in ("precision", "recall", "f1", "positives")]
        assert found == [None if np.isnan(value) else pytest.approx(value) for value in values]
    micro = precision_recall_fscore_support(reference[:, :-1], predicted[:, :-1], average="micro")[:3]
    assert [ours[f"micro_{k}"] for k in ("precision", "recall", "f1")] == pytest.approx(micro)
    seen = reference[:, :-1].any(0)
    assert ours["macro_f1"] == pytest.approx(per_class[2][:-1][seen].mean())
    assert ours["no_finding_f1"] == pytest.approx(per_class[2][-1])


def test_a_resample_is_an_aggregation_of_the_counts(two_raters):
    reference, predicted = two_raters
    draws = np.random.default_rng(2).integers(60, size=(5, 60))
    at_once = averages(*(c[:, :-1][draws].sum(1) for c in counts(reference, predicted)))  # [5, 13] -> [5]
    for i, draw in enumerate(draws):
        alone = clinical(reference[draw], predicted[draw])
        assert {k: alone[k] for k in at_once} == pytest.approx({k: v[i] for k, v in at_once.items()})


def test_perfect_and_empty_predictions(two_raters):
    reference, _ = two_raters
    assert clinical(reference, reference)["macro_f1"] == clinical(reference, reference)["micro_f1"] == 1
    assert clinical(reference, np.zeros_like(reference))["macro_f1"] == 0
    assert clinical(reference[:0], reference[:0])["macro_f1"] is None
    with pytest.raises(ValueError, match="same studies"):
        counts(reference, reference[:1])


def test_validate_joins_kaggle_and_r2gen_ids(tmp_path, capsys):
    import pandas as pd

    texts = {"7": "Cardiomegaly.", "8": "No acute findings.", "9": "Pneumonia."}
    reports = pd.DataFrame({"uid": list(texts), "findings": "Edema.", "impression": list(texts.values())})
    truth = pd.DataFrame(label(texts.values()), columns=list(OBSERVATIONS)).astype(str)
    truth.loc[0, "Cardiomegaly"] = "-1"  # uncertain
    truth.insert(0, "study_id", [f"CXR{uid}_IM-000{uid}" for uid in texts])
    truth["split"] = ["train", "train", "val"]
    write_table(tmp_path / "reports.csv", reports)
    write_table(tmp_path / "labels.csv", truth)
    paths = [str(tmp_path / "reports.csv"), str(tmp_path / "labels.csv")]
    assert labels.validate(*paths)["micro_f1"] == 1
    assert labels.validate(*paths, sections="both")["classes"]["Edema"]["predicted"] == 3
    assert labels.validate(*paths, split="val")["studies"] == 1
    labels.main([*paths, "--split", "train"])
    assert "2 studies" in capsys.readouterr().out
    with pytest.raises(MedcapError, match="share no study of test split"):
        labels.validate(*paths, split="test")
    write_table(tmp_path / "reports.csv", reports.drop(columns="uid"))
    with pytest.raises(MedcapError, match="no column study_id or uid"):
        labels.validate(*paths)


def chexpert(ids, value="0"):
    import pandas as pd

    return pd.DataFrame({"study_id": ids} | dict.fromkeys(OBSERVATIONS, value))


def test_given_labels_are_read_as_chexpert_means_them():
    import pandas as pd

    asked = pd.Series(["8", "7", "CXR8"], index=[3, 4, 5])
    values = ["1", "1.0", "-1", "-1.0", "0", "0.0", "", 1, -1.0, 0, float("nan")]
    for value in values:
        found = labels.given(chexpert(["CXR7_IM-1", "CXR8_IM-2"], value), asked)
        assert found.dtype == np.int8 and found.shape == (3, 14)
        assert (found == (str(value) in ("1", "1.0", "-1", "-1.0"))).all(), value


def test_unusable_labels_are_refused():
    import pandas as pd

    asked, table = pd.Series(["CXR7"]), chexpert(["CXR7_IM-1"])
    with pytest.raises(MedcapError, match="no row for CXR8 .1 studies"):
        labels.given(table, pd.Series(["CXR7", "CXR8"]))
    with pytest.raises(MedcapError, match="CXR7_IM-1 more than once"):
        labels.given(pd.concat([table, table]), asked)
    with pytest.raises(MedcapError, match="'maybe' as Edema of CXR7"):
        labels.given(table.assign(Edema="maybe"), asked)


# Sentences, each with the one observation that it affirms or leaves open ("": none) -----------------------------------

# A negation ends at ; ! ? and at a dash between words.
ENDS = {
    "No pneumothorax; left pleural effusion.": "Pleural Effusion",
    "No pneumothorax! Left pleural effusion.": "Pleural Effusion",
    "No pneumothorax - left pleural effusion.": "Pleural Effusion",
    "No pneumothorax -- left pleural effusion.": "Pleural Effusion",
    "No pneumothorax \u2014 left pleural effusion.": "Pleural Effusion",
    "No pneumothorax\u2014left pleural effusion.": "Pleural Effusion",
    "No pneumothorax \u2013 left pleural effusion.": "Pleural Effusion",
    "Cardiomegaly; no effusion.": "Cardiomegaly",
    "Cardiomegaly - no effusion.": "Cardiomegaly",
    "The lungs are clear; no effusion or pneumothorax.": "",
    "Effusion has resolved; edema persists.": "Edema",
    "No evidence of pneumonia; cardiomegaly.": "Cardiomegaly",
    "Without effusion; with atelectasis.": "Atelectasis",
    "1) No effusion 2) Cardiomegaly": "Cardiomegaly",
    "- No effusion\n- Cardiomegaly": "Cardiomegaly",
    "No effusion\n\nCardiomegaly": "Cardiomegaly",
    "No effusion.\nCardiomegaly.": "Cardiomegaly",
    "Negative for pneumothorax; positive for effusion.": "Pleural Effusion",
    "No change in the small effusion; no pneumothorax.": "Pleural Effusion",
    "Improved edema; no effusion.": "Edema",
    "Consolidation not identified; opacity at left base.": "Lung Opacity",
    "No pneumothorax because of the tube; tube in place.": "Support Devices",
    "Lungs clear!No effusion!": "",
    "Without evidence of edema -- stable cardiomegaly.": "Cardiomegaly",
    "No consolidation; no effusion; no pneumothorax.": "",
    "No consolidation; mild atelectasis; no pneumothorax.": "Atelectasis",
    "No focal opacity; nodule in the right apex.": "Lung Lesion",
    "No nodule; the opacity is unchanged.": "Lung Opacity",
    "Lungs are free of edema - heart is enlarged.": "Cardiomegaly",
}
# A finding and its value.
PAIRS = {
    "No pneumothorax? Left pleural effusion.": "Pleural Effusion",
    "No pneumothorax: left pleural effusion.": "",
    "Pleural effusion: none.": "",
    "Pleural effusion: None": "",
    "Pneumothorax: no.": "",
    "Pneumothorax: absent. Effusion: none. Consolidation: none.": "",
    "Pleural effusion: none, pneumothorax: none, cardiomegaly: mild.": "Cardiomegaly",
    "Cardiomegaly: mild, effusion: none.": "Cardiomegaly",
    "Pleural effusion, pneumothorax: none.": "",
    "Pleural effusion - none.": "",
    "Pleural effusion: negative.": "",
    "Pleural effusion: not seen.": "",
    "Pleural effusion: no evidence.": "",
    "Pneumothorax: No pneumothorax.": "",
    "Pleural effusion: There is no pleural effusion.": "",
    "Pleural effusion: small, left.": "Pleural Effusion",
    "Cardiomegaly: no change.": "Cardiomegaly",
    "Cardiomegaly: present.": "Cardiomegaly",
    "Effusion (none).": "",
    "Pneumothorax? No.": "",
    "pleural effusion none .": "",
    "pneumothorax no .": "",
    "Heart size: normal. Lungs: clear. Pleural effusion: none. Pneumothorax: none.": "",
    "Lungs: no consolidation, effusion or pneumothorax.": "",
    "Bones: no fracture.": "",
    "No evidence for effusion: there is atelectasis.": "Atelectasis",
    "Effusion - small; pneumothorax - none.": "Pleural Effusion",
    "Effusion: no; pneumothorax: yes.": "Pneumothorax",
    "PLEURAL EFFUSION: NONE.": "",
    "Pleural effusion = none": "",
    "Pleural effusion: nil.": "",
    "Pneumothorax: none seen.": "",
    "Pleural effusions: none identified.": "",
    "Pneumothorax: negative; effusion: small.": "Pleural Effusion",
    "Nodule: none. Mass: none.": "",
    "Fracture: no acute fracture.": "",
    "Devices: none.": "",
    "Lines and tubes: none.": "",
    "Pacemaker: none; cardiomegaly.": "Cardiomegaly",
}
# Other words that deny, and words that do not.
SCOPES = {
    "No left- or right-sided effusion.": "",
    "No pleural-based mass.": "",
    "Neither pneumothorax nor effusion is seen.": "",
    "Neither pleural effusion or pneumothorax.": "",
    "Pneumothorax is not seen, cardiomegaly is present.": "Cardiomegaly",
    "Interval resolution of pneumothorax.": "",
    "Pneumonia is unlikely.": "",
    "Pneumonia has been excluded.": "",
    "No definite pneumothorax.": "",
    "No large effusion.": "",
    "No longer seen is the left effusion.": "",
    "Left effusion is no longer seen.": "",
    "Free of focal consolidation.": "",
    "Lungs are clear of consolidation.": "",
    "No focal consolidation, pneumothorax, or pleural effusion.": "",
    "No focal consolidation or pneumothorax. Small effusion.": "Pleural Effusion",
    "Cannot exclude small effusion.": "Pleural Effusion",
    "Effusion cannot be excluded.": "Pleural Effusion",
    "No acute disease, however there is a small effusion.": "Pleural Effusion",
    "There is no effusion but mild cardiomegaly.": "Cardiomegaly",
    "Heart is enlarged without edema.": "Cardiomegaly",
    "No fracture / dislocation.": "",
    "1. No effusion 2. Cardiomegaly": "Cardiomegaly",
    "Pneumothorax ruled out.": "",
    "Resolved edema. Persistent effusion.": "Pleural Effusion",
    "The previously seen effusion is gone.": "",
    "No interval change in effusion.": "Pleural Effusion",
    "Effusion is absent.": "",
    "No effusion is present.": "",
    "There is absence of pneumothorax.": "",
    "Atelectasis, no effusion.": "Atelectasis",
    "Not enlarged heart.": "",
    "No pneumothorax,effusion,or consolidation.": "",
    "No cardiomegaly/effusion.": "",
    "No effusion.Cardiomegaly.": "Cardiomegaly",
    "Denies pneumonia.": "",
    "Pleural effusions are not appreciated.": "",
    "There has been clearing of the effusion.": "",
    "Densities not seen on the previous exam, rib fracture.": "Fracture",
    "Without a comparison study, the age of this fracture is unknown.": "Fracture",
    "The cardiac silhouette is enlarged with no prior studies.": "Cardiomegaly",
}


@pytest.mark.parametrize("text", [*ENDS, *PAIRS, *SCOPES])
def test_the_scope_of_a_negation(text):
    expected = (ENDS | PAIRS | SCOPES)[text]
    assert names(text) - {"No Finding"} == ({expected} if expected else set())


# Tables of labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, present",
    [
        *(
            (value, 1)
            for value in ("1", " 1", "1.000000", "1e0", "+1", "-1", "-1.0", "True", "TRUE", "yes", "Positive")
        ),
        *((value, 1) for value in ("uncertain", True, 1.0, -1)),
        *(
            (value, 0)
            for value in ("0", "0.000", " 0 ", "", " ", "False", "no", "negative", "blank", False, float("nan"))
        ),
    ],
)
def test_a_value_is_a_number_or_a_truth_value(value, present):
    import pandas as pd

    assert labels.given(chexpert(["7"], value), pd.Series(["7"])).tolist() == [[present] * 14]


@pytest.mark.parametrize("value", ["2", "0.5", "-2", "maybe", "1;0", "inf", "[1]"])
def test_any_other_value_is_refused_by_name(tmp_path, value):
    import pandas as pd

    write_table(tmp_path / "labels.csv", chexpert(["7", "8"]).assign(Edema=["0", value]))
    table = labels.read(tmp_path / "labels.csv")
    assert not labels.given(table, pd.Series(["7"])).any()  # nobody asks for the other row
    message = rf"labels.csv has {re.escape(repr(value))} as Edema of CXR8: use 1, 0, -1"
    with pytest.raises(MedcapError, match=message):
        labels.given(table, pd.Series(["CXR8"]))


@pytest.mark.parametrize(
    "wanted, rows, found",
    [
        (["p10_s1", "p10_s2"], ["p10_s2", "p10_s1"], [1, 0]),  # two studies of a patient
        (["CXR7"], ["CXR7_IM-1"], [0]),
        (["CXR7_IM-1", "8"], ["CXR8", "7"], [1, 0]),
        (["7.0", "CXR8"], ["7", "8.0"], [0, 1]),
        (["p10_s1"], ["p10_s9"], [-1]),  # another study of the patient
        (["p10_s1", "p10_s2"], ["p10_s1"], [0, -1]),
        (["9"], ["90", "CXR9x"], [-1]),
        (["7", "CXR7"], ["7"], [0, 0]),
    ],
)
def test_rows_are_paired_by_the_whole_id_first(wanted, rows, found):
    assert labels.pair(wanted, rows).tolist() == found


@pytest.mark.parametrize(
    "wanted, rows, message",
    [
        (["p10"], ["p10_s1", "p10_s2"], "LABELS has p10_s1, p10_s2 for p10: give every study a row"),
        (["p10_s1", "p10_s2"], ["p10"], "LABELS has one row, p10, for p10_s1 and p10_s2: give"),
        (["p10_s1"], ["p10", "p10_s2"], "LABELS has p10, p10_s2 for p10_s1"),
        (["p10", "p10_s1"], ["p10_s1"], "one row, p10_s1, for p10 and p10_s1"),
        (["7"], ["CXR7", "7"], "LABELS has CXR7 more than once"),
    ],
)
def test_a_prefix_that_fits_twice_is_refused(wanted, rows, message):
    with pytest.raises(MedcapError, match=message):
        labels.pair(wanted, rows, "LABELS")


def test_import_is_cheap():
    code = "import sys, medcap_paddle.clinical.labels; "
    code += "print({'spacy', 'negspacy', 'pandas', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
