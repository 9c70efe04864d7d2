"""Laws of the knowledge graph: counts are counted, order and negated findings change nothing, the file is the graph."""

import json
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle.clinical import labels, phrasing
from medcap_paddle.clinical.findings import KINDS
from medcap_paddle.drawing import graph as drawing
from medcap_paddle.knowledge import graph
from medcap_paddle.knowledge.graph import GraphSettings, Triple
from medcap_paddle.runtime.files import MedcapError

# a sentence, and what it says: observations and triples, written by hand
SAID = {
    "small left pleural effusion": (
        ["Pleural Effusion"],
        ["small modify Pleural Effusion", "left modify Pleural Effusion", "Pleural Effusion located_at pleura"],
    ),
    "streaky opacities in the right base suggesting atelectasis": (
        ["Lung Opacity", "Atelectasis"],
        [
            *("streaky modify Lung Opacity", "right modify Lung Opacity", "Lung Opacity located_at base"),
            "Lung Opacity suggestive_of Atelectasis",
        ],
    ),
    "pneumonia": (["Pneumonia"], []),
    "mild cardiomegaly and left pneumothorax": (
        ["Cardiomegaly", "Pneumothorax"],
        ["mild modify Cardiomegaly", "left modify Pneumothorax"],
    ),
    "there are degenerative changes of the spine": (
        ["degenerative spine"],
        ["degenerative spine located_at spine"],
    ),
    "the lungs are clear": ([], []),
    "no focal consolidation": ([], []),
    "no left pleural effusion or right pneumothorax": ([], []),
    "heart size is normal without edema": ([], []),
}
ALL = GraphSettings(minimum=1, lift=0)
reports = st.lists(st.lists(st.sampled_from([*SAID]), max_size=4).map(lambda s: " . ".join([*s, ""])), max_size=12)


def table(texts, split="train"):
    return pd.DataFrame({"study_id": [f"S{i}" for i in range(len(texts))], "split": split, "report": list(texts)})


def triple(text):
    """ "mild modify Pleural Effusion": the relation is the word of `RELATIONS`."""
    [relation] = set(text.split()) & set(graph.RELATIONS)
    head, tail = text.split(f" {relation} ")
    return Triple(head, relation, tail)


def by_hand(report):
    """Observations and triples of a report, from `SAID` alone."""
    said = [SAID[part.strip()] for part in report.split(" . ") if part.strip()]
    observations = {name for names, _ in said for name in names}
    pairs = {Triple(a, "co_occurs", b) for a, b in combinations(sorted(observations), 2)}
    return observations, pairs | {triple(text) for _, triples in said for text in triples}


def made(texts=(), settings=ALL):
    return graph.mine(table(texts or [" . ".join(SAID)]), settings)


def everything(report):
    return graph.observations_of(report), set(graph.triples_of(report))


# One report -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentence", SAID)
def test_a_sentence_says_what_a_reader_reads(sentence):
    assert everything(sentence) == by_hand(sentence)


@pytest.mark.parametrize(
    "report",
    [
        "no small left pleural effusion .",
        "opacities are absent in the right base .",
        "no evidence of pulmonary edema . the left lung has no calcified granuloma .",
        "no focal opacity suggesting pneumonia .",
        "there is no scoliosis of the spine .",
    ],
)
def test_a_negated_finding_makes_no_relation(report):
    assert everything(report) == (frozenset(), set())


@pytest.mark.parametrize("report", ["opacity not consistent with pneumonia .", "opacity without edema suggesting it ."])
def test_a_denied_suggestion_is_none(report):
    assert "suggestive_of" not in {triple.relation for triple in graph.triples_of(report)}


def test_a_negated_finding_suggests_nothing_and_is_not_suggested():
    assert graph.triples_of("no apical pneumothorax there is evidence suggesting atelectasis .") == ()
    told = [t for t in graph.triples_of("opacity suggesting atelectasis without pneumonia .") if "co" not in t.relation]
    assert told == [triple("Lung Opacity suggestive_of Atelectasis")]


def test_a_negated_finding_takes_its_words_with_it():
    """ "right" is of the denied pneumothorax, although the effusion is in the same sentence."""
    triples = graph.triples_of("small effusion but no right pneumothorax .")
    assert triples == (Triple("small", "modify", "Pleural Effusion"),)


@given(reports)
def test_the_observations_are_those_of_the_labeller(texts):
    for text, row in zip(texts, labels.label(texts), strict=True):
        known = {name for name, value in zip(labels.OBSERVATIONS[:-1], row[:-1], strict=True) if value}
        assert known == graph.observations_of(text) & set(labels.OBSERVATIONS)


def test_so_they_are_on_all_phrases_of_the_phantom():
    """And the sentences are those that the labeller reads: this room has its own, with all words."""
    rng, vocabulary = np.random.default_rng(0), labels.vocabulary()
    texts = [" ".join(phrasing.write_report(phrasing.sample_findings(rng), rng)) for _ in range(200)]
    texts += ["L: effusion: none; 2.5 cm mass - no edema. Heart: normal, lungs: clear. It's <b>not seen</b>, edema"]
    for text, row in zip(texts, labels.label(texts), strict=True):
        known = {name for name, value in zip(labels.OBSERVATIONS[:-1], row[:-1], strict=True) if value}
        assert known == graph.observations_of(text) & set(labels.OBSERVATIONS)
        masked = [" ".join(w if w in vocabulary else "x" for w in s.split()) for s in graph.sentences(text)]
        assert masked == labels.sentences(text)


def test_every_entity_has_one_kind():
    names = [*graph.ANATOMY, *graph.MODIFIERS, *labels.OBSERVATIONS[:-1], *graph.OBSERVATIONS]
    assert sorted(names) == sorted(graph.KIND) and set(graph.KIND.values()) == set(drawing.ENTITIES)
    assert set(graph.OBSERVATIONS) <= set(KINDS) and set(drawing.STYLES) == set(graph.RELATIONS)


# Many reports ---------------------------------------------------------------------------------------------------------


@given(reports, st.integers(1, 3), st.sampled_from([0.0, 1.0, 1.5]))
def test_counts_are_those_of_a_count_by_hand(texts, minimum, lift):
    read = [by_hand(text) for text in texts]
    entities = Counter(n for seen, ts in read for n in seen | {e for t in ts for e in (t.head, t.tail)})
    relations = Counter(t for _, triples in read for t in triples)
    often = {t: n for t, n in relations.items() if n >= minimum}
    kept = {
        t: n
        for t, n in often.items()
        if t.relation != "co_occurs" or n * len(texts) / (entities[t.head] * entities[t.tail]) >= lift
    }
    mined = graph.mine(table(texts), GraphSettings(minimum, lift))
    assert mined.reports == len(texts) and mined.relations == kept
    assert mined.entities == {name: n for name, n in entities.items() if n >= minimum}
    dropped = len(entities) - len(mined.entities), len(relations) - len(often), len(often) - len(kept)
    assert tuple(mined.left_out.values()) == dropped, "what is left out is counted"


@given(reports, st.randoms())
def test_the_order_of_the_reports_changes_nothing(tmp_path_factory, texts, random):
    shuffled = random.sample(texts, len(texts))
    files = [tmp_path_factory.mktemp("graph") / "graph.json" for _ in range(2)]
    for file, some in zip(files, (texts, shuffled), strict=True):
        graph.save(file, graph.mine(table(some), ALL))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_other_splits_are_refused(studies):
    both = pd.concat([table([*SAID]), table([*SAID], "test")])
    with pytest.raises(MedcapError, match="train only, not from test"):
        graph.mine(both)
    with pytest.raises(MedcapError, match="train only, not from val"):
        graph.specific(_with(studies[1], table=studies[1].table.assign(split="val")), np.zeros([1, 1], int))


def test_specific_knowledge_is_that_of_the_neighbours(studies):
    train = studies[0]
    rows = np.array([[0, 1, 2], [5, 5, 5]])
    for own, told in zip(rows, graph.specific(train, rows), strict=True):
        every = [graph.triples_of(train.table.report.iloc[row]) for row in own]
        assert told == Counter(triple for triples in every for triple in triples)
        assert list(told.values()) == sorted(told.values(), reverse=True) and set(told.values()) <= {1, 2, 3}


def _with(studies, **changes):
    from dataclasses import replace

    return replace(studies, **changes)


# The graph ------------------------------------------------------------------------------------------------------------


@given(reports)
def test_the_file_gives_the_graph_back(tmp_path_factory, texts):
    mined, file = made(texts), tmp_path_factory.mktemp("graph") / "graph.json"
    graph.save(file, mined)
    again = graph.load(file)
    assert again == mined
    assert list(again.relations) == list(mined.relations) and list(again.entities) == list(mined.entities)
    assert all(isinstance(t, Triple) for t in again.relations)


def test_a_file_that_is_none_is_refused(tmp_path):
    from medcap_paddle.runtime.files import write_sealed

    file = tmp_path / "graph.json"
    with pytest.raises(MedcapError, match="run 31_graph.ipynb"):
        graph.load(file)
    graph.save(file, made())
    content = json.loads(file.read_text())
    file.write_text(file.read_text().replace('"reports": 1', '"reports": 2'))
    with pytest.raises(MedcapError, match="damaged.*run 31"):
        graph.load(file)
    del content["digest"]
    for part, wrong in (("entities", {"anatomy": {"tail": 3}}), ("entities", {}), ("relations", None)):
        write_sealed(file, content | {part: wrong})
        with pytest.raises(MedcapError, match="no graph of this version"):
            graph.load(file)


@given(reports)
def test_the_adjacency_is_symmetric_and_normalised(texts):
    mined = made(texts)
    a, names = graph.adjacency(mined).toarray(), [*mined.entities]
    assert a.shape == (len(names),) * 2 and np.array_equal(a, a.T)
    joined = {frozenset((t.head, t.tail)) for t in mined.relations}
    degree = {name: sum(name in pair for pair in joined) for name in names}
    for i, one in enumerate(names):
        assert a[i].any() == (degree[one] > 0), "the row of an isolated entity is zero"
        for j, other in enumerate(names):
            expected = (degree[one] * degree[other]) ** -0.5 if {one, other} in joined else 0
            assert a[i, j] == pytest.approx(expected)


def test_the_table_has_every_relation_and_a_lift_of_pairs_only():
    mined = made()
    shown = graph.table(mined)
    assert {Triple(*row[:3]): row[3] for row in shown.itertuples(index=False)} == mined.relations
    assert (shown.lift.notna() == (shown.relation == "co_occurs")).all()
    assert shown.relation.map(graph.RELATIONS.index).is_monotonic_increasing


def test_a_picture_names_its_entities_and_only_the_strongest():
    mined = made(["mild cardiomegaly", "mild cardiomegaly", "small left pleural effusion"])
    triples = drawing.strongest(mined, 1)
    assert triples == [triple("Pleural Effusion located_at pleura"), triple("mild modify Cardiomegaly")]
    texts = {text.get_text() for text in drawing.draw(mined, 1).axes[0].texts}
    assert texts == {"Pleural Effusion", "pleura", "mild", "Cardiomegaly"}
    assert not drawing.draw(graph.mine(table([]))).axes[0].texts
