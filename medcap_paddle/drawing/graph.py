"""A knowledge graph as a picture: entities are colored by what they are, relations by their type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..knowledge.graph import KIND, RELATIONS, Graph, Triple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENTITIES = {"observation": "#9ecae1", "anatomy": "#fdd0a2", "modifier": "#d9d9d9"}
BENT = "arc3,rad=0.1"  # else a relation hides another between the same two
STYLES = {  # of RELATIONS; these differ for every eye, and a pair that co-occurs has no direction
    "located_at": {"edge_color": "#b35806", "connectionstyle": BENT},
    "modify": {"edge_color": "#969696", "connectionstyle": BENT},
    "suggestive_of": {"edge_color": "#000000", "connectionstyle": BENT},
    "co_occurs": {"edge_color": "#2166ac", "style": "dashed", "arrows": False},
}
APART = 5  # steps between entities that no path joins


def strongest(graph: Graph, each: int) -> list[Triple]:
    """The `each` relations of every type that most reports have; of equal ones the first by name."""
    order = sorted(graph.relations, key=lambda triple: (-graph.relations[triple], triple))
    return [triple for name in RELATIONS for triple in [t for t in order if t.relation == name][:each]]


def draw(graph: Graph, each: int = 10) -> Figure:
    """The strongest relations of every type; a line is the wider, and a node the larger, the more reports have it."""
    import networkx as nx
    from matplotlib import pyplot as plt

    triples = strongest(graph, each)
    net = nx.Graph([(t.head, t.tail) for t in triples])  # for the places, where direction and type do not matter
    steps = {a: {b: APART for b in net} | far for a, far in nx.all_pairs_shortest_path_length(net)}
    places = nx.kamada_kawai_layout(net, steps) if triples else {}
    figure, ax = plt.subplots(figsize=(13, 9), layout="constrained")
    plt.close(figure)  # else the notebook shows it a second time
    top = max(graph.entities.values(), default=1)
    sizes = {name: 150 + 1500 * graph.entities[name] / top for name in net}
    colors = [ENTITIES[KIND[name]] for name in net]
    nx.draw_networkx_nodes(net, places, [*net], [*sizes.values()], colors, edgecolors="white", ax=ax)
    ends = {"nodelist": [*net], "node_size": [*sizes.values()], "ax": ax, "alpha": 0.7}  # arrows end at the nodes
    for relation, style in STYLES.items():
        own = [t for t in triples if t.relation == relation]
        widths = [0.8 + 3 * graph.relations[t] / graph.relations[own[0]] for t in own]
        edges = [(t.head, t.tail) for t in own]
        nx.draw_networkx_edges(nx.DiGraph(net), places, edges, widths, **style, **ends)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5}
    nx.draw_networkx_labels(net, places, font_size=9, bbox=box, ax=ax)
    ax.set_axis_off()
    _legend(figure)
    ax.set_title(f"{len(triples)} of {len(graph.relations)} relations in {graph.reports:,} reports", loc="left")
    return figure


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], marker="o", ls="", ms=10, color=color, label=kind) for kind, color in ENTITIES.items()]
    lines = [
        Line2D([], [], color=style["edge_color"], ls=style.get("style", "-"), label=name.replace("_", " "))
        for name, style in STYLES.items()
    ]
    figure.legend(handles=dots + lines, loc="outside lower center", ncols=len(dots + lines), frameon=False)
