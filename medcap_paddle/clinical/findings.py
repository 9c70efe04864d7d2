"""Findings on a chest radiograph, read from and written as Open-i MeSH terms.

A term is a heading with qualifiers, "Opacity/lung/base/left/mild"; a report has several, joined by ";".
`KINDS` names the findings that can be drawn; `RULES` says which headings and qualifiers mean which kind.
`LABELS` are the targets of an image encoder: left and right are separate wherever a finding has a side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SEVERITIES = ("borderline", "mild", "moderate", "severe")
LOBES = ("apex", "upper lobe", "middle lobe", "lingula", "lower lobe", "base")
LUNG = (*LOBES, "hilum", "retrocardiac", "scattered")
IMPLIED_SIDE = {"middle lobe": "right", "lingula": "left", "retrocardiac": "left"}


@dataclass(frozen=True)
class Kind:
    """How a finding is written (`term`), and which of side, place and severity it can have.

    `side` is where it is drawn when a report does not state it; "" means the finding has no side.
    """

    term: str
    side: str = ""
    places: tuple[str, ...] = ()
    sizes: bool = False  # graded small/moderate/large instead of mild/moderate/severe
    label: str | None = ""  # its name among LABELS where it has another one; None: too rare or too faint to learn


KINDS = {
    # heart, vessels, mediastinum
    "cardiomegaly": Kind("Cardiomegaly"),
    "pericardial effusion": Kind("Pericardial Effusion", label=None),
    "epicardial fat": Kind("Epicardial Fat/prominent", label=None),
    "coronary calcification": Kind("Calcinosis/coronary vessels", label=None),
    "tortuous aorta": Kind("Aorta/tortuous"),
    "aortic calcification": Kind("Atherosclerosis/aorta"),
    "mediastinal widening": Kind("Mediastinum/prominent"),
    "mediastinal shift": Kind("Shift/mediastinum", "right", label=None),
    "hilar enlargement": Kind("Lung/hilum/prominent", "bilateral"),
    "pulmonary congestion": Kind("Pulmonary Congestion"),
    "pulmonary edema": Kind("Pulmonary Edema"),
    "hiatal hernia": Kind("Hernia, Hiatal", sizes=True),
    # lungs
    "low lung volumes": Kind("Lung/hypoinflation"),
    "hyperinflation": Kind("Lung/hyperdistention"),
    "obstructive disease": Kind("Pulmonary Disease, Chronic Obstructive"),
    "emphysema": Kind("Pulmonary Emphysema"),
    "bulla": Kind("Blister/lung", "bilateral", LOBES, label=None),
    "interstitial markings": Kind("Markings/lung/interstitial"),
    "bronchovascular markings": Kind("Markings/bronchovascular"),
    "fibrosis": Kind("Pulmonary Fibrosis"),
    "opacity": Kind("Opacity/lung", "bilateral", LUNG),
    "streaky opacity": Kind("Opacity/lung/streaky", "bilateral", LUNG),
    "patchy opacity": Kind("Opacity/lung/patchy", "bilateral", LUNG),
    "interstitial opacity": Kind("Opacity/lung/interstitial", "bilateral", LUNG),
    "airspace disease": Kind("Airspace Disease/lung", "bilateral", LUNG, label="consolidation"),
    "consolidation": Kind("Consolidation/lung", "bilateral", LUNG),
    "infiltrate": Kind("Infiltrate/lung", "bilateral", LUNG, label="opacity"),
    "pneumonia": Kind("Pneumonia", "bilateral", LUNG, label="consolidation"),
    "atelectasis": Kind("Pulmonary Atelectasis", "bilateral", LUNG),
    "scar": Kind("Cicatrix/lung", "bilateral", LUNG),
    "volume loss": Kind("Volume Loss/lung", "right", LOBES, label=None),
    "nodule": Kind("Nodule/lung", "right", LUNG, sizes=True),
    "mass": Kind("Mass/lung", "right", LUNG, sizes=True),
    "cavity": Kind("Cavitation/lung", "right", LOBES, label=None),
    "calcified granuloma": Kind("Calcified Granuloma/lung", "right", LUNG, sizes=True),
    "granulomatous disease": Kind("Granulomatous Disease"),
    "calcified lymph nodes": Kind("Calcinosis/lymph nodes", "bilateral", ("hilum", "mediastinum")),
    "azygos lobe": Kind("Lung/azygos lobe", label=None),
    # pleura and diaphragm
    "pleural effusion": Kind("Pleural Effusion", "bilateral", sizes=True),
    "blunted costophrenic angle": Kind("Costophrenic Angle/blunted", "bilateral"),
    "pneumothorax": Kind("Pneumothorax", "right", sizes=True),
    "pleural thickening": Kind("Thickening/pleura", "bilateral", ("apex",)),
    "pleural plaque": Kind("Calcinosis/pleura", "bilateral", label=None),
    "elevated diaphragm": Kind("Diaphragm/elevated", "right"),
    "eventration": Kind("Diaphragmatic Eventration", "right", label="elevated diaphragm"),
    "flattened diaphragm": Kind("Diaphragm/flattened"),
    "free air": Kind("Pneumoperitoneum", label=None),
    # bones and soft tissues
    "degenerative spine": Kind("Thoracic Vertebrae/degenerative"),
    "spondylosis": Kind("Spondylosis/thoracic vertebrae"),
    "osteophytes": Kind("Osteophyte/thoracic vertebrae"),
    "scoliosis": Kind("Scoliosis/thoracic vertebrae", "right"),
    "kyphosis": Kind("Kyphosis/thoracic vertebrae"),
    "vertebral deformity": Kind("Deformity/thoracic vertebrae"),
    "osteopenia": Kind("Bone Diseases, Metabolic"),
    "rib fracture": Kind("Fractures, Bone/ribs", "left"),
    "healed rib fracture": Kind("Fractures, Bone/ribs/healed", "left"),
    "clavicle fracture": Kind("Fractures, Bone/clavicle", "right", label=None),
    "shoulder degeneration": Kind("Shoulder/degenerative", "bilateral", label=None),
    "pectus": Kind("Funnel Chest", label=None),
    "mastectomy": Kind("Mastectomy", "left", label=None),
    "breast implants": Kind("Breast Implants", "bilateral", label=None),
    "nipple shadow": Kind("Nipple Shadow", "bilateral", label=None),
    "subcutaneous emphysema": Kind("Subcutaneous Emphysema", "left", label=None),
    # devices
    "pacemaker": Kind("Implanted Medical Device", "left"),
    "prosthetic valve": Kind("Implanted Medical Device/aortic valve", label=None),
    "central line": Kind("Catheters, Indwelling", "right"),
    "tracheal tube": Kind("Tube, Inserted/trachea"),
    "enteric tube": Kind("Tube, Inserted/esophagus", label=None),
    "chest tube": Kind("Tube, Inserted/pleura", "right", label=None),
    "sternal wires": Kind("Surgical Instruments/mediastinum"),
    "surgical clips": Kind("Surgical Instruments", "right", ("abdomen", "hilum", "breast")),
    "coronary stent": Kind("Stents/coronary vessels", label=None),
    "spinal fusion": Kind("Spinal Fusion", places=("cervical vertebrae", "thoracic vertebrae", "lumbar vertebrae")),
    "shoulder arthroplasty": Kind("Implanted Medical Device/humerus", "left", label=None),
    "foreign body": Kind("Foreign Bodies/thorax", "left", label=None),
    "monitor leads": Kind("Medical Device/thorax", label=None),
    # the picture itself
    "poor technique": Kind("Technical Quality of Image Unsatisfactory"),
}

# heading (lower case) -> rules tried in order: the qualifiers of which one must be present, "" for any, and the kind
RULES: dict[str, list[tuple[str, str]]] = {
    "cardiomegaly": [("", "cardiomegaly")],
    "cardiac shadow": [("enlarged prominent borderline mild", "cardiomegaly")],
    "heart": [("enlarged prominent", "cardiomegaly")],
    "heart ventricles": [("", "cardiomegaly")],
    "heart atria": [("", "cardiomegaly")],
    "heart failure": [("", "pulmonary congestion")],
    "pericardial effusion": [("", "pericardial effusion")],
    "epicardial fat": [("", "epicardial fat")],
    "adipose tissue": [("", "epicardial fat")],
    "aorta": [("", "tortuous aorta")],
    "aorta, thoracic": [("", "tortuous aorta")],
    "aortic aneurysm": [("", "tortuous aorta")],
    "atherosclerosis": [("coronary_vessels", "coronary calcification"), ("", "aortic calcification")],
    "calcinosis": [
        ("coronary_vessels heart mitral_valve aortic_valve", "coronary calcification"),
        ("aorta aorta,_thoracic blood_vessels", "aortic calcification"),
        ("pleura", "pleural plaque"),
        ("lymph_nodes hilum mediastinum paratracheal trachea,_carina trachea", "calcified lymph nodes"),
        ("lung", "calcified granuloma"),
    ],
    "lymph nodes": [("hilum", "hilar enlargement"), ("", "mediastinal widening")],
    "mediastinum": [("", "mediastinal widening")],
    "shift": [("", "mediastinal shift")],
    "trachea": [("", "mediastinal shift")],
    "pulmonary artery": [("", "hilar enlargement")],
    "hypertension, pulmonary": [("", "hilar enlargement")],
    "sarcoidosis": [("", "hilar enlargement")],
    "pulmonary congestion": [("", "pulmonary congestion")],
    "pulmonary edema": [("", "pulmonary edema")],
    "hernia, hiatal": [("", "hiatal hernia")],
    "hernia, diaphragmatic": [("", "hiatal hernia")],
    "lung": [
        ("hypoinflation", "low lung volumes"),
        ("hyperdistention", "hyperinflation"),
        ("azygos_lobe", "azygos lobe"),
        ("interstitial reticular", "interstitial markings"),
        ("hilum", "hilar enlargement"),
    ],
    "pulmonary disease, chronic obstructive": [("", "obstructive disease")],
    "emphysema": [("", "emphysema")],
    "pulmonary emphysema": [("", "emphysema")],
    "lung, hyperlucent": [("", "emphysema")],
    "bullous emphysema": [("", "bulla")],
    "blister": [("", "bulla")],
    "cysts": [("", "bulla")],
    "lucency": [("lung apex base upper_lobe lower_lobe", "bulla")],
    "markings": [("bronchovascular", "bronchovascular markings"), ("", "interstitial markings")],
    "lung diseases, interstitial": [("", "interstitial markings")],
    "pulmonary fibrosis": [("", "fibrosis")],
    "fibrosis": [("", "fibrosis")],
    "cystic fibrosis": [("", "fibrosis")],
    "bronchiectasis": [("", "bronchovascular markings")],
    "bronchitis": [("", "bronchovascular markings")],
    "bronchiolitis": [("", "bronchovascular markings")],
    "opacity": [
        ("round", "nodule"),
        ("streaky", "streaky opacity"),
        ("interstitial reticular", "interstitial opacity"),
        ("patchy", "patchy opacity"),
        ("pleura", "pleural thickening"),
        ("", "opacity"),
    ],
    "density": [
        ("round", "nodule"),
        ("metal foreign_body", "foreign body"),
        ("streaky", "streaky opacity"),
        ("lung lingula base apex hilum retrocardiac", "opacity"),
    ],
    "airspace disease": [("", "airspace disease")],
    "consolidation": [("", "consolidation")],
    "infiltrate": [("", "infiltrate")],
    "pneumonia": [("", "pneumonia")],
    "tuberculosis": [("", "infiltrate")],
    "pulmonary atelectasis": [("", "atelectasis")],
    "cicatrix": [("", "scar")],
    "volume loss": [("", "volume loss")],
    "pneumonectomy": [("", "volume loss")],
    "nodule": [("", "nodule")],
    "mass": [("mediastinum", "mediastinal widening"), ("", "mass")],
    "cavitation": [("", "cavity")],
    "calcified granuloma": [("", "calcified granuloma")],
    "granuloma": [("", "calcified granuloma")],
    "granulomatous disease": [("", "granulomatous disease")],
    "pleural effusion": [("", "pleural effusion")],
    "hemothorax": [("", "pleural effusion")],
    "hydropneumothorax": [("", "pneumothorax")],
    "hemopneumothorax": [("", "pneumothorax")],
    "pneumothorax": [("", "pneumothorax")],
    "costophrenic angle": [("", "blunted costophrenic angle")],
    "sulcus": [("", "blunted costophrenic angle")],
    "thickening": [("", "pleural thickening")],
    "pleura": [("", "pleural thickening")],
    "diaphragm": [("flattened", "flattened diaphragm"), ("elevated", "elevated diaphragm"), ("", "eventration")],
    "diaphragmatic eventration": [("", "eventration")],
    "pneumoperitoneum": [("", "free air")],
    "thoracic vertebrae": [("", "degenerative spine")],
    "spine": [("", "degenerative spine")],
    "lumbar vertebrae": [("", "degenerative spine")],
    "cervical vertebrae": [("", "degenerative spine")],
    "arthritis": [("shoulder", "shoulder degeneration"), ("", "degenerative spine")],
    "sclerosis": [("", "degenerative spine")],
    "spondylosis": [("", "spondylosis")],
    "osteophyte": [("", "osteophytes")],
    "hyperostosis, diffuse idiopathic skeletal": [("", "osteophytes")],
    "scoliosis": [("", "scoliosis")],
    "kyphosis": [("", "kyphosis")],
    "deformity": [
        ("ribs", "healed rib fracture"),
        ("clavicle", "clavicle fracture"),
        ("humerus shoulder", "shoulder degeneration"),
        ("thoracic_vertebrae lumbar_vertebrae spine", "vertebral deformity"),
    ],
    "bone diseases, metabolic": [("", "osteopenia")],
    "osteoporosis": [("", "osteopenia")],
    "fractures, bone": [
        ("thoracic_vertebrae lumbar_vertebrae spine", "vertebral deformity"),
        ("clavicle", "clavicle fracture"),
        ("humerus shoulder", "shoulder degeneration"),
        ("healed", "healed rib fracture"),
        ("ribs", "rib fracture"),
    ],
    "ribs": [("", "healed rib fracture")],
    "shoulder": [("", "shoulder degeneration")],
    "dislocations": [("shoulder humerus clavicle", "shoulder degeneration")],
    "funnel chest": [("", "pectus")],
    "pectus carinatum": [("", "pectus")],
    "mastectomy": [("", "mastectomy")],
    "breast implants": [("", "breast implants")],
    "nipple shadow": [("", "nipple shadow")],
    "subcutaneous emphysema": [("", "subcutaneous emphysema")],
    "implanted medical device": [
        ("aortic_valve mitral_valve", "prosthetic valve"),
        ("humerus shoulder", "shoulder arthroplasty"),
        ("spine cervical_vertebrae thoracic_vertebrae lumbar_vertebrae", "spinal fusion"),
        ("", "pacemaker"),
    ],
    "catheters, indwelling": [("", "central line")],
    "tube, inserted": [
        ("pleura thorax lung", "chest tube"),
        ("esophagus abdomen", "enteric tube"),
        ("", "tracheal tube"),
    ],
    "surgical instruments": [("mediastinum sternum heart", "sternal wires"), ("", "surgical clips")],
    "sutures": [("mediastinum sternum heart", "sternal wires"), ("", "surgical clips")],
    "stents": [("", "coronary stent")],
    "spinal fusion": [("", "spinal fusion")],
    "foreign bodies": [("", "foreign body")],
    "medical device": [("", "monitor leads")],
    "technical quality of image unsatisfactory": [("", "poor technique")],
}
GRADES = {"small": "mild", "large": "severe", **{severity: severity for severity in SEVERITIES}}
SIZE_WORDS = {"mild": "small", "severe": "large"}
SYNONYMS = {
    "multiple": "scattered",
    "diffuse": "scattered",
    "multilobar": "scattered",
    "neck": "cervical vertebrae",
    "paratracheal": "mediastinum",
    "trachea, carina": "mediastinum",
    "costophrenic angle": "base",
    "cardiophrenic angle": "base",
}


@dataclass(frozen=True)
class Finding:
    """One finding; `side` is the patient's, so the left is on the right of a frontal image."""

    name: str
    side: str = ""  # "", "left", "right", "bilateral"
    place: str = ""
    severity: str = ""

    @cached_property
    def sides(self) -> tuple[str, ...]:
        """Where it is drawn: on its own sides, or on the usual one when the report states no side."""
        usual = "bilateral" if self.place == "scattered" else KINDS[self.name].side
        side = self.side or IMPLIED_SIDE.get(self.place, "") or usual
        return ("left", "right") if side == "bilateral" else (side,) if side else ()

    @cached_property
    def grade(self) -> float:
        """Severity as a number; an unqualified finding lies between mild and moderate."""
        return {"borderline": 0.3, "mild": 0.6, "": 0.8, "moderate": 1.0, "severe": 1.5}[self.severity]


def from_mesh(terms: str | Iterable[str]) -> list[Finding]:
    """Findings of Open-i terms, a list or one cell joined by ";"; "normal" and what cannot be drawn are ignored."""
    terms = terms.split(";") if isinstance(terms, str) else terms
    findings = [_read_term(term) for term in terms]
    return list(dict.fromkeys(finding for finding in findings if finding))


def _read_term(term: str) -> Finding | None:
    heading, *qualifiers = (" ".join(part.lower().split()) for part in term.split("/"))
    rules = RULES.get(heading, ())
    name = next((name for wanted, name in rules if not wanted or _any(wanted, qualifiers)), None)
    if name is None:
        return None
    kind = KINDS[name]
    places = [SYNONYMS.get(qualifier, qualifier) for qualifier in qualifiers]
    place = next((place for place in places if place in kind.places), "")
    side = next((word for word in ("left", "right", "bilateral") if word in qualifiers), "") if kind.side else ""
    severity = next((GRADES[word] for word in qualifiers if word in GRADES), "")
    return Finding(name, side or (IMPLIED_SIDE.get(place, "") if kind.side else ""), place, severity)


def _any(wanted: str, qualifiers: list[str]) -> bool:
    return any(word.replace("_", " ") in qualifiers for word in wanted.split())


def to_mesh(findings: Iterable[Finding]) -> str:
    """Open-i terms joined by ";", or "normal"."""
    return ";".join(_write_term(finding) for finding in findings) or "normal"


def _write_term(finding: Finding) -> str:
    kind = KINDS[finding.name]
    severity = SIZE_WORDS.get(finding.severity, finding.severity) if kind.sizes else finding.severity
    side = "" if finding.side == IMPLIED_SIDE.get(finding.place) else finding.side
    return "/".join(part for part in (kind.term, finding.place, side, severity) if part)


ZONES = {"apex": "upper", "upper lobe": "upper", "lower lobe": "lower", "base": "lower", "retrocardiac": "lower"}
LABELS: tuple[str, ...] = tuple(
    dict.fromkeys(
        label
        for name, kind in KINDS.items()
        if kind.label is not None
        for label in (
            [f"{kind.label or name} {side}" for side in ("left", "right")] if kind.side else [kind.label or name]
        )
    )
) + tuple(f"{zone} lung lesion {side}" for zone in ("upper", "middle", "lower") for side in ("left", "right"))
_POSITION = {label: index for index, label in enumerate(LABELS)}


def label_vector(findings: Iterable[Finding]) -> np.ndarray:
    """float32 [len(LABELS)], 1 for each label that is present; "bilateral" sets both sides."""
    vector = np.zeros(len(LABELS), np.float32)
    for finding in findings:
        name = KINDS[finding.name].label or finding.name
        names = [f"{name} {side}" for side in finding.sides] or [name]
        if KINDS[finding.name].places == LUNG and finding.place not in ("", "scattered"):
            names += [f"{ZONES.get(finding.place, 'middle')} lung lesion {side}" for side in finding.sides]
        for name in names:
            if name in _POSITION:
                vector[_POSITION[name]] = 1.0
    return vector
