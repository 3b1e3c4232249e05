"""New channels in the place of copies: which slices of a student are new, and that nothing sees them.

The first copy of a channel stays the channel, the others hold anything. That is exact where whatever reads them has
weights of zero there, and where all else on their way treats each slice by itself, for every number that a slice may
hold. The run over positions knows no such thing: to it all copies are equal. So a student whose channels are new is
run once more, over its own graph, and an op that would let new slices act on others is the refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow, Tail, passed
from net2net_cli.architecture.graph import Layer
from net2net_cli.architecture.ops.base import Op
from net2net_cli.channels.labels import Labels
from net2net_cli.channels.layout import later_copies, layout
from net2net_cli.channels.student import StudentRun
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import GrowthRefusedError

BY_ITS_OWN = "reads them by the weights that make them"
GONE = "no longer finds the channels that it needs beside the new ones"
COPIES = "leave out `--split fresh`: copies of channels can stand there"


class FreshFlow(Flow):
    """The run over new slices. An axis holds 1 for each slice that may differ from its channel, 0 for the others.

    Sizes are the student's, as is the graph.
    """

    def __init__(self, labels: Labels, counts: Ints, run: StudentRun) -> None:
        self.labels = labels
        self.counts = counts
        self.run = run
        self.layer: Layer

    def refuse(self, why: str, layer: str = "") -> GrowthRefusedError:
        """The growth ends at the present layer, or at another one."""
        name = layer or self.layer.name
        said = f"new channels (`--split fresh`) cannot be exact: `{name}` {why}"
        return GrowthRefusedError(said, COPIES, layer=name)

    def known(self, channels: Axis, why: str) -> None:
        if channels is not None and channels.any():
            raise self.refuse(why)

    def create(self, parameter: str, axis: int, size: int, *, parts: int = 1) -> Axis:
        own = self.labels.found.places[self.layer.place(parameter, axis)]
        return None if own is None else self._later(own)

    def _later(self, own: Ints) -> Ints:
        return later_copies(layout(self.labels, self.counts, own)).astype(np.int64)

    def carry(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        """Numbers at later copies are drawn: no slice there may be counted on."""
        gather = self.run.gathers.get(self.layer.place(parameter, axis))
        if gather is not None:
            new = np.zeros(size, dtype=np.int64) if channels is None else channels
            self.known(later_copies(gather.position).ravel() & ~new, GONE)

    def consume(self, parameter: str, axis: int, channels: Axis, *, size: int, rows: int, parts: int = 1) -> None:
        """Weights are zero at later copies: only there may slices be new."""
        place = self.layer.place(parameter, axis)
        if place in self.run.gathers:
            self.known(channels, BY_ITS_OWN)
        if channels is not None:
            reading = self.run.readings.get(place)
            read = np.zeros(size, dtype=bool) if reading is None else later_copies(reading.position).ravel()
            self.known(channels & ~read, GONE)

    def tie(self, a: Axis, b: Axis, *, size: int) -> Axis:
        if a is None or b is None:
            self.known(b if a is None else a, GONE)
            return None
        return np.maximum(a, b)

    def mix(self, channels: Axis, why: str) -> None:
        self.known(channels, why)

    def uniform(self, channels: Axis, why: str) -> None:
        self.known(channels, why)

    def normalise(self, channels: Axis, *, size: int, tail: Tail, why: str) -> Axis:
        self.known(channels, why)
        return channels

    def unscale(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        self.carry(parameter, axis, channels, size=size)

    def plain(self, channels: Axis, why: str) -> None:
        """New slices are channels of their own."""

    def same_width(self, a: Axis, b: Axis, *, size: int, why: str) -> None:
        """The run over positions has seen to it."""

    def equal_parts(self, channels: Axis, *, size: int, parts: int) -> None:
        """Likewise."""

    def whole_parts(self, channels: Axis, *, size: int, parts: int) -> int:
        if channels is not None:
            groups = channels.reshape(parts, -1)
            self.known(groups.max(axis=1) - groups.min(axis=1), GONE)  # a whole group of new ones is by itself
        return parts

    def serve(self, channels: Axis, servers: Axis, *, size: int, parts: int) -> None:
        if servers is not None:
            served = np.repeat(servers, size // parts)
            self.known(served if channels is None else served & ~channels, GONE)

    def section(self, channels: Axis, *, size: int, start: int, stop: int) -> tuple[Axis, int, int]:
        return (None if channels is None else channels[start:stop]), start, stop

    def concat(self, pieces: Sequence[tuple[Axis, int]]) -> Axis:
        if all(axis is None for axis, _ in pieces):
            return None
        return np.concatenate([np.zeros(size, dtype=np.int64) if axis is None else axis for axis, size in pieces])

    def pad(self, channels: Axis, *, size: int, before: int, after: int, attribute: str) -> tuple[Axis, int, int]:
        if channels is None:
            return None, before, after
        ends = (self.labels.found.places[self.layer.name, attribute, end] for end in (0, 1))
        first, last = (np.zeros(0, dtype=np.int64) if own is None else self._later(own) for own in ends)
        return np.concatenate([first, channels, last]), before, after

    def awaited(self, parameter: str, axis: int, *, size: int) -> Axis:
        return None

    def fill(self, parameter: str, axis: int, size: int) -> Axis:
        """At later copies there is what there is everywhere."""
        own = self.labels.found.places[self.layer.place(parameter, axis)]
        return None if own is None else np.zeros_like(self._later(own))

    def merge(self, factors: Sequence[tuple[Axis, int | None]]) -> Axis:
        if any(size is None for _, size in factors):
            for axis, _ in factors:
                self.known(axis, GONE)
            return None
        if all(axis is None for axis, _ in factors):
            return None
        merged = np.zeros(1, dtype=np.int64)
        for axis, size in factors:
            own = np.zeros(size or 1, dtype=np.int64) if axis is None else axis
            merged = np.maximum(merged[:, None], own[None, :]).ravel()
        return merged

    def split(self, channels: Axis, sizes: Sequence[int | None], *, site: str) -> tuple[Axis, ...]:
        if channels is None:
            return (None,) * len(sizes)
        known = [size or 1 for size in sizes]
        options = self.labels.found.options.get((self.layer.name, site))
        keep = self.labels.choices.get((self.layer.name, site), options[0][0]) if options else 0
        own = channels.reshape(prod(known[:keep]), known[keep], -1).max(axis=(0, 2))
        return tuple(own if i == keep else None for i in range(len(known)))

    def permute(
        self, channels: Axis, sizes: Sequence[int], order: Sequence[int], *, alone: bool
    ) -> tuple[Axis, tuple[int, ...], tuple[int, ...] | None]:
        moved = None if channels is None else channels.reshape(sizes).transpose(order).ravel()
        return moved, tuple(sizes), None

    def take(self, channels: Axis, index: Sequence[int], *, size: int) -> tuple[Axis, tuple[int, ...]]:
        return (None if channels is None else channels[list(index)]), tuple(index)

    def become(self, op: Op) -> None:
        """The student's op stays."""

    def width(self, channels: Axis, size: int) -> int:
        return size

    def set(self, **attributes: Any) -> None:
        """The student's attributes stay."""


def with_new_channels(labels: Labels, counts: Ints, run: StudentRun) -> StudentRun:
    """A student whose later copies are new channels, if it still computes what the teacher computes.

    Args:
        labels: of the teacher.
        counts: `(classes + tails,)` copies of each class, and lengths of tails.
        run: the student as the run over positions has found it.

    Returns:
        the same run, which also says what of each value is new.

    Raises:
        GrowthRefusedError: something would see the new channels; names the layer.
    """
    flow = FreshFlow(labels, counts, run)
    shapes = run.graph.shapes
    values: dict[str, Axes] = {i.name: (None,) * len(i.shape) for i in run.graph.inputs}
    for layer in run.graph.layers:
        flow.layer = layer
        read = (Channels(shapes[n], values[n]) for n in (*layer.inputs, *layer.op.references()))
        values[layer.name] = passed(flow, layer.op, read)
    for value in run.graph.outputs.values():
        for axis in values[value]:
            if axis is not None and axis.any():
                raise flow.refuse(GONE, value)
    return replace(run, new=values)
