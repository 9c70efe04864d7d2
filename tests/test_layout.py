"""The shape of the house: rooms in order, cheap to enter; notebooks clean, short and alike."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medcap_paddle

ROOT = Path(__file__).parent.parent
ROOMS = re.search(r"files  resume.*?show", (ROOT / "medcap_paddle/__init__.py").read_text(), re.DOTALL)[0].split()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = ["data_dir", "work_dir", "run", "quick"]


def cells(path, kind):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_every_file_is_a_room_of_the_list():
    assert sorted(ROOMS) == sorted(p.stem for p in (ROOT / "medcap_paddle").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_earlier_ones(room):
    tree = ast.parse((ROOT / f"medcap_paddle/{room}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = {node.module} if node.module else {alias.name for alias in node.names} - {"__version__", "cores"}
            for name in names:
                assert ROOMS.index(name) < ROOMS.index(room), f"{room} imports {name}"


def test_entering_is_cheap():
    """Importing the package loads neither paddle nor any other library."""
    code = (
        "import sys, medcap_paddle; print([m for m in ('paddle', 'numpy', 'pandas', 'paddlenlp') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_slow_libraries_wait_until_they_are_needed():
    """No room imports them when it is entered; entered in order, the first that does is named."""
    slow = {"paddlenlp", "pandas", "matplotlib", "sklearn", "spacy", "visualdl", "pycocoevalcap", "nltk", "h5py"}
    code = f"import sys, importlib\nfor room in {ROOMS}: importlib.import_module('medcap_paddle.' + room); "
    code += f"found = {slow} & set(sys.modules); assert not found, f'{{room}} imports {{found}}'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_entering_adds_little_to_importing_paddle():
    code = "import time; start = time.perf_counter(); import medcap_paddle; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)]
    assert min(times) < 0.2


def test_paddle_is_prepared_and_the_user_respected():
    code = "import os, medcap_paddle; print(os.environ['OMP_NUM_THREADS'])"
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for env, expected in [(free, medcap_paddle.cores()), (free | {"OMP_NUM_THREADS": "7"}, 7)]:
        assert int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=env)) == expected


def test_cores_are_those_of_the_process_its_container_and_its_share_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(medcap_paddle, "CONTROL", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert medcap_paddle.cores() == 64
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    for quota, expected in (("-1", 64), ("50000", 1), ("800000", 8)):  # control groups 1
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert medcap_paddle.cores() == expected
    for limits, expected in (("600000 100000", 6), ("max 100000", 8)):  # control groups 2, which come first
        (tmp_path / "cpu.max").write_text(f"{limits}\n")
        assert medcap_paddle.cores() == expected
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "3")
    assert medcap_paddle.cores() == 2


def test_what_is_set_for_paddle_is_said_once():
    """Not by the processes that this one starts, not by other ranks, and not where there was nothing to set."""
    again = "import subprocess, sys, medcap_paddle; subprocess.run([sys.executable, '-c', 'import medcap_paddle'])"
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    set_all = {"OMP_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE", "MKL_DEBUG_CPU_TYPE": "0"}
    for more, lines in (({}, 1), ({"PADDLE_TRAINER_ID": "1"}, 0), (set_all, 0)):
        done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, cwd=ROOT, env=free | more)
        assert len(done.stderr.splitlines()) == done.stderr.count("OMP_NUM_THREADS=") == lines, done.stderr
        assert done.stdout == ""


def test_a_late_import_is_warned_about():
    """Also of the threads: Paddle has by then set OMP_NUM_THREADS itself."""
    code = "import paddle, os; assert os.environ['OMP_NUM_THREADS'] == '1'; import medcap_paddle"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)
    assert f"import medcap_paddle first, or set OMP_NUM_THREADS={medcap_paddle.cores()}" in done.stderr


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "benchmarks/ours.py"], ids=lambda p: p.stem)
def test_paddle_is_imported_last(path):
    """Imported before medcap_paddle it computes on one thread: no figure is wrong then, and everything is slow."""
    code = "\n".join(map(source, cells(path, "code"))) if path.suffix == ".ipynb" else path.read_text()
    imports = re.findall(r"^(?:import|from) (medcap_paddle|paddle(?!\w))", code, re.MULTILINE)
    assert imports[0] == "medcap_paddle"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stored_clean(path):
    content = json.loads(path.read_text())
    assert "kernelspec" not in content["metadata"]
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_notebooks_are_stripped():
    assert subprocess.run([sys.executable, "-m", "nbstripout", "--verify", "--keep-id", *NOTEBOOKS]).returncode == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_short_and_take_the_same_parameters(path):
    code = cells(path, "code")
    assert len(code) <= 25
    assert all(len(source(cell).splitlines()) <= 25 for cell in code)
    assert [c["metadata"].get("tags") for c in code][0] == ["parameters"]
    assert [line.split(" = ")[0] for line in source(code[0]).splitlines()] == PARAMETERS
    headings = [line for c in cells(path, "markdown") for line in source(c).splitlines() if line.startswith("#")]
    assert headings and all(re.search(r"[\u4e00-\u9fff]", line) for line in headings)


def test_parameters_are_written_the_same_everywhere():
    assert len({source(cells(path, "code")[0]) for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("norms", [(10.0, 10.1, 10.3), (10.0, 10.0, float("nan"))])
def test_the_benchmark_stops_where_features_differ(monkeypatch, norms):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = importlib.import_module("bench")
    answers = [{"norm": norm, "amount": 1, "seconds": 1, "network": 1} for norm in norms]
    monkeypatch.setattr(bench.Bench, "turns", lambda *_: [answers])
    with pytest.raises(SystemExit, match="features do not agree"):
        bench.features(bench.Bench(ROOT, ""))
