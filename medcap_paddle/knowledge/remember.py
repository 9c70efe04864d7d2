"""From train studies and the graph to what a decoder may know of any study: see `models.memory`.

A linear model on the vectors says, for each entity of the graph, whether the report tells it. Its threshold is the one
with the best F1 on train, out of fold. Written by notebook 32, and by

    python -m medcap_paddle.knowledge WORK
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from .. import dataset, feature_file
from .. import vocab as vocabulary
from ..config import Config
from ..dataset import Studies
from ..feature_file import POOLED
from ..models.memory import FILE, Memory, fingerprint
from ..runtime.files import MedcapError, lock
from ..vision import probe
from . import template
from .graph import RELATIONS, Graph, GraphSettings, mine, observations_of, save, triples_of
from .retrieval import Index, RetrievalSettings, patients, vectors

NEIGHBOURS = 10
STRENGTHS = (probe.STRENGTH, probe.WEAK)  # of the linear model; many numbers of few studies want the second


def told(reports: Sequence[str], entities: Sequence[str]) -> np.ndarray:
    """Which entities each report tells, affirmed or left open: 0 or 1 [n, N]."""
    out = np.zeros([len(reports), len(entities)], "uint8")
    for row, report in zip(out, reports, strict=True):
        said = observations_of(report) | {end for t in triples_of(report) for end in (t.head, t.tail)}
        row[:] = [entity in said for entity in entities]
    return out


def best_threshold(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The threshold of one entity with the best F1, and that F1; logits and truth [n]. Infinite where none is true.

    It lies half-way between two logits.
    """
    order = np.argsort(-logits, kind="stable")
    values, hits = logits[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + truth.sum())
    f1[:-1][values[:-1] == values[1:]] = 0  # between equal logits there is no threshold
    best = int(f1.argmax())
    if not f1[best]:
        return np.inf, 0.0
    after = values[best + 1] if best + 1 < len(values) else values[best] - 1
    return float((values[best] + after) / 2), float(f1[best])


def probed(train: Studies, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits out of fold [S, N], thresholds [N], and the strength of the linear model, the one of the best mean F1."""
    found, values = [], template.strongest(train, POOLED)
    for strength in STRENGTHS:
        logits = probe.out_of_fold(values, truth, patients(train), strength=strength)
        thresholds, f1 = np.array([best_threshold(*pair) for pair in zip(logits.T, truth.T, strict=True)]).T
        found.append((f1.mean(), logits, thresholds, strength))
    return max(found, key=lambda one: one[0])[1:]


def remember(train: Studies, graph: Graph, content: str, words: Container[str], neighbours: int = NEIGHBOURS) -> Memory:
    """`content` is the digest of the features, `words` the vocabulary. MedcapError where the graph is empty or another
    split is given.
    """
    if not graph.relations:
        raise MedcapError(f"no relation is in enough of {graph.reports} train reports: take more reports")
    entities, reports = [*graph.entities], list(train.table.report)
    index, truth = Index.of(train, RetrievalSettings()), told(reports, entities)
    logits, thresholds, strength = probed(train, truth)
    weight, bias = probe.coefficients(template.strongest(train, POOLED), truth, strength)
    near = index.search(train, min(neighbours, len(train) - 1))
    says = np.array([[triple in own for triple in graph.relations] for own in map(set, map(triples_of, reports))])
    place = {name: k for k, name in enumerate(entities)}
    relations = [(place[t.head], RELATIONS.index(t.relation), place[t.tail]) for t in graph.relations]
    numbers = {
        **{"weight": weight, "bias": bias, "threshold": thresholds, "logit": logits, "share": says[near].mean(1)},
        **{"mean": index.mean, "deviation": index.deviation, "vectors": index.prepared(vectors(train))},
    }
    tensors = {name: np.ascontiguousarray(values, "float32") for name, values in numbers.items()}
    tensors |= {"says": says.astype("uint8"), "told": truth, "relations": np.array(relations, "int32")}
    facts = {"studies": list(train.table.study_id), "entities": entities, "drafts": drafts(train, words)}
    return Memory(
        tensors, {**facts, "neighbours": near.shape[1], "features": content, "reports": fingerprint(train.table)}
    )


def drafts(train: Studies, words: Container[str]) -> list[str]:
    """What the template writes for each train study, by logits out of fold, in `words` where a finding can be said in
    them; [] where train has no MeSH terms.
    """
    if not train.table.get("mesh", default="").str.strip().any():
        return []
    logits, reports = template.logits(train, train), list(train.table.report)
    threshold, _ = template.choose(lambda threshold: template.templates(logits, threshold), reports)
    texts = template.templates(logits, threshold)
    for k, row in enumerate(logits):
        for finding in template.detected(row, threshold):
            texts[k] = texts[k].replace(template.sentence(finding), template.wording(finding, words))
    return texts


def write(work: str | Path, settings: GraphSettings, neighbours: int = NEIGHBOURS) -> Memory:
    """knowledge.json and knowledge.safetensors of a work folder."""
    work = Path(work)
    content = feature_file.index(work / "features.h5").attributes["content"]
    vocab = vocabulary.load(work / "vocab.json")
    train = dataset.load(work, "train", vocab, Config())
    mined = mine(train.table, settings)
    with lock(work / FILE):
        save(work / "knowledge.json", mined)
        memory = remember(train, mined, content, set(vocabulary.tokens(vocab)), neighbours)
        memory.save(work)
    return memory


def describe(memory: Memory) -> str:
    """One line."""
    told, logit = memory.tensors["told"], memory.tensors["logit"]
    f1 = np.mean([best_threshold(*columns)[1] for columns in zip(logit.T, told.T, strict=True)])
    drafts = f"{len(set(memory.facts['drafts'])):,} different drafts" if memory.facts["drafts"] else "no drafts"
    shapes = "{:,} train reports, {} entities, {} relations".format(*told.shape, len(memory.tensors["relations"]))
    return f"{shapes}; {memory.facts['neighbours']} neighbours; entities told: mean F1 {f1:.3f}, out of fold; {drafts}"
