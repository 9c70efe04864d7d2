"""The folder of a phantom: `phantom.json` says what it holds, so that only what this package made is ever replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..runtime import drawing
from ..runtime.files import MedcapError, digest, read_json, write_json

MARKER = "phantom.json"
SOURCES = [  # the code that draws and writes
    *sorted(Path(__file__).parent.glob("*.py")),
    *(Path(__file__).parents[1] / "clinical" / name for name in ("findings.py", "phrasing.py", "phrases.json")),
    Path(__file__).parents[1] / "vision/masks.py",
    Path(drawing.__file__),
]


def version() -> str:
    """A fingerprint of the code that draws and writes: a newer version replaces an older one's pictures."""
    return digest(*(path.read_bytes() for path in SOURCES))


def begin(folder: Path, about: dict) -> bool:
    """Prepare the folder; False when the same collection is there already. A part of it is kept and completed."""
    marker = folder / MARKER
    if marker.exists():
        there = read_json(marker, f"delete {folder}")
        if there == {**about, "complete": True}:
            return False
        if there != {**about, "complete": False}:
            _remove(folder, there)
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise MedcapError(f"{folder} holds another collection or other files: name an empty folder for the phantom")
    write_json(marker, {**about, "complete": False})
    return True


def _remove(folder: Path, about: object) -> None:
    """Remove the phantom collection that `about` describes, and nothing else."""
    names = about.get("holds") if isinstance(about, dict) else None
    if not isinstance(names, list) or not all(map(_is_plain, names)):
        raise MedcapError(f"{folder / MARKER} is of another version, or damaged: delete {folder}")
    for path in (folder / name for name in names):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise MedcapError(f"{path} cannot be removed ({error.strerror}): delete {folder}") from error


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and Path(name).name == name and name[:1] not in ("", ".")
