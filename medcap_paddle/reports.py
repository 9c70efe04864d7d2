"""An IU X-Ray (Open-i) collection to three tables, every study in exactly one split.

Reads, wherever they lie below `data_dir`:

    *.xml                         Open-i reports (root <eCitation>), usually in ecgen-radiology/
    *.png                         their radiographs, named <image id>.png
    annotation.json               R2Gen's split, where there is one
    indiana_reports.csv           the Kaggle release, used where there are no XML files; its image
    indiana_projections.csv       54_IM-2145-1001.dcm.png is Open-i's CXR54_IM-2145-1001
    or one .zip with any of these, such as AI Studio's IU数据集.zip; it is unpacked once to work/unzipped

Writes to `work_dir`:

    reports.csv      study_id, split, indication, comparison, findings, impression, mesh, report
    images.csv       image_id, study_id, figure_id, view ("frontal", "lateral" or ""), path
    left_out.csv     study_id, file, reason
    collection.json  what the tables were made of (see Summary)

`report` is the cleaned FINDINGS, the text the models learn to write; every other cell is as in the source.
A bad record never stops the run: it is counted in left_out.csv.

    python -m medcap_paddle.reports DATA [WORK]
"""

from __future__ import annotations

import argparse
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from .archive import unzip
from .files import MedcapError, alone, digest, plain_ending, read_json, read_table, write_json, write_table
from .resume import finished, stamp, unchanged

REPORTS = ["study_id", "split", "indication", "comparison", "findings", "impression", "mesh", "report"]
IMAGES = ["image_id", "study_id", "figure_id", "view", "path"]
LEFT_OUT = ["study_id", "file", "reason"]
SPLITS = ("train", "val", "test")
TABLES = ("annotation.json", "indiana_reports.csv", "indiana_projections.csv", "phantom.json")  # beside the *.xml
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
GET_OPEN_I = "unpack NLMCXR_reports.tgz and NLMCXR_png.tgz of openi.nlm.nih.gov in one folder and give that folder"
LARGEST_XML = 1 << 20  # bytes; real reports have 3,000
KAGGLE_AGAIN = "get both CSV files of the Kaggle release again"
DRAW_IMAGES = (
    "Most images are missing. To work on these reports with drawn images: make run DATA=... IMAGES=phantom, "
    "or python -m medcap_paddle.phantom FOLDER --redraw DATA and give FOLDER as data_dir."
)
REMEDIES = {"no image file": DRAW_IMAGES, "not in annotation.json": 'split="7:1:2" leaves annotation.json aside.'}


# Cleaning ----------------------------------------------------------------------------------------

_DROPPED = str.maketrans("", "", ".,;:?!*%^&_+=@()[]{}<>\"'/\\")  # the hyphen stays: "x-xxxx" is a word
_ENUMERATION = [mark.format(number) for mark in (". {}. ", " {}. ") for number in "2345"]  # R2Gen keeps 6 and more


def clean(text: str, rules: str = "r2gen") -> str:
    """The tokens of a report, separated by one space.

    "r2gen" is the rule behind the published IU X-Ray figures: lower case, no enumeration numbers, no
    punctuation except a "." token after every sentence. "original" is what the AI Studio notebook meant
    to do: letters only. Cleaning twice changes nothing; text without a word gives "".
    """
    if rules == "original":
        return " ".join(re.sub("[^a-zA-Z]", " ", text).lower().split())
    if rules != "r2gen":
        raise MedcapError(f'cleaning "{rules}" is unknown: use "r2gen" or "original"')
    if ".." in text:
        text = re.sub(r"\.{2,8}", ".", text)
    text = text.replace("1. ", "")  # also the end of "T11. ", as R2Gen does
    for mark in _ENUMERATION:
        text = text.replace(mark, ". ")
    sentences = text.strip().lower().split(". ")
    tokens = " . ".join(sentence.translate(_DROPPED) for sentence in sentences).split()
    return " ".join([*tokens, "."]) if set(tokens) - {"."} else ""


# Reading -----------------------------------------------------------------------------------------


@dataclass
class _Study:
    study_id: str
    file: str
    findings: str = ""
    indication: str = ""
    comparison: str = ""
    impression: str = ""
    mesh: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)  # (image_id, figure_id)

    def row(self, report: str) -> list[str]:
        """The cells of reports.csv after study_id and split."""
        return [self.indication, self.comparison, self.findings, self.impression, self.mesh, report]


class _LeftOut(Exception):
    """Why a record is no study; the message is the reason in left_out.csv."""


def _parse(data: bytes) -> ElementTree.Element:
    """Root of an XML document; _LeftOut when it is broken or declares entities or a DTD."""
    try:
        # Entities and DTDs need a "<!" (in UTF-16 a zero byte): without one, the parser in C is safe and twice as fast
        if b"<!" not in data and b"\0" not in data:
            return ElementTree.fromstring(data)
        return _parse_with_care(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # broken, or of an unknown encoding
        raise _LeftOut("malformed XML") from error


def _parse_with_care(data: bytes) -> ElementTree.Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise _LeftOut("forbidden XML (entities or DTD)") from error


def _read_xml(path: str, file: str) -> _Study:
    try:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size  # asked for a megabyte, Python would clear one for every report
            data = source.read(min(size, LARGEST_XML) + 1)
    except OSError as error:
        raise _LeftOut("unreadable file") from error
    if len(data) > LARGEST_XML:
        raise _LeftOut("too large for a report")
    root = _parse(data)
    if root.tag != "eCitation":
        raise _LeftOut("not an Open-i report")
    uid = root.find("uId")
    study = _Study(study_id=uid.get("id", "").strip() if uid is not None else "", file=file)
    if not study.study_id:
        raise _LeftOut("no study id")
    for element in _below(root, "MedlineCitation", "Article", "Abstract", "AbstractText"):
        section = element.get("Label", "").strip().lower()
        if section in ("findings", "indication", "comparison", "impression"):
            text = " ".join([getattr(study, section), "".join(element.itertext()).strip()])
            setattr(study, section, text.strip())
    study.mesh = _joined(term.text or "" for term in _below(root, "MeSH", "major"))
    for image in root.findall("parentImage"):
        study.images.append((image.get("id", "").strip(), image.findtext("figureId", "").strip()))
    return study


def _below(element: ElementTree.Element, *path: str) -> list[ElementTree.Element]:
    """element.findall("a/b"), thrice as fast: a single name is looked for in C."""
    found = [element]
    for name in path:
        found = [child for parent in found for child in parent.findall(name)]
    return found


def _read_kaggle(files: _Files) -> Iterator[_Study]:
    path = files.named("indiana_reports.csv")
    columns = ["uid", "MeSH", "indication", "comparison", "findings", "impression"]
    table = read_table(path, columns, KAGGLE_AGAIN)
    images: dict[str, list[tuple[str, str]]] = {}
    for row in _projections(files):
        listed = images.setdefault(row.uid.strip(), [])
        listed.append((_image_key(row.filename), f"F{len(listed) + 1}"))
    for row in table[columns].itertuples(index=False):
        uid, mesh, indication, comparison, findings, impression = (cell.strip() for cell in row)
        sections = findings, indication, comparison, impression
        yield _Study(f"CXR{uid}", files.relative(path), *sections, _joined(mesh.split(";")), images.get(uid, []))


def _joined(terms: Iterable[str]) -> str:
    return ";".join(term.strip() for term in terms if term.strip())


def _projections(files: _Files) -> Iterator:
    """Rows of the Kaggle table of images, none where the collection has no such table."""
    path = files.named("indiana_projections.csv")
    if path:
        yield from read_table(path, ["uid", "filename", "projection"], KAGGLE_AGAIN).itertuples(index=False)


_NAME = re.compile(r"(?:(?:CXR)?(\d+)_(?:\1_)?)?(.*?)(?:\.dcm)?(?:\.png|\.jpe?g)?", re.IGNORECASE | re.DOTALL)


def _image_key(name: str) -> str:
    """One key for one image: Open-i's CXR54_IM-2145-1001 is Kaggle's 54_IM-2145-1001.dcm.png.

    Open-i says the number of study 1 twice: CXR1_1_IM-0001-3001.
    """
    number, rest = _NAME.fullmatch(name).groups()
    return f"CXR{number}_{rest}" if number else rest


# Finding -----------------------------------------------------------------------------------------


class _Files:
    """The files of a collection, nearest to its top first; hidden ones and `skip` are passed over.

    Links are followed, but not to a folder that the collection lies in: an archive may hold a link to "/". Pipes and
    devices, which can be read for ever, are no files.
    """

    def __init__(self, folder: Path, skip: Path):
        self.folder = folder = os.path.abspath(folder)
        paths = []
        top = Path(os.path.realpath(folder))
        seen = {os.path.realpath(skip), *map(str, top.parents)} - {str(top)}
        for here, folders, names in os.walk(folder, followlinks=True):
            if os.path.realpath(here) in seen:  # also ends a circle of links
                folders.clear()
                continue
            seen.add(os.path.realpath(here))
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [os.path.join(here, name) for name in names if not name.startswith(".")]
        self.paths = sorted(filter(os.path.isfile, paths), key=lambda path: (path.count(os.sep), path))

    def ending(self, *suffixes: str) -> list[str]:
        return [path for path in self.paths if path.lower().endswith(suffixes)]

    def named(self, name: str) -> str:
        """Path of the first file of that name, or ""."""
        return next((path for path in self.paths if os.path.basename(path) == name), "")

    def relative(self, path: str) -> str:
        return path[len(self.folder) :].lstrip(os.sep)


def _find(data_dir: Path, work_dir: Path) -> _Files:
    """The collection in `data_dir`, unpacked where it is a zip."""
    if not data_dir.exists():
        raise MedcapError(f"data_dir {data_dir} not found: {GET_OPEN_I}")
    archives = [str(data_dir)]
    if data_dir.is_dir():
        files = _Files(data_dir, skip=work_dir)
        if files.ending(".xml") or files.named("indiana_reports.csv"):
            return files
        archives = files.ending(".zip")
        if len(archives) > 1:
            raise MedcapError(f"{data_dir} has no *.xml and {len(archives)} zip files: give one of them as data_dir")
    if not archives:
        raise MedcapError(
            f"no *.xml (Open-i), indiana_reports.csv (Kaggle) or .zip anywhere in {data_dir} "
            f"({len(files.paths)} files looked at): {GET_OPEN_I}"
        )
    folder = unzip(archives[0], work_dir / "unzipped")
    files = _Files(folder, skip=work_dir)
    if not (files.ending(".xml") or files.named("indiana_reports.csv")):
        raise MedcapError(f"no *.xml (Open-i) and no indiana_reports.csv (Kaggle) in {archives[0]}: {GET_OPEN_I}")
    return files


# Splitting ---------------------------------------------------------------------------------------


def _natural(study_id: str) -> tuple[int, str]:
    return len(study_id), study_id  # CXR9 before CXR10


def _split_by_ratio(study_ids: list[str], split: str, seed: int) -> dict[str, str]:
    """Split of every study; the order of `study_ids` does not matter."""
    ids = sorted(study_ids, key=_natural)
    if split == "7:1:2":
        random.Random(seed).shuffle(ids)
        ends = round(0.7 * len(ids)), round(0.8 * len(ids))
    elif split == "8:2":  # the AI Studio notebook's: not shuffled, and no val
        ends = round(0.8 * len(ids)), round(0.8 * len(ids))
    else:
        raise MedcapError(f'split "{split}" is unknown: use "auto", "7:1:2" or "8:2"')
    return {name: "train" if i < ends[0] else "val" if i < ends[1] else "test" for i, name in enumerate(ids)}


def _split_by_annotation(path: str) -> dict[str, str]:
    """R2Gen's split; its id CXR54_IM-2145 is study CXR54."""
    annotation = read_json(path, "get R2Gen's IU X-Ray annotation.json again")
    splits: dict[str, str] = {}
    try:
        for split in SPLITS:
            for record in annotation.get(split, []):
                study_id = record["id"].split("_")[0]
                if splits.setdefault(study_id, split) != split:
                    raise MedcapError(f"{path} has study {study_id} in {splits[study_id]} and in {split}: keep one")
    except (AttributeError, KeyError, TypeError) as error:
        raise MedcapError(
            f'{path} is not R2Gen\'s ({{"train": [{{"id": ...}}], "val": ..., "test": ...}}): mend or remove it'
        ) from error
    if not splits:
        raise MedcapError(f"{path} names no study: mend or remove it")
    return splits


# Building ----------------------------------------------------------------------------------------


@dataclass
class Summary:
    """What the tables hold and what they were made of; as JSON it is collection.json."""

    source: str
    reports: str  # "real" or "phantom"
    images: str  # "real" or "phantom"
    split: str  # "annotation.json", "7:1:2 seed 0" or "8:2"
    cleaning: str
    studies: dict[str, int]  # studies per split
    radiographs: dict[str, int]  # images per split
    left_out: dict[str, int]  # records per reason

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.reports} reports, {self.images} images, split by {self.split}"]
        lines += [f"{n:7,} studies, {self.radiographs[split]:6,} images  {split}" for split, n in self.studies.items()]
        lines += ["left out:"] if self.left_out else []
        lines += [f"{n:7,}  {reason}" for reason, n in self.left_out.items()]
        return "\n".join(lines + ([self.hint] if self.hint else []))

    @property
    def hint(self) -> str:
        """What to do where more studies lack their images than have them, else ""."""
        return DRAW_IMAGES if self.left_out.get("no image file", 0) > sum(self.studies.values()) else ""


def build(
    data_dir: str | Path, work_dir: str | Path, split: str = "auto", cleaning: str = "r2gen", seed: int = 0
) -> Summary:
    """Write the tables of the collection in `data_dir` to `work_dir`; nothing is done where they are up to date."""
    from tqdm.auto import tqdm

    work_dir = Path(work_dir)
    first, *also = (work_dir / name for name in ("reports.csv", "images.csv", "left_out.csv", "collection.json"))
    with alone(first):
        files = _find(Path(data_dir), work_dir)
        stamps = [[files.relative(path), *stamp(path)] for path in (*files.ending(".xml"), *map(files.named, TABLES))]
        images = [files.relative(path) for path in files.ending(*IMAGE_SUFFIXES)]  # only whether they are there
        inputs = digest(str(data_dir), files.folder, split, cleaning, seed, stamps, images)
        if unchanged(first, inputs, *also):
            tqdm.write(f"{first} is up to date: nothing to do")
            return Summary(**read_json(also[-1], "run 01_reports.ipynb"))
        summary = _build(files, data_dir, work_dir, split, cleaning, seed)
        finished(first, inputs, *also)
    return summary


def _build(files: _Files, data_dir: str | Path, work_dir: Path, split: str, cleaning: str, seed: int) -> Summary:
    import pandas as pd

    annotation = files.named("annotation.json") if split == "auto" else ""
    splits = _split_by_annotation(annotation) if annotation else {}

    reports, images, left_out = _collect(files, splits, cleaning)
    write_table(work_dir / "left_out.csv", pd.DataFrame(left_out, columns=LEFT_OUT))
    reasons = dict(Counter(reason for *_, reason in left_out).most_common())
    if not reports:
        counts = ", ".join(f"{reason}: {n:,}" for reason, n in reasons.items())
        hint = REMEDIES.get(next(iter(reasons), ""), GET_OPEN_I)
        raise MedcapError(f"no usable study in {data_dir} ({counts}; see {work_dir / 'left_out.csv'}): {hint}")

    if not splits:
        split = "7:1:2" if split == "auto" else split
        splits = _split_by_ratio(list(reports), split, seed)
        split += f" seed {seed}" if split == "7:1:2" else ""
    ids = sorted(reports, key=_natural)
    report_rows = [[i, splits[i], *reports[i]] for i in ids]
    image_rows = [row for i in ids for row in images[i]]
    write_table(work_dir / "reports.csv", pd.DataFrame(report_rows, columns=REPORTS))
    write_table(work_dir / "images.csv", pd.DataFrame(image_rows, columns=IMAGES))
    phantom = files.named("phantom.json")
    kinds = read_json(phantom, "make the phantom again") if phantom else {}
    summary = Summary(
        source=str(data_dir),
        reports=kinds.get("reports", "real"),
        images=kinds.get("images", "real"),
        split="annotation.json" if annotation else split,
        cleaning=cleaning,
        studies=_in_order(Counter(splits[i] for i in ids)),
        radiographs=_in_order(Counter(splits[row[1]] for row in image_rows)),
        left_out=reasons,
    )
    write_json(work_dir / "collection.json", asdict(summary))
    return summary


def _collect(files: _Files, splits: dict[str, str], cleaning: str) -> tuple[dict, dict, list]:
    """Rows of reports.csv (without study_id and split) and of images.csv by study, and the rows of left_out.csv."""
    reports: dict[str, list[str]] = {}
    images: dict[str, list[tuple[str, ...]]] = {}
    left_out: list[tuple[str, str, str]] = []
    paths = {_image_key(os.path.basename(path)): path for path in reversed(files.ending(*IMAGE_SUFFIXES))}
    views = {_image_key(row.filename): row.projection.strip().lower() for row in _projections(files)}
    seen: set[str] = set()
    for study in _studies(files, left_out):
        report = clean(study.findings, cleaning)
        keys = [_image_key(image_id) for image_id, _ in study.images]
        reason = (
            ("duplicate study id" if study.study_id in seen else "")
            or ("no findings" if not study.findings else "")
            or ("empty after cleaning" if not report else "")
            or ("no image listed" if not keys else "")
            or ("no image file" if not any(key in paths for key in keys) else "")
            or ("not in annotation.json" if splits and study.study_id not in splits else "")
        )
        seen.add(study.study_id)
        if reason:
            left_out.append((study.study_id, study.file, reason))
            continue
        reports[study.study_id] = study.row(report)
        images[study.study_id] = []
        for key, (image_id, figure_id) in zip(keys, study.images, strict=True):
            if key in paths:
                row = (image_id, study.study_id, figure_id, views.get(key, ""), paths[key])
                images[study.study_id].append(row)
            else:
                left_out.append((study.study_id, image_id, "image file missing, study kept"))
    left_out += [(name, "annotation.json", "not in the collection") for name in splits if name not in seen]
    return reports, images, left_out


def records(data_dir: str | Path, work_dir: str | Path, cleaning: str = "r2gen") -> Iterator[tuple[str, list[str]]]:
    """Study id and the cells of reports.csv after `split`, of every readable record: memory holds one at a time.

    A zip is unpacked to `work_dir`; nothing else is written.
    """
    for study in _studies(_find(Path(data_dir), Path(work_dir)), []):
        yield study.study_id, study.row(clean(study.findings, cleaning))


def _studies(files: _Files, left_out: list[tuple[str, str, str]]) -> Iterator[_Study]:
    """Every readable record, one at a time; the others go to `left_out`."""
    paths = files.ending(".xml")
    if not paths:
        yield from _read_kaggle(files)
    for path in paths:
        try:
            yield _read_xml(path, files.relative(path))
        except _LeftOut as reason:
            left_out.append(("", files.relative(path), str(reason)))


def _in_order(counts: Counter) -> dict[str, int]:
    return {split: counts[split] for split in SPLITS if counts[split]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make reports.csv and images.csv of an IU X-Ray (Open-i) collection.")
    parser.add_argument("data", help="the collection: a folder or a .zip")
    parser.add_argument("work", nargs="?", default="work", help="where the tables go")
    arguments = parser.parse_args()
    with plain_ending():
        print(build(arguments.data, arguments.work))


if __name__ == "__main__":
    main()
