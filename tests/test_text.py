"""Laws of cleaning: idempotent, lower-case words and full stops, R2Gen's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.text import clean

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
    assert "".join(words) == "".join(c for c in text if c.isascii() and c.isalpha()).lower()


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
