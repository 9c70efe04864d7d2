"""Labels to reports: FINDINGS and IMPRESSION of a study whose source has labels and no text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..clinical.phrasing import write_labelled
from .collection import LeftOut, Study


def phrased(record: Study | LeftOut) -> Study | LeftOut:
    """A study with the sentences of its labels (see `phrasing.write_labelled`); a record without labels as it is."""
    if isinstance(record, LeftOut) or record.labels is None:
        return record
    findings, impression = write_labelled(record.labels.present, record.labels.known)
    return replace(record, findings=findings, impression=impression)


def kind(records: Iterable[Study | LeftOut]) -> str:
    """ "phrased" where a study has labels in place of a report, else "real"."""
    return "phrased" if any(isinstance(record, Study) and record.labels for record in records) else "real"
