"""Small graphs written by hand, without torch."""

from __future__ import annotations

from typing import Any

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, Op
from net2net_cli.architecture.shapes import Batch, Dim

N = Batch()


def make(op: str, *args: Any, **attributes: Any) -> Op:
    return REGISTRY[op](*args, **attributes)


def conv(inner: int, outer: int, kernel: int = 1, *, groups: int = 1, bias: bool = True) -> Op:
    pair = (kernel, kernel)
    pad = (kernel // 2, kernel // 2)
    return make("Conv2d", inner, outer, pair, (1, 1), pad, (1, 1), groups, bias, "zeros")


def deconv(inner: int, outer: int, *, groups: int = 1) -> Op:
    two = (2, 2)
    return make("ConvTranspose2d", inner, outer, two, two, (0, 0), (1, 1), groups, True, "zeros", (0, 0))


def linear(inner: int, outer: int, *, bias: bool = True) -> Op:
    return make("Linear", inner, outer, bias)


def norm(width: int, *, eps: float = 1e-5) -> Op:
    return make("BatchNorm2d", width, eps, 0.1, True, True)


def layer(name: str, op: Op, *inputs: str, weights_of: str | None = None) -> Layer:
    return Layer(name, op, inputs, weights_of)


def network(shape: tuple[Dim, ...], *layers: Layer, output: str | None = None) -> Graph:
    """Layers that read `x`, of the given shape without its batch; the last one is the output."""
    last = output or layers[-1].name
    returns: dict[Any, Any] = {"eval": "out", "train": "out"}
    return Graph("sketch", "", (NetworkInput("x", (N, *shape)),), layers, {"out": last}, returns)


def chain(shape: tuple[Dim, ...], **ops: Op) -> Graph:
    """One layer behind the other; `_` in a name stands for itself."""
    layers, value = [], "x"
    for name, op in ops.items():
        layers.append(layer(name, op, value))
        value = name
    return network(shape, *layers)
