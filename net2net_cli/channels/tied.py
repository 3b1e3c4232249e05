"""Weights by which one layer creates channels and another reads them: an output layer tied to its embedding.

Such an axis follows its channels, so it cannot share out their copies. What the reader would get too often is taken off
before it: the affine layer whose output it reads gives each of the c copies of a channel a c-th of the channel
(RULES.md, "tied embedding").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Op, arithmetic, conv, dropout, join, norm, reduce, shape
from net2net_cli.architecture.ops import activation as act

AFFINE = (
    *(conv.Linear, conv.Convolution),
    *(norm.PerChannelNorm, norm.GroupNorm, norm.LayerNorm, norm.RMSNorm, norm.FrozenBatchNorm2d),
)
"""Ops whose output is linear in their `silent` parameters, of which each has one slice per channel on axis 0."""

HOMOGENEOUS = (
    *(act.Identity, act.Detach, act.ReLU, dropout.Dropout, dropout.Dropout1d, dropout.Dropout2d, dropout.Dropout3d),
    *(dropout.StochasticDepth, shape.Rearrange, join.Select, join.Slice, reduce.Mean),
)
"""Ops of one input that turn a c-th of a channel into a c-th of what they made of it."""


class NoAbsorberError(Exception):
    """No layer can give the copies that a tied axis reads their part; says why, as a clause about the reader."""


@dataclass(frozen=True, slots=True)
class Absorber:
    """What gives each copy that a tied reader reads its part.

    Attributes:
        layer: the affine layer, or the owner of its weights.
        values: from the reader's input back to what the affine layer returns, each with the axis of its channels: what
            holds parts of channels, in place of channels.
    """

    layer: Layer
    values: tuple[tuple[str, int], ...]


def absorber(graph: Graph, reader: Layer) -> Absorber:
    """What gives the copies before a tied reader their part.

    Raises:
        NoAbsorberError: there is none, or others read it too.
    """
    made, now = reader.inputs[0], reader
    axis = _channel_axis(reader.op, len(graph.shapes[made]))
    values: list[tuple[str, int]] = []
    while True:
        if axis is not None:
            values.append((made, axis))
        layer = graph.by_name.get(made)
        if layer is None:
            raise _none(f"`{made}` is the network's input")
        if graph.readers[made] != [now] or made in graph.output_values():
            raise _none(f"`{made}` is read by others too")
        if isinstance(layer.op, AFFINE):
            return Absorber(_checked(graph, layer, axis, reader), tuple(values))
        if not _homogeneous(layer.op):
            raise _none(f"`{made}` ({layer.op.name}) is neither")
        axis = None if axis is None else _axis_before(layer.op, axis)
        made, now = layer.inputs[0], layer


def _homogeneous(op: Op) -> bool:
    scaled = isinstance(op, (arithmetic.Mul, arithmetic.Div)) and op.scalar is not None
    return scaled or isinstance(op, HOMOGENEOUS)


def _axis_before(op: Op, axis: int) -> int | None:
    """The axis of an op's input that is this axis of its output; None where it is none, or a part of one."""
    if isinstance(op, shape.Rearrange):
        left, right = op.parsed.left, op.parsed.right
        return left.index(right[axis]) if len(right[axis]) == 1 and right[axis] in left else None
    if isinstance(op, join.Select):
        return axis + (op.dim <= axis)
    if isinstance(op, reduce.Mean) and not op.keepdim:
        return [i for i in range(axis + 1 + len(op.dim)) if i not in op.dim][axis]
    dims = op.dim if isinstance(op, reduce.Mean) else (op.dim,) if isinstance(op, join.Slice) else ()
    return None if axis in dims else axis


def unabsorbed(graph: Graph, readers: Iterable[Layer]) -> tuple[str, str] | None:
    """The first tied reader without a layer that gives the copies their part, and why; None where all have one."""
    for reader in readers:
        try:
            absorber(graph, reader)
        except NoAbsorberError as none:
            return reader.name, str(none)
    return None


def _checked(graph: Graph, layer: Layer, axis: int | None, reader: Layer) -> Layer:
    if axis is None or axis != _channel_axis(layer.op, len(graph.shapes[layer.name])):
        raise _none(f"it reads something else than the channels of `{layer.name}`")
    if not any(name in layer.op.tensors() for name in layer.op.silent):
        raise _none(f"`{layer.name}` has no weight")
    owner = graph.by_name[layer.owner]
    uses = [use for use in graph.layers if use.owner == owner.name]
    borrowed = any(tie.layer == owner.name for other in graph.layers for tie in other.tied)
    if owner.tied or borrowed or not all(_ends_in(graph, use.name, reader) for use in uses):
        raise _none(f"`{owner.name}` shares its weights")
    return owner


def _ends_in(graph: Graph, value: str, reader: Layer) -> bool:
    """Whether all that a value goes to is a layer that reads it by the weights of `reader`."""
    readers = graph.readers[value]
    if len(readers) != 1 or value in graph.output_values():
        return False
    same = readers[0].op == reader.op and readers[0].home("weight") == reader.home("weight")
    return same or (_homogeneous(readers[0].op) and _ends_in(graph, readers[0].name, reader))


def _channel_axis(op: Op, rank: int) -> int | None:
    """The axis of an op's input, or output, on which its weights act; None where it is not one alone."""
    if isinstance(op, (conv.Linear, conv.BorrowedLinear)):
        return rank - 1
    if isinstance(op, (norm.LayerNorm, norm.RMSNorm)):
        return rank - 1 if len(op.normalized_shape) == 1 else None
    per_channel = (conv.ConvolutionBase, norm.PerChannelNorm, norm.GroupNorm, norm.FrozenBatchNorm2d)
    return 1 if isinstance(op, per_channel) else None


def _none(why: str) -> NoAbsorberError:
    return NoAbsorberError(
        "reads its channels by the weights that make them, which cannot share out copies; a norm with weights, or a "
        f"linear layer, right before it could take the factor, but {why}: put one there, or untie the two"
    )
