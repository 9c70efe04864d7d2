"""Zip archives of other people, unpacked once and never outside their folder.

Reads an archive such as AI Studio's IU数据集.zip, whose names may be in GBK. Writes its tables, reports and images
below a folder, and .archive.json beside them, a fingerprint of the archive.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from ..runtime.files import MedcapError, digest, read_json, write_json
from .collection import IMAGE_SUFFIXES, PACKED_SUFFIXES

LARGEST = 64 << 30  # bytes when unpacked; the whole IU X-Ray collection has about 14 GB
WANTED = (".xml", ".csv", ".json", "_list.txt", *IMAGE_SUFFIXES)  # the lists: NIH's split


def unzip(archive: str | Path, folder: str | Path, limit: int = LARGEST) -> Path:
    """Unpack the tables, reports and images of `archive` to `folder`, unless it was done before; returns `folder`.

    MedcapError where an entry would lie outside of `folder`, where all would take more than `limit` bytes or than the
    disk has, and where the archive is damaged; nothing is left in `folder` then. One process at a time: hold a lock.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [(entry, _safe_name(archive, entry)) for entry in source.infolist()]
            content = [[entry.orig_filename, entry.CRC, entry.file_size] for entry, _ in entries]
            stamp = [archive.name, digest(content)]
            entries = [(entry, name) for entry, name in entries if name.lower().endswith(WANTED)]
            if not _is_unpacked(folder, stamp):
                _check_size(archive, sum(entry.file_size for entry, _ in entries), limit, folder)
                _unpack(source, entries, folder, stamp)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        # RuntimeError: the archive has a password
        raise MedcapError(
            f"{archive} cannot be unpacked ({error}): get it again, or unpack it yourself and give the folder"
        ) from error
    return folder


def inner(archive: str | Path) -> list[str]:
    """Names of the archives inside of `archive`, which `unzip` leaves packed: "<archive>/<name>"."""
    archive = Path(archive)
    with zipfile.ZipFile(archive) as source:
        names = [_safe_name(archive, entry) for entry in source.infolist()]
    return [f"{archive.name}/{name}" for name in names if name.lower().endswith(PACKED_SUFFIXES)]


def _is_unpacked(folder: Path, stamp: list) -> bool:
    marker = folder / ".archive.json"
    return marker.exists() and read_json(marker, f"delete {folder}") == stamp


def _unpack(source: zipfile.ZipFile, entries: list[tuple[zipfile.ZipInfo, str]], folder: Path, stamp: list) -> None:
    """Write the entries beside `folder` first: it is there with all of them, or not at all."""
    from tqdm import tqdm

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        for entry, name in tqdm(entries, desc=f"unpacking {Path(source.filename).name}", mininterval=1, leave=False):
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise NotImplementedError(f"{name} is compressed in an unusual way")
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            # zipfile ends every entry at its declared size, so the sum checked before holds
            with source.open(entry) as packed, open(partial / name, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        write_json(partial / ".archive.json", stamp)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _safe_name(archive: Path, entry: zipfile.ZipInfo) -> str:
    """Where an entry goes below the folder; MedcapError where it would lie outside of it."""
    name = entry.filename
    if not entry.flag_bits & 0x800:  # no UTF-8 flag: zipfile has read the bytes as cp437; Chinese Windows writes GBK
        for encoding in ("utf-8", "gbk"):
            try:
                name = name.encode("cp437").decode(encoding)
                break
            except UnicodeError:
                pass
    name = name.replace("\\", "/")
    outside = name.startswith("/") or re.match("[a-zA-Z]:", name) or ".." in name.split("/")
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        kind = "leaves the folder" if outside else "is a symbolic link"
        raise MedcapError(
            f'{archive}: entry "{name}" {kind}; nothing was unpacked. Get the archive from a source you trust, '
            "or unpack it yourself, look at it, and give the folder"
        )
    return name


def _check_size(archive: Path, size: int, limit: int, folder: Path) -> None:
    # a PNG hardly shrinks and XML shrinks tenfold: a collection never grows a hundredfold
    limit = min(limit, 100 * archive.stat().st_size)
    if size > limit:
        raise MedcapError(
            f"{archive} would unpack to {size:,} bytes, more than the {limit:,} allowed: if you expect that, "
            "unpack it yourself and give the folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise MedcapError(f"{archive} needs {size:,} bytes, {folder.parent} has {free:,} free: choose another work_dir")
