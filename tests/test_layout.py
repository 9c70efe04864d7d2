"""The shape of the house: rooms in order, cheap to enter; short functions; notebooks clean, short and alike."""

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
from medcap_paddle.runtime import cpu

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "medcap_paddle"
ROOMS = medcap_paddle.ROOMS
CORE = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = ["data_dir", "work_dir", "run", "preset", "quick"]


def cells(path, kind):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def name_of(path: Path) -> str:
    """medcap_paddle/readers/openi.py is the room readers.openi, readers/__init__.py the room readers."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def path_of(room: str) -> Path:
    path = PACKAGE / room.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports, at the top or within a function."""
    found, package = set(), path.parent.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            base = ".".join(part for part in base if part)
            names = {".".join(filter(None, [base, alias.name])) for alias in node.names}
            known = {name for name in names if name in ROOMS or path_of(name).exists()}
            found |= known | ({base} if base and known != names else set())
    return found


def test_every_file_is_a_room_of_the_list():
    """But for the __init__.py of a folder, where it imports nothing."""
    files = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    del files[""]
    extra = {
        name for name in files.keys() - set(ROOMS) if not (files[name].stem == "__init__" and not imported(files[name]))
    }
    assert not extra and set(ROOMS) <= files.keys() and len(ROOMS) == len(set(ROOMS))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_earlier_ones(room):
    for name in imported(path_of(room)) & set(ROOMS):
        assert ROOMS.index(name) < ROOMS.index(room), f"{room} imports {name}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_main_line_uses_no_wing(path):
    wings = {name.split(".")[0] for name in imported(path)} & {"phantom", "knowledge", "sequence", "demo"}
    assert not wings, f"{path.stem} imports {wings}"


def test_a_table_is_read_without_drawing_and_without_opencv():
    code = "import sys, medcap_paddle.dataset; print([m for m in sys.modules if m == 'cv2' or '.phantom' in m])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def functions(path: Path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_functions_are_short_and_take_few_parameters(path):
    for node in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
        assert node.end_lineno - node.lineno < 50, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        assert count <= 8, f"{node.name} has {count} parameters"


def test_the_main_line_is_thin():
    """Lines of the rooms of the root, without the list of all rooms; the goal is 1,900."""
    rooms = [path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert sum(len(path.read_text().splitlines()) for path in rooms) <= 2590


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_main_line_names_no_entry_of_a_table(path):
    """A decoder, reader or metric is named in its table only. `config` holds the usual name of a run."""
    from medcap_paddle.metrics import METRICS
    from medcap_paddle.models import DECODERS
    from medcap_paddle.readers import READERS

    entries = {*DECODERS, *READERS, *METRICS} | {decoder.__name__ for decoder in DECODERS.values()}
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    constants = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docstrings}
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
    }
    if path.stem != "config":
        assert not {c for c in constants if isinstance(c, str)} & entries
    assert not names & {decoder.__name__ for decoder in DECODERS.values()}


def test_entering_is_cheap():
    """Importing the package loads neither paddle nor any other large library."""
    code = (
        "import sys, medcap_paddle; print([m for m in ('paddle', 'numpy', 'pandas', 'paddlenlp') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_slow_libraries_wait_until_they_are_needed():
    """No room imports them when it is entered; entered in order, the first that does is named."""
    slow = {"paddlenlp", "pandas", "matplotlib", "sklearn", "spacy", "visualdl", "pycocoevalcap", "nltk", "h5py"}
    code = f"import sys, importlib\nfor room in {ROOMS[:-1]}: importlib.import_module('medcap_paddle.' + room); "
    code += f"found = {slow} & set(sys.modules); assert not found, f'{{room}} imports {{found}}'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_entering_adds_little_to_importing_paddle():
    code = "import time; start = time.perf_counter(); import medcap_paddle; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)]
    assert min(times) < 0.2


def test_paddle_is_prepared_and_the_user_respected():
    code = "import os, medcap_paddle; print(os.environ['OMP_NUM_THREADS'])"
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for env, expected in [(free, cpu.cores()), (free | {"OMP_NUM_THREADS": "7"}, 7)]:
        assert int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=env)) == expected


def test_the_ranks_of_a_machine_share_its_cores(monkeypatch):
    """loky's count: the cores of the process, within its container's quota."""
    import loky

    monkeypatch.setattr(loky, "cpu_count", lambda: 8)
    for ranks, expected in (("", 8), ("3", 2), ("9", 1)):
        monkeypatch.setenv(cpu.LOCAL_RANKS, ranks)
        assert cpu.cores() == expected


def test_what_is_set_for_paddle_is_reported_once():
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
    assert f"import medcap_paddle first, or set OMP_NUM_THREADS={cpu.cores()}" in done.stderr


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
