"""Laws of the vocabulary."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import vocab as vocabulary
from medcap_paddle.runtime.files import MedcapError

REPORTS = ["heart is normal .", "heart is large .", "lungs are clear ."]


@pytest.fixture(scope="module")
def vocab():
    return vocabulary.build(REPORTS, min_freq=2)


def test_rare_words_are_left_to_unk(vocab):
    assert "heart" in vocab and "." in vocab
    assert "large" not in vocab
    assert vocab.to_tokens(vocabulary.encode(vocab, "heart is large ."))[3] == "<unk>"


@given(st.lists(st.sampled_from(["heart", "is", "."]), max_size=40))
def test_decoding_undoes_encoding(vocab, words):
    report = " ".join(words)
    assert vocabulary.decode(vocab, vocabulary.encode(vocab, report, max_length=99)) == report


def test_a_long_report_loses_its_end_and_its_eos(vocab):
    ids = vocabulary.encode(vocab, "heart is . " * 30, max_length=60)
    assert len(ids) == 60
    assert vocab.to_indices("<eos>") not in ids
    assert ids[0] == vocab.to_indices("<bos>")


def test_saving_and_loading_keeps_every_id(vocab, tmp_path):
    vocabulary.save(vocab, tmp_path / "vocab.json")
    loaded = vocabulary.load(tmp_path / "vocab.json")
    assert loaded.idx_to_token == vocab.idx_to_token
    assert vocabulary.encode(loaded, "heart was here") == vocabulary.encode(vocab, "heart was here")


@given(st.lists(st.text(max_size=12), max_size=6), st.integers(1, 2))
def test_a_vocabulary_of_any_text_is_kept(tmp_path_factory, reports, min_freq):
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    words = Counter(word for report in reports for word in report.split())
    made = vocabulary.make(reports, min_freq, path)
    assert set(vocabulary.tokens(made)) == {w for w, n in words.items() if n >= min_freq} | {
        *vocabulary.SPECIAL.values()
    }
    assert vocabulary.tokens(vocabulary.load(path)) == vocabulary.tokens(made)


def test_a_vocabulary_is_not_made_twice_and_a_change_is_noticed(tmp_path, monkeypatch):
    path, build, made = tmp_path / "vocab.json", vocabulary.build, []
    monkeypatch.setattr(vocabulary, "build", lambda *args: made.append(args) or build(*args))
    calls = [(REPORTS, 2), (iter(REPORTS), 2), (REPORTS, 1), (REPORTS, 1), ([*REPORTS, "new words"], 1)]
    for (reports, min_freq), expected in zip(calls, (1, 1, 2, 2, 3), strict=True):
        vocab = vocabulary.make(reports, min_freq, path)
        assert len(made) == expected
        assert vocabulary.tokens(vocab) == vocabulary.tokens(vocabulary.load(path))
    vocabulary.save(build(REPORTS, 2), path)  # another one put in its place
    assert "new" in vocabulary.make([*REPORTS, "new words"], 1, path)


def test_coverage_counts_running_words(vocab):
    share, unknown = vocabulary.coverage(vocab, ["heart is large large"])
    assert share == 0.5
    assert unknown == {"large": 2}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"tokens": ["a"], "special": {}}',
        json.dumps({"tokens": ["<pad>"] * 2, "special": vocabulary.SPECIAL}),
        json.dumps({"tokens": 3, "special": vocabulary.SPECIAL}),
    ],
)
def test_other_files_are_refused_by_name(content, tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(content)
    with pytest.raises(MedcapError, match="vocab.json.*03_vocab"):
        vocabulary.load(path)


def test_a_missing_file_names_its_notebook(tmp_path):
    with pytest.raises(MedcapError, match="vocab.json not found: run 03_vocab.ipynb"):
        vocabulary.load(tmp_path / "vocab.json")
