"""Small networks that growths are tried on, and commands that try them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from channels.sketch import N, conv, layer, linear, make, network

from messages.example import Example, teacher_of
from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie

RELU = make("ReLU")
ADD = make("add")
IMAGE = (3, 6, 6)
POINTWISE = layer("a", conv(3, 4), "x")
"""Where channels come from that something behind it treats in its way."""

DENSE = layer("a", linear(6, 4), "x")
TOKENS = (4, 6)


EMBED = layer("a", make("Embedding", 9, 4, None, False, False), "x")
HEAD = Layer("head", make("Linear", 4, 9, True), ("last",), tied=(Tie("weight", "a", "weight"),))


def network_of(shape: tuple[Any, ...], *layers: Layer, integers: bool = False, second: tuple[Any, ...] = ()) -> Graph:
    graph = network(shape, *layers)
    first = replace(graph.inputs[0], dtype="int64" if integers else "float32")
    more = (NetworkInput("y", (N, *second), "float32"),) if second else ()
    return replace(graph, inputs=(first, *more))


def widened(
    row: str,
    *layers: Layer,
    shape: tuple[Any, ...] = IMAGE,
    grow: str = "a=2x",
    options: str = "",
    integers: bool = False,
    second: tuple[Any, ...] = (),
    **more: Any,
) -> Example:
    """A small network, one layer of which cannot be widened so."""
    graph = partial(network_of, shape, *layers, integers=integers, second=second)
    command = f"net2net widen net.safetensors {grow} {options}--no-verify -o student.safetensors"
    return Example(
        command, before=teacher_of(graph, "net.safetensors"), row=f"{row}: `{grow}`" if grow != "a=2x" else row, **more
    )


def deepened(row: str, *layers: Layer, shape: tuple[Any, ...] = IMAGE, names: str = "a", **more: Any) -> Example:
    graph = partial(network, shape, *layers)
    command = f"net2net deepen net.safetensors {names} --no-verify -o student.safetensors"
    return Example(command, before=teacher_of(graph, "net.safetensors"), given=row, **more)


def after(op: Any, *more: Layer, first: Layer = POINTWISE, also: tuple[str, ...] = ()) -> tuple[Layer, ...]:
    """The first layer, and this behind it."""
    return (first, layer("b", op, "a", *also), *more)
