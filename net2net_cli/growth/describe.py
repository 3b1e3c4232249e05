"""What a network's layers can do: the data behind `inspect`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.channels.collected import Freeze
from net2net_cli.channels.counts import Demand, labels_of, next_width, prove, solve
from net2net_cli.channels.fresh import with_new_channels
from net2net_cli.channels.groups import Groups, Member
from net2net_cli.channels.labels import Labels
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.blocks import find_block
from net2net_cli.growth.insert import check_activation, check_norm, find_site


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer.

    Attributes:
        width: of its own, or None where it follows other layers or has no channels.
        widths: others that it has between its tensors, by name, as an attention's heads.
        parameters: how many numbers are trained.
        grows_with: other layers with a width of their own that grow with it.
        followers: norms and the like that carry its channels.
        readers: layers whose weights read its channels.
        not_widened: why it cannot be widened, or None where it can.
        not_deepened: why nothing can be inserted behind it, or None where it can.
        not_fresh: what would see new channels in the place of copies, or None where nothing would.
    """

    name: str
    op: str
    width: int | None
    widths: Mapping[str, int]
    parameters: int
    grows_with: tuple[Member, ...]
    followers: tuple[str, ...]
    readers: tuple[str, ...]
    not_widened: str | None
    not_deepened: str | None
    not_fresh: str | None = None


def describe(graph: Graph, labels: Labels | None = None) -> list[LayerInfo]:
    """Every layer that owns tensors, in order."""
    labels = labels or labels_of(graph)
    groups = Groups(labels)
    weighted = [layer for layer in graph.layers if layer.weights_of is None and layer.op.tensors()]
    return [_layer_info(labels, groups, layer) for layer in weighted]


def _layer_info(labels: Labels, groups: Groups, layer: Layer) -> LayerInfo:
    name = layer.name
    own = groups.widths.get(name)
    parameters = sum(math.prod(s.shape) for s in layer.own_tensors().values() if s.kind == "parameter")
    deepen = _why_not_deepened(labels.graph, layer)
    widths = {part: axis.size for part, axis in labels.named_axes(name).items()}
    if own is None:
        why = "its width is that of the layers before it"
        if isinstance(layer.op, Opaque):
            why = f"it is {layer.op.described}"
        return LayerInfo(name, layer.op.name, None, widths, parameters, (), (), (), why, deepen)
    frozen = _said(name, labels.why_frozen(own)) if labels.is_frozen(own).all() else None
    return LayerInfo(
        name,
        layer.op.name,
        own.size,
        widths,
        parameters,
        tuple(groups.members(name)),
        tuple(groups.followers(name)),
        tuple(groups.readers(name)),
        frozen,
        deepen,
        frozen or _said(name, labels.why_seen(own)),
    )


def _said(layer: str, reason: Freeze | None) -> str | None:
    if reason is None:
        return None
    return f"{'it' if reason.layer == layer else f'`{reason.layer}`'} {reason.why}"


def _why_not_deepened(graph: Graph, layer: Layer) -> str | None:
    try:
        site = find_site(graph, layer)
        check_activation(site)
        check_norm(site)
    except GrowthRefusedError as refused:
        return refused.message.partition(": ")[2]
    return None


def repeatable_blocks(graph: Graph) -> list[str]:
    """Names of the residual blocks that `deepen` can repeat."""
    found = []
    prefixes: dict[str, None] = {}
    for name in graph.by_name:
        parts = name.split(".")
        prefixes |= dict.fromkeys(".".join(parts[:i]) for i in range(1, len(parts)))
    for prefix in prefixes:
        try:
            find_block(graph, prefix)
        except GrowthRefusedError:
            continue
        found.append(prefix)
    return found


def next_widths(labels: Labels, layer: str, count: int = 3) -> Sequence[int]:
    """The next widths above the present one that a layer can have."""
    own = labels.output_axis(layer)
    if own is None or labels.is_frozen(own).all():
        return ()
    found: list[int] = []
    width: int | None = own.size
    while len(found) < count:
        assert width is not None
        width = next_width(labels, Demand(layer, own, width))
        if width is None:
            break
        found.append(width)
    return found


def why_not_fresh(labels: Labels, layer: str, width: int) -> str | None:
    """What would see new channels if a layer alone, and what is coupled to it, had this width; None where nothing."""
    own = labels.output_axis(layer)
    assert own is not None
    counts = solve(labels, [Demand(layer, own, width)], np.random.default_rng(0))
    try:
        with_new_channels(labels, counts, prove(labels, counts))
    except GrowthRefusedError as refused:
        return refused.message.partition(": ")[2]
    return None
