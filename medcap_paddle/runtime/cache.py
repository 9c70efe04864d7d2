"""Interrupted work is resumed, and finished work is not repeated.

An output is finished when the note beside it, `.<name>.made`, holds a digest of the inputs it was made from and a
digest of its own content: `is_current` compares both, so a changed setting, a changed input and a damaged output are
all noticed. Until then the finished batches of a long piece of work wait in the folder `.<name>.parts`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from .files import MedcapError, atomic, digest, read_sealed, write_sealed

Part = dict[str, np.ndarray]
Done = TypeVar("Done")


def is_current(path: str | Path, inputs: str, *also: str | Path, quiet: bool = False) -> bool:
    """Whether `path` exists unchanged and was made from the same inputs (a `files.digest`); if so, a line says it.

    `also` are files that were made with it. `quiet` prints nothing.
    """
    from tqdm.auto import tqdm

    path = Path(path)
    try:
        current = read_sealed(_note(path), "") == {"inputs": inputs, "content": _content(path, *also)}
    except (MedcapError, OSError):
        return False
    if current and not quiet:
        tqdm.write(f"{path} is up to date: nothing to do")
    return current


def mark_done(path: str | Path, inputs: str, *also: str | Path) -> None:
    """Note what `path`, and `also` with it, was made from."""
    path = Path(path)
    write_sealed(_note(path), {"inputs": inputs, "content": _content(path, *also)})


def stamp(path: str | Path) -> list[int]:
    """Size and time of an input, to notice that it was replaced; [] when it is not there."""
    try:
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    except OSError:
        return []


def resumable(
    path: str | Path, inputs: str, rest: Callable[[int], Iterable[Part]], first: int = 0, step: int = 1
) -> Iterator[Part]:
    """Every batch of the work on `path`, in order: first those stored before an interruption, then those of `rest`.

    `rest(n)` makes the batches from number n on, as arrays by name; each is stored before the next is made. Parts of
    other inputs, and a damaged one with all that follow it, are made again. `clear` them when `path` is written.
    Several processes share the work where each takes the batches `first`, `first + step`, ...; `begin` comes before.
    """
    folder, number = begin(path, inputs), first
    while (part := _read(folder / f"{number:06}.npz")) is not None:
        yield part
        number += step
    for part in rest(number):
        with atomic(folder / f"{number:06}.npz") as temporary:
            np.savez(temporary, **part)
        yield part
        number += step


def begin(path: str | Path, inputs: str) -> Path:
    """The folder for the parts of `path`; parts of other inputs are removed."""
    folder = _folder(Path(path)) / inputs
    if not folder.exists():
        clear(path)
        with atomic(folder / ".begun") as temporary:
            temporary.touch()
    return folder


def clear(path: str | Path) -> None:
    """Remove the parts of `path`."""
    shutil.rmtree(_folder(Path(path)), ignore_errors=True)


def _read(path: Path) -> Part | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None


def _folder(path: Path) -> Path:
    return path.with_name(f".{path.name}.parts")


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.made")


def _content(*paths: str | Path) -> str:
    with ExitStack() as stack:
        return digest(*(stack.enter_context(open(path, "rb")) for path in paths))


def halve_batch_on_oom(
    run: Callable[..., Done], undo: Callable[[], object] = lambda: None, most: int = sys.maxsize
) -> Callable[..., list[Done]]:
    """`run(part, ...)` for batches that may not fit into memory, where `part` is a slice of the batch.

    The function returned takes the number of rows of a batch and what `run` takes after `part`, and gives the results
    of its parts in order, of `most` rows each: usually one, slice(0, rows). When memory is short it halves the part,
    says so once, and stays with the smaller ones. `undo` is called when a batch is begun again.
    """
    given = most

    def in_parts(rows: int, *args: object) -> list[Done]:
        nonlocal most
        while True:
            try:
                return [run(slice(k, min(k + most, rows)), *args) for k in range(0, rows, most)]
            except (MemoryError, RuntimeError) as error:
                short = isinstance(error, MemoryError) or re.search("out of memory|ResourceExhausted", str(error), re.I)
                if not short or min(most, rows) < 2:
                    raise
                if most == given:
                    warnings.warn(f"not enough memory for a batch of {rows}: using smaller ones", stacklevel=2)
                most = min(most, rows) // 2
            undo()  # not before the error has let go of what it held

    return in_parts
