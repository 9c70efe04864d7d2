"""The language of the phantom: which findings come together, and the sentences they are reported in.

    sample_findings     findings of a made-up patient
    write_report        findings -> FINDINGS and IMPRESSION
    write_labelled      the same of findings of which a label says the name only
    read_report         FINDINGS, also after cleaning -> findings
    agreement           true findings, reported findings -> how well they agree

Reads phrases.json beside this file: the phrases of three readers for every finding, and for normal anatomy;
"unqualified" has one for each that states no side, place or severity, and "denies" says what a normal sentence denies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from ..runtime.files import read_json
from .findings import IMPLIED_SIDE, KINDS, SIZE_WORDS, Finding


@dataclass(frozen=True)
class Phrases:
    """How a kind of finding is reported, and how often it occurs in which form.

    In a phrase {site} is "left basilar", {where} "at the left lung base", {severely} "mildly", {size} "small"; a~ is a
    or an. Reader k prefers phrase k of `say`.
    """

    topic: str
    weight: float  # its share among the findings of made-up studies, times a constant
    say: Sequence[str]
    impression: str
    places: Sequence[str] = ("",)
    grades: Sequence[str] = ("", "mild", "moderate", "severe")
    sides: Sequence[str] = ("left", "right")
    bilateral: float = 0.0  # probability that it is on both sides


LANGUAGE = read_json(Path(__file__).with_name("phrases.json"), "install the package again")
PHRASES = {name: Phrases(**entry) for name, entry in LANGUAGE["findings"].items()}
UNQUALIFIED = {name: Phrases(weight=0, **entry) for name, entry in LANGUAGE["unqualified"].items()}
NORMAL = frozenset([*LANGUAGE["normal"], "vascularity"])
HABIT = 0.9  # probability that a reader uses the preferred phrase
# at most one of each set: they would deny each other, or report one finding twice
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


def sample_findings(
    rng: np.random.Generator,
    normal: float = 0.28,
    kinds: Iterable[str] = (),
    counts: Sequence[float] = (0.40, 0.32, 0.18, 0.10),
) -> list[Finding]:
    """Findings of one made-up patient that do not contradict each other.

    An empty list with probability `normal`; else 1, 2, ... findings with the probabilities `counts`. Without `kinds`
    they are of the kinds that have phrases, by their weights; given `kinds` are equally likely, in any place.
    """
    if rng.random() < normal:
        return []
    names = list(kinds) or list(PHRASES)
    weights = np.array([1.0 if kinds else PHRASES[name].weight for name in names])
    count = 1 + int(rng.choice(len(counts), p=counts))
    out: list[Finding] = []
    for name in rng.choice(names, size=min(len(names), 12), replace=False, p=weights / weights.sum()):
        taken = {finding.name for finding in out}
        if len(out) < count and not any(name in group and taken & group for group in EXCLUSIVE):
            out.append(sample_finding(str(name), rng, phrased=not kinds))
    return out


def sample_finding(name: str, rng: np.random.Generator, phrased: bool = True) -> Finding:
    """A finding of a kind with a random side, place and severity; `phrased`: only one that the phrases can express."""
    kind = KINDS[name]
    phrases = PHRASES.get(name) if phrased else None
    phrases = phrases or Phrases("", 0, (), "", places=("", *kind.places), bilateral=0.2)
    place, severity, side = (str(rng.choice(choices)) for choices in (phrases.places, phrases.grades, phrases.sides))
    if rng.random() < phrases.bilateral:
        side = "bilateral"
    return Finding(name, (IMPLIED_SIDE.get(place) or side) if kind.side else "", place, severity)


def _fill(phrase: str, finding: Finding) -> str:
    """The sentence of a finding: its side, place and severity inserted into a phrase."""
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
    if both:  # the plural has no article
        text = re.sub(r"\b[Aa]~ ", "", text)
        text = re.sub(r"^There is (\w+ )?(?=bilateral pleural effusions)", r"There are \1", text)
    text = re.sub(r"\b([Aa])~(?= [aeiou])", r"\1n", text).replace("~", "")
    return text[:1].upper() + text[1:]


def write_report(
    findings: Iterable[Finding],
    rng: np.random.Generator | None,
    known: Mapping[str, Phrases] = PHRASES,
    normal: Collection[str] = NORMAL,
) -> tuple[str, str]:
    """FINDINGS and IMPRESSION of a report; findings without phrases in `known` are not mentioned.

    `rng` draws the reader and the wording; without it the first reader writes, always in the same words. Normal
    sentences are of the topics in `normal` only. A finding is never denied beside itself.
    """
    findings = [finding for finding in findings if finding.name in known]
    readers = LANGUAGE["readers"]
    reader = int(rng.choice(len(readers), p=[reader["share"] for reader in readers])) if rng else 0

    def prefer(phrases: Sequence[str]) -> str:
        usual = rng is None or rng.random() < HABIT
        return phrases[reader if usual else int(rng.integers(len(phrases)))]

    names = {finding.name for finding in findings}
    in_lungs = any(known[name].topic == "lungs" for name in names)
    sentences = []
    for topic in readers[reader]["order"]:
        here = [finding for finding in findings if known[finding.name].topic == topic]
        sentences += [_fill(prefer(known[finding.name].say), finding) for finding in here]
        if topic not in normal:
            continue
        if topic == "pleura":  # a finding of the pair leaves the other one to be denied
            left = [phrases for name, phrases in LANGUAGE["denied"].items() if name in names]
            pair = names.issuperset(LANGUAGE["denies"][topic])
            sentences += [prefer(phrases) for phrases in left or [LANGUAGE["normal"][topic]] if not pair]
        elif not here:
            sentences.append(prefer(LANGUAGE["normal"][topic]))
        if rng and topic == "heart" and "vascularity" in normal and rng.random() < 0.15 and not in_lungs:
            sentences.append(LANGUAGE["vascularity"])
    summary = [_fill(known[finding.name].impression, finding) for finding in findings]
    summary = list(dict.fromkeys(text for text in summary if text)) or [prefer(LANGUAGE["no_acute"])]
    numbered = [f"{i}. {text}" for i, text in enumerate(summary, 1)] if len(summary) > 1 else summary
    return " ".join(sentences), " ".join(numbered)


def write_labelled(names: Iterable[str], labelled: Collection[str]) -> tuple[str, str]:
    """FINDINGS and IMPRESSION of a study of which only the `names` of its findings are known, keys of `UNQUALIFIED`.

    No side, place or severity is stated, and the same names make the same report: wording that no image decides would
    only be noise for a model to learn. `labelled` are the findings that the source labels in any study: beside a
    finding, only what the source would have labelled is denied. A study without findings was called normal.
    """
    names = list(names)
    normal = [topic for topic, denied in LANGUAGE["denies"].items() if not names or set(denied) <= set(labelled)]
    return write_report(map(Finding, names), None, UNQUALIFIED, normal)


def read_report(text: str) -> list[Finding]:
    """The inverse of `write_report`: the findings that the sentences of FINDINGS report, each once, in their order.

    Only sentences made of our phrases are understood. A normal sentence reports no finding, nor does one that lost a
    word to "xxxx" or `<unk>`.
    """
    reported = (_sentence_table().get(_plain(sentence)) for sentence in text.split("."))
    return list(dict.fromkeys(finding for finding in reported if finding))


@cache
def _sentence_table() -> dict[str, Finding]:
    """Plain sentence -> the finding it reports, for every sentence of `sample_findings` and of `UNQUALIFIED`.

    A sentence that does not state the severity belongs to several findings; it reads as the one without severity.
    """
    out: dict[str, Finding] = {}
    for name, phrases in PHRASES.items():
        sides = [*phrases.sides, *(["bilateral"] if phrases.bilateral else [])] if KINDS[name].side else [""]
        for place, side, severity in product(phrases.places, sides, phrases.grades):
            finding = Finding(name, side and IMPLIED_SIDE.get(place, side), place, severity)
            for phrase in phrases.say:
                out.setdefault(_plain(_fill(phrase, finding)), finding)
    for name, phrases in UNQUALIFIED.items():
        for phrase in phrases.say:
            out.setdefault(_plain(phrase), Finding(name))
    return out


def _plain(sentence: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", "", sentence.lower()).split())


def agreement(true: Sequence[Iterable[Finding]], reported: Sequence[Iterable[Finding]]) -> dict[str, float]:
    """How the reported findings of studies agree with the true ones; in a study every name counts once.

    recall       share of the true findings that are reported
    false        share of the reported findings that are not true
    laterality   share of rightly reported findings with a laterality that have the correct one ("bilateral": both)
    n_true, n_reported, n_sided   the denominators of the three; a share of no findings is NaN
    """
    n_true = n_reported = n_right = n_sided = n_correct = 0
    for truth, said in zip(map(_sides, true), map(_sides, reported), strict=True):
        right = truth.keys() & said.keys()
        sided = [name for name in right if truth[name]]
        n_true, n_reported, n_right = n_true + len(truth), n_reported + len(said), n_right + len(right)
        n_sided, n_correct = n_sided + len(sided), n_correct + sum(truth[name] == said[name] for name in sided)
    return {
        "recall": n_right / n_true if n_true else math.nan,
        "false": (n_reported - n_right) / n_reported if n_reported else math.nan,
        "laterality": n_correct / n_sided if n_sided else math.nan,
        "n_true": n_true,
        "n_reported": n_reported,
        "n_sided": n_sided,
    }


def _sides(findings: Iterable[Finding]) -> dict[str, set[str]]:
    """Name of every finding -> its sides; "bilateral" is left and right."""
    out: dict[str, set[str]] = {}
    for finding in findings:
        sides = ("left", "right") if finding.side == "bilateral" else (finding.side,)
        out.setdefault(finding.name, set()).update(side for side in sides if side)
    return out
