"""A phantom collection: studies with known findings, written as Open-i writes them.

    folder/ecgen-radiology/*.xml       a report per study, Open-i schema, with the quirks of the real collection
    folder/NLMCXR_png/*.png            its radiographs
    folder/indiana_projections.csv     uid, filename, projection (Frontal or Lateral), as the Kaggle release has it
    folder/phantom.json                what is made up ("reports", "images": "phantom" or "real") and from which settings

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
from collections.abc import Iterable
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
from .findings import IMPLIED_SIDE, KINDS, Finding, from_mesh, to_mesh
from .radiograph import SIZE, draw

# --- the language -----------------------------------------------------------------------------------------------------
# Each reader has habits: an order of topics and a favourite among the phrasings of a sentence (the same index).

READERS = (0.6, 0.25, 0.15)  # how much of the work each reader does
ORDERS = (
    ("heart", "mediastinum", "lungs", "pleura", "bones", "devices"),
    ("lungs", "pleura", "heart", "mediastinum", "bones", "devices"),
    ("devices", "heart", "mediastinum", "pleura", "lungs", "bones"),
)
NORMAL = {
    "heart": ("The heart is normal in size.", "Heart size within normal limits.", "Cardiac silhouette is normal."),
    "mediastinum": ("The mediastinum is unremarkable.", "Normal mediastinal contours.", "Mediastinal contours are stable and normal."),
    "lungs": ("The lungs are clear.", "The lungs are clear bilaterally.", "No focal airspace disease is seen."),
    "pleura": (
        "There is no pleural effusion or pneumothorax.",
        "No pneumothorax or pleural effusion.",
        "No effusion or pneumothorax is identified.",
    ),
    "bones": ("The osseous structures are intact.", "No acute bony abnormality.", "Visualized bones are unremarkable."),
    "devices": ("", "", ""),
}
# what may still be said when a topic has a finding
ONLY = {
    "pleural effusion": ("There is no pneumothorax.", "No pneumothorax.", "No pneumothorax is identified."),
    "pneumothorax": ("There is no pleural effusion.", "No pleural effusion.", "No effusion is identified."),
}
VASCULARITY = "Pulmonary vascularity is normal."
NO_ACUTE = ("No acute cardiopulmonary abnormality.", "No acute disease.", "No acute cardiopulmonary findings.")


@dataclass(frozen=True)
class Phrases:
    """How a kind of finding is reported. {site} is "left basilar", {where} is "at the left lung base"."""

    topic: str
    weight: float  # how often it is drawn into a study
    say: tuple[str, ...]
    impression: str
    places: tuple[str, ...] = ("",)
    grades: tuple[str, ...] = ("", "mild", "moderate", "severe")
    sides: tuple[str, ...] = ("left", "right")


_AIRSPACE = ("base", "upper lobe", "lower lobe", "middle lobe", "lingula", "base")
_BOTH = ("left", "right", "left", "right", "bilateral")
_SPOT = ("upper lobe", "lower lobe", "middle lobe", "lingula", "apex")
PHRASES = {
    "cardiomegaly": Phrases("heart", 7, ("There is {severity} cardiomegaly.", "Heart size is {severely} enlarged.", "{severity} enlargement of the cardiac silhouette."), "{severity} cardiomegaly.", grades=("", "mild", "mild", "moderate", "severe")),
    "tortuous aorta": Phrases("mediastinum", 5, ("The thoracic aorta is {severely} tortuous.", "{severity} tortuosity of the aorta.", "Aorta is {severely} ectatic and tortuous."), "{severity} aortic tortuosity.", grades=("", "mild")),
    "aortic calcification": Phrases("mediastinum", 4, ("There is atherosclerotic calcification of the aortic arch.", "Atherosclerotic calcifications of the aorta.", "The aortic knob is calcified."), "Atherosclerosis.", grades=("",)),
    "mediastinal widening": Phrases("mediastinum", 1.5, ("The mediastinum is {severely} widened.", "{severity} prominence of the superior mediastinum.", "Widened mediastinal contour."), "{severity} mediastinal widening.", grades=("", "mild", "severe")),
    "hilar enlargement": Phrases("mediastinum", 2, ("The {side} {hilum} prominent.", "{severity} enlargement of the {side} {hila}.", "Prominent {side} {hila}."), "Prominent {side} {hila}.", grades=("", "mild"), sides=_BOTH),
    "hiatal hernia": Phrases("mediastinum", 3, ("There is a~ {size} hiatal hernia.", "{size} retrocardiac hiatal hernia with air-fluid level.", "A~ {size} hiatal hernia is noted."), "{size} hiatal hernia.", grades=("", "mild", "severe")),
    "pulmonary congestion": Phrases("lungs", 3, ("There is {severity} pulmonary vascular congestion.", "Pulmonary vasculature is {severely} congested.", "{severity} vascular congestion."), "{severity} pulmonary vascular congestion.", grades=("", "mild", "moderate")),
    "pulmonary edema": Phrases("lungs", 2.5, ("There is {severity} interstitial pulmonary edema.", "{severity} perihilar haze and Kerley lines, consistent with edema.", "{severity} pulmonary edema is present."), "{severity} pulmonary edema."),
    "low lung volumes": Phrases("lungs", 6, ("The lung volumes are {severely} low.", "{severity} hypoinflation with crowding of the bronchovascular markings.", "Low lung volumes."), "Low lung volumes.", grades=("", "mild")),
    "hyperinflation": Phrases("lungs", 5, ("The lungs are {severely} hyperexpanded.", "{severity} hyperinflation with flattened diaphragms.", "Lungs are {severely} hyperinflated."), "{severity} hyperinflation.", grades=("", "mild", "severe")),
    "emphysema": Phrases("lungs", 3, ("There are {severity} emphysematous changes.", "{severity} emphysema with hyperlucent lungs.", "Changes of {severity} emphysema are seen."), "{severity} emphysema.", grades=("", "severe")),
    "interstitial markings": Phrases("lungs", 3, ("The interstitial markings are {severely} increased.", "{severity} prominence of the interstitial markings.", "Diffuse {severity} interstitial prominence."), "{severity} interstitial prominence.", grades=("", "mild", "severe")),
    "opacity": Phrases("lungs", 5, ("There is a~ {severity} {site} opacity.", "{severity} hazy opacity {where}.", "Opacity is seen {where}."), "{site} opacity.", _AIRSPACE, ("", "mild", "severe"), sides=_BOTH),
    "streaky opacity": Phrases("lungs", 2.5, ("There are {severity} streaky {site} opacities.", "Streaky opacities {where}.", "{severity} streaky opacity is seen {where}."), "Streaky {site} opacities.", ("base", "lower lobe", "middle lobe", "lingula"), ("", "mild"), sides=_BOTH),
    "patchy opacity": Phrases("lungs", 2, ("There are patchy {site} opacities.", "Patchy opacities {where}.", "Patchy opacity is seen {where}."), "Patchy {site} opacities.", _AIRSPACE, ("",), sides=_BOTH),
    "airspace disease": Phrases("lungs", 3, ("There is {severity} {site} airspace disease.", "{severity} airspace disease {where}.", "Airspace disease is present {where}."), "{site} airspace disease.", _AIRSPACE, ("", "mild", "severe"), sides=_BOTH),
    "consolidation": Phrases("lungs", 3, ("There is {site} consolidation with air bronchograms.", "Dense consolidation {where}.", "Consolidation is present {where}."), "{site} pneumonia.", _AIRSPACE, ("",), sides=_BOTH),
    "atelectasis": Phrases("lungs", 6, ("There is {severity} {site} atelectasis.", "{severity} bandlike atelectasis {where}.", "{severity} subsegmental atelectasis is seen {where}."), "{severity} {site} atelectasis.", ("base", "base", "base", "lower lobe", "middle lobe", "lingula"), ("", "mild"), sides=_BOTH),
    "scar": Phrases("lungs", 3, ("There is {severity} scarring {where}.", "{severity} {site} scarring.", "Linear scar {where}."), "{site} scarring.", ("base", "apex", "upper lobe", "lingula"), ("", "mild"), sides=_BOTH),
    "nodule": Phrases("lungs", 4, ("There is a~ {size} nodule {where}.", "{size} {site} pulmonary nodule.", "A~ {size} nodular density is seen {where}."), "{site} nodule, CT is recommended.", _SPOT, ("", "mild", "severe")),
    "mass": Phrases("lungs", 2, ("There is a~ {size} mass {where}.", "{size} {site} mass.", "A~ {size} mass is seen {where}."), "{site} mass, suspicious for malignancy.", ("upper lobe", "lower lobe", "hilum"), ("", "severe")),
    "calcified granuloma": Phrases("lungs", 6, ("There is a~ calcified granuloma {where}.", "Calcified {site} granuloma.", "Stable calcified granuloma {where}."), "Old granulomatous disease.", _SPOT, ("",)),
    "calcified lymph nodes": Phrases("mediastinum", 3, ("Calcified {side} hilar lymph nodes are seen.", "Calcified {side} hilar nodes.", "There are {side} calcified hilar lymph nodes."), "Old granulomatous disease.", ("hilum",), ("",), sides=_BOTH),
    "pleural effusion": Phrases("pleura", 6, ("There is a~ {size} {side} pleural {effusion}.", "{size} {side} pleural {effusion}.", "A~ {size} {side} {effusion} with blunting of the costophrenic angle."), "{size} {side} pleural {effusion}.", sides=_BOTH),
    "blunted costophrenic angle": Phrases("pleura", 3, ("There is blunting of the {side} costophrenic {angle}.", "Blunted {side} costophrenic {angle}.", "The {side} costophrenic {angle} {are} blunted."), "Blunted {side} costophrenic {angle}.", grades=("",), sides=_BOTH),
    "pneumothorax": Phrases("pleura", 3, ("There is a~ {size} {side} pneumothorax.", "{size} {side} pneumothorax with visible pleural line.", "A~ {size} {side} apical pneumothorax is present."), "{size} {side} pneumothorax.", sides=_BOTH),
    "pleural thickening": Phrases("pleura", 2.5, ("There is {side} apical pleural thickening.", "{side} apical pleural thickening.", "Apical pleural thickening on the {side}."), "{side} apical pleural thickening.", ("apex",), ("",), sides=_BOTH),
    "elevated diaphragm": Phrases("pleura", 3.5, ("There is {severity} elevation of the {side} hemidiaphragm.", "{severity} elevated {side} hemidiaphragm.", "The {side} hemidiaphragm is {severely} elevated."), "Elevated {side} hemidiaphragm.", grades=("", "mild")),
    "eventration": Phrases("pleura", 1.5, ("There is eventration of the {side} hemidiaphragm.", "Eventration of the {side} hemidiaphragm.", "The {side} hemidiaphragm is focally eventrated."), "{side} diaphragmatic eventration.", grades=("",)),
    "degenerative spine": Phrases("bones", 6, ("There are {severity} degenerative changes of the thoracic spine.", "{severity} degenerative changes in the spine.", "Spine shows {severity} degenerative change."), "", grades=("", "mild", "severe")),
    "osteophytes": Phrases("bones", 2.5, ("There are osteophytes along the thoracic spine.", "Thoracic spine osteophytes.", "Bridging osteophytes of the thoracic vertebrae."), "", grades=("",)),
    "scoliosis": Phrases("bones", 4, ("There is {severity} {dextro} of the thoracic spine.", "{severity} scoliosis, convex to the {side}.", "{severity} thoracic {dextro}."), "{severity} scoliosis.", grades=("", "mild", "severe")),
    "kyphosis": Phrases("bones", 2.5, ("There is {severity} thoracic kyphosis.", "{severity} kyphosis of the spine.", "{severity} exaggerated kyphosis."), "", grades=("", "severe")),
    "vertebral deformity": Phrases("bones", 2, ("There is {severity} wedging of a midthoracic vertebral body.", "{severity} compression deformity of a thoracic vertebra.", "{severity} thoracic compression deformity is seen."), "Thoracic compression deformity.", grades=("", "mild")),
    "rib fracture": Phrases("bones", 2.5, ("There are displaced {side} rib fractures.", "Acute {side} rib fractures.", "Fractures of the {side} ribs are seen."), "{side} rib fractures.", grades=("",), sides=_BOTH),
    "healed rib fracture": Phrases("bones", 2.5, ("There are old healed {side} rib fractures.", "Old {side} rib fractures.", "Healed fractures of the {side} ribs are noted."), "Old {side} rib fractures.", grades=("",), sides=_BOTH),
    "pacemaker": Phrases("devices", 3, ("There is a~ {side} chest wall pacemaker with leads in the heart.", "{side} subclavian pacemaker in place.", "A~ {side}-sided pacemaker is noted."), "{side}-sided pacemaker.", grades=("",)),
    "central line": Phrases("devices", 4, ("There is a~ {side} central venous catheter with tip in the SVC.", "{side}-sided catheter with its tip in the SVC.", "A~ {side} central line terminates in the SVC."), "{side} central line in the SVC.", grades=("",)),
    "sternal wires": Phrases("devices", 3, ("Median sternotomy wires are present.", "Sternotomy wires are intact.", "Status post median sternotomy."), "", grades=("",)),
    "surgical clips": Phrases("devices", 1.5, ("Surgical clips are seen in the right upper quadrant.", "Cholecystectomy clips.", "Clips project over the right upper abdomen."), "", ("abdomen",), ("",), sides=("right",)),
    "tracheal tube": Phrases("devices", 1.5, ("An endotracheal tube is in place with tip above the carina.", "Endotracheal tube above the carina.", "The tip of the endotracheal tube is above the carina."), "Endotracheal tube in place.", grades=("",)),
}  # fmt: skip
# at most one of each set: they would deny each other, or be one finding told twice
EXCLUSIVE = (
    {"low lung volumes", "hyperinflation", "emphysema", "obstructive disease", "flattened diaphragm"},
    {"elevated diaphragm", "hyperinflation", "emphysema", "obstructive disease", "flattened diaphragm", "eventration"},
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
ABNORMAL_LUNGS = {name for name, phrases in PHRASES.items() if phrases.topic == "lungs"}
PLACE_WORDS = {  # place -> adjective, where for one side, where for both
    "": ("", "in the {side} lung", "in both lungs"),
    "base": ("basilar", "at the {side} lung base", "at both lung bases"),
    "apex": ("apical", "in the {side} lung apex", "in both lung apices"),
    "upper lobe": ("upper lobe", "in the {side} upper lobe", "in both upper lobes"),
    "lower lobe": ("lower lobe", "in the {side} lower lobe", "in both lower lobes"),
    "middle lobe": ("middle lobe", "in the right middle lobe", "in the right middle lobe"),
    "lingula": ("lingular", "in the lingula", "in the lingula"),
    "hilum": ("perihilar", "in the {side} perihilar region", "in both perihilar regions"),
}
INDICATIONS = ("Chest pain.", "Shortness of breath.", "Cough and fever.", "Preoperative evaluation.", "XXXX-year-old with dyspnea.", "Positive PPD.", "Follow up.", "XXXX.")
COMPARISONS = ("None.", "None available.", "XXXX.", "Two views of the chest dated XXXX.", "Chest radiographs XXXX, XXXX.")
CAPTIONS = ("Xray Chest PA and Lateral", "Chest, 2 views, frontal and lateral", "PA and lateral chest x-XXXX dated XXXX. ", "CHEST 2V FRONTAL/LATERAL XXXX, XXXX XXXX PM ")


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
    """A finding of a kind with some side, place and severity; `told`: only such as we have sentences for."""
    kind = KINDS[name]
    phrases = PHRASES.get(name) if told else None
    phrases = phrases or Phrases("", 0, (), "", places=("", *kind.places), sides=_BOTH)
    place, severity, side = (str(rng.choice(choices)) for choices in (phrases.places, phrases.grades, phrases.sides))
    return Finding(name, (IMPLIED_SIDE.get(place) or side) if kind.side else "", place, severity)


def _fill(template: str, finding: Finding) -> str:
    """A sentence from a template: words for side, place and severity; a~ becomes a or an."""
    both = finding.side == "bilateral"
    adjective, one, two = PLACE_WORDS.get(finding.place, PLACE_WORDS[""])
    site = f"{finding.side} {adjective}" if finding.place != "lingula" else adjective
    words = {
        "side": finding.side,
        "site": "bibasilar" if both and finding.place == "base" else "biapical" if both and finding.place == "apex" else site,
        "where": (two if both else one).format(side=finding.side),
        "severity": finding.severity,
        "severely": {"": "", "mild": "mildly", "moderate": "moderately", "severe": "severely", "borderline": "borderline"}[finding.severity],
        "size": {"mild": "small", "severe": "large"}.get(finding.severity, finding.severity),
        "effusion": "effusions" if both else "effusion",
        "angle": "angles" if both else "angle",
        "are": "are" if both else "is",
        "hilum": "hila are" if both else "hilum is",
        "hila": "hila" if both else "hilum",
        "dextro": "dextroscoliosis" if finding.side == "right" else "levoscoliosis",
    }
    text = " ".join(template.format(**words).split())
    if both:
        text = re.sub(r"\b[Aa]~ ?", "", text).replace("There is bilateral pleural effusions", "There are bilateral pleural effusions")
        text = re.sub(r"^There is (\w* ?bilateral pleural effusions)", r"There are \1", text)
    text = re.sub(r"\b([Aa])~ (?=[aeiouAEIOU])", r"\1n ", text)
    text = re.sub(r"\b([Aa])~", r"\1", text)
    return text[:1].upper() + text[1:]


def write_report(findings: Iterable[Finding], rng: np.random.Generator) -> tuple[str, str]:
    """FINDINGS and IMPRESSION of a report; kinds without sentences of ours are left unsaid."""
    findings = [finding for finding in findings if finding.name in PHRASES]
    reader = int(rng.choice(len(READERS), p=READERS))

    def habit(phrasings: tuple[str, ...]) -> str:
        return phrasings[reader % len(phrasings) if rng.random() < 0.9 else int(rng.integers(len(phrasings)))]

    names = {finding.name for finding in findings}
    sentences = []
    for topic in ORDERS[reader]:
        here = [finding for finding in findings if PHRASES[finding.name].topic == topic]
        sentences += [_fill(habit(PHRASES[finding.name].say), finding) for finding in here]
        if not here:
            sentences.append(habit(NORMAL[topic]))
        elif topic == "pleura":
            sentences += [habit(ONLY[name]) for name in ONLY if name in names] or [habit(NORMAL[topic])]
            if "blunted costophrenic angle" in names:
                sentences[-1] = habit(ONLY["pleural effusion"])
        if topic == "heart" and rng.random() < 0.15 and not names & ABNORMAL_LUNGS:
            sentences.append(VASCULARITY)
    findings_text = " ".join(sentence for sentence in sentences if sentence)
    summary = [_fill(PHRASES[finding.name].impression, finding) for finding in findings if PHRASES[finding.name].impression]
    summary = list(dict.fromkeys(summary)) or [habit(NO_ACUTE)]
    impression = " ".join(f"{i}. {text}" for i, text in enumerate(summary, 1)) if len(summary) > 1 else summary[0]
    return findings_text, impression


# --- studies ----------------------------------------------------------------------------------------------------------


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
        "COMPARISON": str(rng.choice(COMPARISONS)),
        "INDICATION": str(rng.choice(INDICATIONS)),
        "FINDINGS": text,
        "IMPRESSION": impression,
    }
    views = [(), ("frontal",), ("frontal", "lateral"), ("frontal", "lateral", "lateral"), ("frontal", "frontal", "lateral", "lateral")]
    chosen = views[int(rng.choice(len(views), p=[0.02, 0.10, 0.80, 0.05, 0.03]))]
    serial = f"PH{index}_IM-{index % 10000:04d}"
    images = [(f"{serial}-{1000 * (1 + (view == 'lateral')) + chosen[: k + 1].count(view)}", view) for k, view in enumerate(chosen)]
    return Study(f"PH{index}", str(index), findings, sections, str(rng.choice(CAPTIONS)), int(rng.integers(2**31)), images)


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
    article = add(add(root, "MedlineCitation", Owner="medcap_paddle", Status="phantom"), "Article", PubModel="Electronic")
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
    about = {"reports": "phantom", "images": "phantom", "seed": seed, "studies": studies, "size": size, "drawn_by": _version()}
    if not _begin(folder, about):
        return folder
    planned = plan(studies, seed)
    for study in planned:
        write_xml(study, folder / "ecgen-radiology" / f"{study.number}.xml")
    with atomic(folder / "indiana_projections.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
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
    reports = require(source / "ecgen-radiology", "give the folder that holds the Open-i reports (ecgen-radiology/*.xml)")
    paths = sorted(reports.glob("*.xml"))
    if not paths:
        raise MedcapError(f"{reports} has no XML reports: give the folder of an Open-i collection")
    about = {"reports": "real", "images": "phantom", "seed": seed, "studies": len(paths), "size": size, "source": str(source.resolve()), "drawn_by": _version()}
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
    return {"CXR" + name.removesuffix(".png").removesuffix(".dcm"): view for name, view in rows if view in ("frontal", "lateral")}


def _version() -> str:
    """A fingerprint of what draws and writes, so that a newer version does not keep an older one's pictures."""
    sources = [Path(room).read_text(encoding="utf-8") for room in (findings_room.__file__, radiograph.__file__, __file__)]
    return f"{zlib.crc32(''.join(sources).encode()):08x}"


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
            cv2.imwrite(str(temporary), picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return len(images)


def _draw_all(folder: Path, studies: list[tuple], size: int, workers: int | None) -> None:
    """Draw every study's images, on all cores; each picture depends on its own seed only."""
    from tqdm.auto import tqdm

    jobs = [(folder, findings, images, patient, size) for findings, images, patient in studies]
    workers = workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else workers or os.cpu_count() or 1
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
    parser.add_argument("--redraw", metavar="SOURCE", help="keep the reports of this collection, draw its images from MeSH")
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
