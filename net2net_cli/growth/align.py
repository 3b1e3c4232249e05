"""Two networks of a family laid beside each other: which layers of the bigger one are the smaller one's, which are new.

New layers are taken out of the target's graph where they are the identity as long as they are silent; what is left must
be the teacher's graph, layer by layer. That is the proof that the target, filled accordingly, computes the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import Op, attributes, conv, pool
from net2net_cli.architecture.ops import activation as act
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.blocks import Block, find_block, layers_of
from net2net_cli.growth.insert import BATCH_NORMS

WIDTHS = {
    *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "num_parameters"),
    *("embed_dim", "num_heads", "key_scale", "embedding_dim", "input_size", "hidden_size"),
    *("groups", "num_groups", "normalized_shape", "size", "axes", "sizes", "start", "stop", "pad"),
}
"""Attributes that follow the widths."""

TRAINING_ONLY = {"p", "momentum", "dropout", "attention_dropout"}
"""Attributes that act in training alone; the target's are taken."""

WINDOW = {"kernel_size", "padding"}
"""Attributes in which a convolution may be bigger, filled up with zeros."""


@dataclass(frozen=True, slots=True)
class IdentityLayer:
    """A new layer, its batch norm where it has one, and its activation, which start as the identity on `stream`."""

    layer: Layer
    norm: Layer | None
    activation: Layer
    stream: str


@dataclass(frozen=True)
class Alignment:
    """How a target contains a teacher.

    Attributes:
        matched: target layer -> teacher layer.
        blocks: new residual blocks of the target.
        layers: new single layers of the target.
    """

    target: Graph
    matched: dict[str, str]
    blocks: tuple[Block, ...]
    layers: tuple[IdentityLayer, ...]


_MUST_BE = "the target must be the teacher made wider and deeper"


def align(teacher: Graph, target: Graph) -> Alignment:
    """Find the teacher inside the target: by the names of layers first, then by their order.

    Raises:
        GrowthRefusedError: names the first difference that no rule bridges.
    """
    by_name = _new_by_name(teacher, target)
    by_order = _new_by_order(teacher, target)
    refusals = []
    for new in (by_name, by_order):
        if new is None:
            continue
        try:
            return _contract(teacher, target, new)
        except GrowthRefusedError as refused:
            refusals.append(refused)
    raise refusals[0]


def _weighted(graph: Graph) -> list[Layer]:
    return [layer for layer in graph.layers if layer.op.tensors() and layer.weights_of is None]


def _new_by_name(teacher: Graph, target: Graph) -> set[str]:
    known = {layer.name for layer in _weighted(teacher)}
    return {layer.name for layer in _weighted(target) if layer.name not in known}


def _new_by_order(teacher: Graph, target: Graph) -> set[str] | None:
    """The teacher's layers as a subsequence of the target's, each matched as early as can be."""
    waiting = list(teacher.layers)
    new: set[str] = set()
    for layer in target.layers:
        if waiting and _alike(waiting[0].op, layer.op):
            waiting.pop(0)
        elif layer.op.tensors():
            new.add(layer.name)
    return None if waiting else new


def _alike(small: Op, big: Op) -> bool:
    """The same op, but for widths that may be larger, windows that may be larger, and what acts in training alone."""
    if small.name != big.name:
        return False
    if isinstance(small, Constant) and isinstance(big, Constant):
        return small.differs_in_width_alone(big)
    theirs = attributes(big)
    for key, value in attributes(small).items():
        other = theirs[key]
        if key in TRAINING_ONLY or value == other:
            continue
        if key in WIDTHS:
            if isinstance(value, int) and isinstance(other, int) and other < value:
                return False
        elif key not in WINDOW or not _bigger_window(small, big):
            return False
    return True


def _bigger_window(small: Op, big: Op) -> bool:
    """Whether the big kernel is the small one with equally many zeros on each side."""
    if not (isinstance(small, conv.Convolution) and isinstance(big, conv.Convolution)):
        return False
    if isinstance(small.padding, str) or isinstance(big.padding, str) or small.padding_mode != "zeros":
        return False
    sides = [
        (b - s, pb - ps)
        for s, b, ps, pb in zip(small.kernel_size, big.kernel_size, small.padding, big.padding, strict=True)
    ]
    return all(k >= 0 and k % 2 == 0 and k // 2 * d == p for (k, p), d in zip(sides, small.dilation, strict=True))


def _contract(teacher: Graph, target: Graph, new: set[str]) -> Alignment:
    blocks = _new_blocks(target, new)
    inside = {layer.name for block in blocks for layer in block.layers}
    layers = tuple(_identity_layer(target, layer) for layer in _new_layers(target, new - inside))
    instead = {block.out: block.stream for block in blocks} | {chain.activation.name: chain.stream for chain in layers}
    gone = inside | {one.name for c in layers for one in (c.layer, c.norm, c.activation) if one is not None}
    left = [layer for layer in target.layers if layer.name not in gone]
    matched = _isomorphism(teacher, target, left, instead)
    return Alignment(target, matched, blocks, layers)


def _new_blocks(target: Graph, new: set[str]) -> tuple[Block, ...]:
    """The outermost modules all of whose weighted layers are new, and which are residual blocks."""
    found: dict[str, Block] = {}
    for name in [layer.name for layer in target.layers if layer.name in new]:
        parts = name.split(".")
        for prefix in (".".join(parts[:i]) for i in range(1, len(parts))):
            if prefix in found:
                break
            if all(layer.name in new for layer in layers_of(target, prefix) if layer.op.tensors()):
                try:
                    block = find_block(target, prefix)
                except GrowthRefusedError:
                    continue
                _check_stream(target, block)
                found[prefix] = block
                break
    return tuple(found.values())


def _check_stream(target: Graph, block: Block) -> None:
    """An activation behind the addition must leave the stream as it is: the stream comes out of one like it."""
    last = target.by_name[block.out].op
    if not isinstance(last, act.Elementwise):
        return
    source = target.by_name.get(block.stream)
    while source is not None and isinstance(source.op, pool.Window):
        source = target.by_name.get(source.inputs[0])
    if source is None or source.op != last:
        why = f"it ends in {last.name}, through which `{block.stream}` does not pass unchanged"
        raise GrowthRefusedError(f"`{block.name}` of the target cannot start silent: {why}", _MUST_BE, layer=block.name)


def _new_layers(target: Graph, new: Iterable[str]) -> list[Layer]:
    wanted = set(new)
    return [layer for layer in target.layers if layer.name in wanted and not isinstance(layer.op, BATCH_NORMS)]


def _identity_layer(target: Graph, layer: Layer) -> IdentityLayer:
    """A new layer that can start as the identity.

    Raises:
        GrowthRefusedError: it cannot; says why.
    """
    op = layer.op
    if not isinstance(op, (conv.Convolution, conv.Linear)):
        raise _no_counterpart(layer, "and nothing of its kind can be added as the identity")
    stream = layer.inputs[0]
    if target.shapes[stream] != target.shapes[layer.name]:
        raise _no_counterpart(layer, "and it changes the shape of what it reads, so that it cannot be the identity")
    if isinstance(op, conv.Convolution) and (set(op.stride) != {1} or any(k % 2 == 0 for k in op.kernel_size)):
        raise _no_counterpart(layer, "and its kernel has no centre that could pass on what it reads")
    norm: Layer | None = None
    value = layer.name
    while True:
        readers = target.readers[value]
        if len(readers) != 1:
            raise _no_counterpart(layer, "and no activation follows it alone")
        reader = readers[0]
        if norm is None and isinstance(reader.op, BATCH_NORMS):
            norm, value = reader, reader.name
            continue
        source = target.by_name.get(stream)
        if (
            not isinstance(reader.op, act.Elementwise)
            or not reader.op.idempotent
            or source is None
            or source.op != reader.op
        ):
            raise _no_counterpart(layer, f"and `{stream}` does not pass unchanged through `{reader.name}`")
        return IdentityLayer(layer, norm, reader, stream)


def _no_counterpart(layer: Layer, why: str) -> GrowthRefusedError:
    return GrowthRefusedError(
        f"`{layer.name}` ({layer.op.name}) of the target has no counterpart in the teacher, {why}",
        _MUST_BE,
        layer=layer.name,
    )


def _isomorphism(teacher: Graph, target: Graph, left: Sequence[Layer], instead: dict[str, str]) -> dict[str, str]:
    """Teacher layers for what is left of the target, read by read.

    Raises:
        GrowthRefusedError: names the first layer without counterpart.
    """
    known = {theirs.name: ours.name for theirs, ours in zip(target.inputs, teacher.inputs, strict=False)}
    unused = list(teacher.layers)
    matched: dict[str, str] = {}

    def resolve(value: str) -> str:
        while value in instead:
            value = instead[value]
        return known[value]

    for layer in left:
        inputs = tuple(resolve(value) for value in layer.inputs)
        ties = tuple(dataclasses.replace(tie, layer=matched[tie.layer]) for tie in layer.tied if tie.layer in matched)
        able = [c for c in unused if c.inputs == inputs and _alike(c.op, layer.op) and c.when == layer.when]
        able = [c for c in able if c.tied == ties]
        if not able:
            raise _first_difference(teacher, layer, inputs, unused)
        choice = next((c for c in able if c.name == layer.name), able[0])
        unused.remove(choice)
        known[layer.name] = matched[layer.name] = choice.name
    if unused:
        raise GrowthRefusedError(
            f"`{unused[0].name}` ({unused[0].op.name}) of the teacher has no counterpart in the target",
            _MUST_BE,
            layer=unused[0].name,
        )
    ours = {name: resolve(value) for name, value in target.outputs.items()}
    if list(ours.values()) != list(teacher.outputs.values()):
        raise GrowthRefusedError("the target returns other values than the teacher", "compare the two specs' outputs")
    return matched


def _first_difference(
    teacher: Graph, layer: Layer, inputs: tuple[str, ...], unused: Sequence[Layer]
) -> GrowthRefusedError:
    """What stands in the teacher where the target has a layer that fits nothing."""
    there = next((c for c in unused if c.inputs == inputs), None)
    if there is None:
        return _no_counterpart(layer, "and none of the teacher's layers reads what it reads")
    if there.op.name != layer.op.name:
        difference = f"the teacher has a {there.op.name} (`{there.name}`) there"
    elif _alike(there.op, layer.op) and there.tied != layer.tied:
        difference = f"`{there.name}` is tied to another layer in one of the two networks alone"
    else:
        theirs = attributes(layer.op)
        keys = [k for k, v in attributes(there.op).items() if v != theirs[k] and k not in TRAINING_ONLY]
        said = ", ".join(f"{k} {getattr(there.op, k)} in the teacher and {theirs[k]} in the target" for k in keys)
        difference = f"`{there.name}` has {said}"
    return _unlike(layer, difference)


def _unlike(layer: Layer, difference: str) -> GrowthRefusedError:
    return GrowthRefusedError(
        f"`{layer.name}` ({layer.op.name}) of the target does not fit the teacher: {difference}",
        _MUST_BE,
        layer=layer.name,
    )


def matched_target(alignment: Alignment, teacher: Graph) -> Graph:
    """The target's ops under the teacher's names and wiring, without new layers and with the teacher's windows.

    It is what the teacher becomes by widening alone.
    """
    ops = {ours: alignment.target.by_name[theirs].op for theirs, ours in alignment.matched.items()}
    layers = tuple(dataclasses.replace(layer, op=_with_window(ops[layer.name], layer.op)) for layer in teacher.layers)
    return dataclasses.replace(teacher, layers=layers)


def _with_window(big: Op, small: Op) -> Op:
    if isinstance(big, conv.Convolution) and isinstance(small, conv.Convolution):
        return dataclasses.replace(big, kernel_size=small.kernel_size, padding=small.padding)
    return big
