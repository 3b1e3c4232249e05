"""Which channels must grow together: labels, ties, blocks, and what freezes them.

One run over the graph gives every channel a label. What it collects is resolved into three facts a label: its *class*
(all labels of a class have equally many copies), its *block* (consecutive labels that are copied as one unit, such as
the H·W features that one channel becomes when it is flattened), and whether its class is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.channels.tied import unabsorbed
from net2net_cli.channels.unions import Ints, components, distinct

Place: TypeAlias = tuple[str, str, int]
"""An axis of a tensor: owning layer, the op's name for the tensor, axis."""

Choices: TypeAlias = Mapping[tuple[str, str], int]
"""For each split or merge of several axes (layer, site): which factor grows."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Labels that met at a layer: `a[i]` with `b[i]`."""

    a: Ints
    b: Ints
    layer: Layer
    why: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """Labels that keep one copy: "because `layer` why"."""

    labels: Ints
    layer: str
    why: str


@dataclass(frozen=True, slots=True)
class EqualParts:
    """Sections, one a row, whose copies must sum to the same number."""

    labels: Ints
    layer: str


@dataclass(frozen=True, slots=True)
class Nested:
    """Labels `(outer, n, inner)` of a merged axis, whose blocks follow those of the `(n,)` labels of one factor."""

    whole: Ints
    factor: Ints


@dataclass
class Collected:
    """All that a run over the graph has to say, before it is resolved."""

    count: int = 0
    ties: list[Tie] = field(default_factory=list)
    same_count: list[Tie] = field(default_factory=list)
    same_block: list[tuple[Ints, Ints]] = field(default_factory=list)
    nested: list[Nested] = field(default_factory=list)
    frozen: list[Freeze] = field(default_factory=list)
    parts: list[EqualParts] = field(default_factory=list)
    places: dict[Place, Axis] = field(default_factory=dict)
    created: dict[Place, Ints] = field(default_factory=dict)
    readers: dict[Place, list[Layer]] = field(default_factory=dict)
    widths: dict[str, list[Ints]] = field(default_factory=dict)
    values: dict[str, Axes] = field(default_factory=dict)
    options: dict[tuple[str, str], list[tuple[int, Ints]]] = field(default_factory=dict)


def growing_factor(sizes: Sequence[int]) -> int:
    """Of the factors of a reordered axis, the one that grows: that of most slices, channels rather than groups."""
    return max(range(len(sizes)), key=lambda i: sizes[i])


class LabelFlow(Flow):
    """The run over labels. Sizes are the teacher's throughout; nothing is decided but which factor of a split grows."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.found = Collected()
        self.layer: Layer

    def fresh(self, size: int) -> Ints:
        """Labels that nothing else has."""
        start = self.found.count
        self.found.count += size
        return np.arange(start, start + size, dtype=np.int64)

    def freeze(self, labels: Axis, why: str) -> None:
        """Keep these at one copy."""
        if labels is not None and labels.size:
            self.found.frozen.append(Freeze(labels, self.layer.name, why))

    def _meet(self, place: Place, channels: Axis, size: int) -> None:
        """The channels at one axis of a tensor; where the tensor is used twice, those of both uses are tied."""
        if place in self.found.places:
            self._tie(self.found.places[place], channels, "uses the same weights")
        else:
            self.found.places[place] = channels

    def create(self, parameter: str, axis: int, size: int, *, parts: int = 1) -> Axis:
        place = self.layer.place(parameter, axis)
        if place not in self.found.places:
            self.found.places[place] = self.fresh(size)
            self.equal_parts(self.found.places[place], size=size, parts=parts)
        labels = self.found.places[place]
        if labels is not None:  # as where another layer reads the network's input by the same weights
            self.found.created.setdefault(place, labels)
            self.found.widths.setdefault(self.layer.owner, []).append(labels)
        return labels

    def carry(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        self._meet(self.layer.place(parameter, axis), channels, size)

    def consume(self, parameter: str, axis: int, channels: Axis, *, size: int, rows: int, parts: int = 1) -> None:
        place = self.layer.place(parameter, axis)
        self._meet(place, channels, size)
        self.found.readers.setdefault(place, []).append(self.layer)

    def tie(self, a: Axis, b: Axis, *, size: int) -> Axis:
        return self._tie(a, b, f"ties its operands ({self.layer.op.name})")

    def _tie(self, a: Axis, b: Axis, why: str) -> Axis:
        if a is None or b is None:
            self.freeze(b if a is None else a, "meets channels there that cannot change")
            return None
        if a is not b:
            self.found.ties.append(Tie(a, b, self.layer, why))
        return a

    def mix(self, channels: Axis, why: str) -> None:
        self.freeze(channels, why)

    def uniform(self, channels: Axis, why: str) -> None:
        if channels is not None and channels.size > 1:
            self.found.same_count.append(Tie(channels[:-1], channels[1:], self.layer, why))

    def equal_parts(self, channels: Axis, *, size: int, parts: int) -> None:
        if channels is not None and parts > 1:
            self.found.parts.append(EqualParts(channels.reshape(parts, -1), self.layer.name))

    def whole_parts(self, channels: Axis, *, size: int, parts: int) -> int:
        if channels is not None and parts < size:
            groups = channels.reshape(parts, -1)
            self._unit(groups[:, :-1], groups[:, 1:], "copies whole groups")
        return parts

    def _unit(self, a: Ints, b: Ints, why: str) -> None:
        """Neighbours that are copied as one."""
        self.found.same_count.append(Tie(a, b, self.layer, why))
        self.found.same_block.append((a, b))

    def section(self, channels: Axis, *, size: int, start: int, stop: int) -> tuple[Axis, int, int]:
        return (None if channels is None else channels[start:stop]), start, stop

    def concat(self, pieces: Sequence[tuple[Axis, int]]) -> Axis:
        if all(axis is None for axis, _ in pieces):
            return None
        return np.concatenate([self._or_frozen(axis, size) for axis, size in pieces])

    def _or_frozen(self, axis: Axis, size: int) -> Ints:
        if axis is not None:
            return axis
        labels = self.fresh(size)
        self.freeze(labels, "joins channels there that cannot change")
        return labels

    def pad(self, channels: Axis, *, size: int, before: int, after: int, attribute: str) -> tuple[Axis, int, int]:
        if channels is None:
            return None, before, after
        ends = []
        for end, amount in enumerate((before, after)):
            place = (self.layer.name, attribute, end)
            ends.append(self.found.places.setdefault(place, self.fresh(amount)))
        return np.concatenate([ends[0], channels, ends[1]]), before, after

    def merge(self, factors: Sequence[tuple[Axis, int | None]]) -> Axis:
        live = [i for i, (axis, _) in enumerate(factors) if axis is not None]
        if not live:
            return None
        if any(size is None for _, size in factors):
            for axis, _ in factors:
                self.freeze(axis, "merges it with the batch")
            return None
        site = f"merge {sum(name == self.layer.name for name, _ in self.found.options)}"
        keep = self._choose(site, [(i, self._known(factors[i][0])) for i in live])
        for i in live:
            if i != keep:
                self.freeze(factors[i][0], "merges it with another axis that may grow")
        return self._merged([int(size or 1) for _, size in factors], keep, self._known(factors[keep][0]))

    @staticmethod
    def _known(axis: Axis) -> Ints:
        assert axis is not None
        return axis

    def _merged(self, sizes: list[int], keep: int, factor: Ints) -> Ints:
        outer, inner = prod(sizes[:keep]), prod(sizes[keep + 1 :])
        if outer == inner == 1:
            return factor
        whole = self.fresh(outer * sizes[keep] * inner).reshape(outer, sizes[keep], inner)
        self._nest(whole, factor)
        return whole.ravel()

    def _nest(self, whole: Ints, factor: Ints) -> None:
        spread = np.broadcast_to(factor[None, :, None], whole.shape)
        self.found.same_count.append(Tie(whole, spread, self.layer, "reorders it"))
        if whole.shape[2] > 1:
            self._unit(whole[:, :, :-1], whole[:, :, 1:], "reorders it")
        self.found.nested.append(Nested(whole, factor))

    def split(self, channels: Axis, sizes: Sequence[int | None], *, site: str) -> tuple[Axis, ...]:
        if channels is None:
            return (None,) * len(sizes)
        known = [size or 1 for size in sizes]
        # The factor of most slices comes first: channels, rather than groups, heads or pixels.
        able = sorted((i for i, size in enumerate(known) if size > 1), key=lambda i: -known[i])
        fresh = {i: self.fresh(known[i]) for i in able}
        keep = self._choose(site, [(i, fresh[i]) for i in able]) if able else 0
        labels = channels
        if able and known[keep] != channels.size:
            labels = fresh[keep]
            self._nest(channels.reshape(prod(known[:keep]), known[keep], prod(known[keep + 1 :])), labels)
        return tuple(labels if i == keep else None for i in range(len(known)))

    def permute(
        self, channels: Axis, sizes: Sequence[int], order: Sequence[int], *, site: str
    ) -> tuple[Axis, tuple[int, ...]]:
        if channels is None:
            return None, tuple(sizes)
        keep = growing_factor(sizes)
        outer, inner = prod(sizes[:keep]), prod(sizes[keep + 1 :])
        if inner > 1:
            rows = channels.reshape(-1, inner)
            self._unit(rows[:, :-1], rows[:, 1:], "reorders it")
        self.equal_parts(channels, size=channels.size, parts=outer)
        return channels.reshape(sizes).transpose(order).ravel(), tuple(sizes)

    def _choose(self, site: str, candidates: list[tuple[int, Ints]]) -> int:
        key = (self.layer.name, site)
        self.found.options[key] = candidates
        return self.choices.get(key, candidates[0][0])

    def width(self, channels: Axis, size: int) -> int:
        return size

    def set(self, **attributes: Any) -> None:
        """The teacher's attributes stay."""


@dataclass(frozen=True)
class Labels:
    """A resolved run over labels.

    Attributes:
        group: `(labels,)`, the class of each label; classes are numbered 0 … classes − 1.
        block: `(labels,)`, the block of each label; `block_length[block]` is how many labels make one unit.
        frozen: class -> why it keeps one copy.
        choices: which factor of each split and merge grows.
    """

    graph: Graph
    found: Collected
    choices: dict[tuple[str, str], int]
    group: Ints
    block: Ints
    block_length: Ints
    frozen: dict[int, Freeze]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.group.max()) + 1 if self.group.size else 0

    def output_axis(self, layer: str) -> Ints | None:
        """The labels of a layer's own width: the channels it creates, or carries where it is depthwise."""
        own = self.found.widths.get(layer)
        if own:
            return max(own, key=lambda labels: (~self.is_frozen(labels)).sum())
        op = self.graph.by_name[layer].op
        if getattr(op, "depthwise", False):
            return self.found.values[layer][1]
        return None

    def is_frozen(self, labels: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the labels keep one copy."""
        mask = np.zeros(self.classes, dtype=bool)
        mask[list(self.frozen)] = True
        frozen: np.ndarray[Any, np.dtype[np.bool_]] = mask[self.group[labels]]
        return frozen

    def why_frozen(self, labels: Ints) -> Freeze | None:
        """The reason that keeps the first frozen one of these at one copy, or None where all may grow."""
        frozen = labels[self.is_frozen(labels)]
        return self.frozen[int(self.group[frozen[0]])] if frozen.size else None


def find_labels(graph: Graph) -> Labels:
    """Run once over the graph; again with other choices where a split let only a frozen factor grow."""
    choices: dict[tuple[str, str], int] = {}
    tried: dict[tuple[str, str], set[int]] = {}
    while True:
        labels = _resolve(graph, _run(graph, choices), choices)
        better = _other_choices(labels, tried)
        if not better:
            return labels
        choices |= better


def _run(graph: Graph, choices: Choices) -> Collected:
    flow = LabelFlow(choices)
    found = flow.found
    shapes = graph.shapes
    for network_input in graph.inputs:
        found.values[network_input.name] = (None,) * len(network_input.shape)
    for layer in graph.layers:
        flow.layer = layer
        found.values[layer.name] = layer.op.flow(
            flow, *(Channels(shapes[n], found.values[n]) for n in (*layer.inputs, *layer.op.references()))
        )
    for place, readers in found.readers.items():
        if place in found.created and (why := unabsorbed(graph, readers)) is not None:
            found.frozen.append(Freeze(found.created[place], *why))
    for output, value in graph.outputs.items():
        left = f"is the network's output `{output}`"
        found.frozen += [Freeze(axis, value, left) for axis in found.values[value] if axis is not None]
    return found


def _other_choices(labels: Labels, tried: dict[tuple[str, str], set[int]]) -> dict[tuple[str, str], int]:
    """Another factor for each split whose growing factor turned out frozen, if one is left to try."""
    better = {}
    for key, candidates in labels.found.options.items():
        now = labels.choices.get(key, candidates[0][0])
        tried.setdefault(key, set()).add(now)
        chosen = dict(candidates)[now]
        left = [i for i, _ in candidates if i not in tried[key]]
        if left and labels.is_frozen(chosen).all():
            better[key] = left[0]
    return better


def _resolve(graph: Graph, found: Collected, choices: Choices) -> Labels:
    tied = [(t.a, t.b) for t in found.ties]
    group = components(found.count, tied + [(t.a, t.b) for t in found.same_count])
    _, group = np.unique(group, return_inverse=True)
    block = _blocks(found, tied)
    frozen: dict[int, Freeze] = {}
    for freeze in found.frozen:
        for number in distinct(group[freeze.labels]).tolist():
            frozen.setdefault(number, freeze)
    group = group.astype(np.int64)
    return Labels(graph, found, dict(choices), group, block, _block_lengths(found, block), frozen)


def _blocks(found: Collected, tied: list[tuple[Ints, Ints]]) -> Ints:
    """Blocks after ties; a merged axis takes over the blocks of its factor, and the factor those of the whole."""
    block = components(found.count, tied + found.same_block)
    while True:
        more: list[tuple[Ints, Ints]] = []
        for nested in found.nested:
            whole, factor = nested.whole, nested.factor
            inside = (block[whole[:, :-1, 0]] == block[whole[:, 1:, 0]]).any(axis=0)
            joined = inside | (block[factor[:-1]] == block[factor[1:]])
            at = np.flatnonzero(joined)
            if at.size:
                more += [(whole[:, at, -1], whole[:, at + 1, 0]), (factor[at], factor[at + 1])]
        after = components(found.count, more, block)
        if np.array_equal(after, block):
            return block
        block = after


def _block_lengths(found: Collected, block: Ints) -> Ints:
    """How many consecutive labels make one unit of each block: the longest run where the block was declared."""
    length = np.ones(max(found.count, 1), dtype=np.int64)
    declared = [n.whole.reshape(n.whole.shape[0], -1) for n in found.nested]
    declared += [np.concatenate([a, b[:, -1:]], axis=1) for a, b in found.same_block if a.ndim == 2]
    declared += [n.factor[None] for n in found.nested]
    for rows in declared:
        ids = block[rows]
        starts = np.ones(ids.shape, dtype=bool)
        starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
        at = np.flatnonzero(starts.ravel())
        runs = np.diff(np.append(at, ids.size))
        np.maximum.at(length, ids.ravel()[at], runs)
    return length
