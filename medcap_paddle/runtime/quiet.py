"""Warnings of libraries that are harmless here, and only these, are not shown."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HARMLESS = (
    "ccache",  # Paddle: would compile operators of one's own faster
    "OMP_NUM_THREADS",  # Paddle: the number of threads is set on purpose, see runtime.cpu
    "Setuptools is replacing distutils",
    "pkg_resources is deprecated",
    "we now always track global mean and variance",  # Paddle: of batch normalisation in training
    "PIR) not support input out tensor",  # Paddle, while it exports a network
    "All log messages before absl::InitializeLog",  # Paddle's C++ part, before the line above
)


@contextmanager
def hide_harmless() -> Iterator[None]:
    """Within the block, stderr loses the lines with one of `HARMLESS`; the others follow when the block ends.

    On the level of the process, since Paddle's C++ part writes there too.
    """
    ignore_harmless()
    sys.stderr.flush()
    kept, python = os.dup(2), sys.stderr
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = file
        try:
            yield
        finally:
            file.flush()
            sys.stderr = python
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file:
                if not any(words in line for words in HARMLESS):
                    print(line, end="", file=sys.stderr)


def ignore_harmless() -> None:
    """The same for Python's warnings, from now on."""
    for words in HARMLESS:
        warnings.filterwarnings("ignore", f".*{words.replace(')', '.')}")
