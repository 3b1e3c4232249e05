"""How deep a network is: how many weighted sums follow each other, each of which rounds."""

from __future__ import annotations

from net2net_cli.architecture.graph import Graph, Layer, Mode
from net2net_cli.architecture.ops.recurrent import Recurrent
from net2net_cli.architecture.returns import layers_of
from net2net_cli.architecture.shapes import concrete


def depth(graph: Graph, mode: Mode = "eval") -> int:
    """Weight matrices and kernels on the longest path; those of recurrent layers count in every step."""
    found = {given.name: 0 for given in graph.inputs}
    for layer in layers_of(graph, mode):
        found[layer.name] = _own(graph, layer) + max((found[name] for name in layer.inputs), default=0)
    return max((found[value] for value in graph.output_values() if value in found), default=0)


def _own(graph: Graph, layer: Layer) -> int:
    if not layer.inputs:
        return 0
    if isinstance(layer.op, Recurrent):
        steps = concrete(graph.shapes[layer.inputs[0]], 1)[layer.op.time]
        return steps + layer.op.num_layers - 1
    return sum(len(slot.shape) > 1 for slot in layer.op.tensors().values())
