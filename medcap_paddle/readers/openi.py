"""Open-i's form of IU X-Ray: one XML file a report, usually in ecgen-radiology/, and images named <image id>.png.

Reads every *.xml (root <eCitation>). Where Kaggle's indiana_projections.csv lies beside, it gives the views; that
release calls CXR54_IM-2145-1001 54_IM-2145-1001.dcm.png, and images are found under either name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from xml.etree import ElementTree

from ..clinical.plain import joined
from . import kaggle
from .annotation import Pictures
from .collection import Files, Image, LeftOut, Study
from .images import ById, image_key

LOOKS_FOR = "*.xml (Open-i: unpack NLMCXR_reports.tgz and NLMCXR_png.tgz of openi.nlm.nih.gov in one folder)"
LARGEST_XML = 1 << 20  # bytes; real reports have 3,000


def matches(files: Files) -> bool:
    """Whether an XML file is a report of Open-i, or any lies there and no table of another form."""
    reports = files.ending(".xml")
    return any(map(_is_report, reports)) or bool(reports and not files.ending(".csv", ".json"))


def _is_report(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as source:
            return b"eCitation" in source.read(4096).replace(b"\0", b"")  # in UTF-16 every other byte is zero
    except OSError:
        return False


def sources(files: Files) -> list[str]:
    """The reports, and Kaggle's tables where they lie beside."""
    return [*files.ending(".xml"), *kaggle.sources(files)]


def studies(files: Files) -> Iterator[Study | LeftOut]:
    """Every XML file, in the order of `files`; rows of Kaggle's reports that have no XML file are left out.

    MedcapError where a Kaggle table that lies beside cannot be read.
    """
    finder, pictures, read_ids = ById(files), Pictures(files), set()
    views = {image_key(name): view for _, name, view in kaggle.projections(files)}
    for path in files.ending(".xml"):
        study = read(path, files.relative(path))
        if isinstance(study, Study):
            read_ids.add(study.study_id)
            for image in study.images:
                key = image_key(image.image_id)
                image.view = views.get(key, "")
                image.path, image.rivals = finder.find(key)
            pictures.lend(study)
        yield study
    for study_id in (f"CXR{uid}" for uid in kaggle.uids(files)):
        if study_id not in read_ids:
            yield LeftOut(study_id, kaggle.REPORTS, "in Kaggle's table only, the XML was read")


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
            text = " ".join(element.itertext()) if len(element) else element.text or ""
            sections[label] = joined([sections[label], text]) if sections[label] else text.strip()
    images = []
    for element in root.findall("parentImage"):
        image_id = element.get("id", "").strip()
        figure_id = element.findtext("figureId", "").strip()
        images.append(Image(image_id, figure_id, "", f"NLMCXR_png/{image_id}.png"))
    mesh = kaggle.joined(term.text or "" for term in _below(root, "MeSH", "major"))
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
