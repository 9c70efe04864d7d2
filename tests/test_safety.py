"""Laws of interrupting and resuming, of locks and full disks, and of hostile text."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import paddle
import pandas as pd
import pytest
from conftest import made_up
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import encoder, features, generate, models, phantom, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.dataset import Batch
from medcap_paddle.models import reliance, train_inputs
from medcap_paddle.runtime import cache, files, loop
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import predictor

ROOT = Path(__file__).parent.parent
CONFIG = choose("tiny").change(
    decoder={"embed": 16, "hidden": 16, "dropout": 0.3}, training={"epochs": 5, "batch_size": 16, "patience": 5}
)


def built(studies, config=CONFIG):
    split, _, vocab = studies
    return models.build(config.decoder, split.shapes, len(vocab))


def fit(run_dir, studies, stop_after=None, **changes):
    """Train; with `stop_after` an exception ends it after that epoch, as a kill would."""
    split, val, _ = studies
    model = built(studies)

    def on_epoch(history):
        if len(history) == stop_after:
            raise KeyboardInterrupt

    try:
        settings = CONFIG.change(training=changes).training
        return model, train.fit(model, split, val, run_dir, settings, on_epoch)
    except KeyboardInterrupt:
        return model, None


def trained(run_dir):
    history = pd.read_csv(run_dir / "history.csv").drop(columns="seconds")
    return (run_dir / "weights.safetensors").read_bytes(), history.to_csv()


# Interrupt and resume -------------------------------------------------------------------------------------------------


def test_an_interrupted_training_resumes_to_identical_weights(studies, tmp_path):
    fit(tmp_path / "whole", studies)
    for stop in (1, 2, 4):
        fit(tmp_path / "stopped", studies, stop_after=stop)
        paddle.nn.Linear(2, 2)  # other names for the parameters of the next model
    fit(tmp_path / "stopped", studies)
    assert trained(tmp_path / "stopped") == trained(tmp_path / "whole")
    assert not (tmp_path / "stopped/checkpoint.safetensors").exists()


def test_a_finished_training_is_not_repeated_but_a_changed_one_is(studies, tmp_path):
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


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(studies, tmp_path, capsys):
    fit(tmp_path / "whole", studies)
    fit(tmp_path / "run", studies, stop_after=2, learning_rate=1e-3)
    fit(tmp_path / "run", studies)
    assert trained(tmp_path / "run") == trained(tmp_path / "whole")
    assert "checkpoint.safetensors is of other settings or data: training begins anew" in capsys.readouterr().out
    fit(tmp_path / "other", studies, stop_after=3)
    checkpoint = tmp_path / "other/checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    weights = (tmp_path / "other/weights.safetensors").read_bytes()
    for content, reason in ((flipped, "is damaged"), (whole[:-9], "is damaged"), (weights, "is of other settings")):
        checkpoint.write_bytes(content)
        fit(tmp_path / "other", studies, stop_after=1)
        assert f"checkpoint.safetensors {reason}" in capsys.readouterr().out
    fit(tmp_path / "other", studies)
    assert trained(tmp_path / "other") == trained(tmp_path / "whole")


def test_a_disk_full_while_the_checkpoint_is_written_keeps_the_one_before(studies, tmp_path, monkeypatch):
    fit(tmp_path / "whole", studies)
    replace_, stop = os.replace, [3]

    def full(source, target):
        stop[0] -= Path(target).name == "checkpoint.safetensors"
        if not stop[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MedcapError, match="checkpoint.safetensors cannot be written .No space left"):
        fit(tmp_path / "full", studies)
    monkeypatch.undo()
    epochs = []
    split, val, _ = studies
    train.fit(built(studies), split, val, tmp_path / "full", CONFIG.training, lambda done: epochs.append(len(done)))
    assert epochs[0] == 3 and trained(tmp_path / "full") == trained(tmp_path / "whole")


def test_a_loss_that_is_no_number_names_the_batch_and_keeps_the_best_weights(studies, tmp_path):
    fit(tmp_path / "good", studies, stop_after=2)
    good = (tmp_path / "good/weights.safetensors").read_bytes()
    split, val, _ = studies
    model = built(studies)

    def poison(history):
        if len(history) == 2:
            model.output.weight.set_value(paddle.full_like(model.output.weight, np.nan))

    with pytest.raises(MedcapError, match=r"loss of batch \d+ of 6 is not a number in epoch 3; the best weights"):
        train.fit(model, split, val, tmp_path / "bad", CONFIG.training, poison)
    assert (tmp_path / "bad/weights.safetensors").read_bytes() == good


def test_weights_of_other_settings_are_not_taken_for_those_of_a_run_that_was_stopped(studies, tmp_path):
    """The shapes agree, so only the run itself can tell. Nothing is lost: the old weights are set aside."""
    split, val, vocab = studies

    def save(config):
        runs.save(tmp_path, config, vocab, split, {"content": "a"})

    save(CONFIG)
    fit(tmp_path, studies)
    runs.load(tmp_path)
    save(CONFIG.change(generation={"beam_size": 7}))  # how it writes is not what it was trained with
    runs.load(tmp_path)
    good = (tmp_path / "weights.safetensors").read_bytes()

    def lost():
        with pytest.raises(MedcapError, match="weights.safetensors not found: run 04_train.ipynb"):
            runs.load(tmp_path)
        assert (tmp_path / loop.PREVIOUS).read_bytes() == good

    save(CONFIG.change(decoder={"dropout": 0.1}))  # stopped before the first batch
    lost()
    save(CONFIG)
    (tmp_path / "weights.safetensors").write_bytes(good)
    with pytest.raises(MedcapError, match="not a number"):
        fit(tmp_path, studies, learning_rate=float("inf"))  # stopped before the end of the first epoch
    lost()
    fit(tmp_path, studies)
    assert (tmp_path / "weights.safetensors").read_bytes() == good  # the same settings make them again


def test_the_vocabulary_of_another_run_is_refused(studies, tmp_path):
    """Also one of the same size, with which every report would be written in other words."""
    split, _, vocab = studies
    runs.save(tmp_path, CONFIG, vocab, split, {"content": "a"})
    files.write_tensors(tmp_path / "weights.safetensors", loop.tensors(built(studies)))
    runs.load(tmp_path)
    words = vocabulary.tokens(vocab)
    words[-2:] = reversed(words[-2:])
    files.write_sealed(tmp_path / "vocab.json", {"tokens": words, "special": vocabulary.SPECIAL})
    with pytest.raises(MedcapError, match="vocab.json is not what the run was trained with"):
        runs.load(tmp_path)


def test_predictions_resume_and_are_not_written_twice(studies, tmp_path, monkeypatch):
    split, val, vocab = studies
    model, known = built(studies), train_inputs.of(split)
    out = tmp_path / "predictions.csv"
    whole = generate.predict(model, vocab, val, CONFIG, batch_size=5, known=known)
    batch, made = generate._batch, []

    def failing(model, vocab, studies, rows, *settings):
        made.append(int(rows[0]))
        if len(made) == 4:
            raise KeyboardInterrupt
        return batch(model, vocab, studies, rows, *settings)

    monkeypatch.setattr(generate, "_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out, known=known)
    assert not out.exists()
    table = generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out, known=known)
    assert made == [0, 5, 10, 15, 15, 20, 25, 30] and not list(tmp_path.glob("*.parts"))
    pd.testing.assert_frame_equal(table, whole)
    again = generate.predict(model, vocab, val, CONFIG, batch_size=5, out=out, known=known)
    assert len(made) == 8
    pd.testing.assert_frame_equal(again, whole, check_exact=False)


def test_features_are_made_again_when_an_image_or_the_result_changes(tmp_path, monkeypatch):
    from PIL import Image

    network, out = encoder.load("random"), tmp_path / "features.h5"
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / f"{k}.png")
    images = pd.DataFrame({"image_id": list("01234"), "path": [tmp_path / f"{k}.png" for k in range(5)]})
    batch, made = features._batch, []
    monkeypatch.setattr(features, "_batch", lambda *a, **o: made.append(a) or batch(*a, **o))
    features.extract(images, network, out, batch_size=2)
    first = out.read_bytes()
    assert len(made) == 3
    features.extract(images, network, out, batch_size=2)
    assert len(made) == 3
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "3.png")
    features.extract(images, network, out, batch_size=2)
    assert len(made) == 6 and out.read_bytes() != first
    out.write_bytes(first)  # an older file put back: not what the note beside it says
    features.extract(images, network, out, batch_size=2)
    assert len(made) == 9


# Memory ---------------------------------------------------------------------------------------------------------------

SHORT = (MemoryError(), RuntimeError("ResourceExhaustedError: Out of memory error on GPU 0"))


@pytest.fixture
def said():
    """What was said about the memory, every time."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught if "not enough memory" in str(w.message)]


def limited(run, most, error, tried):
    """`run`, on a machine that holds `most` rows; `tried` collects the sizes it was asked for."""

    def wrapped(part, *args):
        tried.append(part.stop - part.start)
        if tried[-1] > most:
            raise error
        return run(part, *args)

    return wrapped


@pytest.mark.parametrize("error", SHORT)
def test_a_batch_too_large_for_the_memory_is_done_in_parts_with_one_warning(error, said):
    tried, undone = [], []
    run = cache.halve_batch_on_oom(
        limited(lambda part, rows: rows[part], 3, error, tried), undo=lambda: undone.append(len(tried))
    )
    for rows in (8, 8, 2, 5):
        assert np.concatenate(run(rows, np.arange(rows))).tolist() == list(range(rows))
    assert tried == [8, 4, *[2] * 4, *[2] * 4, 2, 2, 2, 1] and undone == [1, 2]  # and the smaller size is kept
    assert said() == ["not enough memory for a batch of 8: using smaller ones"]


def test_an_error_that_smaller_batches_do_not_fix_is_not_hidden(said):
    for error, rows, tries in ((MemoryError("1 row"), 8, 4), (MemoryError(), 1, 1), (RuntimeError("no kernel"), 8, 1)):
        tried = []
        with pytest.raises(type(error), match=str(error)):
            cache.halve_batch_on_oom(limited(None, 0, error, tried))(rows)
        assert len(tried) == tries


def scarce(monkeypatch, module, loss, most=5, also=()):
    """The `loss` runs out of memory at batches of more than `most` studies, and at the calls numbered in `also`."""
    whole, calls = getattr(module, loss), []

    def short(logits, targets, **options):
        calls.append(len(targets))
        if len(targets) > most or len(calls) in also:
            raise SHORT[len(calls) % 2]
        return whole(logits, targets, **options)

    monkeypatch.setattr(module, loss, short)


def test_features_in_parts_are_the_same(said):
    pictures = np.random.default_rng(0).random((7, 3)).astype("float32")
    run = limited(lambda part, batch: batch[part] * 2, 3, MemoryError(), [])
    small = predictor.within_memory(lambda batch: {"pooled": run(slice(0, len(batch)), batch)})
    for _ in range(3):
        np.testing.assert_array_equal(small(pictures)["pooled"], pictures * 2)
    assert len(said()) == 1


def test_reports_in_parts_are_the_same(studies, tmp_path, monkeypatch, said):
    _, val, vocab = studies
    model = built(studies)
    known = train_inputs.of(val)
    whole = generate.predict(model, vocab, val, CONFIG, batch_size=16, known=known)
    scarce(monkeypatch, reliance, "token_nll")
    parts = generate.predict(model, vocab, val, CONFIG, batch_size=16, out=tmp_path / "predictions.csv", known=known)
    pd.testing.assert_frame_equal(parts, whole, rtol=1e-5, atol=1e-5)
    assert len(said()) == 1


@pytest.mark.parametrize("loss_on_padding", [False, True])
def test_a_step_in_parts_is_the_same_step(studies, monkeypatch, said, loss_on_padding):
    """Without dropout. The memory also fails when a part is done already: its gradients must not count twice."""
    split, _, _ = studies
    config = CONFIG.change(training={"loss_on_padding": loss_on_padding})
    inputs, tokens = split.batch(np.arange(16))
    batch = Batch({name: paddle.to_tensor(array) for name, array in inputs.items()}, paddle.to_tensor(tokens))

    class Recorder(paddle.optimizer.SGD):
        """Takes no step, and keeps the gradients that it was given."""

        def step(self):
            self.given = [parameter.grad.numpy().copy() for parameter in self._parameter_list]

    def gradients():
        model = models.build(config.decoder.without_dropout(), split.shapes, len(studies[2]))
        model.train()
        optimizer = Recorder(parameters=model.parameters())
        task = train.TeacherForcing(model, split, None, config.training)
        sums = loop._learner(model, task, optimizer)(16, batch, 1.0)
        return [sums.numpy(), *optimizer.given]

    whole = gradients()
    scarce(monkeypatch, train.F, "cross_entropy", most=8, also=[3])  # 16 at first, then 8 and 8
    for ours, theirs in zip(gradients(), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert len(said()) == 1


def test_training_in_parts_says_so_once(studies, tmp_path, monkeypatch, said):
    scarce(monkeypatch, train.F, "cross_entropy")
    monkeypatch.setattr(train, "perplexity", lambda *args: 1.0)
    _, history = fit(tmp_path, studies, patience=9)
    assert len(history) == 5 and history.train_perplexity.is_monotonic_decreasing
    assert len(said()) == 1


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
    with pytest.raises(MedcapError, match="cannot be written"), files.lock(tmp_path / "work/features.h5"):
        pass


def test_two_processes_do_not_make_the_same_file(tmp_path):
    code = (
        "import sys, time; from medcap_paddle.runtime import files\n"
        f"with files.lock({str(tmp_path / 'features.h5')!r}): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert other.stdout.readline() == b"held\n"
    message = "features.h5 is being written by another process: wait for it"
    with pytest.raises(MedcapError, match=message), files.lock(tmp_path / "features.h5"):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with files.lock(tmp_path / "features.h5"):  # the system has freed it
        pass


def test_the_files_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    path = str(tmp_path / "a.csv")
    code = f"import os; from medcap_paddle.runtime import files\nwith files.atomic({path!r}) as temporary: "
    with subprocess.Popen([sys.executable, "-c", code + "temporary.touch(); os._exit(0)"], cwd=ROOT) as child:
        pass
    (left,) = tmp_path.iterdir()
    kept = [
        left.name.replace(files.HOST, "another-machine"),  # there, a process of that number may live
        left.name.replace(str(child.pid), str(os.getpid())),
        f".mine.{child.pid}.csv",
        ".a.csv.lock",
        ".a.csv.made",
        "a.csv",
        ".2.png",
        "b.123",
    ]
    for name in kept:
        (tmp_path / name).touch()
    files.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_the_files_of_processes_that_may_live_are_not_removed(tmp_path, monkeypatch):
    path = tmp_path / f".a.csv.{files.HOST}.99999.partial.csv"

    def somebody_elses(*args):
        raise PermissionError

    for name, kill in (("posix", somebody_elses), ("nt", None)):  # on Windows asking would be Ctrl-C: nobody is asked
        path.touch()
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "kill", kill)
            patched.setattr(files.os, "name", name)
            assert files.is_alive(99999)
        monkeypatch.setattr(files.os, "kill", somebody_elses)
        files.remove_stale(tmp_path)
        assert path.exists()


def test_two_phantoms_are_not_made_in_one_folder(tmp_path):
    with (
        files.lock(tmp_path / phantom.collection.MARKER),
        pytest.raises(MedcapError, match="being written by another process"),
    ):
        phantom.make(tmp_path, studies=1)
    phantom.make(tmp_path, studies=1, size=32)  # and the lock is free again


def test_commands_end_with_a_sentence(capsys):
    for error, sentence in ((MedcapError("fix this"), "fix this"), (KeyboardInterrupt(), "the same command resumes")):
        with pytest.raises(SystemExit, match=sentence), files.cli_errors():
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
