"""Folders of radiographs with masks. `LAYOUTS` maps a name to how such a folder is read.

    tuberculosis   labels.csv with the columns image and mask; images/, lung_masks/: one mask of both lungs an image
    folders        images/ and masks/<structure>/, where a mask has the name of its image but for the suffix;
                   metadata.csv with the columns image and patient, where there is one, says who is who

An image may lack the mask of a structure: nobody has drawn it, which is not the same as an empty mask. Without a table
of patients every image counts as a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import image
from ..runtime.files import MedcapError, digest, read_table
from .masks import read_png
from .structures import complete

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
LAYOUT = "give images/ and masks/<structure>/, or labels.csv with images/ and lung_masks/"


@dataclass(frozen=True)
class Item:
    """A radiograph, and the files of its masks by structure."""

    path: Path
    patient: str
    masks: dict[str, Path]
    folder: Path  # of the collection

    @property
    def name(self) -> str:
        return name_of(self.path)

    @property
    def place(self) -> str:
        """The collection's folder and the file's name."""
        return f"{self.folder.resolve().name}/{self.path.name}"

    def key(self) -> str:
        """A digest of the file: the same picture is known again under another name."""
        with self.path.open("rb") as file:
            return digest(file)

    def load(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The image, uint8 [H, W], and its masks with the unions, bool [H, W]; MedcapError where one is unreadable."""
        pixels = image.read(self.path)
        return pixels, complete({name: read_png(path, pixels.shape) for name, path in self.masks.items()})


class Layout(Protocol):
    """How a folder of radiographs with masks is read."""

    def matches(self, folder: Path) -> bool: ...

    def items(self, folder: Path) -> Iterator[Item]: ...


class Tuberculosis:
    """The Shenzhen and Montgomery sets, as Jaeger et al. (2014) describe them; an image is a patient."""

    def matches(self, folder: Path) -> bool:
        return (folder / "labels.csv").exists() and (folder / "lung_masks").is_dir()

    def items(self, folder: Path) -> Iterator[Item]:
        table = read_table(folder / "labels.csv", ["image", "mask"], "name the image and the mask of each row")
        for name, mask in table[["image", "mask"]].to_numpy().tolist():
            path = folder / "lung_masks" / mask
            if not mask or not path.exists():
                raise MedcapError(f"{folder / 'labels.csv'}: {name} has the mask {mask!r}, which is not there: add it")
            yield Item(folder / "images" / name, name_of(name), {"lungs": path}, folder)


class Folders:
    """images/ and masks/<structure>/; a mask without an image is refused."""

    def matches(self, folder: Path) -> bool:
        return (folder / "images").is_dir() and (folder / "masks").is_dir()

    def items(self, folder: Path) -> Iterator[Item]:
        images = named(folder / "images")
        masks = {path.name: named(path) for path in sorted((folder / "masks").iterdir()) if path.is_dir()}
        for files in masks.values():
            if lost := sorted(files.keys() - images.keys()):
                raise MedcapError(f"{files[lost[0]]} has no image in {folder / 'images'}: add it, or remove the mask")
        patients = patients_of(folder)
        for name, path in images.items():
            found = {structure: files[name] for structure, files in masks.items() if name in files}
            yield Item(path, patients.get(name, name), found, folder)


LAYOUTS: dict[str, Layout] = {"tuberculosis": Tuberculosis(), "folders": Folders()}


def items(folder: str | Path) -> list[Item]:
    """The radiographs of a folder, in order of names; MedcapError where no layout fits, or nothing has a mask."""
    folder = Path(folder)
    layout = next((layout for layout in LAYOUTS.values() if layout.matches(folder)), None)
    if not layout:
        raise MedcapError(f"{folder} holds no radiographs with masks: {LAYOUT}")
    found = sorted(layout.items(folder), key=lambda item: item.name)
    if not any(item.masks for item in found):
        raise MedcapError(f"{folder} has no mask of any of its {len(found)} images: {LAYOUT}")
    if twice := [name for name, count in Counter(item.name for item in found).items() if count > 1]:
        raise MedcapError(f"{folder} has the image {twice[0]} twice: remove one row")
    return found


def name_of(path: str | Path) -> str:
    """The name of an image without its suffix; a DICOM may have none, and dots in its name."""
    path = Path(path)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def named(folder: Path) -> dict[str, Path]:
    """The images of a folder by name; MedcapError where two files have the same."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.startswith("."):
            continue
        if (name := name_of(path)) in found:
            raise MedcapError(f"{found[name]} and {path} have the same name but for the suffix: rename one")
        found[name] = path
    return found


def patients_of(folder: Path) -> dict[str, str]:
    """The patient of each image by name, from metadata.csv where it says it."""
    path = folder / "metadata.csv"
    if not path.exists():
        return {}
    table = read_table(path, ["image"], "name the image of each row")
    if "patient" not in table:
        return {}
    return {name_of(row.image): row.patient for row in table.itertuples() if row.patient}
