"""Laws of several ranks: two of them do what one process does, and a rank that dies costs only what it was doing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pandas as pd
import pytest
import rank
from PIL import Image

from medcap_paddle import dataset, encoder, features, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import choose
from medcap_paddle.runtime.files import read_table

ROOT = Path(__file__).parent.parent
COLLECTION = {
    **{"source": "made up", "reports": "real", "images": "phantom", "split": "7:1:2", "cleaning": "r2gen"},
    **{"studies": {"train": 30, "val": 10}, "radiographs": {"train": 30, "val": 10}, "left_out": {}},
}
two_ranks = pytest.mark.skipif(paddle.device.cuda.device_count() == 1, reason="two ranks need two GPUs or none")


def launch(log: Path, *command: str | Path) -> tuple[int, str]:
    """Exit code and output of two ranks on this CPU; never waits for longer than five minutes."""
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", log]
    command = [*launcher, sys.executable, *command]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        try:
            return child.communicate(timeout=300) and child.wait(), (log / "workerlog.0").read_text()
        except subprocess.TimeoutExpired:
            child.terminate()  # the launcher ends its ranks
            raise


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """images.csv of 130 small images: four batches and a rest; one image is missing."""
    folder, rng = tmp_path_factory.mktemp("work"), np.random.default_rng(0)
    for k in range(130):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).resize((32, 32)).save(folder / f"{k}.png")
    (folder / "70.png").unlink()
    rows = [{"image_id": f"CXR{k}_IM-1", "study_id": f"CXR{k}", "path": str(folder / f"{k}.png")} for k in range(130)]
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "collection.json").write_text(json.dumps(COLLECTION))
    return folder


@pytest.fixture(scope="module")
def killed(work):
    """What the ranks of rank.py did until one of them was killed."""
    return launch(work / "log", ROOT / "tests/rank.py", work)


def history(run_dir):
    return pd.read_csv(run_dir / "history.csv").drop(columns="seconds")


@two_ranks
def test_two_ranks_train_as_one_process_does_with_the_doubled_batch(killed, work, tmp_path):
    rank.fit_all(tmp_path, batch_size=16)
    for run in ("whole", "padding", "tokens", "headless", "staged", "impatient"):
        pd.testing.assert_frame_equal(history(work / run), history(tmp_path / run), rtol=1e-4, atol=0)
    assert 4 < len(history(work / "impatient")) < 30  # both ranks have stopped early


@two_ranks
def test_interrupted_ranks_resume_to_identical_weights(killed, work):
    assert (work / "stopped/weights.safetensors").read_bytes() == (work / "whole/weights.safetensors").read_bytes()
    assert history(work / "stopped").equals(history(work / "whole"))
    assert not (work / "stopped/checkpoint.safetensors").exists()


@two_ranks
def test_the_first_rank_alone_writes_and_draws(killed, work):
    assert len(list((work / "whole/visualdl").iterdir())) == 1
    assert "train:" in killed[1] and "train:" not in (work / "log/workerlog.1").read_text()


@two_ranks
def test_a_killed_rank_ends_the_others_and_features_resume_to_the_same_file(killed, work, tmp_path):
    assert killed[0] and not (work / "features.h5").exists()
    done = {path.name: path.stat().st_mtime_ns for path in work.glob(".features.h5.parts/*/*.npz")}
    assert "000001.npz" in done and "000003.npz" not in done
    code, output = launch(work / "log2", "-m", "medcap_paddle.features", work, "--encoder", "random")
    assert code == 0 and "129 images, 1 unreadable" in output
    images = read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("random"), tmp_path / "features.h5")
    assert (work / "features.h5").read_bytes() == (tmp_path / "features.h5").read_bytes()
    assert not list(work.glob("*.parts"))


def test_the_commands_make_a_run_that_can_be_read(work, tmp_path, monkeypatch, capsys):
    images = read_table(work / "images.csv", ["study_id"], "")[:40]
    images.to_csv(tmp_path / "images.csv", index=False)
    table = images[["study_id"]].assign(split=["train", "train", "train", "val"] * 10, report="the heart is normal .")
    table.to_csv(tmp_path / "reports.csv", index=False)
    (tmp_path / "collection.json").write_text(json.dumps(COLLECTION))
    vocabulary.save(vocabulary.build(table.report, 1), tmp_path / "vocab.json")
    for main, arguments in ((features.main, ["--encoder", "random"]), (train.main, ["--run", "mine", "--quick"])):
        monkeypatch.setattr(sys, "argv", ["command", str(tmp_path), *arguments])
        main()
    assert "40 images, 0 unreadable" in capsys.readouterr().out
    tiny, teacher = choose("tiny"), tmp_path / "runs/mine_teacher"
    run = runs.load(teacher)
    assert run.config == tiny.teacher()
    val = dataset.load(tmp_path, "val", run.vocab, run.config, expect=run.features)
    best = history(teacher).val_perplexity.min()
    assert train.perplexity(run.model, val) == pytest.approx(best, rel=1e-4)

    changed = tiny.change(training={"epochs": 1}, reward={"epochs": 0})
    changed.save(tmp_path / "mine.json")
    monkeypatch.setattr(
        sys, "argv", ["command", str(tmp_path), "--run", "mine", "--config", str(tmp_path / "mine.json")]
    )
    train.main()
    assert runs.load(tmp_path / "runs/mine").config == changed and len(history(tmp_path / "runs/mine")) == 1


def test_ranks_share_the_cores_of_their_machine():
    code = "import os, medcap_paddle; print(os.environ['OMP_NUM_THREADS'])"
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}

    def threads(**environment):
        return int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=free | environment))

    cores = threads()
    launched = {"PADDLE_LOCAL_SIZE": "2", "OMP_NUM_THREADS": "1"}  # as the launcher leaves it
    assert threads(**launched) == max(cores // 2, 1)
    assert threads(**launched | {"PADDLE_LOCAL_SIZE": "1"}) == cores
    assert threads(**launched | {"OMP_NUM_THREADS": "3"}) == 3
