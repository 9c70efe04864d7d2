"""Open-i's form of IU X-Ray: one XML file a report, usually in ecgen-radiology/, and images named <image id>.png.

Reads every *.xml (root <eCitation>). Where Kaggle's indiana_projections.csv lies beside, it gives the views; that
release calls CXR54_IM-2145-1001 54_IM-2145-1001.dcm.png, and images are found under either name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from ..runtime.files import read_table
from .collection import IMAGE_SUFFIXES, Files, Image, LeftOut, Study

LOOKS_FOR = "*.xml (Open-i: unpack NLMCXR_reports.tgz and NLMCXR_png.tgz of openi.nlm.nih.gov in one folder)"
KAGGLE_TABLES = ("indiana_reports.csv", "indiana_projections.csv")
PROJECTIONS = ["uid", "filename", "projection"]
KAGGLE_AGAIN = "get both CSV files of the Kaggle release again"
LARGEST_XML = 1 << 20  # bytes; real reports have 3,000


def matches(files: Files) -> bool:
    return bool(files.ending(".xml"))


def sources(files: Files) -> list[str]:
    """The reports, and Kaggle's tables where they lie beside."""
    return [*files.ending(".xml"), *filter(None, map(files.named, KAGGLE_TABLES))]


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every XML file, in the order of `files`. MedcapError where a Kaggle table that lies beside cannot be read."""
    paths = image_paths(files)
    views = {image_key(name): view for _, name, view in projections(files)}
    for path in files.ending(".xml"):
        study = read(path, files.relative(path))
        if isinstance(study, Study):
            for image in study.images:
                key = image_key(image.image_id)
                image.view, image.path = views.get(key, ""), paths.get(key, "")
        yield study


# Names of images ---------------------------------------------------------------------------------


def image_key(name: str) -> str:
    """One key for one image: Open-i's CXR54_IM-2145-1001 is Kaggle's 54_IM-2145-1001.dcm.png.

    Open-i says the number of study 1 twice: CXR1_1_IM-0001-3001.
    """
    if name.lower().endswith(IMAGE_SUFFIXES):
        name = name[: name.rindex(".")]
    if name[-4:].lower() == ".dcm":
        name = name[:-4]
    number, mark, rest = name.partition("_")
    number = number[3:] if number[:3].upper() == "CXR" else number
    return f"CXR{number}_{rest.removeprefix(number + mark)}" if mark and number.isdecimal() else name


def image_paths(files: Files) -> dict[str, str]:
    """`image_key` -> path of the image file, the one nearest to the collection's top."""
    return {image_key(os.path.basename(path)): path for path in reversed(files.images)}


def projections(files: Files) -> Iterator[tuple[str, str, str]]:
    """uid, file name and view of every image in Kaggle's table; nothing where the collection has no such table."""
    path = files.named("indiana_projections.csv")
    if path:
        table = read_table(path, PROJECTIONS, KAGGLE_AGAIN)
        for uid, name, view in zip(*(table[column].tolist() for column in PROJECTIONS), strict=True):
            yield uid.strip(), name, view.strip().lower()


def joined(terms: Iterable[str]) -> str:
    """MeSH terms as one cell."""
    return ";".join(term.strip() for term in terms if term.strip())


# XML ---------------------------------------------------------------------------------------------


class _Refused(Exception):
    """Why a file is no study; the message is the reason in left_out.csv."""


def read(path: str, file: str) -> Study | LeftOut:
    """The report in one XML file, called `file` in left_out.csv; its images are not looked for."""
    try:
        root = _parse(_content(path))
        if root.tag != "eCitation":
            raise _Refused("not an Open-i report")
        uid = root.find("uId")
        study_id = uid.get("id", "").strip() if uid is not None else ""
        if not study_id:
            raise _Refused("no study id")
    except _Refused as reason:
        return LeftOut("", file, str(reason))
    sections = {"findings": "", "indication": "", "comparison": "", "impression": ""}
    for element in _below(root, "MedlineCitation", "Article", "Abstract", "AbstractText"):
        label = element.get("Label", "").strip().lower()
        if label in sections:
            text = "".join(element.itertext()) if len(element) else element.text or ""
            sections[label] = f"{sections[label]} {text.strip()}".strip()
    images = []
    for element in root.findall("parentImage"):
        image_id = element.get("id", "").strip()
        figure_id = element.findtext("figureId", "").strip()
        images.append(Image(image_id, figure_id, "", f"NLMCXR_png/{image_id}.png"))
    mesh = joined(term.text or "" for term in _below(root, "MeSH", "major"))
    return Study(study_id, file, **sections, mesh=mesh, images=images)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as source:
            if os.fstat(source.fileno()).st_size > LARGEST_XML:
                raise _Refused("too large for a report")
            return source.readall()
    except OSError as error:
        raise _Refused("unreadable file") from error


def _parse(data: bytes) -> ElementTree.Element:
    """Root of an XML document; _Refused when it is broken or declares entities or a DTD."""
    try:
        # Entities and DTDs need a "<!" (in UTF-16 a zero byte): without one, the parser in C is safe and twice as fast
        if b"<!" not in data and b"\0" not in data:
            return ElementTree.fromstring(data)
        return _parse_safely(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # broken, or of an unknown encoding
        raise _Refused("malformed XML") from error


def _parse_safely(data: bytes) -> ElementTree.Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise _Refused("forbidden XML (entities or DTD)") from error


def _below(element: ElementTree.Element, *path: str) -> list[ElementTree.Element]:
    """element.findall("a/b"), three times as fast: a single name is looked for in C."""
    found = [element]
    for name in path:
        found = [child for parent in found for child in parent.findall(name)]
    return found
