"""The rows of a CSV file, by one strict rule: every row has as many cells as the header has names.

A table whose rows are longer or shorter than its header has lost a name, a comma or a quote, and nobody can say which
cell belongs to which column: it is refused with the line. Two things are read as they are meant: an empty last column
without a name (a comma at the end of every line, that of the header too), and a first column without a name (the row
numbers that pandas and R write). Byte order marks, CRLF, quoted line breaks and empty lines are fine.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

LARGEST_CELL = 1 << 27  # characters


def read(path: str | Path) -> dict[str, list[str]]:
    """The columns by name, every cell as it is written; ValueError with the line of what cannot be read, OSError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as source:
            names, rows, lines = _rows(source)
    except UnicodeDecodeError as error:
        line = Path(path).read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8: save it as CSV in UTF-8") from error
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    repeated = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if repeated:
        raise ValueError(f"line 1 has the name {repeated[0]} twice: rename one column")
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        if not name and i and any(column):
            row = next(k for k, cell in enumerate(column) if cell)
            where = f"line {lines[row]} has {column[row][:40]!r} in column {i + 1}"
            raise ValueError(f"{where}, which has no name in line 1: name the column, or take it away")
    return {name: column for name, column in zip(names, columns, strict=True) if name}


def _rows(source: object) -> tuple[list[str], list[list[str]], list[int]]:
    """The names of the header, the rows below, and the line where each begins."""
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(source, strict=True)
    names: list[str] = []
    rows, lines, line = [], [], 1
    try:
        for row in reader:
            if not names:
                names = [name.strip() for name in row]
                if not any(names):
                    names = []
            elif len(row) == len(names):
                rows.append(row)
                lines.append(line)
            elif len(row) > 1 or (row and row[0].strip()):  # an empty line is no row
                raise ValueError(_length(line, row, names))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line}: {error}; write a quote within quotes twice, and close every quote") from error
    if not names:
        raise ValueError("it is empty")
    return names, rows, lines


def _length(line: int, row: list[str], names: list[str]) -> str:
    header = ", ".join(name or "(no name)" for name in names[:8]) + (", ..." if len(names) > 8 else "")
    fix = "name every column in line 1, take away commas at the end of rows, quote cells that hold a comma"
    if len(row) < len(names):
        fix = "write every cell, also an empty one, and quote cells that hold a line break"
    return f"line {line} has {len(row)} cells: expected {len(names)} ({header}); {fix}"
