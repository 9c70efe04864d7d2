"""Laws of the words: both READMEs say the same, and whatever they name exists."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
FOLDERS = ["benchmarks", "docs", "medcap_paddle", "notebooks", "tests"]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md", ROOT / "work/README.md"])
DOCS += sorted(ROOT.glob("notebooks/*.ipynb"))
HOSTS = {"openi.nlm.nih.gov", "github.com", "www.paddlepaddle.org.cn"}  # of data and of Paddle
HOST = r"(?:[\w-]+\.)+(?:org|com|net|cn|gov|edu|ai|co)\b(?!\.)"
LAUNCHER = {"--nproc_per_node", "--nnodes", "--master", "--log_dir", "--backend"}  # flags of Paddle's
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z\d.,])(?:\d[\d,]*(?:\.\d+)*|\.\d+)")

every_document = pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))


def text(path: Path) -> str:
    """What is written for a reader: of a notebook its words, not its code."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return content
    cells = json.loads(content)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose(path: Path) -> str:
    """Without code and without the targets of links."""
    return LINK.sub("]", INLINE.sub(" ", FENCE.sub("", text(path))))


def code(path: Path) -> list[str]:
    """The commands and names of a document: lines of blocks without their comments, and inline code."""
    blocks = "".join(FENCE.findall(text(path))).replace("\\\n", " ")
    pieces = [re.sub(r"\s#.*", "", line) for line in blocks.splitlines()] + INLINE.findall(FENCE.sub("", text(path)))
    return [" ".join(piece.split()) for piece in pieces if piece.strip()]


def links(path: Path) -> list[str]:
    return LINK.findall(FENCE.sub("", text(path)))


def anchors(path: Path) -> set[str]:
    """Those that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def module_file(name: str) -> Path:
    """The file that `python -m name` runs."""
    path = ROOT / name.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def imported(path: Path) -> list[Path]:
    """The files of the package that a module imports."""
    found = []
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1] / (node.module or "").replace(".", "/")
            files = [folder.with_suffix(".py"), folder / "__init__.py"]
            files += [folder / f"{alias.name}.py" for alias in node.names]
            found += [file for file in files if file.is_file()]
    return found


def modules_run(piece: str) -> list[tuple[str, list[str]]]:
    """(module of ours, its flags) of each `python -m` in a piece of code."""
    parts = re.split(r"python -m (medcap_paddle[\w.]*)", piece)
    return [(name, re.findall(r"(?<!\S)--[\w-]+", rest)) for name, rest in zip(parts[1::2], parts[2::2], strict=True)]


# Both READMEs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
def test_a_readme_is_short(path):
    assert len(text(path).splitlines()) <= 130


def test_both_readmes_have_the_same_commands_and_names():
    """Words in angle brackets are translated."""
    ours, theirs = ({re.sub(r"<[^>]*>", "<>", piece) for piece in code(path)} for path in (README, CHINESE))
    assert ours == theirs


def test_both_readmes_have_the_same_links():
    ours, theirs = (set(links(path)) - {README.name, CHINESE.name} for path in (README, CHINESE))
    assert ours == theirs


def test_both_readmes_have_the_same_numbers():
    ours, theirs = ({number.rstrip(",") for number in NUMBER.findall(prose(path))} for path in (README, CHINESE))
    assert ours == theirs


def test_both_readmes_have_the_same_sections_and_rows_of_tables():
    shapes = []
    for path in (README, CHINESE):
        lines = [line for line in prose(path).splitlines() if line.startswith(("|", "#"))]
        shapes.append([(line[0], line.count("|"), NUMBER.findall(line)) for line in lines])
    assert shapes[0] == shapes[1]


def test_figures_of_the_readme_stand_in_the_results():
    """A table of the README is an excerpt: its figures are those of docs/results.md."""
    excerpt = "\n".join(line for line in text(README).splitlines() if re.match(r"\|.*\[", line) and "](" not in line)
    assert set(NUMBER.findall(excerpt)) <= set(NUMBER.findall(prose(ROOT / "docs/results.md")))


# What is named exists -------------------------------------------------------------------------------------------------


@every_document
def test_links_lead_somewhere(path):
    for link in links(path):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_document
def test_paths_exist(path):
    """Those below a folder of the repository, and modules and documents that are named without their folder."""
    files = {file.name for folder in FOLDERS for file in ROOT.glob(f"{folder}/**/*")} | {f.name for f in ROOT.iterdir()}
    for piece in code(path):
        for name in re.findall(rf"(?<![\w/.<~-])(?:{'|'.join(FOLDERS)})/[\w./-]*", piece):
            assert (ROOT / name).exists(), name
        if re.fullmatch(r"[\w-]+\.(?:py|md|cff)", piece):
            assert piece in files | {"mine.py"}, piece  # the reader's own file


@every_document
def test_targets_and_variables_of_make_exist(path):
    makefile = text(ROOT / "Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    for piece in code(path):
        if command := re.fullmatch(r"make ([a-z]+)\b(.*)", piece):
            assert command[1] in targets, piece
        for name in re.findall(r"(?<!\S)([A-Z]+)=", piece):
            assert name in variables, piece


@every_document
def test_commands_and_their_flags_exist(path):
    for piece in code(path):
        for name, flags in modules_run(piece):
            file = module_file(name)
            assert file.is_file(), piece
            assert '__name__ == "__main__"' in text(file) or file.name == "__main__.py", piece
            sources = "".join(map(text, [file, *imported(file)]))
            for flag in flags:
                assert f'"{flag}"' in sources, f"{flag} in: {piece}"


@every_document
def test_flags_that_stand_alone_are_of_some_command(path):
    sources = "".join(map(text, ROOT.glob("medcap_paddle/**/*.py")))
    for piece in code(path):
        if piece.startswith("--") and (flag := piece.split()[0]) not in LAUNCHER:
            assert f'"{flag}"' in sources, piece


def test_presets_that_are_named_exist():
    from medcap_paddle.config import PRESETS

    for path in DOCS:
        named = re.findall(r"(?:PRESET=|--preset )([a-z_]+)", " ".join(code(path)))
        assert set(named) <= set(PRESETS), path


@every_document
def test_names_of_the_package_exist(path):
    """`medcap_paddle.room` and `medcap_paddle/room.py` in prose and code."""
    for name in re.findall(r"medcap_paddle(?:\.[a-z_]+)+", text(path)):
        file = ROOT / name.replace(".", "/")
        assert file.is_dir() or file.with_suffix(".py").is_file() or file.parent.with_suffix(".py").is_file(), name


def test_examples_of_extending_are_short():
    for block in re.findall(r"^```python\n(.*?)^```", text(ROOT / "docs/extend.md"), re.MULTILINE | re.DOTALL):
        ast.parse(block)
        assert len(block.splitlines()) <= 20, block


# What is not named ----------------------------------------------------------------------------------------------------


@every_document
def test_only_known_hosts_are_named(path):
    """Those that data and Paddle come from: addresses of one's own network are nobody else's."""
    addresses = re.findall(r"https?://([^/\s)]+)", text(path)) + re.findall(HOST, text(path))
    assert set(addresses) <= HOSTS


@every_document
def test_no_absolute_path_but_those_of_ai_studio(path):
    paths = re.findall(r"(?<![\w.>~)\]/:*-])/[a-z]\w*/[\w/]*", text(path))
    assert all(found.startswith("/home/aistudio/") for found in paths), paths


# CITATION.cff ---------------------------------------------------------------------------------------------------------


def test_the_citation_is_what_the_format_demands():
    """Citation File Format 1.2.0: `key: value` and lists below a key; four keys are required."""
    lines = text(ROOT / "CITATION.cff").splitlines()
    entries = dict(re.fullmatch(r'([a-z-]+):(?: "?([^"]*)"?)?', line).groups() for line in lines if line[0] != " ")
    assert all(re.fullmatch(r'  - (?:name: )?"?[^":]+"?', line) for line in lines if line[0] == " ")
    assert {"cff-version", "message", "title", "authors"} <= entries.keys()
    assert entries["cff-version"] == "1.2.0" and entries["type"] == "software"
    assert "Apache License" in text(ROOT / "LICENSE") and entries["license"] == "Apache-2.0"
    assert entries["abstract"].count(". ") == 0 and entries["abstract"].endswith(".")  # one sentence
