"""Single layers inserted as the identity, behind an activation (Net2DeeperNet; arXiv:1511.05641)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import REGISTRY, Op, conv, dropout, norm, pool
from net2net_cli.architecture.ops import activation as act
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.ops.weight_norm import WeightNorm
from net2net_cli.architecture.shapes import fixed
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.rewrite import free_name, insert_behind, with_op

BATCH_NORMS = (norm.BatchNorm1d, norm.BatchNorm2d, norm.BatchNorm3d, norm.SyncBatchNorm, norm.FrozenBatchNorm2d)
DROPOUTS = (dropout.Dropout, dropout.Dropout1d, dropout.Dropout2d, dropout.Dropout3d)
OTHER_NORMS = (norm.InstanceNorm1d, norm.InstanceNorm2d, norm.InstanceNorm3d, norm.GroupNorm, norm.LayerNorm)
PASSED = (*DROPOUTS, *OTHER_NORMS, act.Identity, pool.Window)


@dataclass(frozen=True, slots=True)
class Site:
    """Where new layers go: behind the first activation that a layer reaches.

    Attributes:
        layer: the layer that is asked for.
        activation: the activation.
        norm: the last batch norm between the two.
        width: channels there.
        value: behind it new layers stand: the activation, or what was inserted behind it before.
        across: whether the batch norm has statistics for another axis than the layer's channels, as for tokens.
    """

    layer: Layer
    activation: Layer
    norm: Layer | None
    width: int
    value: str
    across: bool = False


@dataclass(frozen=True, slots=True)
class Inserted:
    """New layers in a graph.

    Attributes:
        first: the new layer that stands in place of the identity; with `pair`, it makes x and −x.
        last: the layer of a pair that puts both halves together again, or None.
        norm: the new batch norm, or None.
        reader: with a pair, the reader of the teacher whose weights were doubled in place of `last`, or None.
        pair: the s with φ(x) − φ(−x) = s·x where x went through as such a pair, else None.
        behind: the value that now stands where the activation's did.
    """

    graph: Graph
    first: str
    norm: str | None
    last: str | None
    reader: str | None
    pair: float | None
    behind: str


def refusal(
    layer: str, why: str, hint: str = "name another layer, or a residual block: a block is repeated"
) -> GrowthRefusedError:
    """Nothing can be inserted behind this layer."""
    return GrowthRefusedError(f"nothing can be inserted behind `{layer}`: {why}", hint, layer=layer)


def find_site(graph: Graph, layer: Layer) -> Site:
    """The first activation that a layer reaches through ops with a single reader.

    Raises:
        GrowthRefusedError: the layer is no convolution or linear layer, or something else comes first.
    """
    if not isinstance(layer.op, (conv.ConvolutionBase, conv.Linear)):
        kind = layer.op.described if isinstance(layer.op, Opaque) else f"`{layer.op.name}`"
        raise refusal(
            layer.name,
            f"it is neither a convolution nor a linear layer, but {kind}",
            "name a convolution or linear layer, or a residual block",
        )
    value, last_norm = layer.name, None
    while True:
        found = _next(graph, layer, value)
        if isinstance(found.op, BATCH_NORMS):
            last_norm = found
        elif not isinstance(found.op, PASSED):
            break
        value = found.name
    shape = graph.shapes[found.name]
    linear = isinstance(layer.op, conv.Linear)
    width = fixed(shape[-1] if linear else shape[1])
    across = linear and last_norm is not None and len(graph.shapes[last_norm.name]) > 2
    return Site(layer, found, last_norm, width, found.name, across)


def _next(graph: Graph, layer: Layer, value: str) -> Layer:
    readers = graph.readers[value]
    block = layer.name.rpartition(".")[0]
    hint = f"name the block instead, as in `{block}`" if block else "name a layer with an activation behind it"
    if value in graph.output_values():
        raise refusal(layer.name, f"the network's output (`{value}`) comes before any activation", hint)
    if len(readers) != 1:
        raise refusal(layer.name, f"{len(readers)} layers read `{value}` before any activation", hint)
    found = readers[0]
    activation = isinstance(found.op, act.Elementwise) and (found.op.idempotent or found.op.module is not None)
    if not (activation or isinstance(found.op, (*BATCH_NORMS, *PASSED))):
        raise refusal(layer.name, f"`{found.name}` ({found.op.name}) comes before any activation", hint)
    return found


def check_activation(site: Site) -> None:
    """Whether a layer may stand behind the activation.

    Raises:
        GrowthRefusedError: no identity through this activation is known.
    """
    op = site.activation.op
    assert isinstance(op, act.Elementwise)
    if op.idempotent or op.pair_scale() is not None:
        return
    why = f"no layer before a {op.name} (`{site.activation.name}`) passes every value through unchanged"
    raise refusal(site.layer.name, why, "a residual block with that activation inside can be repeated: name the block")


def check_norm(site: Site) -> None:
    """Whether a batch norm like the teacher's can be the identity.

    Raises:
        GrowthRefusedError: it has no weights, or keeps no statistics.
    """
    op = site.norm.op if site.norm else None
    if isinstance(op, norm.PerChannelNorm) and not (op.affine and op.track_running_stats):
        lacks = "weights" if not op.affine else "running statistics"
        raise refusal(
            site.layer.name,
            f"a batch norm like `{site.norm.name if site.norm else ''}` without {lacks} cannot be the identity",
        )


def insert(graph: Graph, site: Site, kernel: int | None, *, alone: bool, original: Graph) -> Inserted:
    """Insert one layer (or the two of a pair) behind a site.

    Args:
        graph: the network, in which earlier insertions may have happened.
        site: where.
        kernel: of convolutions; that of the layer before where it is odd, else 3.
        alone: whether a reader's weights may be doubled in place of a second layer.
        original: the teacher; only readers that it has, unchanged, are doubled.
    """
    activation = site.activation.op
    assert isinstance(activation, act.Elementwise)
    stem = free_name(graph, f"{site.layer.name}_deeper", ("", "_bn", "_act", "_join"))
    if activation.idempotent:
        chain = _chain(site, stem, site.width, _groups(site), kernel)
        grown = insert_behind(graph, site.value, chain, chain[-1].name)
        return Inserted(grown, stem, _norm_name(chain), None, None, None, chain[-1].name)
    return _insert_pair(graph, site, stem, kernel, alone=alone, original=original)


def _insert_pair(graph: Graph, site: Site, stem: str, kernel: int | None, *, alone: bool, original: Graph) -> Inserted:
    """X = (φ(x) − φ(−x)) / s: a layer to (x, −x), the activation, and the difference."""
    activation = site.activation.op
    assert isinstance(activation, act.Elementwise)
    scale = activation.pair_scale()
    assert scale is not None
    chain = _chain(site, stem, 2 * site.width, 1, kernel)
    # A reader's weights are doubled only where that rounds nothing.
    reader = _reader(graph, site, original) if alone and scale == 1.0 else None
    if reader is not None:
        grown = insert_behind(graph, site.value, chain, chain[-1].name)
        grown = with_op(grown, reader.name, _reading(reader.op, 2 * site.width))
        return Inserted(grown, stem, _norm_name(chain), None, reader.name, scale, chain[-1].name)
    join = Layer(
        f"{stem}_join", _layer_op(site, 2 * site.width, site.width, 1, 1), (chain[-1].name,), when=site.layer.when
    )
    grown = insert_behind(graph, site.value, [*chain, join], join.name)
    return Inserted(grown, stem, _norm_name(chain), join.name, None, scale, join.name)


def _reader(graph: Graph, site: Site, original: Graph) -> Layer | None:
    """The one weighted layer that reads the activation, if its weights can be doubled."""
    value = site.value
    readers = graph.readers[value]
    if len(readers) != 1 or value in graph.output_values() or readers[0].inputs.count(value) != 1:
        return None
    reader = readers[0]
    if graph.shares_tensors(reader.name) or original.by_name.get(reader.name) != reader:
        return None
    if isinstance(reader.op, WeightNorm):  # it would have to be scaled, which rounds
        return None
    # A linear layer reads the last axis, which behind a convolution is none of channels; and the other way round.
    if isinstance(site.layer.op, conv.Linear):
        return reader if isinstance(reader.op, conv.Linear) else None
    return reader if isinstance(reader.op, conv.Convolution) and reader.op.groups == 1 else None


def _reading(op: Op, width: int) -> Op:
    changed: dict[str, Any] = {"in_features" if isinstance(op, conv.Linear) else "in_channels": width}
    return replace(op, **changed)  # type: ignore[type-var]


def _chain(site: Site, stem: str, out: int, groups: int, kernel: int | None) -> list[Layer]:
    """Layer, batch norm where the teacher has one, and the activation."""
    when = site.layer.when
    size = kernel or _kernel(site.layer.op)
    chain = [Layer(stem, _layer_op(site, site.width, out, groups, size), (site.value,), when=when)]
    if site.norm is not None:
        norm_op: Op = site.norm.op if site.across else replace(site.norm.op, num_features=out)  # type: ignore[type-var]
        chain.append(Layer(f"{stem}_bn", norm_op, (stem,), when=when))
    chain.append(Layer(f"{stem}_act", site.activation.op, (chain[-1].name,), when=when))
    return chain


def _norm_name(chain: list[Layer]) -> str | None:
    return next((layer.name for layer in chain if isinstance(layer.op, BATCH_NORMS)), None)


def _kernel(op: Op) -> int:
    sizes = set(op.kernel_size) if isinstance(op, conv.ConvolutionBase) else {1}
    return sizes.pop() if len(sizes) == 1 and min(sizes) % 2 else 3


def _groups(site: Site) -> int:
    op = site.layer.op
    groups = op.groups if isinstance(op, conv.ConvolutionBase) else 1
    return groups if site.width % groups == 0 else 1


def _layer_op(site: Site, width: int, out: int, groups: int, kernel: int) -> Op:
    """A layer of the kind of the one before it, that keeps the size of every axis but the channels'."""
    op = site.layer.op
    if isinstance(op, conv.Linear):
        return conv.Linear(width, out, op.bias)
    assert isinstance(op, conv.ConvolutionBase)
    rank = op.rank
    same = REGISTRY[f"Conv{rank}d"]
    ones = (1,) * rank
    arguments: tuple[Any, ...] = (
        width,
        out,
        (kernel,) * rank,
        ones,
        (kernel // 2,) * rank,
        ones,
        groups,
        op.bias,
        "zeros",
    )
    return same(*arguments)
