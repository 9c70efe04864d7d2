"""Kill the pipeline at random moments and start it again: what comes out is what an undisturbed run makes.

KILLS=20 pytest tests/test_soak.py (`make soak`) kills more often than the tests do.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from pipeline import ARTEFACTS

KILLS = int(os.environ.get("KILLS", 5))


def start(work: Path) -> subprocess.Popen:
    script = Path(__file__).with_name("pipeline.py")
    child = subprocess.Popen([sys.executable, script, work], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    return child


def finish(child: subprocess.Popen) -> str:
    out, errors = child.communicate(timeout=300)
    assert child.returncode == 0 and out.endswith("finished\n"), errors
    return out


def artefacts(work: Path) -> dict:
    """Everything a later stage reads; history.csv without the seconds an epoch took."""
    history = pd.read_csv(work / "runs/lstm/history.csv").drop(columns="seconds").to_csv()
    pictures = {path.name: path.read_bytes() for path in sorted((work / "phantom/NLMCXR_png").iterdir())}
    return {name: (work / name).read_bytes() for name in ARTEFACTS} | pictures | {"history": history}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished pipeline, and the seconds it took."""
    work = tmp_path_factory.mktemp("undisturbed")
    child, begun = start(work), time.monotonic()
    finish(child)
    return work, time.monotonic() - begun


def test_kills_change_nothing(undisturbed, tmp_path):
    work, span = undisturbed
    expected, disturbed = artefacts(work), tmp_path / "work"
    chance, kills, rounds = random.Random(), 0, 0
    while kills < KILLS:
        child = start(disturbed)
        try:
            child.wait(timeout=chance.uniform(0, span / 2))
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            kills += 1
            continue
        finish(child)  # it was quicker than the killer: compare, and begin anew
        assert artefacts(disturbed) == expected
        shutil.rmtree(disturbed)
        rounds += 1
    finish(start(disturbed))
    assert artefacts(disturbed) == expected
    left = [path for name in ("*.parts", "checkpoint*", "*.training") for path in disturbed.rglob(name)]
    assert not left
    print(f"{kills} kills, {rounds + 1} rounds, {span:.1f} s undisturbed")


def test_a_finished_pipeline_does_nothing(undisturbed):
    work, _ = undisturbed
    made = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    out = finish(start(work))
    assert out.count("nothing to do") == 7  # tables, features, vocabulary, encoder, both trainings, predictions
    kept = ("reports.csv", "images.csv", "features.h5", "weights.safetensors", "predictions.csv", ".png")
    for path, stamp in made.items():
        if path.name.endswith(kept):
            assert path.stat().st_mtime_ns == stamp, f"{path.name} was written again"
