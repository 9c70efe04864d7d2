"""What reads the collections that people have on disk: `READERS`, tried in their order, and `find`.

A reader of your own keeps `collection.Reader`; put it into `READERS`, and the tables and the phantom's `redraw` use it.
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.files import MedcapError
from . import kaggle, labelled, openi, r2gen, table
from .archive import inner, unzip
from .collection import Files, Reader

READERS: dict[str, Reader] = {
    "openi": openi,
    "kaggle": kaggle,
    "own_table": table,
    "r2gen_folder": r2gen,
    "label_table": labelled,
}


def find(data_dir: str | Path, work_dir: str | Path, unzipped: str = "unzipped") -> tuple[Reader, Files]:
    """The reader of the collection that lies anywhere below `data_dir`, and its files.

    What lies in `work_dir` is passed over. A zip, or a folder that holds one and nothing else to read, is unpacked
    once, to `work_dir`/`unzipped`. MedcapError where there is no collection: it lists what each reader looks for.
    """
    data_dir, work_dir = Path(data_dir), Path(work_dir)
    wanted = f"give a folder with {', or '.join(reader.LOOKS_FOR for reader in READERS.values())}, or a .zip of one"
    if not data_dir.exists():
        raise MedcapError(f"{data_dir} not found: {wanted}")
    archive = str(data_dir)
    if data_dir.is_dir():
        files = Files(data_dir, skip=work_dir)
        if reader := _reader_of(files):
            return reader, files
        archives = files.ending(".zip")
        if len(archives) > 1:
            raise MedcapError(f"{data_dir} has {len(archives)} zip files and no reports: give one of them as data_dir")
        if not archives:
            looked = f"{len(files.paths)} files looked at"
            raise MedcapError(f"no collection anywhere in {data_dir} ({looked}): {_unpack(files)}{wanted}")
        archive = archives[0]
    files = Files(unzip(archive, work_dir / unzipped), skip=work_dir, within=inner(archive))
    if reader := _reader_of(files):
        return reader, files
    raise MedcapError(f"no collection in {archive}: {_unpack(files)}{wanted}")


def _unpack(files: Files) -> str:
    return f"unpack {', '.join(files.packed[:3])} and give the folder; else " if files.packed else ""


def _reader_of(files: Files) -> Reader | None:
    return next((reader for reader in READERS.values() if reader.matches(files)), None)
