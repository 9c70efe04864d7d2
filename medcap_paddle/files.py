"""Files between the stages: our error, missing inputs that name their maker, writes that never stay half done.

Tables are CSV in UTF-8 with every cell a string, so that a report reading "None" stays a report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class MedcapError(Exception):
    """Something the user can mend; the message says which file and what to do."""


def require(path: str | Path, remedy: str) -> Path:
    """`path` if it exists, else MedcapError with the remedy ("run 03_vocab.ipynb")."""
    path = Path(path)
    if not path.exists():
        raise MedcapError(f"{path} not found: {remedy}")
    return path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` to write to; it takes the name only when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path, remedy: str) -> object:
    """Parsed JSON; MedcapError when the file is missing or is not JSON."""
    try:
        return json.loads(require(path, remedy).read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise MedcapError(f"{path} is not readable JSON ({error}): {remedy}") from error


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def read_table(path: str | Path, columns: list[str], remedy: str) -> pd.DataFrame:
    """A CSV with every cell a string; MedcapError when the file or one of `columns` is missing."""
    import pandas as pd

    try:
        table = pd.read_csv(require(path, remedy), dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:  # EmptyDataError and UnicodeDecodeError are ValueErrors
        raise MedcapError(f"{path} is not a readable CSV table ({error}): {remedy}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MedcapError(f"{path} has no column {', '.join(missing)}: {remedy}")
    return table
