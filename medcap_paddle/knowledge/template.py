"""Reports by template: the findings that the image encoder sees, in fixed sentences; and any report, completed by them.

    logits(train, studies)             [n, L], how sure the image makes each of `findings.LABELS`
    detected(logits, threshold)        the findings whose logit is above it, the surest first
    write(findings)                    a report of fixed sentences
    complete(report, findings)         the report, with the findings that it does not tell and without their denials
    choose(logits, references)         the threshold

Pino et al. ("Clinically Correct Report Generation from Chest X-rays using Templates", MLMI 2021) found that fixed
sentences for detected findings beat networks in every clinical measure.

What a sentence tells or denies is read by the labeller (`clinical.labels`), by its observation. A finding without one,
such as scoliosis, is told by a word of its own (`NAMED_BY`); it is added, and denied by nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from functools import cache, lru_cache

import numpy as np

from ..clinical import labels, phrasing
from ..clinical.findings import KINDS, LABELS, Finding, from_mesh, label_vector
from ..dataset import Studies
from ..feature_file import POOLED
from ..runtime.files import MedcapError
from ..text import clean
from ..vision import probe
from .retrieval import patients

LOGITS = "logits"  # an array of the encoder's own, [K, L]; without it a linear probe gives them
THRESHOLDS = np.arange(-4, 3.01, 0.5)
# a sentence that mentions no observation calls a topic normal by a word of both rows: "the heart is normal in size"
TOPICS = {
    "heart": "heart cardiac cardiomediastinal cardiopulmonary",
    "mediastinum": "mediastinum mediastinal cardiomediastinal",
    "lungs": "lung lungs cardiopulmonary",
    "pleura": "pleura pleural cardiopulmonary",
    "bones": "osseous bony bone bones skeletal rib ribs",
}
NAMED_BY = {  # how a sentence names a finding that the labeller does not know; a kind that is not here: by its name
    "tortuous aorta": "tortuo|ectatic|ectasia|uncoil",
    "aortic calcification": r"(?:aort|arch\b).*calcif|calcif.*(?:aort|arch\b)|atherosclero",
    "hilar enlargement": r"\bhil(?:um|a|ar)\b.*(?:promin|enlarg|full)|(?:promin|enlarg|full).*\bhil(?:um|a|ar)\b",
    "hiatal hernia": "hernia",
    "low lung volumes": r"\blow.*volume|volume.*\blow\b|hypoinflat|hypoaerat|hypoventilat|shallow|crowding",
    "hyperinflation": "hyper(?:inflat|expan|aerat)|flattened",
    "emphysema": "emphysem|hyperlucen",
    "calcified granuloma": "granulom",
    "calcified lymph nodes": "calcif.*node|node.*calcif",
    "elevated diaphragm": "elevat.*diaphragm|diaphragm.*elevat|eventrat",
    "eventration": "eventrat",
    "degenerative spine": "degenerat|spondyl|osteophyt",
    "osteophytes": "osteophyt|spur",
    "scoliosis": "scolio|curvature",
    "kyphosis": "kypho",
    "vertebral deformity": "wedg|compression|vertebra.*deform",
    "surgical clips": "clip",
}
NORMAL = set("normal clear unremarkable intact no without free negative".split())


# what the image shows -------------------------------------------------------------------------------------------------


def logits(train: Studies, studies: Studies) -> np.ndarray:
    """Logit of each label for each study [n, L], the greatest of its views.

    Those of the encoder, where the studies have its array "logits". Else a linear probe on "pooled" gives them, fitted
    on the MeSH terms of train; for train itself out of fold, patients apart. MedcapError where train has no MeSH terms.
    """
    if LOGITS in train.inputs and LOGITS in studies.inputs:
        return strongest(studies, LOGITS)
    targets = np.stack([label_vector(from_mesh(mesh)) for mesh in train.table.get("mesh", [""])])
    if not targets.any():
        raise MedcapError("train has no MeSH terms to learn findings from: take an encoder that gives logits")
    known = strongest(train, POOLED)
    if studies is train:
        return probe.out_of_fold(known, targets, patients(train))
    weight, bias = probe.coefficients(known, targets)
    return strongest(studies, POOLED) @ weight + bias


def strongest(studies: Studies, array: str) -> np.ndarray:
    """The greatest of each number over the views of a study [n, D]. MedcapError where the studies lack the array."""
    if array not in studies.inputs:
        raise MedcapError(f'the template needs the input "{array}": load the studies with it')
    return np.stack([views.max(0) for views in studies.inputs[array]])


def detected(logits: np.ndarray, threshold: float) -> list[Finding]:
    """The findings of one study [L] that have phrases and a logit above the threshold, the surest first.

    Left and right become bilateral. Of findings that are one observation the surest stays.
    """
    sides: dict[str, list[str]] = {}
    for place in np.argsort(-logits, kind="stable"):
        name, side = _named(LABELS[place])
        if logits[place] > threshold and name in phrasing.PHRASES:
            sides.setdefault(name, []).append(side)
    found, told = [], set()
    for name, where in sides.items():
        finding = Finding(name, "bilateral" if len(where) > 1 else where[0])
        observed = observations(finding)
        if not observed or not observed <= told:
            found.append(finding)
            told |= observed
    return found


def _named(label: str) -> tuple[str, str]:
    """The kind and the side that a label is of."""
    name, _, side = label.rpartition(" ")
    return (name, side) if side in ("left", "right") and label not in KINDS else (label, "")


# what a sentence says -------------------------------------------------------------------------------------------------


@cache
def sentence(finding: Finding) -> str:
    """The fixed sentence of a finding, cleaned."""
    return clean(phrasing._fill(phrasing.PHRASES[finding.name].say[0], finding))


def wording(finding: Finding, words: Container[str]) -> str:
    """The first phrase of a finding, cleaned, that has these words only; its fixed sentence where there is none."""
    phrases = (clean(phrasing._fill(say, finding)) for say in phrasing.PHRASES[finding.name].say)
    known = (text for text in phrases if all(word in words for word in text.split()))
    return next(known, sentence(finding))


@cache
def observations(finding: Finding) -> frozenset[int]:
    """Columns of the observations that the sentence of a finding affirms."""
    return _said(sentence(finding))[0]


def _words(text: str) -> set[str]:
    return set(re.findall("[a-z]+", text))


@lru_cache(maxsize=100_000)
def _said(sentence: str) -> tuple[frozenset[int], frozenset[int]]:
    """Columns of the observations that a cleaned sentence affirms, and that it negates."""
    parts = labels.sentences(sentence)
    return tuple(frozenset(c for part in parts for c in side(part)) for side in (labels.present, labels.negated))


def _sentences(report: str) -> list[str]:
    return [part.strip() + " ." for part in report.split(" .") if part.strip(" .")]


def tells(report: str, finding: Finding) -> bool:
    """Whether a sentence affirms the observations of the finding; or, where it has none, names it unnegated."""
    if observed := observations(finding):
        return observed <= frozenset().union(*(_said(part)[0] for part in _sentences(report)))
    name = re.compile(NAMED_BY.get(finding.name, finding.name.replace(" ", ".*")))
    return any(name.search(part) and not NORMAL & _words(part) for part in _sentences(report))


def denies(sentence: str, finding: Finding) -> bool:
    """Whether a sentence negates an observation of the finding, or mentions none and calls its topic normal."""
    (yes, no), words = _said(sentence), _words(sentence)
    if observations(finding) & no:
        return True
    normal = words & NORMAL and words & set(TOPICS.get(phrasing.PHRASES[finding.name].topic, "").split())
    return bool(observations(finding) and normal and not no | yes)


# reports --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def write(findings: tuple[Finding, ...]) -> str:
    """A report of the findings and of normal anatomy, in fixed sentences, cleaned; without phrases: not mentioned."""
    return complete(clean(phrasing.write_report(findings, None)[0]), findings)


def complete(report: str, findings: Iterable[Finding]) -> str:
    """The cleaned report without the sentences that deny a finding, and with a sentence for each that it does not tell.

    A new sentence stands where the first denial was, else at the end. A sentence that denies one finding and affirms
    another observation stays, and the denied one is not added: the report would contradict itself.
    """
    parts = _sentences(report)
    for finding in findings:
        denials = [place for place, part in enumerate(parts) if denies(part, finding)]
        if any(_said(parts[place])[0] for place in denials):
            continue
        new = [] if tells(" ".join(parts), finding) else [sentence(finding)]
        here = denials[0] if denials else len(parts)
        kept = [part for place, part in enumerate(parts) if place not in denials]
        parts = [*kept[:here], *new, *kept[here:]]
    return " ".join(parts)


def templates(logits: np.ndarray, threshold: float) -> list[str]:
    """The report of each study [n, L]."""
    return [write(tuple(detected(row, threshold))) for row in logits]


def completed(reports: Sequence[str], logits: np.ndarray, threshold: float) -> list[str]:
    """Each cleaned report, completed by what the image shows."""
    found = [detected(row, threshold) for row in logits]
    return [complete(report, findings) for report, findings in zip(reports, found, strict=True)]


def choose(
    write: Callable[[float], Sequence[str]], references: Sequence[str], thresholds: Iterable[float] = THRESHOLDS
) -> tuple[float, dict[float, float]]:
    """The threshold for which `write` gives reports of the highest clinical macro-F1, and that of each threshold.

    Give logits out of fold and references of train: `lambda threshold: templates(logits, threshold)`.
    """
    truth, scores = labels.label(references), {}
    for threshold in thresholds:
        counted = [side.sum(0)[:-1] for side in labels.counts(truth, labels.label(write(float(threshold))))]
        scores[float(threshold)] = float(labels.averages(*counted)["macro_f1"])
    return max(scores, key=scores.get), scores


def baseline(train: Studies, val: Studies, studies: Studies, seed: int) -> list[str]:
    """The template for each study; the threshold is chosen on train, whose logits are out of fold."""
    seen = logits(train, train)
    threshold, _ = choose(lambda threshold: templates(seen, threshold), list(train.table.report))
    return templates(logits(train, studies), threshold)
