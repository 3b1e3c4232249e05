"""Which channels must grow together: labels, ties, blocks, and what freezes them.

One run over the graph gives every channel a label. What it collects is resolved into three facts a label: its *class*
(all labels of a class have equally many copies), its *block* (consecutive labels that are copied as one unit, such as
the H·W features that one channel becomes when it is flattened), and whether its class is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np

from net2net_cli.architecture.flow import Axis, Channels, Flow, Tail, passed
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.base import Op
from net2net_cli.channels.blocks import block_lengths, blocks
from net2net_cli.channels.choices import MEETS, Choosing
from net2net_cli.channels.collected import Averaged, Collected, EqualParts, Freeze, Nested, Place, Tie
from net2net_cli.channels.tails import Barred, TailRule, find_tails
from net2net_cli.channels.tied import unabsorbed
from net2net_cli.channels.unions import Ints, Mask, components, distinct

Choices: TypeAlias = Mapping[tuple[str, str], int]
"""For each split or merge of several axes (layer, site): which factor grows."""


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
            self.freeze(b if a is None else a, MEETS)
            return None
        if a is not b:
            self.found.ties.append(Tie(a, b, self.layer, why))
        return a

    def mix(self, channels: Axis, why: str) -> None:
        self.freeze(channels, why)

    def uniform(self, channels: Axis, why: str) -> None:
        self.known(channels, why)
        self._averaged(channels, why, None)

    def known(self, channels: Axis, why: str) -> None:
        if channels is not None and channels.size:
            self.found.seen.append(Freeze(channels, self.layer.name, why))

    def _averaged(self, channels: Axis, why: str, tail: Tail | None) -> None:
        if channels is not None and channels.size > 1:
            self.found.same_count.append(Tie(channels[:-1], channels[1:], self.layer, why))
            self.found.averaged.append(Averaged(channels, tail))

    def normalise(self, channels: Axis, *, size: int, tail: Tail, why: str) -> Axis:
        self.known(channels, why)
        self._averaged(channels, why, tail)
        return channels

    def unscale(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        self.carry(parameter, axis, channels, size=size)

    def plain(self, channels: Axis, why: str) -> None:
        if channels is not None and channels.size:
            self.found.plain.append(Freeze(channels, self.layer.name, why))

    def same_width(self, a: Axis, b: Axis, *, size: int, why: str) -> None:
        pair = np.stack([self._or_frozen(axis, size) for axis in (a, b)])
        self.found.parts.append(EqualParts(pair, self.layer.name, why))

    def equal_parts(self, channels: Axis, *, size: int, parts: int) -> None:
        if channels is not None and parts > 1:
            self.plain(channels, "cuts it into sections")
            why = f"needs {parts} sections of equal size"
            self.found.parts.append(EqualParts(channels.reshape(parts, -1), self.layer.name, why))

    def whole_parts(self, channels: Axis, *, size: int, parts: int) -> int:
        if channels is not None and parts < size:
            self.plain(channels, "cuts it into groups")
            groups = channels.reshape(parts, -1)
            self._unit(groups[:, :-1], groups[:, 1:], "copies whole groups")
        return parts

    def serve(self, channels: Axis, servers: Axis, *, size: int, parts: int) -> None:
        # A section that is copied whole and one that grows inside may both be meant; the proof holds who reads whom.
        self.equal_parts(channels, size=size, parts=parts)
        self._averaged(servers, "gives each of its slices to as many others", None)

    def _unit(self, a: Ints, b: Ints, why: str) -> None:
        """Neighbours that are copied as one."""
        self.found.same_count.append(Tie(a, b, self.layer, why))
        self.found.same_block.append((a, b))

    def section(self, channels: Axis, *, size: int, start: int, stop: int) -> tuple[Axis, int, int]:
        if channels is not None and stop - start < size:
            self.plain(channels, "cuts out a section of it")
        return (None if channels is None else channels[start:stop]), start, stop

    def concat(self, pieces: Sequence[tuple[Axis, int]]) -> Axis:
        if all(axis is None for axis, _ in pieces):
            return None
        joined = np.concatenate([self._or_frozen(axis, size) for axis, size in pieces])
        if len(pieces) > 1:
            self.plain(joined, "joins it with others")
        return joined

    def _or_frozen(self, axis: Axis, size: int) -> Ints:
        if axis is not None:
            return axis
        labels = self.fresh(size)
        self.freeze(labels, "joins channels there that cannot change")
        return labels

    def pad(self, channels: Axis, *, size: int, before: int, after: int, attribute: str) -> tuple[Axis, int, int]:
        if channels is None:
            return None, before, after
        self.plain(channels, "pads it")
        ends = []
        for end, amount in enumerate((before, after)):
            place = (self.layer.name, attribute, end)
            ends.append(self.found.places.setdefault(place, self.fresh(amount)))
        return np.concatenate([ends[0], channels, ends[1]]), before, after

    def awaited(self, parameter: str, axis: int, *, size: int) -> Axis:
        return None

    def fill(self, parameter: str, axis: int, size: int) -> Axis:
        labels = self.fresh(size)
        self.found.places[self.layer.place(parameter, axis)] = labels
        self.found.filled.append(labels)
        return labels

    def merge(self, factors: Sequence[tuple[Axis, int | None]]) -> Axis:
        live = [i for i, (axis, _) in enumerate(factors) if axis is not None]
        if not live:
            return None
        if any(size is None for _, size in factors):
            for axis, _ in factors:
                self.freeze(axis, "merges it with the batch")
            return None
        site = f"merge {sum(name == self.layer.name for name, _ in self.found.options)}"
        # What is filled with one number comes last: it grows for others' sake.
        live.sort(key=lambda i: any(factors[i][0] is labels for labels in self.found.filled))
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
        self.plain(whole.ravel(), "reorders it")
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
        self, channels: Axis, sizes: Sequence[int], order: Sequence[int], *, alone: bool
    ) -> tuple[Axis, tuple[int, ...], tuple[int, ...] | None]:
        if channels is None:
            return None, tuple(sizes), None
        keep = growing_factor(sizes)
        outer, inner = prod(sizes[:keep]), prod(sizes[keep + 1 :])
        self.plain(channels, "reorders it")
        if inner > 1:
            rows = channels.reshape(-1, inner)
            self._unit(rows[:, :-1], rows[:, 1:], "reorders it")
        self.equal_parts(channels, size=channels.size, parts=outer)
        return channels.reshape(sizes).transpose(order).ravel(), tuple(sizes), None

    def take(self, channels: Axis, index: Sequence[int], *, size: int) -> tuple[Axis, tuple[int, ...]]:
        self.plain(channels, "reorders it")
        return (None if channels is None else channels[list(index)]), tuple(index)

    def become(self, op: Op) -> None:
        """The teacher's op stays."""

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
        tails: class -> what may stand behind its copies; how long it is is counted beside the copies, from 0 up.
        barred: class over which norms take averages -> why it cannot have a tail.
    """

    graph: Graph
    found: Collected
    choices: dict[tuple[str, str], int]
    group: Ints
    block: Ints
    block_length: Ints
    frozen: dict[int, Freeze]
    tails: dict[int, TailRule] = field(default_factory=dict)
    barred: Barred = field(default_factory=dict)

    @cached_property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.group.max()) + 1 if self.group.size else 0

    @property
    def nothing(self) -> int:
        """The number of no class and no tail: that of the place behind both."""
        return self.classes + len(self.tails)

    def ones(self) -> Ints:
        """One copy of each class, and no tails: `(classes + tails,)`."""
        copies = np.ones(self.nothing, dtype=np.int64)
        copies[self.classes :] = 0
        return copies

    def output_axis(self, layer: str) -> Ints | None:
        """The labels of a layer's own width: the channels it creates, or carries where it is depthwise."""
        if own := self.found.widths.get(layer):
            return max(own, key=lambda labels: (~self.is_frozen(labels)).sum())
        op = self.graph.by_name[layer].op
        if getattr(op, "depthwise", False):
            return self.found.values[layer][1]
        return None

    def named_axes(self, layer: str) -> dict[str, Ints]:
        """Widths of a layer between two of its tensors, by name: an attention's `heads`."""
        tensors = self.graph.by_name[layer].op.tensors()
        return {
            name: labels
            for (owner, name, _), labels in self.found.created.items()
            if owner == layer and name not in tensors
        }

    @cached_property
    def _is_frozen(self) -> Mask:
        return np.isin(self.group, list(self.frozen))

    def is_frozen(self, labels: Ints) -> Mask:
        """Which of the labels keep one copy."""
        return self._is_frozen[labels]

    def why_frozen(self, labels: Ints) -> Freeze | None:
        """The reason that keeps the first frozen one of these at one copy, or None where all may grow."""
        frozen = labels[self.is_frozen(labels)]
        return self.frozen[int(self.group[frozen[0]])] if frozen.size else None

    def why_seen(self, labels: Ints) -> Freeze | None:
        """The op that would see new channels in the place of copies of these, or None where none would."""
        mine = distinct(self.group[labels[~self.is_frozen(labels)]]).tolist()
        return next((self._seen[number] for number in mine if number in self._seen), None)

    @cached_property
    def _seen(self) -> dict[int, Freeze]:
        """Class -> the first op that acts on more than each of its channels by itself."""
        seen: dict[int, Freeze] = {}
        for one in self.found.seen:
            for number in distinct(self.group[one.labels]).tolist():
                seen.setdefault(number, one)
        return seen


def find_labels(graph: Graph) -> Labels:
    """Run once over the graph; again with other choices where a split let only a frozen factor grow."""
    choosing = Choosing()
    while True:
        labels = _resolve(graph, _run(graph, choosing.choices), choosing.choices)
        if not choosing.improve(labels):
            return labels


def _run(graph: Graph, choices: Choices) -> Collected:
    flow = LabelFlow(choices)
    found = flow.found
    shapes = graph.shapes
    for network_input in graph.inputs:
        found.values[network_input.name] = (None,) * len(network_input.shape)
    for layer in graph.layers:
        flow.layer = layer
        read = (Channels(shapes[n], found.values[n]) for n in (*layer.inputs, *layer.op.references()))
        found.values[layer.name] = passed(flow, layer.op, read)
    for place, readers in found.readers.items():
        if place in found.created:
            by_its_own = Freeze(found.created[place], readers[0].name, "reads it by the weights that make it")
            found.plain.append(by_its_own)
            found.seen.append(by_its_own)
            if (why := unabsorbed(graph, readers)) is not None:
                found.frozen.append(Freeze(found.created[place], *why))
    for output, value in graph.outputs.items():
        left = f"is the network's output `{output}`"
        found.frozen += [Freeze(axis, value, left) for axis in found.values[value] if axis is not None]
    return found


def _resolve(graph: Graph, found: Collected, choices: Choices) -> Labels:
    tied = [(t.a, t.b) for t in found.ties]
    group = components(found.count, tied + [(t.a, t.b) for t in found.same_count])
    _, group = np.unique(group, return_inverse=True)
    block = blocks(found, tied)
    frozen: dict[int, Freeze] = {}
    for freeze in found.frozen:
        for number in distinct(group[freeze.labels]).tolist():
            frozen.setdefault(number, freeze)
    group = group.astype(np.int64)
    tails, barred = find_tails(found, group, frozen)
    return Labels(graph, found, dict(choices), group, block, block_lengths(found, block), frozen, tails, barred)
