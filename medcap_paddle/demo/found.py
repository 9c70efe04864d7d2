"""The runs of a work folder by name. Imports nothing large: the command that starts the page asks it."""

from __future__ import annotations

from pathlib import Path

TRAINED = ("model.json", "weights.safetensors")  # files of a run that can read a study; see `runs`
PREDICTIONS = "predictions.csv"


def trained(work: str | Path) -> list[str]:
    """The runs that are trained, the newest first."""
    facts, weights = TRAINED
    found = [path for path in Path(work).glob(f"runs/*/{weights}") if (path.parent / facts).exists()]
    return [path.parent.name for path in sorted(found, key=lambda path: (-path.stat().st_mtime, path))]


def written(work: str | Path) -> list[str]:
    """The runs that have predictions, those of baselines too."""
    return sorted(path.parent.name for path in Path(work).glob(f"runs/*/{PREDICTIONS}"))


def changed(path: str | Path) -> float:
    """When a file was last written; 0 where there is none."""
    path = Path(path)
    return path.stat().st_mtime if path.exists() else 0.0
