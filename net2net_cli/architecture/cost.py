"""What a network costs: parameters, bytes, and multiply-adds of its convolutions, linear and recurrent layers."""

from __future__ import annotations

from math import prod

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.conv import BorrowedLinear, ConvolutionBase, Linear
from net2net_cli.architecture.ops.matrix import Matrix
from net2net_cli.architecture.ops.recurrent import Recurrent
from net2net_cli.architecture.shapes import Shape, concrete

_WIDTHS = (
    *("out_channels", "out_features", "num_features", "num_channels", "embed_dim"),
    *("embedding_dim", "hidden_size"),
)
"""Attributes that are the width of a layer's output."""


def parameters(graph: Graph) -> int:
    """Trained numbers of the whole network; buffers are not counted, shared ones once."""
    return sum(prod(slot.shape) for _, _, _, slot in graph.tensors() if slot.kind == "parameter")


def layer_parameters(layer: Layer) -> int:
    """Trained numbers that a layer owns."""
    return sum(prod(slot.shape) for slot in layer.own_tensors().values() if slot.kind == "parameter")


def multiply_adds(graph: Graph) -> int:
    """Of one forward pass in evaluation, for one input of the spec's size."""
    return sum(layer_multiply_adds(graph, layer) for layer in graph.layers if layer.when == "always")


def layer_multiply_adds(graph: Graph, layer: Layer) -> int:
    """Of a convolution, a linear or a recurrent layer for one input; 0 for others.

    A weight meets every place of the output once, or of the input where the convolution is transposed: with
    `weight` of shape (out, in / groups, *kernel) these are (n, out, *space) · in / groups · kernel. Every weight
    of a recurrent layer is used once in each step.
    """
    op = layer.op
    if isinstance(op, (Linear, BorrowedLinear)):
        return prod(concrete(graph.shapes[layer.name], 1)) * op.in_features
    if isinstance(op, ConvolutionBase):
        value = layer.inputs[0] if op.transposed else layer.name
        inner = (op.out_channels if op.transposed else op.in_channels) // op.groups
        return prod(concrete(graph.shapes[value], 1)) * inner * prod(op.kernel_size)
    if isinstance(op, Recurrent):
        weights = sum(prod(slot.shape) for name, slot in op.tensors().items() if name.startswith("weight"))
        return prod(concrete(graph.shapes[layer.inputs[0]], 1)[:2]) * weights
    return 0


def width(graph: Graph, layer: Layer) -> int | None:
    """Channels, or features, that a layer puts out; None for a value without a channel axis."""
    if isinstance(layer.op, Matrix):
        return layer.op.size[1 - layer.op.summed]
    for attribute in _WIDTHS:
        if hasattr(layer.op, attribute):
            return int(getattr(layer.op, attribute))
    normalized: tuple[int, ...] = getattr(layer.op, "normalized_shape", ())
    if len(normalized) == 1:
        return int(normalized[0])
    return _channels(graph.shapes[layer.name])


def _channels(shape: Shape) -> int | None:
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None
