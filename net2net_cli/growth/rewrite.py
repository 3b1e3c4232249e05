"""New layers in a graph: readers of a value are handed the last new layer's value instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Op


def insert_behind(graph: Graph, value: str, new: Sequence[Layer], result: str) -> Graph:
    """Put layers behind a value; all that read it, and outputs that hold it, get `result`.

    Args:
        graph: the network.
        value: the layer behind which the new ones stand.
        new: layers that read `value` or one another.
        result: the last of them.
    """
    layers: list[Layer] = []
    for layer in graph.layers:
        inputs = tuple(result if name == value else name for name in layer.inputs)
        layers.append(replace(layer, inputs=inputs) if inputs != layer.inputs else layer)
        if layer.name == value:
            layers.extend(new)
    outputs = {name: result if held == value else held for name, held in graph.outputs.items()}
    return replace(graph, layers=tuple(layers), outputs=outputs)


def with_op(graph: Graph, name: str, op: Op) -> Graph:
    """The graph with one layer's op exchanged, at every place that uses its weights."""
    layers = tuple(replace(layer, op=op) if layer.owner == name else layer for layer in graph.layers)
    return replace(graph, layers=layers)


def free_name(graph: Graph, stem: str, endings: Sequence[str] = ("",)) -> str:
    """`stem1`, `stem2`, …: the first that, with every ending, is no name and no beginning of a path in the graph."""
    taken = {value.name for value in graph.inputs}
    for name in graph.by_name:
        parts = name.split(".")
        taken |= {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
    number = 1
    while any(f"{stem}{number}{ending}" in taken for ending in endings):
        number += 1
    return f"{stem}{number}"


def renamed(layers: Sequence[Layer], names: Mapping[str, str], values: Mapping[str, str]) -> list[Layer]:
    """Copies of layers under other names.

    Args:
        layers: what is copied.
        names: old layer name -> new one.
        values: values from outside -> what the copies read instead.
    """
    known = {**values, **names}
    return [
        replace(
            layer,
            name=names[layer.name],
            inputs=tuple(known.get(name, name) for name in layer.inputs),
            weights_of=names.get(layer.weights_of, layer.weights_of) if layer.weights_of else None,
            tied=tuple(replace(tie, layer=names.get(tie.layer, tie.layer)) for tie in layer.tied),
        )
        for layer in layers
    ]
