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
import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from . import findings as findings_room
from . import radiograph
from .files import MedcapError, atomic, read_json, require, write_json
from .findings import IMPLIED_SIDE, KINDS, SIZE_WORDS, Finding, from_mesh, to_mesh
from .radiograph import SIZE, draw

# --- the language -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phrases:
    """How a kind of finding is reported, and how it comes.

    In a phrase {site} is "left basilar", {where} "at the left lung base", {severely} "mildly", {size} "small"; a~ is a
    or an. Each reader prefers the phrase of his own position in `say`.
    """

    topic: str
    weight: float  # how often it is drawn into a study
    say: Sequence[str]
    impression: str
    places: Sequence[str] = ("",)
    grades: Sequence[str] = ("", "mild", "moderate", "severe")
    sides: Sequence[str] = ("left", "right")
    bilateral: float = 0.0  # how often it is on both


LANGUAGE = read_json(Path(__file__).with_name("phrases.json"), "it belongs to the package")
PHRASES = {name: Phrases(**entry) for name, entry in LANGUAGE["findings"].items()}
HABIT = 0.9  # how often a reader takes his own phrase
# at most one of each set: they would deny each other, or be one finding told twice
EXCLUSIVE = (
    {"low lung volumes", "hyperinflation", "emphysema", "obstructive disease", "flattened diaphragm"},
    {"elevated diaphragm", "eventration", "hyperinflation", "emphysema", "obstructive disease", "flattened diaphragm"},
    {"pulmonary congestion", "pulmonary edema", "interstitial markings"},
    {"opacity", "streaky opacity", "patchy opacity", "airspace disease", "consolidation", "pulmonary edema"},
    {"pleural effusion", "blunted costophrenic angle"},
    {"pleural effusion", "pneumothorax"},
    {"pleural thickening", "pneumothorax"},
    {"rib fracture", "healed rib fracture"},
    {"degenerative spine", "osteophytes", "vertebral deformity", "kyphosis"},
    {"mediastinal widening", "tortuous aorta", "hilar enlargement"},
    {"nodule", "mass", "calcified granuloma"},
    {"pacemaker", "central line"},
)


def sample_findings(rng: np.random.Generator, normal: float = 0.28, kinds: Iterable[str] = ()) -> list[Finding]:
    """Findings of one made-up patient: none, or one to four that do not contradict each other.

    Without `kinds` those we have sentences for, by their weights; given kinds come evenly, in every place.
    """
    if rng.random() < normal:
        return []
    names = list(kinds) or list(PHRASES)
    weights = np.array([1.0 if kinds else PHRASES[name].weight for name in names])
    count = int(rng.choice([1, 2, 3, 4], p=[0.40, 0.32, 0.18, 0.10]))
    out: list[Finding] = []
    for name in rng.choice(names, size=min(len(names), 12), replace=False, p=weights / weights.sum()):
        taken = {finding.name for finding in out}
        if len(out) < count and not any(name in group and taken & group for group in EXCLUSIVE):
            out.append(sample_finding(str(name), rng, told=not kinds))
    return out


def sample_finding(name: str, rng: np.random.Generator, told: bool = True) -> Finding:
    """A finding of a kind with some side, place and severity; `told`: only such as we have phrases for."""
    kind = KINDS[name]
    phrases = PHRASES.get(name) if told else None
    phrases = phrases or Phrases("", 0, (), "", places=("", *kind.places), bilateral=0.2)
    place, severity, side = (str(rng.choice(choices)) for choices in (phrases.places, phrases.grades, phrases.sides))
    if rng.random() < phrases.bilateral:
        side = "bilateral"
    return Finding(name, (IMPLIED_SIDE.get(place) or side) if kind.side else "", place, severity)


def _fill(phrase: str, finding: Finding) -> str:
    """The sentence of a finding: its side, place and severity put into a phrase."""
    both = finding.side == "bilateral"
    adjective, one, two = LANGUAGE["places"].get(finding.place, LANGUAGE["places"][""])
    site = adjective if finding.place == "lingula" else f"{finding.side} {adjective}"
    text = phrase.format(
        side=finding.side,
        site={"base": "bibasilar", "apex": "biapical"}.get(finding.place, site) if both else site,
        where=(two if both else one).format(side=finding.side),
        severity=finding.severity,
        severely=finding.severity and finding.severity + "ly",
        size=SIZE_WORDS.get(finding.severity, finding.severity),
        effusion="effusions" if both else "effusion",
        angle="angles" if both else "angle",
        are="are" if both else "is",
        hila="hila" if both else "hilum",
        curve="dextroscoliosis" if finding.side == "right" else "levoscoliosis",
    )
    text = " ".join(text.split())
    if both:  # several have no article
        text = re.sub(r"\b[Aa]~ ", "", text)
        text = re.sub(r"^There is (\w+ )?(?=bilateral pleural effusions)", r"There are \1", text)
    text = re.sub(r"\b([Aa])~(?= [aeiou])", r"\1n", text).replace("~", "")
    return text[:1].upper() + text[1:]


def write_report(findings: Iterable[Finding], rng: np.random.Generator) -> tuple[str, str]:
    """FINDINGS and IMPRESSION of a report; kinds we have no phrases for are left unsaid."""
    findings = [finding for finding in findings if finding.name in PHRASES]
    readers = LANGUAGE["readers"]
    reader = int(rng.choice(len(readers), p=[reader["share"] for reader in readers]))

    def prefer(phrases: Sequence[str]) -> str:
        return phrases[reader if rng.random() < HABIT else int(rng.integers(len(phrases)))]

    names = {finding.name for finding in findings}
    sentences = []
    for topic in readers[reader]["order"]:
        here = [finding for finding in findings if PHRASES[finding.name].topic == topic]
        sentences += [_fill(prefer(PHRASES[finding.name].say), finding) for finding in here]
        if topic == "pleura":  # what is left of "no effusion or pneumothorax"
            left = [phrases for name, phrases in LANGUAGE["denied"].items() if name in names]
            sentences += [prefer(phrases) for phrases in left or [LANGUAGE["normal"][topic]]]
        elif not here and topic in LANGUAGE["normal"]:
            sentences.append(prefer(LANGUAGE["normal"][topic]))
        if topic == "heart" and rng.random() < 0.15 and not any(PHRASES[name].topic == "lungs" for name in names):
            sentences.append(LANGUAGE["vascularity"])
    summary = [_fill(PHRASES[finding.name].impression, finding) for finding in findings]
    summary = list(dict.fromkeys(text for text in summary if text)) or [prefer(LANGUAGE["no_acute"])]
    numbered = [f"{i}. {text}" for i, text in enumerate(summary, 1)] if len(summary) > 1 else summary
    return " ".join(sentences), " ".join(numbered)


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


def make(folder: str | Path, studies: int = 1600, seed: int = 0, size: int = SIZE, workers: int | None = None) -> Path:
    """Make a phantom collection; does nothing when the folder already holds the same one."""
    folder = Path(folder)
    about = {"reports": "phantom", "images": "phantom", "seed": seed, "studies": studies, "size": size}
    about["drawn_by"] = _version()
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


def redraw(source: str | Path, folder: str | Path, seed: int = 0, size: int = SIZE, workers: int | None = None) -> Path:
    """Copy a real collection's reports to `folder` and draw its images from their MeSH terms."""
    from defusedxml import ElementTree as SafeTree
    from defusedxml.common import DefusedXmlException

    source, folder = Path(source), Path(folder)
    if source.resolve() == folder.resolve():
        raise MedcapError(f"{folder} cannot be both the source and the copy: name another folder")
    found = require(source, "give the folder of an Open-i collection").rglob("ecgen-radiology")
    reports = min(found, key=lambda path: len(path.parts), default=source / "ecgen-radiology")
    paths = sorted(reports.glob("*.xml"))
    if not paths:
        raise MedcapError(f"{reports} has no XML reports: give the folder of an Open-i collection")
    about = {"reports": "real", "images": "phantom", "seed": seed, "studies": len(paths), "size": size}
    about |= {"source": str(source.resolve()), "drawn_by": _version()}
    if not _begin(folder, about):
        return folder
    for path in paths:
        _copy(path, folder / "ecgen-radiology" / path.name)
    for path in [source / "annotation.json", *sorted(source.glob("*.csv"))]:
        if path.exists():
            _copy(path, folder / path.name)
    known = _projections(source / "indiana_projections.csv")
    jobs = []
    for path in paths:
        try:
            root = SafeTree.parse(path).getroot()
        except (SafeTree.ParseError, DefusedXmlException):
            continue  # copied as it is; the reader of the collection reports it
        study = next((element.get("id", "") for element in root.iter("uId")), "") or path.stem
        findings = from_mesh([element.text or "" for element in root.iter("major")])
        ids = [element.get("id", "") for element in root.iter("parentImage")]
        views = [known.get(image, "lateral" if k else "frontal") for k, image in enumerate(ids)]
        images = [(image, view) for image, view in zip(ids, views, strict=True) if re.fullmatch(r"[\w.-]+", image)]
        jobs.append((findings, images, zlib.crc32(f"{study} {seed}".encode())))
    _draw_all(folder, jobs, size, workers)
    return _finish(folder, about)


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
    sources = [Path(room) for room in (findings_room.__file__, radiograph.__file__, __file__)]
    sources.append(Path(__file__).with_name("phrases.json"))
    return f"{zlib.crc32(''.join(path.read_text(encoding='utf-8') for path in sources).encode()):08x}"


def _begin(folder: Path, about: dict) -> bool:
    """Prepare the folder; False when the same collection is there already."""
    marker = folder / "phantom.json"
    if marker.exists():
        if read_json(marker, f"delete {folder}") == {**about, "complete": True}:
            return False
        for name in ("ecgen-radiology", "NLMCXR_png"):
            shutil.rmtree(folder / name, ignore_errors=True)
    elif (folder / "ecgen-radiology").exists() or (folder / "NLMCXR_png").exists():
        raise MedcapError(f"{folder} holds another collection: name an empty folder for the phantom")
    write_json(marker, {**about, "complete": False})
    (folder / "ecgen-radiology").mkdir(exist_ok=True)
    (folder / "NLMCXR_png").mkdir(exist_ok=True)
    return True


def _finish(folder: Path, about: dict) -> Path:
    write_json(folder / "phantom.json", {**about, "complete": True})
    return folder


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def _draw_study(job: tuple) -> int:
    folder, findings, images, patient, size = job
    seen: Counter[str] = Counter()
    for image, view in images:
        picture = draw(findings, view, patient, size=size, take=seen[view])
        seen[view] += 1
        with atomic(folder / "NLMCXR_png" / f"{image}.png") as temporary:
            cv2.imwrite(str(temporary), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return len(images)


def _draw_all(folder: Path, studies: list[tuple], size: int, workers: int | None) -> None:
    """Draw every study's images, on all cores; each picture depends on its own seed only."""
    from tqdm.auto import tqdm

    jobs = [(folder, findings, images, patient, size) for findings, images, patient in studies]
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tqdm(total=sum(len(job[2]) for job in jobs), desc="drawing", unit="image") as bar:
        if workers > 1 and len(jobs) > 16:
            try:
                # spawn: forking a process that has Paddle's threads running can hang
                with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                    for drawn in pool.map(_draw_study, jobs, chunksize=8):
                        bar.update(drawn)
                return
            except BrokenProcessPool:  # a script without a __main__ guard cannot spawn: draw here instead
                bar.reset()
        for job in jobs:
            bar.update(_draw_study(job))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m medcap_paddle.phantom", description="Make a phantom collection.")
    parser.add_argument("folder")
    parser.add_argument("--studies", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument(
        "--redraw", metavar="SOURCE", help="keep the reports of SOURCE, draw its images from MeSH terms"
    )
    args = parser.parse_args()
    try:
        if args.redraw:
            redraw(args.redraw, args.folder, args.seed, args.size)
        else:
            make(args.folder, args.studies, args.seed, args.size)
    except MedcapError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
