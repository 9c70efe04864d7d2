"""The Transformer that knows: it attends to a graph of findings, and to what the reports of similar studies say.

After Yang, Wu, Ge, Zhou and Xiao, "Knowledge matters: chest radiology report generation with general and specific
knowledge" (Medical Image Analysis 2022). What is known of a study are two inputs of one view each (see `memory`):

    nodes    [B, 1, N, 3] float32    a row an entity of the graph: LOGIT, DECIDED, TOLD
    triples  [B, 1, R, 4] float32    a row a relation of the graph: HEAD, RELATION, TAIL (numbers), SHARE
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ..loss import focal
from .decoder import FastBiasLinear, Inputs
from .memory import DECIDED, HEAD, LOGIT, RELATION, RELATIONS, SHARE, TAIL, TOLD
from .places import strongest
from .transformer import TransformerCaptioner

Rows = tuple[paddle.Tensor, paddle.Tensor]  # [B, M, E], and their mask [B, M]


class Entities(nn.Layer):
    """General knowledge: a vector for each of N entities, mixed once with those of its neighbours in the graph.

    E + relu(A E W), a graph convolution (Kipf and Welling, ICLR 2017, equation 2) beside the vector itself. A is small
    and dense here: N is about a hundred.
    """

    def __init__(self, entities: int, width: int):
        super().__init__()
        self.own = _vectors(self, entities, width, 0.5)
        self.mix = nn.Linear(width, width, bias_attr=False)
        self.register_buffer("adjacency", paddle.zeros([entities, entities]))

    def join(self, pairs: np.ndarray) -> None:
        """The pairs of entities [R, 2] that are neighbours: A = D^-1/2 (joined or not) D^-1/2."""
        joined = np.zeros(self.adjacency.shape)
        joined[pairs[:, 0], pairs[:, 1]] = joined[pairs[:, 1], pairs[:, 0]] = 1
        scale = np.maximum(joined.sum(0), 1) ** -0.5
        self.adjacency.set_value((scale[:, None] * joined * scale).astype("float32"))

    def forward(self) -> paddle.Tensor:
        return self.own + F.relu(self.mix(paddle.matmul(self.adjacency, self.own)))


class Known(nn.Layer):
    """Vectors of what is known, projected to rows to look at, and layer-normalised where that is wanted."""

    def __init__(self, given: int, width: int, normalise: bool):
        super().__init__()
        self.project = FastBiasLinear(given, width)
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()

    def forward(self, rows: paddle.Tensor) -> paddle.Tensor:
        return self.norm(self.project(rows))


class Nodes(nn.Layer):
    """What the image says of the entities: the likeliest `count` are rows to look at, all that are decided are a plan.

    A node is the vector of its entity, one more where it is decided that the report tells it, and one as long as its
    logit.
    """

    def __init__(self, entities: int, settings: KnowledgeTransformer.Settings):
        super().__init__()
        width, self.count = settings.width, min(settings.nodes, entities)
        self.present = _vectors(self, entities, width, 1.0)
        self.likely = _vectors(self, entities, width, 0.15)
        self.rows = Known(width, width, settings.normalise)
        self.plan = FastBiasLinear(width, width)
        self.register_buffer("deviation", paddle.ones([entities]))  # of the logits

    def forward(
        self, logit: paddle.Tensor, state: paddle.Tensor, entities: paddle.Tensor
    ) -> tuple[Rows, paddle.Tensor]:
        """logit and state [B, N], entities [N, E]: rows, and the plan [B, E]."""
        _, likeliest = paddle.topk(state + F.sigmoid(logit), self.count)
        own, present, likely = (F.embedding(likeliest, table) for table in (entities, self.present, self.likely))
        told, sure = (
            paddle.take_along_axis(values, likeliest, 1).unsqueeze(-1).expand_as(own)
            for values in (state, logit / self.deviation)
        )
        rows = self.rows(own + told * present + sure * likely)
        return (rows, paddle.ones(likeliest.shape)), self.plan(paddle.matmul(state, self.present))


class Triples(nn.Layer):
    """What similar studies say: the `count` triples that most of them have are rows to look at."""

    def __init__(self, relations: int, settings: KnowledgeTransformer.Settings):
        super().__init__()
        width, self.count = settings.width, min(settings.triples, relations)
        self.kinds = _vectors(self, RELATIONS, width, 0.5)
        self.often = _vectors(self, 1, width, 0.5)
        self.rows = Known(3 * width, width, settings.normalise)

    def forward(self, triples: paddle.Tensor, entities: paddle.Tensor) -> Rows:
        """triples [B, R, 4], entities [N, E]; a triple that no neighbour says is masked."""
        share, most = paddle.topk(triples[:, :, SHARE], self.count)
        head, kind, tail = (
            F.embedding(paddle.take_along_axis(triples[:, :, column], most, 1).round().astype("int64"), table)
            for column, table in ((HEAD, entities), (RELATION, self.kinds), (TAIL, entities))
        )
        rows = self.rows(paddle.concat([head, kind, tail], -1))
        return rows + paddle.matmul(share.unsqueeze(-1), self.often), (share > 0).astype("float32")


class KnowledgeTransformer(TransformerCaptioner):
    """General and specific knowledge stand beside the places of the images: each word looks at all of them at once.

    Whether an entity will be told is decided before the first word. In training it is known, from the report itself:
    the decoder learns to say what it is told to say. `told_dropout` is the share of train studies for which that is
    so; for the others, and for a study that is not of train, the image decides (see `memory`).
    """

    reads = ("pooled", "grid", "nodes", "triples")
    looks = ("nodes", "triples")  # at which of both
    parts = {**TransformerCaptioner.parts, "knowledge": ("entities", "nodes", "triples")}

    @dataclass(frozen=True)
    class Settings(TransformerCaptioner.Settings):
        nodes: int = 16  # entities to look at
        triples: int = 16  # triples to look at
        normalise: bool = True  # what is known, before it is looked at
        told_dropout: float = 1.0
        gamma: float = 2.0  # of the focal loss of the auxiliary head: see `training.auxiliary_weight`

    def __init__(self, settings: Settings, shapes: Mapping[str, tuple[int, ...]], vocab_size: int):
        super().__init__(settings, shapes, vocab_size)
        entities = shapes["nodes"][0]
        self.entities = Entities(entities, settings.width)
        self.nodes = Nodes(entities, settings) if "nodes" in self.looks else None
        self.triples = Triples(shapes["triples"][0], settings) if "triples" in self.looks else None
        self.findings = FastBiasLinear(settings.width, entities)

    def standardise(self, inputs: Mapping[str, list[np.ndarray]]) -> None:
        super().standardise(inputs)
        self.entities.join(inputs["triples"][0][0][:, [HEAD, TAIL]].astype(int))
        if self.nodes:
            logits = np.stack([study[0, :, LOGIT] for study in inputs["nodes"]])
            self.nodes.deviation.set_value(np.maximum(logits.std(0), 1e-3).astype("float32"))

    def surroundings(self, inputs: Inputs) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        common, *places = super().surroundings(inputs)
        entities, found = self.entities(), [places]
        if self.nodes:
            nodes = inputs["nodes"][:, 0]
            rows, plan = self.nodes(nodes[:, :, LOGIT], self.state(nodes), entities)
            found, common = [*found, rows], common + plan
        if self.triples:
            found.append(self.triples(inputs["triples"][:, 0], entities))
        return common, *(paddle.concat(parts, 1) for parts in zip(*found, strict=True))

    def state(self, nodes: paddle.Tensor) -> paddle.Tensor:
        """What will be told [B, N], of nodes [B, N, 3]."""
        decided, told = nodes[:, :, DECIDED], nodes[:, :, TOLD]
        if not (self.training and self.settings.told_dropout):
            return decided
        known = (paddle.rand([len(nodes), 1]) < self.settings.told_dropout).expand_as(told)
        return paddle.where(known, told, decided)

    def auxiliary(self, inputs: Inputs, tokens: paddle.Tensor) -> paddle.Tensor:
        """The focal loss of what the vectors of the views say of the entities of the report."""
        logits = self.findings(strongest(*self.views(inputs["pooled"])))
        return focal(logits, inputs["nodes"][:, 0, :, TOLD], self.settings.gamma).mean()


class GraphTransformer(KnowledgeTransformer):
    """General knowledge only."""

    looks = ("nodes",)
    parts = {**KnowledgeTransformer.parts, "knowledge": ("entities", "nodes")}

    @dataclass(frozen=True)
    class Settings(KnowledgeTransformer.Settings):
        pass


class RetrievalTransformer(KnowledgeTransformer):
    """Specific knowledge only."""

    looks = ("triples",)
    parts = {**KnowledgeTransformer.parts, "knowledge": ("entities", "triples")}

    @dataclass(frozen=True)
    class Settings(KnowledgeTransformer.Settings):
        pass


def _vectors(layer: nn.Layer, rows: int, width: int, deviation: float) -> paddle.Tensor:
    return layer.create_parameter([rows, width], default_initializer=nn.initializer.Normal(0.0, deviation))
