"""A collection for the search for pneumothorax: frontal drawings of different patients, with the masks of `anatomy`.

    folder/images/PTX0001.png              each marked as a drawing (see `runtime.drawing`)
    folder/masks/<structure>/PTX0001.png   1 bit a pixel; black where the patient does not have the structure
    folder/labels.csv                      image, patient, pneumothorax (0 or 1)
    folder/train-rle.csv                   ImageId, EncodedPixels of the pneumothorax, as "siim" of `vision.masks` has
                                           it: a row per side, -1 for none
    folder/phantom.json                    the settings

22% have a pneumothorax, as in the 10,675 radiographs of SIIM-ACR (2019). Its air lies over the apex only, or along the
whole lung, and takes from some hundredths to over half of the field. With and without it there are other findings, and
signs that are taken for it: folds of the skin, whose edge looks like that of a lung, bullae, and ribs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..clinical.findings import Finding
from ..clinical.phrasing import sample_finding, sample_findings
from ..runtime import drawing
from ..runtime.files import MedcapError, atomic, lock, remove_stale, write_json, write_table
from ..runtime.workers import FEW, map_ordered
from ..vision.masks import read_png, write_csv, write_png
from .anatomy import STRUCTURES, masks
from .body import SIGN
from .draw import SIZE, draw
from .folder import MARKER, begin, version

SHARE = 0.22  # with pneumothorax
APICAL = 0.45  # of these, over the apex only
BILATERAL = 0.04  # of these
BULLA, FOLD = 0.15, 0.12  # of all patients, and of all sides
HIDDEN = {"pneumothorax", "pleural thickening"}  # drawn by its own plan; would lie over thin air at the apex
TABLES = ("labels.csv", "train-rle.csv")


@dataclass(frozen=True)
class Case:
    """A patient before the picture is drawn."""

    name: str
    patient: int  # seed of the drawing
    findings: tuple[Finding, ...]
    changes: dict[str, dict[str, float]]  # of the body, by side

    @property
    def positive(self) -> bool:
        return any(finding.name == "pneumothorax" for finding in self.findings)


def plan(images: int, seed: int = 0) -> list[Case]:
    """The patients of a collection: the share of pneumothorax is that of `SHARE`, to the nearest patient."""
    order = np.random.default_rng([seed, images]).permutation(images)
    positive = set(order[: round(SHARE * images)].tolist())
    return [_plan_case(index, index in positive, seed) for index in range(images)]


def _plan_case(index: int, positive: bool, seed: int) -> Case:
    rng = np.random.default_rng([seed, index, 22])
    patient = int(rng.integers(2**31))
    findings = [finding for finding in sample_findings(rng, 0.35) if finding.name not in HIDDEN]
    if rng.random() < BULLA:
        findings.append(sample_finding("bulla", rng, phrased=False))
    fold = {side: float(rng.uniform(0.6, 1.4) * (rng.random() < FOLD)) for side in SIGN}
    changes = {"fold": fold}
    if positive:
        finding, body = _pneumothorax(rng)
        findings, changes = [finding, *findings], changes | body
    return Case(f"PTX{index + 1:04d}", patient, tuple(findings), changes)


def _pneumothorax(rng: np.random.Generator) -> tuple[Finding, dict[str, dict[str, float]]]:
    side = "bilateral" if rng.random() < BILATERAL else str(rng.choice(list(SIGN)))
    apical = rng.random() < APICAL
    # as a grade of the finding has it; below 0 a thin seam
    amount = float(rng.uniform(0, 1) if apical else 2.1 * rng.beta(1, 2.2) - 0.2)
    reach = float(rng.uniform(0.12, 0.5)) if apical else 0.0
    severity = "mild" if amount < 0.5 or apical else "moderate" if amount < 1.1 else "severe"
    finding = Finding("pneumothorax", side, "", severity)
    collapse, reaches = ({s: value * (s in finding.sides) for s in SIGN} for value in (amount, reach))
    return finding, {"collapse": collapse, "apical": reaches}


def make(folder: str | Path, images: int = 400, seed: int = 0, size: int = SIZE, workers: int = 0) -> Path:
    """Make the collection, images uint8 [size, size]; returns `folder`.

    Nothing is done where the folder holds the same one. If interrupted, drawing resumes. MedcapError where the folder
    holds anything else. `workers` processes draw, 0: one a core.
    """
    from tqdm.auto import tqdm

    if images < 1:
        raise MedcapError(f"{images} images are no collection: ask for 1 or more")
    folder = Path(folder)
    about = {"collection": "pneumothorax", "images": "phantom", "seed": seed, "patients": images, "size": size}
    about |= {"drawn_by": version(), "holds": ["images", "masks", *TABLES]}
    with lock(folder / MARKER):
        if begin(folder, about):
            cases = plan(images, seed)
            calls = ((folder, case, size) for case in cases)
            with tqdm(total=images, desc="drawing", unit="image") as bar:
                for _ in map_ordered(_write_case, calls, ahead=4 * FEW, workers=workers):
                    bar.update()
            for place in (folder / "images", *(folder / "masks" / name for name in STRUCTURES)):
                remove_stale(place)
            _write_tables(folder, cases)
            write_json(folder / MARKER, {**about, "complete": True})
    return folder


def _write_case(folder: Path, case: Case, size: int) -> None:
    """The masks first: where the picture is there, they are."""
    path = folder / "images" / f"{case.name}.png"
    if path.exists():  # drawn before an interruption
        return
    for name, mask in masks(case.findings, case.patient, size, changes=case.changes).items():
        write_png(_mask(folder, name, case), mask)
    picture = draw(case.findings, "frontal", case.patient, size, changes=case.changes)
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", compress_level=1, pnginfo=drawing.mark())


def _mask(folder: Path, structure: str, case: Case) -> Path:
    return folder / "masks" / structure / f"{case.name}.png"


def _write_tables(folder: Path, cases: list[Case]) -> None:
    import pandas as pd

    rows = [(f"{case.name}.png", f"P{case.name[3:]}", int(case.positive)) for case in cases]
    write_table(folder / "labels.csv", pd.DataFrame(rows, columns=["image", "patient", "pneumothorax"]))
    write_csv(folder / "train-rle.csv", _regions(folder, cases), "siim")


def _regions(folder: Path, cases: list[Case]) -> Iterator[tuple[str, np.ndarray]]:
    """The air of each side of each patient, bool [size, size]."""
    for case in cases:
        air = read_png(_mask(folder, "pneumothorax", case))
        for side in SIGN:
            yield case.name, air & read_png(_mask(folder, f"{side}_lung", case))
