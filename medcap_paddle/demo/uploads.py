"""Files that guests drop: how many, how large, and gone again. They are not trusted.

films(contents)    the films in these files, bytes each; MedcapError with a sentence where one is none
remove_stale()     folders of a server that was killed in the middle

Bytes go to a folder of their own, under names of ours, and are gone before the films are looked at. Of the name that a
guest's program gave, only this is used: whether it ends like that of a DICOM, since old ones bear no other mark.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..runtime.files import MedcapError, is_alive
from ..vision.dicom import SUFFIXES
from .films import Film, warned

MAX_FILES = 4  # views of a study
MAX_BYTES = 50_000_000  # of a file; a film of 16 bits has 30 MB
MAX_PIXELS = 30_000_000  # of a film; the finest detectors have 16 million
PREFIX = f"medcap-{os.getuid() if hasattr(os, 'getuid') else 0}-"


def films(files: Sequence[tuple[str, bytes]]) -> list[Film]:
    """Of (name, content) of each file, in their order."""
    if len(files) > MAX_FILES:
        raise MedcapError(f"{len(files)} files: a study has at most {MAX_FILES} films, drop fewer")
    for number, (_, content) in enumerate(files, 1):
        if len(content) > MAX_BYTES:
            size = f"{len(content) / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}"
            raise MedcapError(f"film {number} has {size}: save a smaller copy")
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        return [_film(Path(folder), number, *file) for number, file in enumerate(files, 1)]


def _film(folder: Path, number: int, given: str, content: bytes) -> Film:
    name, suffix = f"film {number}", ".dcm" if given.lower().endswith(SUFFIXES) else ""
    path = folder / f"{number}{suffix}"
    path.write_bytes(content)
    pixels = _declared(path)
    if pixels > MAX_PIXELS:
        raise MedcapError(f"{name} declares {pixels:,} pixels, more than {MAX_PIXELS:,}: save a smaller copy")
    try:
        return Film.of(path, name)
    except MemoryError:
        raise MedcapError(f"{name} needs more memory than there is: save a smaller copy") from None


def _declared(path: Path) -> int:
    """Pixels by the header alone; 0 where there is none that can be read, and reading it will say why."""
    from pydicom import dcmread

    with warned(), suppress(Exception):  # decoders raise nearly anything on broken input
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            return picture.width * picture.height
    with warned(), suppress(Exception):
        data = dcmread(path, stop_before_pixels=True, force=True)
        return int(data.Rows) * int(data.Columns)
    return 0


def remove_stale() -> None:
    """Folders that a process which is no longer there left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = re.fullmatch(rf"{PREFIX}(\d+)-\w+", folder.name)
        if owner and not is_alive(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)
