"""Integer inputs that are looked up in tables: how large their numbers may be."""

from __future__ import annotations

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.activation import Identity
from net2net_cli.architecture.ops.embedding import Embedding
from net2net_cli.architecture.ops.join import Cat, Chunk, Expand, Select, Slice, Split
from net2net_cli.architecture.ops.shape import Rearrange

KEEPING = (Identity, Cat, Chunk, Expand, Select, Slice, Split, Rearrange)
"""Ops whose output holds numbers of their inputs and no others."""


def tables(graph: Graph) -> dict[str, Layer]:
    """For each network input whose numbers are looked up: the embedding with the fewest rows that does so."""
    found: dict[str, Layer] = {}
    for layer in graph.layers:
        if isinstance(layer.op, Embedding):
            for name in sources(graph, layer.inputs[0]):
                if name not in found or rows(layer) < rows(found[name]):
                    found[name] = layer
    return found


def rows(table: Layer) -> int:
    """How many numbers an embedding knows."""
    assert isinstance(table.op, Embedding)
    return table.op.num_embeddings


def sources(graph: Graph, value: str) -> set[str]:
    """The network inputs whose numbers a value holds, unchanged."""
    found: set[str] = set()
    waiting, seen = [value], {value}
    while waiting:
        name = waiting.pop()
        layer = graph.by_name.get(name)
        if layer is None:
            found.add(name)
        elif isinstance(layer.op, KEEPING):
            new = [v for v in layer.inputs if v not in seen]
            seen.update(new)
            waiting += new
    return found


def lookup_limit(graph: Graph, name: str, otherwise: int) -> int:
    """Integers below this are numbers that a network input may hold.

    Args:
        graph: the network.
        name: of the input.
        otherwise: where it is looked up in no table as it is.
    """
    table = tables(graph).get(name)
    if table is not None:
        return rows(table)
    every = [rows(layer) for layer in graph.layers if isinstance(layer.op, Embedding)]
    return min([otherwise, *every])
