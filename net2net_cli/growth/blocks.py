"""Residual blocks repeated silently: the copy adds zero to the stream until it is trained."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import activation as act
from net2net_cli.architecture.ops import (
    arithmetic,
    attention,
    conv,
    dropout,
    join,
    matrix,
    multiscale_attention,
    norm,
    pool,
    recurrent,
    reduce,
    relative_attention,
    reorder,
    resize,
    shape,
    window_attention,
)
from net2net_cli.architecture.shapes import concrete, show
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.rewrite import free_name, insert_behind, renamed

WEIGHTED = (
    *(conv.ConvolutionBase, conv.Linear, norm.PerChannelNorm, norm.GroupNorm, norm.LayerNorm, norm.RMSNorm),
    *(attention.MultiheadAttention, window_attention.WindowAttention, multiscale_attention.MultiscaleAttention),
    *(relative_attention.RelativePositionalMultiHeadAttention, recurrent.Recurrent),
)
"""Ops whose output is zero where their `silent` parameters are."""

PASS_ZERO = (
    *(
        act.Identity,
        act.LeakyReLU,
        act.PReLU,
        act.GELU,
        act.SiLU,
        act.Hardswish,
        act.Tanh,
    ),
    *(act.ELU, act.CELU, act.SELU, act.Mish, act.Softsign),
    *(dropout.Dropout, dropout.Dropout1d, dropout.Dropout2d, dropout.Dropout3d, dropout.StochasticDepth),
    *(shape.Rearrange, pool.Window, resize.Interpolate, reduce.Mean, reduce.Sum),
    *(join.Slice, join.Select, join.IndexSelect, join.Expand, reorder.Reordering),
)
"""Ops of one input that turn zero into zero, and pass a gradient there."""

FLAT_AT_ZERO = (act.ReLU, act.ReLU6)
"""Those that give no gradient there: what is silent before them would never learn to speak."""


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: `out` = φ(`stream` + branch), or without φ. The branch may read other values than the stream.

    Attributes:
        layers: all whose names begin with the block's.
        silenced: the layers whose parameters are zero in a silent copy.
    """

    name: str
    layers: tuple[Layer, ...]
    stream: str
    out: str
    silenced: tuple[str, ...]


def layers_of(graph: Graph, name: str) -> tuple[Layer, ...]:
    """The layers inside the module of that name."""
    return tuple(layer for layer in graph.layers if layer.name.startswith(f"{name}."))


def find_block(graph: Graph, name: str) -> Block:
    """The residual block of that name.

    Raises:
        GrowthRefusedError: it is none that could be repeated silently; says why.
    """
    layers = layers_of(graph, name)
    inside = {layer.name for layer in layers}
    streams = dict.fromkeys(value for layer in layers for value in layer.inputs if value not in inside)
    outs = [v for v in inside if any(r.name not in inside for r in graph.readers[v]) or v in graph.output_values()]
    if not streams or len(outs) != 1:
        raise _refusal(name, f"it has {len(streams)} inputs and {len(outs)} outputs; a residual block has one of each")
    out = outs[0]
    fitting = [stream for stream in streams if graph.shapes[stream] == graph.shapes[out]]
    if not fitting:
        change = f"{show(graph.shapes[next(iter(streams))])} to {show(graph.shapes[out])}"
        raise _refusal(name, f"it changes the shape from {change}, so that its copy could not be added to the stream")
    addition, after = _addition(graph, name, out)
    ways = {stream: _along(graph, name, inside, addition, stream) for stream in fitting}
    for stream, way in ways.items():  # a decoder's block also reads the encoder's output
        if way is not None and _restored(graph, stream, (*way[1], *after)):
            return Block(name, layers, stream, out, way[0])
    if any(ways.values()):
        why = "it hands its input on in another order, so that its copy could not be added to the stream"
        raise _refusal(name, why)
    raise _refusal(name, "its input does not reach its output through additions alone")


def _along(
    graph: Graph, name: str, inside: set[str], value: str, stream: str
) -> tuple[tuple[str, ...], tuple[shape.Rearrange, ...]] | None:
    """What must be silent for `value` to be the stream, one branch at each addition on the way, and what moves data.

    None without a way.
    """
    if value == stream:
        return (), ()
    layer = graph.by_name.get(value)
    if layer is None or value not in inside:
        return None
    if isinstance(layer.op, shape.Rearrange):
        before = _along(graph, name, inside, layer.inputs[0], stream)
        return None if before is None else (before[0], (*before[1], layer.op))
    for one, branch in (layer.inputs, layer.inputs[::-1]) if _adds(layer) else ():
        before = _along(graph, name, inside, one, stream)
        if before is not None:
            return tuple(dict.fromkeys((*before[0], *_silenced(graph, name, inside, branch)))), before[1]
    return None


def _adds(layer: Layer) -> bool:
    return isinstance(layer.op, arithmetic.Add) and layer.op.scalar is None


def _restored(graph: Graph, stream: str, moves: Sequence[shape.Rearrange]) -> bool:
    """Whether what moves data, such as cutting an image into windows and joining them, undoes itself in the end."""
    if not moves:
        return True
    size = concrete(graph.shapes[stream], 2)
    before = np.arange(prod(size)).reshape(size)
    return np.array_equal(before, functools.reduce(lambda data, op: op.moved(data), moves, before))


def _refusal(
    name: str, why: str, hint: str = "name a residual block whose shortcut is the identity, or a single layer"
) -> GrowthRefusedError:
    return GrowthRefusedError(f"`{name}` cannot be repeated: {why}", hint, layer=name)


def _addition(graph: Graph, name: str, out: str) -> tuple[str, tuple[shape.Rearrange, ...]]:
    """The addition at the block's end, and what moves data behind it.

    Else only an idempotent activation may stand there: φ(φ(x) + 0) = φ(x).
    """
    layer, moves = graph.by_name[out], list[shape.Rearrange]()
    while _passes(layer) and layer.inputs[0] in graph.by_name:
        if isinstance(layer.op, shape.Rearrange):
            moves.insert(0, layer.op)
        layer = graph.by_name[layer.inputs[0]]
    if isinstance(layer.op, (norm.LayerNorm, norm.GroupNorm)):
        raise _refusal(
            name,
            f"it ends in `{layer.name}`, a {layer.op.name} behind the addition (post-norm), and its copy would "
            "normalise the stream once more, by the mean and variance of each sample: no weights of the copy undo that",
        )
    if not _adds(layer):
        raise _refusal(name, f"it does not end in an addition, but in `{layer.name}` ({layer.op.name})")
    return layer.name, tuple(moves)


def _passes(layer: Layer) -> bool:
    return isinstance(layer.op, shape.Rearrange) or (isinstance(layer.op, act.Elementwise) and layer.op.idempotent)


def _silenced(graph: Graph, name: str, inside: set[str], value: str) -> tuple[str, ...]:
    """The layers nearest to the end of the branch that make it zero when their parameters are."""
    if value not in inside:
        raise _refusal(name, "its branch has no layer whose weights could silence it")
    layer = graph.by_name[value]
    op = layer.op
    if isinstance(op, FLAT_AT_ZERO) or (isinstance(op, recurrent.RNN) and op.nonlinearity == "relu"):
        raise _refusal(
            name,
            f"its branch ends in `{value}` ({op.name}), which passes no gradient at zero: its copy, silent as it must "
            "start, would never learn",
            "put a layer with weights behind it, or take an activation with a slope at zero (LeakyReLU, GELU)",
        )
    if isinstance(op, recurrent.Recurrent) and (len(layer.inputs) > 1 or (op.states and op.num_layers > 1)):
        why = (
            "starts with states that it is given"
            if len(layer.inputs) > 1
            else "returns states of layers below its last"
        )
        raise _refusal(name, f"`{value}` {why}, which are not zero where the weights of its last layer are")
    if isinstance(op, WEIGHTED) and op.silent[0] in op.tensors():
        if graph.shares_tensors(layer.name):
            raise _refusal(name, f"`{layer.name}`, which would be silenced, shares its weights")
        return (layer.name,)
    if isinstance(op, matrix.MatrixProduct) or (isinstance(op, arithmetic.Parameter) and op.trainable):
        return (_tensor(graph, name, inside, layer),)
    if isinstance(op, PASS_ZERO) or (isinstance(op, (arithmetic.Mul, arithmetic.Div)) and op.scalar is not None):
        return _silenced(graph, name, inside, layer.inputs[0])
    if isinstance(op, arithmetic.Mul):
        return _either(graph, name, inside, layer)
    if isinstance(op, (arithmetic.Add, join.Cat)) and getattr(op, "scalar", None) is None:
        found = [_silenced(graph, name, inside, operand) for operand in layer.inputs]
        return tuple(dict.fromkeys(n for names in found for n in names))
    raise _refusal(name, f"its branch ends in `{layer.name}` ({op.name}), which no zero weights silence")


def _tensor(graph: Graph, name: str, inside: set[str], layer: Layer) -> str:
    """A plain tensor that is added, or multiplied by, and that nothing else reads."""
    own = layer.inputs[1] if isinstance(layer.op, matrix.MatrixProduct) else layer.name
    if own not in inside or len(graph.readers[own]) != 1 or graph.by_name[own].tied:
        raise _refusal(name, f"`{own}`, which would be silenced, is read elsewhere too")
    return own


def _either(graph: Graph, name: str, inside: set[str], product: Layer) -> tuple[str, ...]:
    """A product is zero where one factor is: squeeze-excite's branch, rather than its gate."""
    refusal: GrowthRefusedError | None = None
    wide = sorted(product.inputs, key=lambda v: [n == 1 for n in graph.shapes[v]].count(True))
    for operand in wide:
        try:
            found = _silenced(graph, name, inside, operand)
        except GrowthRefusedError as refused:
            refusal = refusal or refused
            continue
        others = [v for v in product.inputs if v != operand] or [operand]
        if not any(_is_zero(graph, inside, other, set(found)) for other in others):
            return found
        why = f"both factors of `{product.name}` would be zero in its copy, which would never learn"
        refusal = refusal or _refusal(name, why)
    assert refusal is not None
    raise refusal


def _is_zero(graph: Graph, inside: set[str], value: str, silenced: set[str]) -> bool:
    """Whether a value is zero where the silenced layers return zero."""
    if value not in inside or value in silenced:
        return value in silenced
    layer = graph.by_name[value]
    zeros = (_is_zero(graph, inside, one, silenced) for one in layer.inputs)
    if isinstance(layer.op, arithmetic.Mul):
        return any(zeros)
    if isinstance(layer.op, (arithmetic.Add, join.Cat, *PASS_ZERO, *FLAT_AT_ZERO)):
        return getattr(layer.op, "scalar", None) is None and all(zeros)
    return False


@dataclass(frozen=True, slots=True)
class Repeated:
    """A graph in which a block is repeated.

    Attributes:
        sources: new layer -> the layer whose tensors it copies.
        silenced: new layers whose parameters are zero.
    """

    graph: Graph
    name: str
    sources: dict[str, str]
    silenced: tuple[str, ...]


def repeat(graph: Graph, block: Block, template: str) -> Repeated:
    """Put a silent copy behind a block.

    Args:
        graph: the network.
        block: what is repeated.
        template: the block whose number the copy follows, where it can.
    """
    name = _twin_name(graph, template)
    names = {layer.name: name + layer.name[len(block.name) :] for layer in block.layers}
    twins = renamed(block.layers, names, {block.stream: block.out})
    # The copy stands behind the whole block, since layers of it may come after its output.
    grown = insert_behind(graph, block.out, twins, names[block.out])
    return Repeated(grown, name, {new: old for old, new in names.items()}, tuple(names[n] for n in block.silenced))


def _twin_name(graph: Graph, template: str) -> str:
    """The next number where the block is the last of numbered ones, as a bigger network of the family has it."""
    parent, _, last = template.rpartition(".")
    prefix = f"{parent}." if parent else ""
    if last.isdigit():
        numbers = [name[len(prefix) :].split(".")[0] for name in graph.by_name if name.startswith(prefix)]
        if all(not n.isdigit() or int(n) <= int(last) for n in numbers):
            return f"{prefix}{int(last) + 1}"
    return free_name(graph, f"{template}_twin")
