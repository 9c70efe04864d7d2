"""General knowledge, a graph mined from train reports; specific knowledge, the triples of a study's neighbours.

    triples_of(report)             what one report says, as (head, relation, tail)
    mine(table, settings)          the graph of the train reports
    save(path, graph), load(path)  a JSON of counts, sorted; written by notebook 31
    specific(train, rows)          the triples of retrieved reports (`retrieval.Index.search`), for each study
    adjacency(graph)               [N, N] of scipy, for a graph convolution

Entities are observations (the 13 of `clinical.labels`, and kinds of `clinical.findings` that it does not label),
anatomy and modifiers. Relations:

    located_at      observation -> anatomy      in one sentence
    modify          modifier -> observation     in one sentence
    suggestive_of   observation -> observation  in one sentence, with words such as "suggesting" between them
    co_occurs       two observations            in one report; the head is the first by name

The names of the first three follow RadGraph (Jain et al., NeurIPS Datasets and Benchmarks 2021), whose annotated data
is not used here: ours come from rules. spaCy finds the phrases and negspacy the negated ones, as in `clinical.labels`;
a negated observation makes no relation, and takes the words that belong to it with it. A modifier or a place belongs
to one observation, that of the least `_cost`. A count is a number of reports.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..clinical import labels
from ..clinical.plain import plain
from ..dataset import Studies
from ..runtime.files import MedcapError, read_sealed, write_sealed

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_array
    from spacy.language import Language
    from spacy.tokens import Span

# Phrases are written as in labels.json: "|" separates choices of a word, "..." skips up to four words.
OBSERVATIONS = {  # by their names in `findings.KINDS`
    "aortic calcification": ["atherosclerosis|atherosclerotic", "aortic|aorta|arch ... calcification|calcifications"],
    "bulla": ["bulla|bullae|bullous"],
    "calcified granuloma": ["granuloma|granulomas|granulomata"],
    "calcified lymph nodes": ["calcified ... node|nodes"],
    "degenerative spine": ["degenerative"],
    "elevated diaphragm": ["elevated|elevation ... diaphragm|hemidiaphragm", "diaphragm|hemidiaphragm ... elevated"],
    "eventration": ["eventration"],
    "emphysema": ["emphysema|emphysematous"],
    "flattened diaphragm": ["flattened|flattening ... diaphragm|diaphragms|hemidiaphragm|hemidiaphragms"],
    "granulomatous disease": ["granulomatous change|changes|disease|process"],
    "hiatal hernia": ["hiatal|hiatus hernia"],
    "hyperinflation": ["hyperaerated|hyperexpanded|hyperexpansion|hyperinflated|hyperinflation"],
    "kyphosis": ["kyphosis|kyphotic"],
    "low lung volumes": ["low lung|inspiratory volume|volumes", "low volumes", "hypoinflated|hypoinflation"],
    "obstructive disease": ["copd", "obstructive lung|pulmonary disease"],
    "osteopenia": ["osteopenia|osteopenic|osteoporosis|osteoporotic|demineralization"],
    "osteophytes": ["osteophyte|osteophytes|osteophytic|osteophytosis|spurring"],
    "scoliosis": ["scoliosis|dextroscoliosis|levoscoliosis|dextrocurvature|levocurvature"],
    "spondylosis": ["spondylosis"],
    "subcutaneous emphysema": ["subcutaneous air|emphysema"],
    "surgical clips": ["clip|clips"],
    "tortuous aorta": ["tortuous|tortuosity|ectatic|ectasia"],
    "vertebral deformity": ["compression|vertebral|wedge deformities|deformity", "wedging"],
}
ANATOMY = {
    "abdomen": ["abdomen|abdominal"],
    "aorta": ["aorta|aortic", "aortic arch|knob"],
    "apex": ["apex|apices|apical|biapical", "lung apex|apices"],
    "base": ["base|bases|basal|basilar|bibasal|bibasilar", "lung base|bases"],
    "carina": ["carina"],
    "chest wall": ["chest wall", "axilla|axillary"],
    "clavicle": ["clavicle|clavicles|clavicular"],
    "costophrenic angle": ["costophrenic angle|angles|sulcus|sulci"],
    "diaphragm": ["diaphragm|diaphragms|hemidiaphragm|hemidiaphragms"],
    "fissure": ["fissure|fissures"],
    "heart": ["heart|cardiac"],
    "hilum": ["hilum|hila|hilar|infrahilar|perihilar|suprahilar"],
    "lingula": ["lingula|lingular"],
    "lower lobe": ["lower lobe|lobes|lung|lungs"],
    "lung": ["lung|lungs"],
    "mediastinum": ["mediastinum|mediastinal"],
    "middle lobe": ["middle lobe"],
    "midlung": ["mid lung|lungs", "midlung"],
    "pleura": ["pleura|pleural"],
    "retrocardiac": ["retrocardiac"],
    "rib": ["rib|ribs"],
    "right atrium": ["right atrium", "atrial"],
    "shoulder": ["shoulder|shoulders|humerus|humeral"],
    "spine": ["spine|spinal|vertebra|vertebrae|vertebral", "thoracic|thoracolumbar spine"],
    "sternum": ["sternum|sternal|sternotomy"],
    "superior vena cava": ["svc", "superior vena cava"],
    "trachea": ["trachea|tracheal"],
    "upper lobe": ["upper lobe|lobes|lung|lungs"],
}
MODIFIERS = {
    "acute": ["acute"],
    "bilateral": ["bilateral|bilaterally"],
    "calcified": ["calcified"],
    "chronic": ["chronic|old|remote|healed"],
    "dense": ["dense"],
    "diffuse": ["diffuse|diffusely"],
    "focal": ["focal"],
    "hazy": ["hazy"],
    "interstitial": ["interstitial"],
    "large": ["large"],
    "left": ["left"],
    "linear": ["linear"],
    "mild": ["mild|mildly|minimal|minimally|slight|slightly"],
    "moderate": ["moderate|moderately"],
    "multiple": ["multiple|multifocal|scattered"],
    "patchy": ["patchy"],
    "right": ["right"],
    "severe": ["severe|severely|marked|markedly"],
    "small": ["small|tiny|trace"],
    "stable": ["stable|unchanged"],
    "streaky": ["streaky"],
    "subsegmental": ["subsegmental"],
}
CUES = [
    *("suggest|suggests|suggesting|suggestive", "compatible|consistent with", "concerning|suspicious|worrisome for"),
    *("represent|represents|representing", "reflect|reflects|reflecting", "due|secondary to"),
]
CUE = "cue"  # its label among the spans
DENIED = {"no", "nor", "not", "without"}  # before a cue: negspacy ends a negation at the "with" of "consistent with"
KIND = {  # what an entity is
    **dict.fromkeys(ANATOMY, "anatomy"),
    **dict.fromkeys(MODIFIERS, "modifier"),
    **dict.fromkeys((*labels.OBSERVATIONS[:-1], *OBSERVATIONS), "observation"),
}
RELATIONS = ("located_at", "modify", "suggestive_of", "co_occurs")
FARTHEST = 8  # the greatest cost at which words belong together
BACK, JOINED = 2, 5  # English puts its adjectives first; "and" and a cue begin another phrase
JOINTS = {"and", "but", "or", "with"}


class Triple(NamedTuple):
    head: str
    relation: str  # one of RELATIONS
    tail: str


@dataclass(frozen=True)
class GraphSettings:
    minimum: int = 5  # reports that an entity and a relation need
    lift: float = 1.2  # what a pair that co-occurs needs: how often together, against chance


@dataclass(frozen=True)
class Graph:
    reports: int  # that were read
    entities: dict[str, int]  # name -> reports, in the order of names
    relations: dict[Triple, int]  # -> reports, in their order
    left_out: dict[str, int]  # reason -> entities or relations

    def lift(self, triple: Triple) -> float:
        """Of a pair that co-occurs: reports with both, over what there would be if they were independent."""
        return self.relations[triple] * self.reports / (self.entities[triple.head] * self.entities[triple.tail])


# one report -----------------------------------------------------------------------------------------------------------


@cache
def _pipeline() -> Language:
    """That of `labels`, with our observations among its entities, and the rest as spans, which may lie within them."""
    import spacy
    from negspacy.negation import Negex  # noqa: F401  (its import registers "negex")
    from spacy.tokenizer import Tokenizer

    data, nlp = labels.knowledge(), spacy.blank("en")
    nlp.tokenizer, nlp.max_length = Tokenizer(nlp.vocab), 10**9  # as there
    nlp.add_pipe("sentencizer")
    phrases = {**data["phrases"], "none": data["none"], **OBSERVATIONS}
    nlp.add_pipe("entity_ruler").add_patterns([*labels.patterns(phrases, data["blocks"])])
    nlp.add_pipe("negex", config={"neg_termset": data["negation"]})
    longest = {"@misc": "spacy.first_longest_spans_filter.v1"}
    ruler = nlp.add_pipe("span_ruler", config={"spans_key": "words", "spans_filter": longest})
    ruler.add_patterns([*labels.patterns({**ANATOMY, **MODIFIERS, CUE: CUES}, data["blocks"])])
    return nlp


def sentences(text: str) -> list[str]:
    """Those of `labels.sentences`, with all their words."""
    text = re.sub("['\u2019]", "", plain(text.replace("\n\n", " . ")).lower())
    for pattern, instead in labels._MARKS:
        text = pattern.sub(instead, text)
    return [" ".join(re.findall("[a-z]+", part)) for part in labels._END.split(text)]


def _names(span: Span) -> list[str]:
    return [name for name in span.label_.split(" + ") if name in KIND]


def _cost(words: Span, observation: Span) -> int:
    """How far words are from an observation, in words; 0 where they overlap."""
    first, second = sorted((words, observation), key=lambda span: (span.start, span.end))
    between = [token.text for token in words.doc[first.end : max(first.end, second.start)]]
    back = BACK * (observation.end <= words.start)
    cues = [c for c in words.doc.spans["words"] if c.label_ == CUE and first.end <= c.start and c.end <= second.start]
    return len(between) + back + JOINED * (len(JOINTS & set(between)) + len(cues))


@lru_cache(maxsize=100_000)  # reports say the same sentences again and again
def _said(sentence: str) -> tuple[frozenset[str], frozenset[Triple]]:
    """Observations that one sentence affirms or leaves open, and its triples."""
    doc, triples = _pipeline()(sentence), set()
    observations = [span for span in doc.ents if _names(span)]
    cues = [span for span in doc.spans["words"] if span.label_ == CUE]
    for words in doc.spans["words"]:
        nearest = min(observations, key=lambda span: (_cost(words, span), -span.start), default=None)
        if words in cues or nearest is None or nearest._.negex or _cost(words, nearest) > FARTHEST:
            continue
        located = KIND[words.label_] == "anatomy"
        for name in _names(nearest):
            triples.add(Triple(name, RELATIONS[0], words.label_) if located else Triple(words.label_, "modify", name))
    for cue, after in pairwise([*cues, None]):
        if not DENIED & {token.text for token in doc[max(0, cue.start - 3) : cue.start]}:
            triples |= _suggested(observations, cue.start, after.start if after else len(doc))
    present = frozenset(name for span in observations if not span._.negex for name in _names(span))
    return present, frozenset(triples)


def _suggested(observations: Sequence[Span], cue: int, end: int) -> set[Triple]:
    """The last observation before word `cue`, suggestive of each from there to word `end`; none is negated."""
    before = [span for span in observations if span.end <= cue][-1:]
    after = [span for span in observations if cue <= span.start < end]
    pairs = [(a, b) for a in before for b in after if not (a._.negex or b._.negex)]
    names = [(head, tail) for a, b in pairs for head in _names(a) for tail in _names(b)]
    return {Triple(head, "suggestive_of", tail) for head, tail in names if head != tail}


def observations_of(report: str) -> frozenset[str]:
    """The observations that a report affirms or leaves open."""
    return frozenset().union(*(_said(sentence)[0] for sentence in sentences(report)))


def triples_of(report: str) -> tuple[Triple, ...]:
    """The triples of a report, raw or cleaned, in their order."""
    triples = set().union(*(_said(sentence)[1] for sentence in sentences(report)))
    pairs = combinations(sorted(observations_of(report)), 2)
    return tuple(sorted(triples | {Triple(a, "co_occurs", b) for a, b in pairs}))


# many reports ---------------------------------------------------------------------------------------------------------


def _train_reports(table: pd.DataFrame) -> list[str]:
    if other := set(table.get("split", ())) - {"train"}:
        raise MedcapError(f"knowledge is mined from train only, not from {', '.join(sorted(other))}: leave these out")
    return list(table.report)


def mine(table: pd.DataFrame, settings: GraphSettings = GraphSettings()) -> Graph:
    """The graph of a table of train studies (`report`). MedcapError where it has studies of another split."""
    reports = _train_reports(table)
    entities, relations = Counter(), Counter()
    for report in reports:
        triples = triples_of(report)
        ends = {name for triple in triples for name in (triple.head, triple.tail)}
        entities.update(ends | observations_of(report))
        relations.update(triples)
    known = {name: count for name, count in sorted(entities.items()) if count >= settings.minimum}
    often = {t: n for t, n in sorted(relations.items()) if n >= settings.minimum}  # so are both its ends
    whole = Graph(len(reports), known, often, {})
    kept = {t: n for t, n in often.items() if t.relation != "co_occurs" or whole.lift(t) >= settings.lift}
    left_out = {
        f"entities in fewer than {settings.minimum} reports": len(entities) - len(known),
        f"relations in fewer than {settings.minimum} reports": len(relations) - len(often),
        f"pairs with a lift below {settings.lift}": len(often) - len(kept),
    }
    return Graph(len(reports), known, kept, left_out)


def specific(train: Studies, rows: np.ndarray) -> list[dict[Triple, int]]:
    """For each study the triples of its train reports `rows` [n, k], with how many of the k say it, most first."""
    reports = _train_reports(train.table)
    counts = (Counter(triple for row in own for triple in triples_of(reports[row])) for own in rows)
    return [dict(sorted(count.items(), key=lambda item: (-item[1], item[0]))) for count in counts]


def table(graph: Graph) -> pd.DataFrame:
    """A row a relation: head, relation, tail, reports, lift (of pairs, else NaN); by relation, most reports first."""
    import pandas as pd

    order = sorted(graph.relations.items(), key=lambda item: (RELATIONS.index(item[0].relation), -item[1], item[0]))
    rows = [(*t, count, graph.lift(t) if t.relation == "co_occurs" else np.nan) for t, count in order]
    return pd.DataFrame(rows, columns=["head", "relation", "tail", "reports", "lift"])


def adjacency(graph: Graph) -> csr_array:
    """D^-1/2 A D^-1/2 of the undirected graph [N, N] float32, entities in their order; an isolated one has a row of 0.

    A is 1 where any relation joins two entities: counts would let the commonest rule the rest. Kipf and Welling (ICLR
    2017, section 2) also add the identity to A, which a layer with a weight of its own for the node itself replaces.
    """
    from scipy.sparse import csr_array, diags_array

    place = {name: i for i, name in enumerate(graph.entities)}
    ends = {(place[a], place[b]) for triple in graph.relations for a, b in _both_ways(triple)}
    at = np.array(sorted(ends), int).reshape(-1, 2).T
    joined = csr_array((np.ones(at.shape[1]), (at[0], at[1])), [len(place)] * 2)
    degree = joined.sum(1)
    scale = diags_array(np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0))
    return csr_array(scale @ joined @ scale, dtype="float32")


def _both_ways(triple: Triple) -> Iterable[tuple[str, str]]:
    return (triple.head, triple.tail), (triple.tail, triple.head)


# its file -------------------------------------------------------------------------------------------------------------


def save(path: str | Path, graph: Graph) -> None:
    """Counts by name: reports; entities by kind; relations as relation, head, tail; left_out by reason."""
    entities: dict = {kind: {} for kind in sorted(set(KIND.values()))}
    relations: dict = {relation: {} for relation in RELATIONS}
    for name, count in graph.entities.items():
        entities[KIND[name]][name] = count
    for (head, relation, tail), count in graph.relations.items():
        relations[relation].setdefault(head, {})[tail] = count
    write_sealed(path, {**vars(graph), "entities": entities, "relations": relations})


def load(path: str | Path) -> Graph:
    """What `save` wrote, equal. MedcapError where the file is missing, damaged, or of other entities than ours."""
    content = read_sealed(path, "run 31_graph.ipynb")
    try:
        entities = {name: n for names in content["entities"].values() for name, n in names.items()}
        by_relation = content["relations"].items()
        relations = {Triple(h, r, t): n for r, heads in by_relation for h, ts in heads.items() for t, n in ts.items()}
        if odd := {*entities} - {*KIND} or {end for t in relations for end in (t.head, t.tail)} - {*entities}:
            raise ValueError(f"it has the entity {min(odd)!r}")
        ordered = dict(sorted(entities.items())), dict(sorted(relations.items()))
        return Graph(content["reports"], *ordered, content["left_out"])
    except (KeyError, AttributeError, ValueError) as error:
        raise MedcapError(f"{path} is no graph of this version ({error}): run 31_graph.ipynb") from error
