"""Small collections for the tests: studies as dicts, written as Open-i's XML or as Kaggle's tables."""

import csv
import json
import random
from xml.sax.saxutils import escape

SENTENCES = [
    "Lungs are clear.",
    "Heart size is normal.",
    "No effusion.",
    "A small nodule is seen.",
    "Spine is straight.",
]


def study(number, findings=None, images=2, mesh=("normal",), **sections):
    """One study as a plain dict; by default it has every part a usable study needs."""
    if findings is None:
        findings = " ".join(random.Random(number).sample(SENTENCES, 3))
    names = [f"CXR{number}_IM-{number:04}-{view}001" for view in range(1, images + 1)]
    return {"number": number, "sections": {"FINDINGS": findings, **sections}, "images": names, "mesh": mesh}


def xml(study):
    sections = "".join(f'<AbstractText Label="{k}">{escape(v)}</AbstractText>' for k, v in study["sections"].items())
    images = "".join(
        f'<parentImage id="{name}"><figureId>F{i}</figureId></parentImage>' for i, name in enumerate(study["images"], 1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{study["number"]}"/>'
        f"<MedlineCitation><Article><Abstract>{sections}</Abstract></Article></MedlineCitation>"
        f"<MeSH>{''.join(f'<major>{escape(term)}</major>' for term in study['mesh'])}</MeSH>{images}</eCitation>"
    )


def collection(folder, studies, png=True):
    """Write Open-i files; the images are empty: `reports` only asks whether they exist."""
    texts, images = folder / "ecgen-radiology", folder / "NLMCXR_png"
    texts.mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    for one in studies:
        (texts / f"{one['number']}.xml").write_text(xml(one), encoding="utf-8")
        for name in one["images"] if png else []:
            (images / f"{name}.png").touch()
    return folder


def kaggle(folder, studies, images=True):
    """The same studies as the Kaggle release writes them; figures in turn frontal and lateral."""
    folder.mkdir(exist_ok=True)
    with open(folder / "indiana_reports.csv", "w", encoding="utf-8", newline="") as target:
        rows = csv.writer(target)
        rows.writerow(["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"])
        for one in studies:
            sections = [one["sections"].get(k, "") for k in ("INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION")]
            rows.writerow([one["number"], ";".join(one["mesh"]), "", "", *sections])
    with open(folder / "indiana_projections.csv", "w", encoding="utf-8", newline="") as target:
        rows = csv.writer(target)
        rows.writerow(["uid", "filename", "projection"])
        for one in studies:
            for i, name in enumerate(one["images"]):
                rows.writerow([one["number"], f"{name[3:]}.dcm.png", ("Frontal", "Lateral")[i % 2]])
                if images:
                    (folder / f"{name[3:]}.dcm.png").touch()
    return folder


def annotate(folder, **ids):
    records = {split: [{"id": f"CXR{n}_IM-000{n}", "report": ""} for n in numbers] for split, numbers in ids.items()}
    (folder / "annotation.json").write_text(json.dumps(records))


def table(path):
    with open(path, encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


def reasons(work):
    return {row["study_id"] or row["file"]: row["reason"] for row in table(work / "left_out.csv")}


def splits(work):
    return {row["study_id"]: row["split"] for row in table(work / "reports.csv")}
