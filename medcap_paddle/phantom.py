"""A phantom collection: studies with known findings, written as Open-i writes them.

    folder/ecgen-radiology/*.xml       a report per study, Open-i schema, with the quirks of the real collection
    folder/NLMCXR_png/*.png            its radiographs
    folder/indiana_projections.csv     uid, filename, projection (Frontal or Lateral), as the Kaggle release has it
    folder/phantom.json                "reports" and "images": "phantom" or "real", and the settings

`make` invents everything; `redraw` keeps a real collection's reports and draws its images from their MeSH terms.
Both are deterministic from the seed, whatever the number of processes.

    python -m medcap_paddle.phantom FOLDER [--studies N] [--seed S] [--size S] [--redraw SOURCE]
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from .crew import FEW, each
from .files import MedcapError, alone, atomic, digest, plain_ending, read_json, require, sweep, write_json
from .findings import Finding, from_mesh, to_mesh
from .phrasing import LANGUAGE, sample_findings, write_report
from .radiograph import SIZE, draw
from .resume import stamp

MARKER = "phantom.json"
TABLES = ("annotation.json", "indiana_reports.csv", "indiana_projections.csv")  # copied with the reports
# every room that draws or writes, and the phrases
SOURCES = "findings body film frontal lateral signs lesions devices radiograph phrasing phantom".split()

# --- studies ----------------------------------------------------------------------------------------------------------

# the figures of a study, Frontal and Lateral, and how many studies have them
VIEWS = {"": 0.02, "F": 0.10, "FL": 0.80, "FLL": 0.05, "FFLL": 0.03}


@dataclass
class Study:
    id: str
    number: str
    findings: list[Finding]
    sections: dict[str, str]
    caption: str
    patient: int  # seed of the drawing
    images: list[tuple[str, str]] = field(default_factory=list)  # (image id, view)


def plan(studies: int, seed: int) -> list[Study]:
    """All studies of a phantom collection, without their pictures."""
    return [_plan_study(index, seed) for index in range(1, studies + 1)]


def _plan_study(index: int, seed: int) -> Study:
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
    return Study(f"PH{index}", str(index), findings, sections, caption, patient, images)


def _deidentify(text: str, rng: np.random.Generator) -> str:
    """Lose a word of one sentence to XXXX, as the real reports did."""
    words = text.split(" ")
    candidates = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 3]
    words[int(rng.choice(candidates))] = "XXXX"
    return " ".join(words)


def write_xml(study: Study, path: Path) -> None:
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
    """Make a phantom collection; does nothing when the folder already holds the same one."""
    folder = Path(folder)
    about = {"reports": "phantom", "images": "phantom", "seed": seed, "studies": studies, "size": size}
    about["drawn_by"] = _version()
    with alone(folder / MARKER):
        if not _begin(folder, about):
            return folder
        planned = plan(studies, seed)
        for study in planned:
            write_xml(study, folder / "ecgen-radiology" / f"{study.number}.xml")
        table = folder / "indiana_projections.csv"
        with atomic(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["uid", "filename", "projection"])
            writer.writerows((s.number, f"{image}.png", view.title()) for s in planned for image, view in s.images)
        _draw_all(folder, [(s.findings, s.images, s.patient) for s in planned], size, workers)
        return _finish(folder, about)


def redraw(source: str | Path, folder: str | Path, seed: int = 0, size: int = SIZE, workers: int = 0) -> Path:
    """Copy a real collection's reports to `folder` and draw its images from their MeSH terms."""
    from defusedxml import ElementTree as SafeTree
    from defusedxml.common import DefusedXmlException

    source, folder = Path(source), Path(folder)
    if source.resolve() == folder.resolve():
        raise MedcapError(f"{folder} cannot be both the source and the copy: name another folder")
    if require(source, "give the folder of an Open-i collection").is_file():
        raise MedcapError(f"{source} is a file: unpack it, and give the folder that ecgen-radiology is in")
    reports, *tables = (_nearest(source, name, folder) for name in ("ecgen-radiology", *TABLES))
    paths = sorted(reports.glob("*.xml"))
    if not paths:
        raise MedcapError(
            f"{reports} has no XML reports, and tables such as Kaggle's indiana_reports.csv cannot be redrawn: "
            f"unpack NLMCXR_reports.tgz of openi.nlm.nih.gov in {source}"
        )
    about = {"reports": "real", "images": "phantom", "seed": seed, "studies": len(paths), "size": size}
    copied = digest([[path.name, *stamp(path)] for path in (*paths, *tables)])
    about |= {"source": str(source.resolve()), "copied": copied, "drawn_by": _version()}
    with alone(folder / MARKER):
        if not _begin(folder, about):
            return folder
        for path in paths:
            _copy(path, folder / "ecgen-radiology" / path.name)
        for path in tables:
            if path.exists():
                _copy(path, folder / path.name)
        known = _projections(tables[-1])
        jobs = []
        for path in paths:
            try:
                root = SafeTree.parse(path).getroot()
            except (SafeTree.ParseError, DefusedXmlException, LookupError, ValueError):
                continue  # copied as it is; the reader of the collection reports it
            study = next((element.get("id", "") for element in root.iter("uId")), "") or path.stem
            findings = from_mesh([element.text or "" for element in root.iter("major")])
            ids = [element.get("id", "") for element in root.iter("parentImage")]
            views = [known.get(image, "lateral" if k else "frontal") for k, image in enumerate(ids)]
            images = [(image, view) for image, view in zip(ids, views, strict=True) if re.fullmatch(r"[\w.-]+", image)]
            jobs.append((findings, images, zlib.crc32(f"{study} {seed}".encode())))
        _draw_all(folder, jobs, size, workers)
        return _finish(folder, about)


def _nearest(source: Path, name: str, copy: Path) -> Path:
    """What is called `name` nearest to the top of `source`, as 01 looks for it; what lies in the copy is not meant."""
    found = (
        path
        for path in source.rglob(name)
        if copy.resolve() not in path.resolve().parents
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    return min(found, key=lambda path: (len(path.parts), path), default=source / name)


def _projections(path: Path) -> dict[str, str]:
    """Open-i image id -> view, from the Kaggle table when there is one."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row.get("filename") or "", (row.get("projection") or "").lower()) for row in csv.DictReader(file)]
    return {
        "CXR" + name.removesuffix(".png").removesuffix(".dcm"): view
        for name, view in rows
        if view in ("frontal", "lateral")
    }


def _version() -> str:
    """A fingerprint of what draws and writes, so that a newer version does not keep an older one's pictures."""
    files = [Path(__file__).with_name(name) for name in (*(f"{room}.py" for room in SOURCES), "phrases.json")]
    return f"{zlib.crc32(''.join(path.read_text(encoding='utf-8') for path in files).encode()):08x}"


def _begin(folder: Path, about: dict) -> bool:
    """Prepare the folder; False when the same collection is there already. A part of it is kept and completed."""
    marker = folder / MARKER
    if marker.exists():
        there = read_json(marker, f"delete {folder}")
        if there == {**about, "complete": True}:
            return False
        if there != {**about, "complete": False}:
            for name in ("ecgen-radiology", "NLMCXR_png"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in TABLES:
                (folder / name).unlink(missing_ok=True)
    elif (folder / "ecgen-radiology").exists() or (folder / "NLMCXR_png").exists():
        raise MedcapError(f"{folder} holds another collection: name an empty folder for the phantom")
    write_json(marker, {**about, "complete": False})
    (folder / "ecgen-radiology").mkdir(exist_ok=True)
    (folder / "NLMCXR_png").mkdir(exist_ok=True)
    return True


def _finish(folder: Path, about: dict) -> Path:
    sweep(folder / "NLMCXR_png")
    write_json(folder / MARKER, {**about, "complete": True})
    return folder


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def _draw_study(folder: Path, findings: list[Finding], images: list[tuple[str, str]], patient: int, size: int) -> int:
    seen: Counter[str] = Counter()
    for image, view in images:
        path = folder / "NLMCXR_png" / f"{image}.png"
        if not path.exists():  # drawn before it was stopped
            picture = draw(findings, view, patient, size=size, take=seen[view])
            with atomic(path) as temporary:
                temporary.write_bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        seen[view] += 1
    return len(images)


def _draw_all(folder: Path, studies: list[tuple], size: int, workers: int) -> None:
    """Draw every study's images, on all cores; each picture depends on its own seed only."""
    from tqdm.auto import tqdm

    jobs = [(folder, findings, images, patient, size) for findings, images, patient in studies]
    with tqdm(total=sum(len(job[2]) for job in jobs), desc="drawing", unit="image") as bar:
        for drawn in each(_draw_study, jobs, ahead=4 * FEW, workers=workers):
            bar.update(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medcap_paddle.phantom", description="Make a phantom collection.")
    parser.add_argument("folder")
    parser.add_argument("--studies", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument(
        "--redraw", metavar="SOURCE", help="keep the reports of SOURCE, draw its images from MeSH terms"
    )
    args = parser.parse_args()
    with plain_ending():
        if args.redraw:
            redraw(args.redraw, args.folder, args.seed, args.size)
        else:
            make(args.folder, args.studies, args.seed, args.size)


if __name__ == "__main__":
    main()
