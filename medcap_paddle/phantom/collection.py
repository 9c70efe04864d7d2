"""A phantom collection: studies with known findings, written as Open-i writes them.

    folder/ecgen-radiology/*.xml       a report per study, Open-i schema, with the quirks of the real collection
    folder/NLMCXR_png/*.png            its radiographs, each marked as a drawing (see `runtime.drawing`)
    folder/indiana_projections.csv     uid, filename, projection (Frontal or Lateral), as the Kaggle release has it
    folder/phantom.json                "reports" and "images": "phantom", "real" or "phrased", and the settings

`make` invents everything. `redraw` copies the reports of a collection that one of `readers.READERS` can read, and draws
its images from their MeSH terms. Both are deterministic from the seed, whatever the number of processes.
"""

from __future__ import annotations

import csv
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from .. import readers
from ..clinical.findings import Finding, from_mesh, to_mesh
from ..clinical.language import require_english
from ..clinical.phrasing import LANGUAGE, sample_findings, write_report
from ..readers.collection import LeftOut, Study
from ..readers.phrased import kind
from ..runtime import drawing
from ..runtime.cache import stamp
from ..runtime.files import MedcapError, atomic, digest, lock, remove_stale, write_json
from ..runtime.workers import FEW, map_ordered
from .draw import SIZE, draw
from .folder import MARKER, begin, version

Job = tuple[list[Finding], list[tuple[str, str]], int]  # findings, (file, view) of each image, seed of the patient

# --- studies ----------------------------------------------------------------------------------------------------------

# the figures of a study, Frontal and Lateral, and how many studies have them
VIEWS = {"": 0.02, "F": 0.10, "FL": 0.80, "FLL": 0.05, "FFLL": 0.03}


@dataclass
class PlannedStudy:
    """A study of the phantom before its images are drawn."""

    id: str
    number: str
    findings: list[Finding]
    sections: dict[str, str]
    caption: str
    patient: int  # seed of the drawing
    images: list[tuple[str, str]] = field(default_factory=list)  # (image id, view)


def plan(studies: int, seed: int) -> list[PlannedStudy]:
    """All studies of a phantom collection, without their pictures."""
    return [_plan_study(index, seed) for index in range(1, studies + 1)]


def _plan_study(index: int, seed: int) -> PlannedStudy:
    rng = np.random.default_rng([seed, index])
    findings = sample_findings(rng)
    text, impression = write_report(findings, rng)
    if rng.random() < 0.5 and any(f.name == "nodule" and f.severity == "mild" for f in findings):
        text += " The nodule measures < 1 cm."
    if rng.random() < 0.12:
        text = _deidentify(text, rng)
    if rng.random() < 0.1:
        text += " "
    if rng.random() < 0.03:
        text = ""
    sections = {
        "COMPARISON": str(rng.choice(LANGUAGE["comparison"])),
        "INDICATION": str(rng.choice(LANGUAGE["indication"])),
        "FINDINGS": text,
        "IMPRESSION": impression,
    }
    views = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
    serial = f"PH{index}_IM-{index % 10000:04d}"
    images = []
    for k, letter in enumerate(views):
        series, number = "FL".index(letter) + 1, views[: k + 1].count(letter)
        images.append((f"{serial}-{1000 * series + number}", {"F": "frontal", "L": "lateral"}[letter]))
    caption, patient = str(rng.choice(LANGUAGE["caption"])), int(rng.integers(2**31))
    return PlannedStudy(f"PH{index}", str(index), findings, sections, caption, patient, images)


def _deidentify(text: str, rng: np.random.Generator) -> str:
    """Lose a word of one sentence to XXXX, as the real reports did."""
    words = text.split(" ")
    candidates = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 3]
    words[int(rng.choice(candidates))] = "XXXX"
    return " ".join(words)


def write_xml(study: PlannedStudy, path: Path) -> None:
    """The study as an Open-i report."""
    root = ElementTree.Element("eCitation")

    def add(parent, tag, text=None, **attributes):
        element = ElementTree.SubElement(parent, tag, attributes)
        element.text = text
        return element

    add(root, "meta", type="rr")
    add(root, "uId", id=study.id)
    add(root, "docSource", "CXR")
    add(root, "IUXRId", id=study.number)
    add(root, "licenseType", "open-access")
    add(root, "licenseURL", "http://www.apache.org/licenses/LICENSE-2.0")
    citation = add(root, "MedlineCitation", Owner="medcap_paddle", Status="phantom")
    article = add(citation, "Article", PubModel="Electronic")
    add(article, "ArticleTitle", "medcap_paddle phantom collection")
    abstract = add(article, "Abstract")
    for label, text in study.sections.items():
        add(abstract, "AbstractText", text or None, Label=label)
    mesh = add(root, "MeSH")
    for term in to_mesh(study.findings).split(";"):
        add(mesh, "major", term)
    for k, (image, _) in enumerate(study.images, 1):
        parent = add(root, "parentImage", id=image)
        add(parent, "figureId", f"F{k}")
        add(parent, "caption", study.caption)
        panel = add(parent, "panel", type="single")
        add(panel, "url", f"/phantom/{image}.jpg")
        add(panel, "imgModality", "7")
    ElementTree.indent(root)
    with atomic(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


# --- collections ------------------------------------------------------------------------------------------------------


def make(folder: str | Path, studies: int = 2400, seed: int = 0, size: int = SIZE, workers: int = 0) -> Path:
    """Make a phantom collection of `studies` studies, images uint8 [size, size]; returns `folder`.

    Nothing is done where the folder holds the same one. If interrupted, drawing resumes. MedcapError where the folder
    holds anything else. `workers` processes draw, 0: one a core.
    """
    folder = Path(folder)
    about = {"reports": "phantom", "images": "phantom", "seed": seed, "studies": studies, "size": size}
    about |= {"drawn_by": version(), "holds": ["NLMCXR_png", "ecgen-radiology", "indiana_projections.csv"]}
    with lock(folder / MARKER):
        if begin(folder, about):
            planned = plan(studies, seed)
            _write_reports(folder, planned)
            files = [[(f"NLMCXR_png/{image}.png", view) for image, view in study.images] for study in planned]
            jobs = [(study.findings, images, study.patient) for study, images in zip(planned, files, strict=True)]
            _draw_all(folder, jobs, size, workers)
            write_json(folder / MARKER, {**about, "complete": True})
    return folder


def _write_reports(folder: Path, planned: list[PlannedStudy]) -> None:
    for study in planned:
        write_xml(study, folder / "ecgen-radiology" / f"{study.number}.xml")
    with atomic(folder / "indiana_projections.csv") as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["uid", "filename", "projection"])
            writer.writerows((s.number, f"{image}.png", view.title()) for s in planned for image, view in s.images)


def redraw(source: str | Path, folder: str | Path, seed: int = 0, size: int = SIZE, workers: int = 0) -> Path:
    """Copy the reports of the collection in `source` to `folder` and draw its images from their MeSH terms.

    The images lie where the collection's reader finds them again. A study is a patient: its seed is the CRC-32 of
    "<study id> <seed>". Else as `make`; MedcapError also where no study has MeSH terms.
    """
    source, folder = Path(source), Path(folder)
    if source.resolve() == folder.resolve():
        raise MedcapError(f"{folder} cannot be both the source and the copy: name another folder")
    with lock(folder / MARKER):
        reader, files = readers.find(source, folder, unzipped=".unzipped")
        studies = list(reader.studies(files))
        jobs = _jobs(studies, source, seed)
        paths = [*reader.sources(files), *filter(None, [files.named("annotation.json")])]
        copies = {files.relative(path): path for path in paths}
        names = [*copies, *(file for _, images, _ in jobs for file, _ in images)]
        about = {"reports": kind(studies), "images": "phantom", "seed": seed, "studies": len(jobs), "size": size}
        about |= {"source": str(source.resolve()), "drawn": digest(repr(jobs)), "drawn_by": version()}
        about |= {"copied": digest([[name, *stamp(path)] for name, path in copies.items()])}
        about |= {"holds": sorted({Path(name).parts[0] for name in names})}
        if begin(folder, about):
            for name, path in copies.items():
                with atomic(folder / name) as temporary:
                    shutil.copyfile(path, temporary)
            _draw_all(folder, jobs, size, workers)
            write_json(folder / MARKER, {**about, "complete": True})
    return folder


def _jobs(records: Iterable[Study | LeftOut], source: Path, seed: int) -> list[Job]:
    """The pictures to draw: each file once, none outside of the copy, none under a name that is not found again."""
    jobs, drawn, tagged = [], set(), False
    studies = [study for study in records if not isinstance(study, LeftOut)]
    require_english([study.findings for study in studies], str(source))  # as 01 will, after the hours of drawing
    for study in studies:
        images = []
        for k, image in enumerate(study.images):
            view = image.view if image.view in ("frontal", "lateral") else "lateral" if k else "frontal"
            if _is_safe(image.file) and image.file not in drawn:
                drawn.add(image.file)
                images.append((image.file, view))
        jobs.append((from_mesh(study.mesh), images, zlib.crc32(f"{study.study_id} {seed}".encode())))
        tagged |= bool(study.mesh)
    if not tagged:
        raise MedcapError(f"no study of {source} has MeSH terms: its images cannot be drawn, give the real ones")
    return jobs


def _is_safe(file: str) -> bool:
    """Whether every part of a relative path is a plain name, neither hidden nor too long."""
    return all(re.fullmatch(r"[\w-][\w. -]*", part) and len(part.encode()) < 150 for part in file.split("/"))


def _draw_study(folder: Path, findings: list[Finding], images: list[tuple[str, str]], patient: int, size: int) -> int:
    seen: Counter[str] = Counter()
    for file, view in images:
        path = folder / file
        if not path.exists():  # else drawn before an interruption
            picture = draw(findings, view, patient, size=size, take=seen[view])
            with atomic(path) as temporary:
                Image.fromarray(picture).save(temporary, "PNG", compress_level=1, pnginfo=drawing.mark())
        seen[view] += 1
    return len(images)


def _draw_all(folder: Path, jobs: list[Job], size: int, workers: int) -> None:
    """Draw every study's images, on all cores; each picture depends on its own seed only."""
    from tqdm.auto import tqdm

    calls = [(folder, findings, images, patient, size) for findings, images, patient in jobs]
    with tqdm(total=sum(len(images) for _, images, _ in jobs), desc="drawing", unit="image") as bar:
        for drawn in map_ordered(_draw_study, calls, ahead=4 * FEW, workers=workers):
            bar.update(drawn)
    for place in {(folder / file).parent for _, images, _ in jobs for file, _ in images}:
        remove_stale(place)
