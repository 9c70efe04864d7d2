"""Files between the stages: our error, missing inputs that name their maker, writes that never stay half done.

Tables are CSV in UTF-8 with every cell a string, so that a report reading "None" stays a report. A cell that a
spreadsheet program would execute ("=HYPERLINK(...)") gets an apostrophe in front, which reading takes away.
JSON and tensors that a program relies on carry a digest of themselves, and are refused when it does not fit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import rows

if TYPE_CHECKING:
    import pandas as pd

EXECUTABLE = r"^'*[=+\-@\t\r]"  # OWASP, "CSV injection"
HOST = re.sub(r"\W", "-", platform.node())  # in the names of temporary files: a disk may be shared
UNPRINTABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO)  # a closed pipe, a full disk
NUMBER = r"^[+-]?[\d.]+(?:e[+-]?\d+)?$"


class MedcapError(Exception):
    """Something the user can fix; the message says which file and what to do."""


def require(path: str | Path, remedy: str) -> Path:
    """`path` if it exists, else MedcapError with the remedy ("run 03_vocab.ipynb")."""
    path = Path(path)
    if not path.exists():
        raise MedcapError(f"{path} not found: {remedy}")
    return path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` to write to; it takes the name only when the block succeeds.

    MedcapError when it cannot be written: a full disk, a folder that is read-only, a file in the place of a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def reserve(path: Path, size: int) -> None:
    """Make `path` a file of `size` bytes where the system can; OSError when the disk does not have them."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def remove_stale(folder: str | Path) -> None:
    """Remove the temporary files of `atomic` whose process, on this machine, was killed."""
    for path in Path(folder).glob(".*.partial*"):
        owner = re.fullmatch(rf"\..+\.{HOST}\.(\d+)\.partial(\.\w+)?", path.name)
        if owner and path.is_file() and not is_alive(int(owner[1])):
            path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Let one process at a time write `path`; MedcapError when another one holds it. The system frees it at exit."""
    from filelock import FileLock, Timeout

    path = Path(path)
    file = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = file.acquire(timeout=0)
    except Timeout as error:
        raise MedcapError(
            f"{path} is being written by another process: wait for it, stop it, or choose another work_dir"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    with held:
        remove_stale(path.parent)
        yield


def _unwritable(path: Path, error: OSError) -> MedcapError:
    return MedcapError(f"{path} cannot be written ({error.strerror or error}): free some space or choose another place")


@contextmanager
def cli_errors() -> Iterator[None]:
    """For commands: our errors, Ctrl-C and an output that cannot be printed end in a sentence, not in a traceback.

    What a terminal without UTF-8 cannot show is printed as its number (\\u5fc3).
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except MedcapError as error:
        sys.exit(str(error))
    except OSError as error:
        if error.filename or error.errno not in UNPRINTABLE:
            raise
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # else the interpreter tries to print at its end
        sys.exit(f"the output cannot be printed ({error.strerror}): the files were written before")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command resumes where finished parts are kept, else it begins again")


def shown(path: str) -> str:
    """An argument of a command as text: without a UTF-8 locale its other bytes come as halves of surrogate pairs."""
    return os.fsencode(path).decode("utf-8", "replace")


def digest(*things: object) -> str:
    """Fingerprint of arrays, bytes, open files and whatever JSON can write: 32 hexadecimal digits of SHA-256.

    The same things give the same on any machine. A file counts from where it stands to its end.
    """
    sha = hashlib.sha256()
    for thing in things:
        for block in _blocks(thing):
            sha.update(block)
        sha.update(b"\0")
    return sha.hexdigest()[:32]


def _blocks(thing: object) -> Iterator[bytes | np.ndarray]:
    if isinstance(thing, np.ndarray):
        yield f"{thing.dtype} {thing.shape}".encode()
        # as it lies in memory: weights are too large to copy
        yield np.ascontiguousarray(thing).reshape(-1).view("uint8") if thing.dtype.kind in "biuf" else thing.tobytes()
    elif isinstance(thing, bytes):
        yield thing
    elif hasattr(thing, "read"):
        while block := thing.read(1 << 20):
            yield block
    else:
        yield json.dumps(thing, sort_keys=True).encode()


def write_json(path: str | Path, value: object) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path, remedy: str) -> object:
    """Parsed JSON; MedcapError when the file is missing or is not JSON."""
    try:
        return json.loads(require(path, remedy).read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise MedcapError(f"{path} is not readable JSON ({error}): {remedy}") from error


def write_sealed(path: str | Path, value: dict) -> None:
    """JSON with a digest of itself."""
    write_json(path, {**value, "digest": digest(value)})


def read_sealed(path: str | Path, remedy: str) -> dict:
    """What `write_sealed` wrote; MedcapError when a single character of it has changed."""
    value = read_json(path, remedy)
    if not isinstance(value, dict) or value.pop("digest", None) != digest(value):
        raise MedcapError(f"{path} was damaged or changed by hand: {remedy}")
    return value


def write_tensors(path: str | Path, tensors: dict[str, np.ndarray], facts: dict | None = None) -> None:
    """Arrays by name, and facts (whatever JSON can write) in the header, as safetensors with a digest of both."""
    from safetensors.numpy import save

    header = {"facts": facts or {}, "digest": _seal(tensors, facts or {})}
    with atomic(path) as temporary:  # one entry, since the library writes several in any order
        temporary.write_bytes(save(tensors, {"medcap_paddle": json.dumps(header, sort_keys=True)}))


def read_tensors(path: str | Path, remedy: str) -> tuple[dict[str, np.ndarray], dict]:
    """What `write_tensors` wrote; MedcapError when the file is missing, foreign, or damaged by a single bit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(require(path, remedy), "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            header = json.loads((file.metadata() or {})["medcap_paddle"])
        if header["digest"] != _seal(tensors, header["facts"]):
            raise ValueError("its digest does not fit")
        return tensors, header["facts"]
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise MedcapError(f"{path} is damaged or not ours ({error}): {remedy}") from error


def _seal(tensors: dict[str, np.ndarray], facts: dict) -> str:
    return digest(facts, *(part for name in sorted(tensors) for part in (name, tensors[name])))


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    import pandas as pd

    def harmless(column: pd.Series) -> pd.Series:
        if column.dtype.kind in "iufb":
            return column
        # Half of a surrogate pair is no character and cannot be written: it becomes "?".
        text = pd.Series([str(cell).encode("utf-8", "replace").decode() for cell in column], column.index, dtype=str)
        return text.mask(text.str.contains(EXECUTABLE) & ~text.str.contains(NUMBER), "'" + text)

    with atomic(path) as temporary:
        table.apply(harmless).to_csv(temporary, index=False, encoding="utf-8")


def read_table(path: str | Path, columns: list[str], remedy: str) -> pd.DataFrame:
    """A CSV with every cell a string; MedcapError when the file or one of `columns` is missing, and where a row has
    not as many cells as the header has names (see `runtime.rows`).
    """
    import pandas as pd

    try:
        table = pd.DataFrame(rows.read(require(path, remedy)), dtype=str)
    except (ValueError, OSError) as error:
        raise MedcapError(f"{path} is not a readable CSV table ({error}): {remedy}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        only = table.columns[0] if len(table.columns) == 1 else ""
        mark = next((f", cells are separated by {mark!r} and not by commas" for mark in ";\t|" if mark in only), "")
        raise MedcapError(f"{path} has no column {', '.join(missing)}{mark}: {remedy}")
    return table.apply(lambda column: column.mask(column.str.contains("^'" + EXECUTABLE[1:]), column.str[1:]))
