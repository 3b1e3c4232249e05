"""Modules that run one after the other, and nothing else between them: `nn.Sequential` in the exported file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.python_modules import Node

_SEQUENTIAL_METHODS = frozenset(["append", "extend", "insert", "pop"])
"""Names that no child of an `nn.Sequential` can have, beside those of all modules."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A container whose modules run one after the other.

    Attributes:
        path: where it stands.
        layers: in the order in which they run.

    """

    path: tuple[str, ...]
    layers: tuple[Layer, ...]


def find_chains(graph: Graph, root: Node) -> list[Chain]:
    """The largest containers that are chains; their nodes, and those inside, are marked as sequences."""
    search = _Search(graph)
    found: list[Chain] = []
    for name, child in root.children.items():
        search.visit(child, (name,), found)
    return [chain for chain in found if len(chain.layers) > 1]


class _Search:
    """Looks for chains in one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.position = {layer.name: i for i, layer in enumerate(graph.layers)}
        self.shared = {layer.weights_of for layer in graph.layers}

    def visit(self, place: Node, path: tuple[str, ...], found: list[Chain]) -> tuple[Layer, ...] | None:
        """The layers of a place in the order in which they run, if they are a chain; else what is inside is `found`."""
        if place.layer is not None:
            op = place.layer.op
            alone = not place.children and not place.is_tensor and len(place.layer.inputs) == 1
            alone = alone and (not isinstance(op, Opaque) or op.takes_input_alone)
            return (place.layer,) if alone and place.layer.name not in self.shared else None
        inside: list[Chain] = []
        parts = {name: self.visit(child, (*path, name), inside) for name, child in place.children.items()}
        whole = self._joined(place, {name: part for name, part in parts.items() if part})
        if whole is None:
            found += inside
            found += [Chain((*path, n), part) for n, part in parts.items() if part and place.children[n].layer is None]
        elif len(path) == 1:
            found.append(Chain(path, whole))
        return whole

    def _joined(self, place: Node, parts: dict[str, tuple[Layer, ...]]) -> tuple[Layer, ...] | None:
        """All parts as one chain, or None where they are not; marks the place."""
        if len(parts) < len(place.children) or not place.can_be_sequence or _SEQUENTIAL_METHODS & parts.keys():
            return None
        order = sorted(parts, key=lambda name: self.position[parts[name][0].name])
        if place.is_list and order != [str(i) for i in range(len(order))]:
            return None
        layers = tuple(layer for name in order for layer in parts[name])
        if not all(self._follows(a, b) for a, b in pairwise(layers)):
            return None
        place.sequence = order
        return layers

    def _follows(self, first: Layer, second: Layer) -> bool:
        """Whether `second` runs right behind `first` and alone reads what it makes."""
        return (
            second.inputs == (first.name,)
            and self.position[second.name] == self.position[first.name] + 1
            and self.graph.readers[first.name] == [second]
            and first.name not in self.graph.output_values()
            and first.when == second.when
        )
