"""Laws of cleaning: idempotent, lower-case words and full stops, R2Gen's rule."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iu_xray import collection, reasons, splits, study, table

from medcap_paddle import reports
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.text import clean, joined, plain, says_nothing

# the pieces that the rules look for, so that hypothesis finds the odd corners
PIECES = [
    ".",
    "..",
    ". ",
    " ",
    "\n",
    "1. ",
    "2. ",
    " 3. ",
    "5. ",
    "T11. ",
    "No",
    "x-ray",
    "XXXX",
    ",",
    "?",
    "/",
    "'",
    "é",
    "<br/>",
    "&amp;lt;p&amp;gt;",
    "&nbsp;",
    "\u00a0",
    "\r\n",
    "\u200b",
    "&#8203;",
]
reportlike = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)


@given(reportlike, st.sampled_from(["r2gen", "original"]))
def test_cleaning_twice_changes_nothing(text, rules):
    once = clean(text, rules)
    assert clean(once, rules) == once


@given(reportlike)
def test_cleaned_text_is_lower_case_words_and_full_stops(text):
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert cleaned == cleaned.lower()
    assert not set(cleaned) & set(",;:?!*%^&_+=@()[]{}<>\"'/\\")
    assert all("." not in token for token in cleaned.split() if token != ".")
    assert cleaned == "" or (cleaned.endswith(" .") and set(cleaned.split()) != {"."})


@given(reportlike)
def test_the_original_cleaning_keeps_letters_only(text):
    words = clean(text, "original").split()
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert "".join(words) == "".join(c for c in plain(text) if c.isascii() and c.isalpha()).lower()


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("Heart is large. No effusion.", "heart is large . no effusion ."),
        ("1. Clear lungs. 2. Old fracture.", "clear lungs . old fracture ."),  # enumeration
        ("Clear lungs 2. Old fracture", "clear lungs . old fracture ."),  # ... without a stop before it
        ("Clear lungs.. No effusion...", "clear lungs . no effusion ."),
        ("A nodule of 1.5 cm, (left)?", "a nodule of 15 cm left ."),
        ("X-ray of T11. Stable", "x-ray of t1stable ."),  # R2Gen's accident, kept so that the figures compare
        ("Clear. 6. Old", "clear . 6 . old ."),  # R2Gen knows numbers up to 5
        ("Clear lungs 2..... Old fracture", "clear lungs . old fracture ."),
        ("... ,", ""),
        ("", ""),
    ],
)
def test_the_r2gen_rule(text, cleaned):
    assert clean(text) == cleaned


def test_unknown_cleaning_is_refused():
    with pytest.raises(MedcapError, match="r2gen"):
        clean("Clear.", "r2d2")


def r2gen(report):
    """R2Gen's `clean_report_iu_xray`, written down from its description: replacements in this order."""
    for _ in range(4):
        report = report.replace("..", ".")
    report = report.replace("1. ", "")
    for number in "2345":
        report = report.replace(f". {number}. ", ". ").replace(f" {number}. ", ". ")
    sentences = []
    for sentence in report.strip().lower().split(". "):
        for mark in ".,?;*!%^&_+():-[]{}\"'/\\=@<>":
            sentence = sentence if mark == "-" else sentence.replace(mark, "")
        sentences.append(sentence.strip())
    return " . ".join(sentences) + " ."


IU = Path(__file__).parents[2] / "shared/iu_xray/indiana_reports.csv"


@pytest.mark.skipif(not IU.exists(), reason="needs the reports of IU X-Ray")
def test_the_tokens_of_all_real_reports_are_those_of_r2gen():
    with open(IU, encoding="utf-8", newline="") as source:
        texts = [row["findings"] for row in csv.DictReader(source)]
    assert len(texts) == 3261
    assert [clean(text).split() for text in texts if text] == [r2gen(text).split() for text in texts if text]
    assert not any(says_nothing(text) for text in texts if text)


SPACES = [
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\x0b",
    "\x0c",
    "\u0085",
    "\u00a0",
    "\u2003",
    "\u2009",
    "\u202f",
    "\u3000",
    "\u2028",
]
SPACES += [
    "\u200b",
    "\ufeff",
    "\u2060",
    "<br/>",
    "<br>",
    "<BR />",
    "</p><p>",
    '<p class="a">',
    "&nbsp;",
    "&#160;",
    "&#xA0;",
]
SPACES += ["&#10;", "&lt;br/&gt;", "&amp;lt;br/&amp;gt;", "&amp;nbsp;", "&amp;amp;nbsp;", "\n\n", " \n ", "\r\n\t"]


@pytest.mark.parametrize("space", SPACES, ids=ascii)
def test_every_white_space_is_a_blank(space):
    text = "1. No effusion. 2. The heart is large. Lungs clear."
    assert clean(text.replace(" ", space)) == clean(text) == "no effusion . the heart is large . lungs clear ."
    assert clean(space + text + space) == clean(text)
    assert clean(text.replace(" ", space), "original") == clean(text, "original")


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("A nodule <5 mm and >3 mm.", "a nodule 5 mm and 3 mm ."),
        ("A nodule &lt;5 mm &amp;amp; clear.", "a nodule 5 mm clear ."),
        ("[<Heart is normal>]. Clear.", "heart is normal . clear ."),
        ("<unk> heart", "unk heart ."),
        ("card\u00adio\u200dmegaly", "cardiomegaly ."),
        ("&eacute;heart; &notanentity; & R&D", "éheart notanentity rd ."),
    ],
)
def test_what_is_no_white_space(text, cleaned):
    assert clean(text) == cleaned


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="&<"), max_size=30))
def test_plain_text_has_no_white_space_but_blanks(text):
    assert not [c for c in plain(text) if c.isspace() and c != " "]
    if all(c == " " or c.isprintable() and not c.isspace() for c in text):
        assert plain(text) == text


def test_sections_that_are_joined_end_with_a_stop():
    assert joined(["Heart normal ", "", " Lungs clear"]) == "Heart normal. Lungs clear"
    assert joined(["Clear.", "Normal!", "x"]) == "Clear. Normal! x"
    assert joined(["  Only one "]) == "Only one" and joined([]) == joined([" "]) == ""


NOTHING = [
    "",
    " ",
    "nan",
    "NaN",
    "None.",
    "none",
    "N/A",
    "n.a.",
    "-",
    "--",
    ".",
    "?",
    "XXXX",
    "XXXX XXXX.",
    "null",
    "<NA>",
]
NOTHING += [
    "#N/A",
    "[]",
    "___",
    "1.",
    "&nbsp;",
    "<p></p>",
    "Findings: None.",
    "FINDINGS:",
    "Not available.",
    "nil",
    "x",
]
NOTHING += [
    "not applicable",
    "None given.",
    "See impression.",
    "No report",
    "\\N",
    "None.\nNone.",
    "unknown",
    "as above",
]
SOMETHING = [
    "Normal.",
    "No findings.",
    "None of the nodules is new.",
    "None seen.",
    "Nil acute.",
    "Stable",
    "Clear",
    "PICC",
]
SOMETHING += [
    "No change.",
    "No effusion",
    "Unchanged",
    "心脏不大",
    "XXXX opacity.",
    "Missing rib.",
    "AP view.",
    "No acute findings",
]


@pytest.mark.parametrize("text", NOTHING)
def test_text_that_says_nothing(text):
    assert says_nothing(text)


@pytest.mark.parametrize("text", SOMETHING)
def test_text_that_says_something(text):
    assert not says_nothing(text)


def test_findings_that_say_nothing_are_left_out_and_counted(tmp_path):
    said = ["nan", "None.", "N/A", "-", "XXXX", "None of the nodules is new.", "Normal."]
    reports.build(collection(tmp_path / "data", [study(n, text) for n, text in enumerate(said)]), tmp_path / "work")
    assert reasons(tmp_path / "work") == {f"CXR{n}": "no findings" for n in range(5)}
    assert len(splits(tmp_path / "work")) == 2


def test_sections_and_paragraphs_of_a_report_stay_apart(tmp_path):
    """Two FINDINGS sections, the first without a stop; tags within one."""
    data = collection(tmp_path / "data", [study(1, "Heart normal"), study(2, "Clear. HERE")])
    one, two = (data / f"ecgen-radiology/{n}.xml" for n in "12")
    more = '<AbstractText Label="FINDINGS">Lungs clear</AbstractText></Abstract>'
    one.write_text(one.read_text().replace("</Abstract>", more))
    two.write_text(two.read_text().replace(" HERE", "<p>Heart normal.</p><p>No effusion.</p>"))
    reports.build(data, tmp_path / "work")
    found = {row["study_id"]: row["report"] for row in table(tmp_path / "work/reports.csv")}
    assert found == {"CXR1": "heart normal . lungs clear .", "CXR2": "clear . heart normal . no effusion ."}
