"""Plans that deepen: layers that start as the identity, blocks that start silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import conv, norm
from net2net_cli.channels.values import Slices, Value, same_values
from net2net_cli.errors import GrowthRefusedError, UsageError
from net2net_cli.growth.batch_norm import (
    BatchNormStart,
    Moments,
    moments_behind,
    moments_of_pair,
    unit_gain,
    unit_product,
)
from net2net_cli.growth.blocks import find_block, layers_of, repeat
from net2net_cli.growth.insert import Inserted, Site, check_activation, check_norm, find_site, insert, refusal
from net2net_cli.growth.plan import AxisMap, Fill, Operation, Plan, TensorPlan
from net2net_cli.growth.requests import glob_to_regex, unknown_layer
from net2net_cli.growth.rewrite import insert_behind
from net2net_cli.growth.source import Tensors

__all__ = ["BatchNormStart", "DeepenOptions", "Moments", "plan_deepen"]

Measure: TypeAlias = Callable[[Sequence[str]], Mapping[str, Moments]]
"""From names of values to the moments of each of their channels, measured on data."""

HALF_TYPES = {"BF16", "F16"}


MOST_AT_ONCE = 100
"""New layers or blocks for each name; a recipe must not keep the tool busy for ever."""


@dataclass(frozen=True, slots=True)
class DeepenOptions:
    """How to deepen.

    Attributes:
        kernel: odd kernel size of new convolutions; None for that of the layer before.
        count: how many new layers or blocks for each name.
        batch_norm: what new batch norms hold.
        where_possible: globs pass over layers behind which nothing can be inserted.
    """

    kernel: int | None = None
    count: int = 1
    batch_norm: BatchNormStart = "estimate"
    where_possible: bool = False


@dataclass
class _Growing:
    """A plan in the making: the graph so far, and the tensors that are no plain copies under their own name."""

    teacher: Graph
    graph: Graph
    values: dict[str, Value]
    made: dict[str, TensorPlan] = field(default_factory=dict)
    rounds: bool = False
    notes: list[str] = field(default_factory=list)


def plan_deepen(
    graph: Graph,
    layers: Sequence[str],
    options: DeepenOptions | None = None,
    tensors: Tensors | None = None,
    measure: Measure | None = None,
) -> Plan:
    """Plan a student with new layers behind the named ones, and with the named blocks repeated.

    Args:
        graph: the teacher.
        layers: names of layers, globs of them, or names of residual blocks.
        options: how.
        tensors: the teacher's; only batch norms before new batch norms are read.
        measure: gives the statistics of new batch norms from data, in place of an estimate.

    Raises:
        UsageError: no such layer or block, or a kernel that has no centre.
        GrowthRefusedError: no exact insertion is known there.
    """
    options = options or DeepenOptions()
    _check_options(options)
    named = _named(graph, layers)
    sites, passed_over = _all_sites(graph, named, options)
    blocks = named.blocks
    growing = _Growing(graph, graph, same_values(graph), notes=passed_over)
    measured = measure(_values(sites)) if measure else {}
    for name, places in sites.items():
        _deepen_layer(growing, name, places, options, tensors, measured)
    for name in blocks:
        _deepen_block(growing, name, options.count)
    start = "measured" if measure else options.batch_norm
    arguments: dict[str, Any] = {"layers": list(layers), "kernel": options.kernel, "count": options.count, "bn": start}
    arguments |= {"where_possible": True} if options.where_possible else {}
    return _plan(growing, Operation("deepen", arguments, None, exact=True))


def _check_options(options: DeepenOptions) -> None:
    if options.kernel is not None and (options.kernel < 1 or options.kernel % 2 == 0):
        raise UsageError(f"a kernel of size {options.kernel} has no centre", "use an odd size: 1, 3, 5, …")
    if options.count > MOST_AT_ONCE:
        raise UsageError(
            f"`count` is {options.count}; at most {MOST_AT_ONCE} new layers are made at once",
            f"use {MOST_AT_ONCE} or fewer, and deepen the student again",
        )
    if options.count < 1:
        raise UsageError(f"`count` is {options.count}; at least one new layer is needed", "use 1 or more")


@dataclass(frozen=True, slots=True)
class _Named:
    """What is to be deepened, each once, in the order in which it was named.

    Attributes:
        layers: single ones.
        by_glob: names of those that patterns alone stand for.
        blocks: names of residual blocks.
    """

    layers: Sequence[Layer]
    by_glob: frozenset[str]
    blocks: Sequence[str]


def _named(graph: Graph, names: Sequence[str]) -> _Named:
    singles: dict[str, Layer] = {}
    by_name: set[str] = set()
    blocks: dict[str, None] = {}
    if not names:
        raise UsageError("nothing to deepen", "name a layer or a residual block")
    for name in names:
        if name in graph.by_name:
            owner = graph.by_name[graph.by_name[name].owner]
            singles[owner.name] = owner
            by_name.add(owner.name)
        elif layers_of(graph, name):
            blocks[name] = None
        elif any(c in name for c in "*?["):
            singles |= {layer.name: layer for layer in _matching(graph, name)}
        else:
            raise unknown_layer(graph, name)
    return _Named(list(singles.values()), frozenset(singles.keys() - by_name), list(blocks))


def _all_sites(graph: Graph, named: _Named, options: DeepenOptions) -> tuple[dict[str, list[Site]], list[str]]:
    """Where new layers go, for each layer, and notes on layers that were passed over."""
    sites: dict[str, list[Site]] = {}
    notes: list[str] = []
    for layer in named.layers:
        try:
            sites[layer.name] = _sites(graph, layer)
        except GrowthRefusedError as refused:
            if layer.name not in named.by_glob:
                raise
            if not options.where_possible:
                refused.hint = "`--where-possible` passes over layers of a pattern behind which nothing can be inserted"
                raise
            notes.append(f"passed over: {refused.message}")
    if not sites and not named.blocks:
        raise GrowthRefusedError(
            "nothing can be inserted behind any of the layers that match", "`net2net inspect` shows where it can"
        )
    return sites, notes


def _matching(graph: Graph, pattern: str) -> list[Layer]:
    regex = glob_to_regex(pattern)
    kinds = (conv.ConvolutionBase, conv.Linear)
    found = [n for n in graph.layers if isinstance(n.op, kinds) and n.weights_of is None and regex.fullmatch(n.name)]
    if not found:
        raise UsageError(f"`{pattern}` matches no convolution or linear layer", "`net2net inspect` lists the layers")
    return found


def _sites(graph: Graph, layer: Layer) -> list[Site]:
    """One place for each use of the layer."""
    sites = [find_site(graph, use) for use in graph.layers if use.owner == layer.name]
    for site in sites:
        check_activation(site)
        check_norm(site)
    kinds = {(s.activation.op, s.norm.op if s.norm else None) for s in sites}
    if len(kinds) > 1:
        raise refusal(layer.name, "its uses are followed by different activations or norms")
    return sites


def _values(sites: Mapping[str, list[Site]]) -> list[str]:
    return [site.activation.name for places in sites.values() for site in places if site.norm is not None]


def _deepen_layer(
    growing: _Growing,
    name: str,
    sites: list[Site],
    options: DeepenOptions,
    tensors: Tensors | None,
    measured: Mapping[str, Moments],
) -> None:
    alone = options.count == 1 and len(sites) == 1
    moments = _moments(sites[0], options, tensors, measured)
    for _ in range(options.count):
        before = growing.graph
        new = insert(before, sites[0], options.kernel, alone=alone, original=growing.teacher)
        growing.graph = new.graph
        _claim(growing, new, sites[0], first=_pair_factors(growing, new, tensors)[0])
        behind = [new.behind, *(_insert_again(growing, new, sites[0], site, before) for site in sites[1:])]
        _fill_layer(growing, new, sites[0], moments, tensors)
        sites = [replace(site, value=value) for site, value in zip(sites, behind, strict=True)]


def _insert_again(growing: _Growing, new: Inserted, first: Site, site: Site, before: Graph) -> str:
    """The same new layers at another use of a shared layer, with the first ones' weights; returns the last of them."""
    layers = [layer for layer in new.graph.layers if layer.name not in before.by_name]
    number = sum(1 for name in growing.graph.by_name if name.startswith(f"{new.first}_use")) // len(layers) + 2
    names = {layer.name: f"{new.first}_use{number}{layer.name[len(new.first) :]}" for layer in layers}
    known = {**names, first.value: site.value}
    again = [
        replace(
            layer,
            name=names[layer.name],
            inputs=tuple(known.get(v, v) for v in layer.inputs),
            weights_of=layer.name if layer.op.tensors() else None,
            when=site.layer.when,
        )
        for layer in layers
    ]
    growing.graph = insert_behind(growing.graph, site.value, again, names[new.behind])
    own = growing.values[site.value].name
    claimed = {names[old]: replace(growing.values[old], name=own) for old in names if old in growing.values}
    growing.values |= claimed
    return names[new.behind]


def _moments(
    site: Site, options: DeepenOptions, tensors: Tensors | None, measured: Mapping[str, Moments]
) -> Moments | None:
    """What enters the new batch norm, or None where it is to be the plain identity."""
    if site.norm is None or options.batch_norm == "identity":
        return None
    if site.activation.name in measured:
        return measured[site.activation.name]
    assert tensors is not None, "an estimate of statistics needs the teacher's tensors"
    weight, bias = (np.asarray(tensors.read(site.norm.tensor_name(k))).astype(np.float64) for k in ("weight", "bias"))
    return moments_behind(site.activation.op, weight, bias)


def _pair_factors(growing: _Growing, new: Inserted, tensors: Tensors | None) -> tuple[float, float]:
    """What the two layers of a pair multiply by."""
    return (1.0, 1.0) if new.pair is None else unit_product(new.pair, _stored_type(growing, tensors))


def _claim(growing: _Growing, new: Inserted, site: Site, *, first: float) -> None:
    """What the new layers return: what they stand behind, or x and −x times `first` in a pair."""
    own = growing.values[site.value]
    through = own
    if new.pair is not None:
        axis = len(own.axes) - 1 if isinstance(site.layer.op, conv.Linear) else 1
        both = Slices(np.tile(np.arange(site.width), 2), site.width, np.repeat([first, -first], site.width))
        through = Value(own.name, tuple(both if i == axis else old for i, old in enumerate(own.axes)))
    growing.values |= {name: through for name in (new.first, new.norm) if name is not None}
    if new.pair is None or new.last is not None:
        growing.values[new.behind] = own


def _fill_layer(
    growing: _Growing,
    new: Inserted,
    site: Site,
    moments: Moments | None,
    tensors: Tensors | None,
) -> None:
    layer = growing.graph.by_name[new.first]
    zero = Fill("constant", 0.0)
    if new.pair is None:
        _make(growing, layer, {"weight": Fill("dirac", 1.0), "bias": zero})
    else:
        first, last = _pair_factors(growing, new, tensors)
        _make(growing, layer, {"weight": Fill("split_pair", first), "bias": zero})
        if new.last is not None:
            _make(growing, growing.graph.by_name[new.last], {"weight": Fill("join_pair", last), "bias": zero})
        growing.rounds |= new.pair != 1.0
    if new.reader is not None:
        _double(growing, growing.graph.by_name[new.reader], site.width)
    if new.norm is not None:
        if moments is not None and new.pair is not None:
            moments = moments_of_pair(moments, across=site.across)
        _fill_norm(growing, growing.graph.by_name[new.norm], moments, tensors)


def _make(growing: _Growing, layer: Layer, fills: Mapping[str, Fill], dtype: str | None = None) -> None:
    """Every tensor of a new layer from its constructor."""
    for key, slot in layer.op.tensors().items():
        name = layer.tensor_name(key)
        own = "I64" if slot.integer else dtype
        growing.made[name] = TensorPlan(name, slot.shape, None, fill=fills[key], dtype=own)


def _double(growing: _Growing, reader: Layer, width: int) -> None:
    """The reader of a pair: [W, −W]."""
    name = reader.tensor_name("weight")
    shape = reader.op.tensors()["weight"].shape
    factor = np.repeat([1.0, -1.0], width)
    both = AxisMap(1, np.tile(np.arange(width), 2)[None], factor=factor)
    growing.made[name] = TensorPlan(name, shape, name, (both,))


def _fill_norm(growing: _Growing, layer: Layer, moments: Moments | None, tensors: Tensors | None) -> None:
    op = layer.op
    assert isinstance(op, (norm.PerChannelNorm, norm.FrozenBatchNorm2d))
    stored = _stored_type(growing, tensors)
    if stored in HALF_TYPES:
        growing.notes.append(f"`{layer.name}` is kept in float32: in {stored} its statistics could not be an identity")
        stored = "F32"
    real = np.float64 if stored == "F64" else np.float32
    size = op.num_features
    if moments is None:
        weight, variance = np.ones(size), np.full(size, 1.0 - op.eps)
        mean = np.zeros(size)
    else:
        weight, variance = unit_gain(moments.variance, op.eps, real)
        mean = moments.mean.astype(real).astype(np.float64)
    vectors = {"weight": weight, "bias": mean, "running_mean": mean, "running_var": variance}
    fills = {key: Fill("vector", vector=value) for key, value in vectors.items()}
    _make(growing, layer, fills | {"num_batches_tracked": Fill("constant", 0.0)}, stored)
    growing.rounds = True


def _stored_type(growing: _Growing, tensors: Tensors | None) -> str:
    """The type that the teacher's floating-point tensors have."""
    if tensors is None:
        return "F32"
    sizes: dict[str, int] = {}
    for name, _, _, slot in growing.teacher.tensors():
        if not slot.integer:
            info = tensors.info(name)
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
    return max(sizes, key=lambda dtype: sizes[dtype], default="F32")


def _deepen_block(growing: _Growing, name: str, count: int) -> None:
    block, template = find_block(growing.graph, name), name
    for _ in range(count):
        twin = repeat(growing.graph, block, template)
        growing.graph = twin.graph
        for new, old in twin.sources.items():
            if old == block.out:
                growing.values[new] = growing.values[old]
            _copy_or_silence(growing, new, old, silent=new in twin.silenced)
        block, template = find_block(growing.graph, twin.name), twin.name


def _copy_or_silence(growing: _Growing, new: str, old: str, *, silent: bool) -> None:
    layer, source = growing.graph.by_name[new], growing.graph.by_name[old]
    for key, slot in layer.own_tensors().items():
        name, origin = layer.tensor_name(key), source.tensor_name(key)
        if silent and key in layer.op.silent:
            growing.made[name] = TensorPlan(name, slot.shape, None, fill=Fill("constant", 0.0))
            continue
        known = growing.made.get(origin)
        growing.made[name] = replace(known, name=name) if known else TensorPlan(name, slot.shape, origin)


def _plan(growing: _Growing, operation: Operation) -> Plan:
    try:
        _ = growing.graph.shapes
    except Exception as wrong:
        raise AssertionError("the deepened graph does not fit together") from wrong
    tensors = {
        name: growing.made.get(name) or TensorPlan(name, slot.shape, name)
        for name, _, _, slot in growing.graph.tensors()
    }
    notes, values = tuple(growing.notes), growing.values
    return Plan(growing.teacher, growing.graph, tensors, operation, growing.rounds, notes, values=values)
