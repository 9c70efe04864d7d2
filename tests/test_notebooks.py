"""Every notebook runs top to bottom on a small phantom, in order, through files only."""

import json
import os
from pathlib import Path

import pandas as pd
import papermill
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """work/ after all notebooks, each in a kernel of its own."""
    work = tmp_path_factory.mktemp("work")
    for notebook in NOTEBOOKS:
        parameters = {"data_dir": "", "work_dir": str(work), "run": "lstm", "quick": True}
        out = work / "notebooks" / notebook.name
        out.parent.mkdir(exist_ok=True)
        papermill.execute_notebook(
            notebook,
            out,
            parameters,
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            language="python",
            progress_bar=False,
        )
        if notebook.stem == "01_reports":
            break_images(work)
    return work


def break_images(work):
    """One view of the first study of each split that has two: the notebooks look at these first."""
    images = pd.read_csv(work / "images.csv").merge(pd.read_csv(work / "reports.csv")[["study_id", "split"]])
    several = images[images.duplicated("study_id", keep=False)]
    for path in several.drop_duplicates("split").path:
        Path(path).write_bytes(b"no image")


def test_the_main_line_comes_first():
    assert [path.name[:2] for path in NOTEBOOKS[:6]] == ["01", "02", "03", "04", "05", "06"]


def test_every_stage_wrote_its_files(work):
    for name in ("reports.csv", "images.csv", "features.h5", "vocab.json", "summary.txt"):
        assert (work / name).stat().st_size > 0
    for name in ("config.json", "vocab.json", "weights.safetensors", "history.csv", "predictions.png", "metrics.json"):
        assert (work / "runs/lstm" / name).stat().st_size > 0


def test_broken_images_are_listed(work):
    output = json.dumps(json.loads((work / "notebooks/02_features.ipynb").read_text()))
    assert "3 unreadable" in output and "not a readable PNG" in output


def test_every_reported_study_has_one_prediction(work):
    reports = pd.read_csv(work / "reports.csv")
    predictions = pd.read_csv(work / "runs/lstm/predictions.csv")
    assert set(predictions.study_id) == set(reports.study_id[reports.split == "test"])
    assert predictions.study_id.is_unique


def test_the_summary_says_what_it_was_made_of(work):
    summary = (work / "summary.txt").read_text()
    assert "DRAWN" in summary and "test studies" in summary and "small" in summary
    assert "lstm, mean of 3 seeds" in (work / "seeds.txt").read_text()
    for row in ("lstm", "lstm_shuffled", "constant", "constant_bleu"):
        assert row in summary
        metrics = json.loads((work / "runs" / row / "metrics.json").read_text())
        assert metrics["split"] == "test" and metrics["figures"]["cider"]["value"] >= 0


def test_a_missing_stage_names_its_notebook(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="reports.csv not found: run 01_reports.ipynb"):
        papermill.execute_notebook(
            ROOT / "notebooks/03_vocab.ipynb",
            os.devnull,
            {"work_dir": str(tmp_path)},
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            language="python",
            progress_bar=False,
        )
