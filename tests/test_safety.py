"""Laws of stopping and going on, of locks and full disks, and of input that means harm."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import paddle
import pandas as pd
import pytest
from conftest import made_up
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import encoder, features, files, generate, train
from medcap_paddle.config import Config
from medcap_paddle.files import MedcapError

CONFIG = Config.tiny(embed=16, hidden=16, epochs=5, batch_size=16, dropout=0.3, patience=5)
OPTIONS = {name: getattr(CONFIG, name) for name in train.OPTIONS}


def fit(run_dir, studies, stop_after=None, **changes):
    """Train; with `stop_after` an exception ends it after that epoch, as a kill would."""
    split, val, vocab = studies
    model = train.build(CONFIG, split.feature_dim, len(vocab))

    def on_epoch(history):
        if len(history) == stop_after:
            raise KeyboardInterrupt

    try:
        return model, train.fit(model, split, val, run_dir, **OPTIONS | changes, on_epoch=on_epoch)
    except KeyboardInterrupt:
        return model, None


def trained(run_dir):
    history = pd.read_csv(run_dir / "history.csv").drop(columns="seconds")
    return (run_dir / "weights.safetensors").read_bytes(), history.to_csv()


# Stop and go on -------------------------------------------------------------------------------------------------------


def test_a_stopped_training_ends_as_if_it_had_not_been(studies, tmp_path):
    fit(tmp_path / "whole", studies)
    for stop in (1, 2, 4):
        fit(tmp_path / "stopped", studies, stop_after=stop)
        paddle.nn.Linear(2, 2)  # other names for the parameters of the next model
    fit(tmp_path / "stopped", studies)
    assert trained(tmp_path / "stopped") == trained(tmp_path / "whole")
    assert not (tmp_path / "stopped/checkpoint.safetensors").exists()


def test_a_finished_training_is_not_done_again_but_a_changed_one_is(studies, tmp_path):
    fit(tmp_path, studies)
    before, stamp = trained(tmp_path), (tmp_path / "weights.safetensors").stat().st_mtime_ns
    model, history = fit(tmp_path, studies)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == stamp and len(history) == 5
    assert train.perplexity(model, studies[1]) == pytest.approx(history.val_perplexity.min(), rel=1e-4)
    fit(tmp_path, studies, learning_rate=1e-3)
    assert trained(tmp_path) != before
    fit(tmp_path, (made_up(96, seed=9, vocab=studies[2])[0], *studies[1:]))
    assert trained(tmp_path) != before
    fit(tmp_path, studies)
    assert trained(tmp_path) == before  # and the same settings give the same bytes


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(studies, tmp_path):
    fit(tmp_path / "whole", studies)
    fit(tmp_path / "run", studies, stop_after=2, learning_rate=1e-3)
    fit(tmp_path / "run", studies)
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")
    fit(tmp_path / "other", studies, stop_after=3)
    checkpoint = tmp_path / "other/checkpoint.safetensors"
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    fit(tmp_path / "other", studies)
    assert trained(tmp_path / "other") == trained(tmp_path / "whole")


def test_a_loss_that_is_no_number_names_the_batch_and_keeps_the_best_weights(studies, tmp_path):
    fit(tmp_path, studies, stop_after=2)
    good = (tmp_path / "weights.safetensors").read_bytes()
    with pytest.raises(MedcapError, match=r"loss of batch \d+ of 6 is not a number"):
        fit(tmp_path, studies, learning_rate=float("inf"))
    assert (tmp_path / "weights.safetensors").read_bytes() == good


def test_predictions_go_on_and_are_not_written_twice(studies, tmp_path, monkeypatch):
    split, val, vocab = studies
    model = train.build(CONFIG, split.feature_dim, len(vocab))
    out = tmp_path / "predictions.csv"
    whole = generate.predict(model, vocab, val, CONFIG, batch_size=5)
    batch, made = generate._batch, []

    def failing(model, vocab, studies, chosen, config):
        made.append(int(chosen[0]))
        if len(made) == 4:
            raise KeyboardInterrupt
        return batch(model, vocab, studies, chosen, config)

    monkeypatch.setattr(generate, "_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out)
    assert not out.exists()
    table = generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out)
    assert made == [0, 5, 10, 15, 15, 20, 25, 30] and not list(tmp_path.glob("*.parts"))
    pd.testing.assert_frame_equal(table, whole)
    again = generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out)
    assert len(made) == 8
    pd.testing.assert_frame_equal(again, whole, check_exact=False)


def test_features_are_made_again_when_an_image_or_the_result_changes(tmp_path, monkeypatch):
    from PIL import Image

    eyes, out = encoder.load("random"), tmp_path / "features.h5"
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / f"{k}.png")
    images = pd.DataFrame({"image_id": list("01234"), "path": [tmp_path / f"{k}.png" for k in range(5)]})
    batch, made = features._batch, []
    monkeypatch.setattr(features, "_batch", lambda *args: made.append(args[2]) or batch(*args))
    features.extract(images, eyes, out, batch_size=2)
    first = out.read_bytes()
    assert len(made) == 3
    features.extract(images, eyes, out, batch_size=2)
    assert len(made) == 3
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "3.png")
    features.extract(images, eyes, out, batch_size=2)
    assert len(made) == 6 and out.read_bytes() != first
    out.write_bytes(first)  # an older file put back: not what the note beside it says
    features.extract(images, eyes, out, batch_size=2)
    assert len(made) == 9


def test_a_batch_too_large_for_the_memory_is_halved(recwarn):
    def run(batch):
        if len(batch) > 3:
            raise RuntimeError("ResourceExhaustedError: Out of memory error on GPU 0")
        return batch * 2

    batch = np.arange(16.0).reshape(8, 2)
    np.testing.assert_array_equal(features.halving(run, batch), batch * 2)
    assert "not enough memory for a batch of 8" in str(recwarn[0].message)
    with pytest.raises(MemoryError):
        features.halving(lambda batch: (_ for _ in ()).throw(MemoryError()), batch[:1])
    with pytest.raises(RuntimeError, match="another reason"):
        features.halving(lambda batch: (_ for _ in ()).throw(RuntimeError("another reason")), batch)


# Disks, locks, interrupts ---------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "facts.json"
    files.write_json(path, {"old": True})

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MedcapError, match=r"facts.json cannot be written \(No space left on device\): free some space"):
        files.write_json(path, {"new": True})
    assert files.read_json(path, "") == {"old": True} and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "work").write_text("a file where a folder should be")
    with pytest.raises(MedcapError, match="cannot be written"):
        files.write_json(tmp_path / "work/facts.json", {})
    with pytest.raises(MedcapError, match="cannot be written"), files.alone(tmp_path / "work/features.h5"):
        pass


def test_two_processes_do_not_make_the_same_file(tmp_path):
    code = (
        "import sys, time; from medcap_paddle import files\n"
        f"with files.alone({str(tmp_path / 'features.h5')!r}): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    assert other.stdout.readline() == b"held\n"
    message = "features.h5 is being written by another process: wait for it"
    with pytest.raises(MedcapError, match=message), files.alone(tmp_path / "features.h5"):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with files.alone(tmp_path / "features.h5"):  # the system has freed it
        pass


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    (tmp_path / f".a.csv.{child.pid}.partial.csv").touch()
    kept = [
        f".a.csv.{os.getpid()}.partial.csv",
        f".mine.{child.pid}.csv",
        ".a.csv.lock",
        ".a.csv.made",
        "a.csv",
        ".2.png",
        "b.123",
    ]
    for name in kept:
        (tmp_path / name).touch()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_commands_end_with_a_sentence(capsys):
    for error, sentence in ((MedcapError("mend this"), "mend this"), (KeyboardInterrupt(), "goes on from here")):
        with pytest.raises(SystemExit, match=sentence), files.plain_ending():
            raise error


# Hostile text ---------------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_tables_come_back_as_they_were(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        files.write_table(path, pd.DataFrame(rows, columns=["a", "b"]))
        table = files.read_table(path, ["a", "b"], "")
        assert [tuple(row) for row in table.itertuples(index=False)] == rows


def test_no_cell_is_a_formula(tmp_path):
    cells = ["=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "'=1", "-1.5", "plain", "''=x"]
    path = tmp_path / "table.csv"
    files.write_table(path, pd.DataFrame({"text": cells, "number": -1.0}))
    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert not raw.text[raw.text != "-1.5"].str.match(r"[=+\-@\t\r]").any() and set(raw.number) == {"-1.0"}
    assert list(files.read_table(path, ["text"], "").text) == cells


def test_text_that_is_no_text(tmp_path):
    path = tmp_path / "table.csv"
    files.write_table(path, pd.DataFrame({"text": ["a\ud800b", "שלום", "<script>alert(1)</script>"]}, dtype=object))
    assert list(files.read_table(path, ["text"], "").text) == ["a?b", "שלום", "<script>alert(1)</script>"]
    path.write_bytes(b"text\n\xff\xfe\n")
    with pytest.raises(MedcapError, match="not a readable CSV"):
        files.read_table(path, ["text"], "again")
