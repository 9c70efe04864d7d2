"""A collection to three tables, every study in exactly one split.

Reads, below `data_dir`, whatever one of `readers.READERS` can read; annotation.json (R2Gen's split) and phantom.json
(which of reports and images were made up) where they are. Splits that a table gives are kept; reports of a collection
of labels are phrased from them. Writes to `work_dir`:

    reports.csv      study_id, split, patient, indication, comparison, findings, impression, mesh, report
    images.csv       image_id, study_id, figure_id, view ("frontal", "lateral" or ""), path
    left_out.csv     study_id, file, reason
    collection.json  source, settings and counts (see Collection)

`report` is the cleaned FINDINGS, the text the models learn to write; every other cell is as in the source.
A bad record never stops the run: it is counted in left_out.csv.

    python -m medcap_paddle.reports DATA [WORK]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from . import readers
from .clinical.language import require_english
from .clinical.phrasing import LANGUAGE  # other phrases make other reports
from .config import ReportSettings
from .readers import annotation
from .readers.collection import Files, Reader, Study
from .readers.phrased import kind, phrased
from .readers.selection import divide, keep_given, remedy, select
from .runtime import cache
from .runtime.files import MedcapError, cli_errors, digest, lock, read_json, write_json, write_table
from .splits import SPLITS, TRAIN_VAL, in_order
from .text import clean

REPORTS = ["study_id", "split", "patient", "indication", "comparison", "findings", "impression", "mesh", "report"]
IMAGES = ["image_id", "study_id", "figure_id", "view", "path"]
LEFT_OUT = ["study_id", "file", "reason"]
DEFAULTS = ReportSettings()
PHRASED = "reports PHRASED from labels, not written by a radiologist"
DRAW_IMAGES = (
    "Most images are missing: put them into the folder, unpacked. Or draw them, if the reports have MeSH terms: "
    "make run DATA=... IMAGES=phantom, "
    "or python -m medcap_paddle.phantom FOLDER --redraw DATA and give FOLDER as data_dir."
)


@dataclass
class Collection:
    """The origin of the tables and the counts of their rows; as JSON it is collection.json."""

    source: str
    reports: str  # "real", "phantom" or "phrased": from labels, by `readers.phrased`
    images: str  # "real" or "phantom"
    split: str  # the file that gives it, "7:1:2 seed 0" or "8:2"
    cleaning: str
    studies: dict[str, int]  # studies per split
    radiographs: dict[str, int]  # images per split
    left_out: dict[str, int]  # records per reason

    @classmethod
    def load(cls, work_dir: str | Path) -> Collection:
        """The collection.json of `work_dir`; MedcapError where it is missing, unreadable or lacks a field."""
        path, remedy = Path(work_dir) / "collection.json", "run 01_reports.ipynb"
        content = read_json(path, remedy)
        for field in fields(cls):
            kind = str if field.type == "str" else dict
            if not isinstance(content, dict) or not isinstance(content.get(field.name), kind):
                raise MedcapError(f"{path} has no field {field.name}: {remedy}")
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    def has(self, split: str) -> bool:
        return bool(self.studies.get(split))

    @property
    def reported_split(self) -> str:
        """The split that results are reported on: test, or val where there are no test studies."""
        return "test" if self.has("test") else "val"

    @property
    def hint(self) -> str:
        """How to draw the images where more studies lack them than have them, else ""."""
        return DRAW_IMAGES if self.left_out.get("no image file", 0) > sum(self.studies.values()) else ""

    def __str__(self) -> str:
        reports = PHRASED if self.reports == "phrased" else f"{self.reports} reports"
        lines = [f"{self.source}: {reports}, {self.images} images, split by {self.split}"]
        lines += [f"{n:7,} studies, {self.radiographs[split]:6,} images  {split}" for split, n in self.studies.items()]
        lines += ["left out:"] if self.left_out else []
        lines += [f"{n:7,}  {reason}" for reason, n in self.left_out.items()]
        return "\n".join(lines + ([self.hint] if self.hint else []))


def build(data_dir: str | Path, work_dir: str | Path, settings: ReportSettings = DEFAULTS) -> Collection:
    """Write the tables of the collection in `data_dir` to `work_dir`; nothing is done where they are up to date.

    MedcapError where there is no collection, where none of its studies can be used (left_out.csv says why), where one
    of its tables or annotation.json has another shape, and on an unknown split or cleaning.
    """
    work_dir = Path(work_dir)
    first, *also = (work_dir / name for name in ("reports.csv", "images.csv", "left_out.csv", "collection.json"))
    with lock(first):
        reader, files = readers.find(data_dir, work_dir)
        sources = [*reader.sources(files), *filter(None, map(files.named, ("annotation.json", "phantom.json")))]
        stamps = [[files.relative(path), *cache.stamp(path)] for path in sources]
        images = [files.relative(path) for path in files.images]  # only whether they are there
        chosen = settings.split, settings.cleaning, settings.seed
        inputs = digest(str(data_dir), files.folder, chosen, stamps, images, LANGUAGE)
        if not cache.is_current(first, inputs, *also):
            _build(reader, files, str(data_dir), work_dir, settings)
            cache.mark_done(first, inputs, *also)
        return Collection.load(work_dir)


def _build(reader: Reader, files: Files, source: str, work_dir: Path, settings: ReportSettings) -> None:
    import pandas as pd

    annotated = files.named("annotation.json") if settings.split == "auto" else ""
    split_of = annotation.splits(annotated) if annotated else None
    read = (phrased(record) for record in reader.studies(files))
    studies, left_out = select(read, split_of or {}, settings.cleaning, files)
    given = keep_given(studies, left_out) if settings.split == "auto" and split_of is None else ""
    write_table(work_dir / "left_out.csv", pd.DataFrame(left_out, columns=LEFT_OUT))
    reasons = dict(Counter(reason for *_, reason in left_out).most_common())
    if not studies:
        counts = ", ".join(f"{reason}: {n:,}" for reason, n in reasons.items())
        hint = remedy(reader, left_out, DRAW_IMAGES)
        raise MedcapError(f"no usable study in {source} ({counts}; see {work_dir / 'left_out.csv'}): {hint}")

    require_english([study.findings for study, _ in studies.values()], source)
    kinds = _kinds(files, (study for study, _ in studies.values()))
    split = "annotation.json" if annotated else "7:1:2" if settings.split == "auto" else settings.split
    if given:
        split_of = {name: study.split for name, (study, _) in studies.items()}
        split = f"{given}, val 1 in 8 seed {settings.seed}" if TRAIN_VAL in split_of.values() else given
    split_of = divide(studies, split, settings.seed, split_of)
    ids = in_order(studies)
    found = [(i, image) for i in ids for image in studies[i][0].images if image.path]
    reports = [[i, split_of[i], *_cells(*studies[i])] for i in ids]
    images = [[image.image_id, i, image.figure_id, image.view, image.path] for i, image in found]
    write_table(work_dir / "reports.csv", pd.DataFrame(reports, columns=REPORTS))
    write_table(work_dir / "images.csv", pd.DataFrame(images, columns=IMAGES))
    studies, radiographs = Counter(split_of[i] for i in ids), Counter(split_of[i] for i, _ in found)
    collection = Collection(
        source=source,
        **kinds,
        split=f"{split} seed {settings.seed}" if split == "7:1:2" else split,
        cleaning=settings.cleaning,
        studies={name: studies[name] for name in SPLITS if studies[name]},
        radiographs={name: radiographs[name] for name in SPLITS if studies[name]},
        left_out=reasons,
    )
    write_json(work_dir / "collection.json", asdict(collection))


def _kinds(files: Files, studies: Iterable[Study]) -> dict[str, str]:
    """Whether "reports" and "images" are "real", "phantom" or "phrased"."""
    path = files.named("phantom.json")
    marker = read_json(path, "make the phantom again") if path else {}
    kinds = {name: marker.get(name, "real") if isinstance(marker, dict) else "" for name in ("reports", "images")}
    if kinds["reports"] not in ("real", "phantom", "phrased") or kinds["images"] not in ("real", "phantom"):
        raise MedcapError(f"{path} was not made by medcap_paddle: remove it")
    return kinds | ({"reports": "phrased"} if kind(studies) == "phrased" else {})


def _cells(study: Study, report: str) -> list[str]:
    return [study.patient, study.indication, study.comparison, study.findings, study.impression, study.mesh, report]


def records(data_dir: str | Path, work_dir: str | Path, cleaning: str = "r2gen") -> Iterator[tuple[str, list[str]]]:
    """Study id and the cells of reports.csv after `split`, of every readable record: memory holds one at a time.

    A zip is unpacked to `work_dir`; nothing else is written.
    """
    reader, files = readers.find(data_dir, work_dir)
    read = (phrased(record) for record in reader.studies(files))
    studies = (study for study in read if isinstance(study, Study))
    return ((study.study_id, _cells(study, clean(study.findings, cleaning))) for study in studies)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make reports.csv and images.csv of a collection of radiographs.")
    parser.add_argument("data", help="the collection: a folder or a .zip")
    parser.add_argument("work", nargs="?", default="work", help="where the tables go")
    arguments = parser.parse_args()
    with cli_errors():
        print(build(arguments.data, arguments.work))


if __name__ == "__main__":
    main()
