"""figures.json: what notebooks measured (sequence/, vision/ in `work_dir`), in the form of `make real`.

    {"figures": {name: {"value", "low", "high"}}}      and "p" of a figure that is compared with another one

Each notebook writes its own figures; those of the others stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from .files import MedcapError, lock, read_json, write_json

FIX = "remove it and run the notebooks that write it again"
Figures = dict[str, dict[str, float]]


def figure(value: float, low: float, high: float, **more: float) -> dict[str, float]:
    return {"value": float(value), "low": float(low), "high": float(high), **more}


def read(path: str | Path) -> Figures:
    """The figures of a figures.json; MedcapError where it is missing or has another form."""
    content = read_json(path, FIX)
    figures = content.get("figures") if isinstance(content, dict) else None
    if not isinstance(figures, dict) or not all(isinstance(f, dict) and "value" in f for f in figures.values()):
        raise MedcapError(f"{path} holds no figures: {FIX}")
    return figures


def record(path: str | Path, figures: Mapping[str, Mapping[str, float]]) -> Figures:
    """Enter `figures` into the file and return all that it holds; those of the same names are replaced.

    ValueError where a value is not a number: JSON has no word for it.
    """
    path = Path(path)
    for name, entry in figures.items():
        if not all(math.isfinite(value) for value in entry.values()):
            raise ValueError(f"figure {name} is not a number: {dict(entry)}")
    with lock(path):
        merged = (read(path) if path.exists() else {}) | {name: dict(entry) for name, entry in figures.items()}
        write_json(path, {"figures": dict(sorted(merged.items()))})
    return merged
