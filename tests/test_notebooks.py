"""Every notebook runs top to bottom on a small phantom, in order, through files only; and teaches in one form."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import papermill
import pytest

from medcap_paddle.knowledge import systems
from medcap_paddle.notebook import start
from medcap_paddle.runtime.files import MedcapError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHINESE = re.compile(r"[\u4e00-\u9fff].*。")  # a sentence


def execute(notebook, out, cwd, **parameters):
    kernel = {"kernel_name": "python3", "language": "python"}
    papermill.execute_notebook(notebook, out, parameters, cwd=cwd, progress_bar=False, **kernel)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The work folder after all notebooks, each in a kernel of its own."""
    work = tmp_path_factory.mktemp("work")
    (work / "notebooks").mkdir()
    for notebook in NOTEBOOKS:
        parameters = {"data_dir": "", "work_dir": str(work), "run": "lstm", "preset": "", "quick": True}
        execute(notebook, work / "notebooks" / notebook.name, ROOT / "notebooks", **parameters)
        if notebook.stem == "01_reports":
            break_images(work)
    return work


def break_images(work):
    """One view of the first study of each split that has two: the notebooks look at these first."""
    images = pd.read_csv(work / "images.csv").merge(pd.read_csv(work / "reports.csv")[["study_id", "split"]])
    several = images[images.duplicated("study_id", keep=False)]
    for path in several.drop_duplicates("split").path:
        Path(path).write_bytes(b"no image")


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def text(path, kind="markdown"):
    return "\n\n".join("".join(cell["source"]) for cell in cells(path, kind))


def sections(path):
    """(heading, what stands below it) of each section."""
    parts = re.split(r"^## ", text(path), flags=re.M)[1:]
    return [tuple(part.split("\n", 1)) for part in parts]


# What they do ---------------------------------------------------------------------------------------------------------


def test_the_main_line_comes_first():
    assert [path.name[:2] for path in NOTEBOOKS[:6]] == ["01", "02", "03", "04", "05", "06"]


def test_every_stage_wrote_its_files(work):
    for name in ("reports.csv", "images.csv", "features.h5", "vocab.json", "summary.txt"):
        assert (work / name).stat().st_size > 0
    for name in ("config.json", "vocab.json", "weights.safetensors", "history.csv", "predictions.png", "metrics.json"):
        assert (work / "runs/lstm" / name).stat().st_size > 0


def test_no_line_is_red(work):
    executed = sorted((work / "notebooks").glob("*.ipynb"))
    outputs = [(path.name, cell["id"], o) for path in executed for cell in cells(path, "code") for o in cell["outputs"]]
    assert len(executed) == len(NOTEBOOKS) and outputs
    assert not [(name, cell, o["text"]) for name, cell, o in outputs if o.get("name") == "stderr"]


def test_broken_images_are_listed(work):
    output = (work / "notebooks/02_features.ipynb").read_text(encoding="utf-8")
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
    for row in ("lstm", "lstm_teacher", "lstm_shuffled", "constant", "constant_bleu"):
        assert row in summary
        metrics = json.loads((work / "runs" / row / "metrics.json").read_text())
        assert metrics["split"] == "test" and metrics["figures"]["cider"]["value"] >= 0


def test_the_table_of_knowledge_has_every_system_before_and_after(work):
    """And says what it was made of, and what is not told apart."""
    text = (work / "knowledge.txt").read_text()
    assert "DRAWN" in text and "test studies" in text and "told apart" in text
    rows = [line.split()[0] for line in text.splitlines() if line.strip()]
    for name in ("lstm", *systems.RUNS):
        assert {name, f"{name}_teacher", f"{name}_completed"} <= set(rows)
        assert json.loads((work / "runs" / name / "metrics.json").read_text())["split"] == "test"
    assert {"neighbour", "medoid", "constant", "template"} <= set(rows)


def test_a_missing_stage_names_its_notebook(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="reports.csv not found: run 01_reports.ipynb"):
        execute(ROOT / "notebooks/03_vocab.ipynb", os.devnull, ROOT / "notebooks", work_dir=str(tmp_path))


# How they start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", ["the repository", "another folder"])
def test_a_kernel_anywhere_writes_to_the_same_folder(here, tmp_path, monkeypatch):
    """The kernel of notebooks/ is that of all other tests."""
    if here == "another folder":
        monkeypatch.setenv("PYTHONPATH", str(ROOT))  # there the package must be installed
    content = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    setup = [cell for cell in content["cells"] if cell["id"] in ("parameters", "start")]
    notebook, out = tmp_path / "start.ipynb", tmp_path / "out.ipynb"
    notebook.write_text(json.dumps({**content, "cells": setup}), encoding="utf-8")
    execute(notebook, out, ROOT if here == "the repository" else tmp_path)
    [output] = cells(out, "code")[-1]["outputs"]
    assert "".join(output["text"]).startswith(f"{ROOT / 'work'}, run lstm; Paddle ")


def test_a_session_has_folders_and_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = start("here", run="mine", preset="original")
    assert session.work == tmp_path / "here" and session.run_dir == session.runs / "mine" == session.work / "runs/mine"
    assert session.config.decoder.layers == 32  # a preset by its own name, not by that of the run
    assert start("here", run="original").config.decoder.layers == 1
    (tmp_path / "here").mkdir()
    texts = dict.fromkeys(["source", "images", "split", "cleaning"], "") | {"reports": "phantom"}
    content = texts | dict.fromkeys(["studies", "radiographs", "left_out"], {})
    (tmp_path / "here/collection.json").write_text(json.dumps(content))
    assert start("here").config != start("elsewhere").config
    with pytest.raises(MedcapError, match="nothing"):
        start("here", preset="nothing")
    (tmp_path / "here/collection.json").write_text("{}")
    with pytest.raises(MedcapError, match="collection.json.*run 01_reports.ipynb"):
        start("here")


# Their form -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestForm:
    def test_stored_without_outputs_and_kernel(self, path):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert not content["metadata"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in cells(path, "code"))
        assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])

    def test_begins_with_title_parameters_and_at_most_8_lines_of_setup(self, path):
        content = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title, purpose, chinese = "".join(content[0]["source"]).split("\n\n")[:3]
        assert re.fullmatch(r"# \d\d · .+ / .*[\u4e00-\u9fff].*", title)
        assert re.fullmatch(r"\*\*[^\n]+\*\*", purpose) and CHINESE.search(chinese + "。")
        assert content[1]["metadata"]["tags"] == ["parameters"]
        assert content[1]["source"] == cells(NOTEBOOKS[0], "code")[0]["source"]
        rest = [cell["cell_type"] for cell in content[2:]]
        setup = [line for cell in content[2 : 2 + rest.index("markdown")] for line in cell["source"]]
        assert "session = start(work_dir, run, preset, quick)" in "".join(setup)
        assert len([line for line in setup if line.strip()]) <= 8

    def test_cells_are_few_and_short(self, path):
        code = cells(path, "code")
        assert len(code) <= 25 and max(len(cell["source"]) for cell in code) <= 25

    def test_every_section_has_its_chinese(self, path):
        for heading, below in sections(path):
            assert re.search(r" / .*[\u4e00-\u9fff]", heading), heading
            assert CHINESE.search(below), heading

    def test_ends_with_three_exercises_and_what_to_expect(self, path):
        heading, below = sections(path)[-1]
        assert heading == "Exercises / 练习" and "".join(cells(path, "markdown")[-1]["source"]).endswith(below)
        exercises = re.split(r"^\d\. ", below, flags=re.M)[1:]
        assert len(exercises) == 3
        assert all(re.search(r"\*\(.+\)\*\s*$", exercise, re.S) for exercise in exercises)
        assert re.search(r"^Next: \[", text(path), re.M) or path == NOTEBOOKS[-1]
