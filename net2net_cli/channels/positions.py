"""The student's run: which teacher slice each student slice equals. It is the proof that both compute the same.

Every axis of every tensor carries, per student slice, the slice of the same tensor in the teacher that it equals.
Labels decide only how many copies there are; what each op needs is checked here on the positions themselves: operands
of an addition must carry equal positions, a consumer must find every teacher position, an op that mixes must see its
axis unchanged, and the outputs must come out as they were. An op at which that fails is the refusal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow, Tail, passed
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.base import Op
from net2net_cli.architecture.shapes import Batch
from net2net_cli.channels.collected import Place
from net2net_cli.channels.labels import Labels, growing_factor
from net2net_cli.channels.layout import layout, unchanged
from net2net_cli.channels.student import Gather, Reading, StudentRun
from net2net_cli.channels.tails import CODES, MEAN, ZERO, has_tail, scale_of
from net2net_cli.channels.tied import NoAbsorberError, absorber
from net2net_cli.channels.unions import Ints, distinct
from net2net_cli.errors import GrowthRefusedError

SEE_INSPECT = "`net2net inspect` shows which layers can be widened, and with which others they grow"

Floats = npt.NDArray[np.float64]


def _sections(position: Ints, size: int, parts: int) -> Ints:
    """Positions `(parts, width)` within each of several equal sections; an axis 0 holds all sections and is one."""
    return position.reshape(parts, -1) - np.arange(parts)[:, None] * (size // parts)


class PositionFlow(Flow):
    """The run over positions, for given numbers of copies; `indexed` as in `run_student`."""

    def __init__(self, labels: Labels, counts: Ints, *, indexed: bool = False) -> None:
        self.indexed = indexed
        self.replacement: Op | None = None
        self.labels = labels
        self.counts = counts
        self.layer: Layer
        self.attributes: dict[str, Any] = {}
        self.places: dict[Place, Axis] = {}
        self.gathers: dict[Place, Gather] = {}
        self.readings: dict[Place, Reading] = {}
        self.readers: dict[Place, list[Layer]] = {}

    def refuse(self, why: str) -> GrowthRefusedError:
        """The growth ends at the present layer."""
        name = self.layer.name
        return GrowthRefusedError(f"this growth cannot be exact: `{name}` {why}", SEE_INSPECT, layer=name)

    def _without_tail(self, channels: Axis, why: str = "does not keep the mean over them") -> None:
        if has_tail(channels):
            raise self.refuse(f"{why}, and its stream would hold more than copies of channels")

    def _meet(self, place: Place, channels: Axis, size: int) -> None:
        if place in self.places:
            self._equal(self.places[place], channels, size, "uses the same weights for channels that no longer line up")
        self.places[place] = channels

    def _equal(self, a: Axis, b: Axis, size: int, why: str) -> Axis:
        if a is None or b is None:
            if not (unchanged(a, size) and unchanged(b, size)):
                raise self.refuse(why)
            return None
        if not np.array_equal(a, b):
            raise self.refuse(why)
        return a

    def create(self, parameter: str, axis: int, size: int, *, parts: int = 1) -> Axis:
        place = self.layer.place(parameter, axis)
        own = self.labels.found.places[place]
        if own is None:
            return None
        position = layout(self.labels, self.counts, own)
        self._meet(place, position, size)
        self.equal_parts(position, size=size, parts=parts)
        self._gather(place, position, size, parts)
        return position

    def _gather(self, place: Place, position: Axis, size: int, parts: int = 1) -> None:
        if position is None or unchanged(position, size):
            return
        sections = _sections(position, size, parts) if parts > 1 and place[2] else position[None]
        self.gathers[place] = Gather(sections, scale_of(position))

    def carry(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        place = self.layer.place(parameter, axis)
        self._meet(place, channels, size)
        self._gather(place, channels, size)

    def consume(self, parameter: str, axis: int, channels: Axis, *, size: int, rows: int, parts: int = 1) -> None:
        place = self.layer.place(parameter, axis)
        self._meet(place, channels, size)
        if channels is None or unchanged(channels, size):
            return
        if distinct(channels[channels >= 0]).size != size:
            raise self.refuse("no longer receives every channel that it reads")
        self.equal_parts(channels, size=size, parts=parts)
        sections = _sections(channels, size, parts) if parts > 1 and axis else channels[None]
        self.readings[place] = Reading(sections, rows, 1.0 / scale_of(channels))
        self.readers.setdefault(place, []).append(self.layer)

    def tie(self, a: Axis, b: Axis, *, size: int) -> Axis:
        return self._equal(a, b, size, "would combine channels that no longer line up")

    def mix(self, channels: Axis, why: str) -> None:
        if channels is not None and not np.array_equal(channels, np.arange(channels.size)):
            raise self.refuse(why)

    def uniform(self, channels: Axis, why: str) -> None:
        self._without_tail(channels, why)
        self._uniform(channels, why)

    def _uniform(self, channels: Axis, why: str) -> None:
        if channels is not None and distinct(np.bincount(channels)).size > 1:
            raise self.refuse(f"{why}, and its channels would not have equally many copies")

    def known(self, channels: Axis, why: str) -> None:
        """Copies hold what their channel holds."""

    def normalise(self, channels: Axis, *, size: int, tail: Tail, why: str) -> Axis:
        if not has_tail(channels):
            self._uniform(channels, why)
            return channels
        assert channels is not None
        copies, rest = channels[channels >= 0], channels[channels < 0]
        self._uniform(copies, why)
        if distinct(copies).size != size or (rest != CODES[tail]).any():
            raise self.refuse(f"{why}, and its stream would not hold what leaves that as it is")
        return np.where(channels < 0, ZERO, channels)

    def unscale(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        self.carry(parameter, axis, channels, size=size)
        place = self.layer.place(parameter, axis)
        if has_tail(channels):
            assert channels is not None
            tail_at_mean = np.where(channels < 0, MEAN, channels)  # so that what the tail learns soon gets through
            self.gathers[place] = Gather(tail_at_mean[None], 1.0 / scale_of(channels))

    def plain(self, channels: Axis, why: str) -> None:
        self._without_tail(channels, why)

    def same_width(self, a: Axis, b: Axis, *, size: int, why: str) -> None:
        if self.width(a, size) != self.width(b, size):
            raise self.refuse(why)

    def equal_parts(self, channels: Axis, *, size: int, parts: int) -> None:
        if channels is None or parts == 1:
            return
        self._without_tail(channels)
        section = size // parts
        whole = channels.size % parts == 0
        if not whole or (channels.reshape(parts, -1) // section != np.arange(parts)[:, None]).any():
            raise self.refuse(f"needs {parts} sections of equal size")

    def whole_parts(self, channels: Axis, *, size: int, parts: int) -> int:
        if channels is None:
            return parts
        self._without_tail(channels)
        section = size // parts
        if channels.size % section:
            raise self.refuse(f"copies only whole groups of {section} channels")
        groups = channels.reshape(-1, section)
        if (groups % section != np.arange(section)).any() or (groups // section != groups[:, :1] // section).any():
            raise self.refuse(f"copies only whole groups of {section} channels")
        return len(groups)

    def serve(self, channels: Axis, servers: Axis, *, size: int, parts: int) -> None:
        readers = np.arange(size) if channels is None else channels
        read = np.arange(parts) if servers is None else servers
        even = readers.size % read.size == 0
        if not even or (readers // (size // parts) != np.repeat(read, readers.size // read.size)).any():
            raise self.refuse(
                f"gives {read.size} slices to {readers.size} others, equally many each, which would not find their own"
            )

    def section(self, channels: Axis, *, size: int, start: int, stop: int) -> tuple[Axis, int, int]:
        if channels is None:
            return None, start, stop
        if (start, stop) == (0, size):
            return channels, 0, channels.size
        self._without_tail(channels, "cuts out a section of it")
        inside = np.flatnonzero((channels >= start) & (channels < stop))
        first = int(inside[0]) if inside.size else start
        if inside.size and not np.array_equal(inside, np.arange(first, first + inside.size)):
            raise self.refuse("would cut out channels that are no longer neighbours")
        return channels[inside] - start, first, first + inside.size

    def concat(self, pieces: Sequence[tuple[Axis, int]]) -> Axis:
        if all(axis is None for axis, _ in pieces):
            return None
        if len(pieces) > 1:
            for axis, _ in pieces:
                self._without_tail(axis, "joins it with others")
        offsets = np.cumsum([0, *(size for _, size in pieces)])[:-1]
        arrays = [np.arange(size) if axis is None else axis for axis, size in pieces]
        return np.concatenate([a + o for a, o in zip(arrays, offsets, strict=True)])

    def pad(self, channels: Axis, *, size: int, before: int, after: int, attribute: str) -> tuple[Axis, int, int]:
        if channels is None:
            return None, before, after
        self._without_tail(channels, "pads it")
        ends = []
        for end in (0, 1):
            own = self.labels.found.places[self.layer.name, attribute, end]
            assert own is not None
            ends.append(layout(self.labels, self.counts, own))
        joined = np.concatenate([ends[0], channels + before, ends[1] + before + size])
        return joined, ends[0].size, ends[1].size

    def awaited(self, parameter: str, axis: int, *, size: int) -> Axis:
        own = self.labels.found.places.get(self.layer.place(parameter, axis))
        return None if own is None else layout(self.labels, self.counts, own)

    def fill(self, parameter: str, axis: int, size: int) -> Axis:
        own = self.labels.found.places[self.layer.place(parameter, axis)]
        return None if own is None else layout(self.labels, self.counts, own)

    def merge(self, factors: Sequence[tuple[Axis, int | None]]) -> Axis:
        if any(size is None for _, size in factors):
            for axis, _ in factors:
                self.mix(axis, "merges a growing axis with the batch")
            return None
        # None only where the run over labels has None too: ops choose their rule by it.
        if all(axis is None for axis, _ in factors):
            return None
        wide = [axis for axis, size in factors if size != 1 or (axis is not None and axis.size > 1)]
        if len(wide) == 1 and wide[0] is not None:
            return wide[0]
        position = np.zeros(1, dtype=np.int64)
        for axis, size in factors:
            assert size is not None
            self._without_tail(axis, "reorders it")
            own = np.arange(size) if axis is None else axis
            position = (position[:, None] * size + own[None, :]).ravel()
        return position

    def split(self, channels: Axis, sizes: Sequence[int | None], *, site: str) -> tuple[Axis, ...]:
        if channels is None:
            return (None,) * len(sizes)
        self._without_tail(channels, "reorders it")
        known = [size or 1 for size in sizes]
        options = self.labels.found.options.get((self.layer.name, site))
        keep = self.labels.choices.get((self.layer.name, site), options[0][0]) if options else 0
        outer, size, inner = prod(known[:keep]), known[keep], prod(known[keep + 1 :])
        why = f"cuts the axis into {'×'.join(map(str, known))}, and its copies do not fall into that grid"
        if channels.size % (outer * inner):
            raise self.refuse(why)
        grid = channels.reshape(outer, -1, inner)
        own = grid[0, :, 0] // inner
        expected = (np.arange(outer)[:, None, None] * size + own[None, :, None]) * inner + np.arange(inner)
        if not np.array_equal(grid, expected):
            raise self.refuse(why)
        return tuple(own if i == keep else None for i in range(len(known)))

    def permute(
        self, channels: Axis, sizes: Sequence[int], order: Sequence[int], *, alone: bool
    ) -> tuple[Axis, tuple[int, ...], tuple[int, ...] | None]:
        if channels is None:
            return None, tuple(sizes), None
        self._without_tail(channels, "reorders it")
        if self.indexed and alone:
            teacher = np.arange(prod(sizes)).reshape(sizes).transpose(order).ravel()
            taken, index = self.take(channels, teacher.tolist(), size=teacher.size)
            return taken, tuple(sizes), index
        keep = growing_factor(sizes)
        others = prod(sizes) // sizes[keep]
        if channels.size % others:
            raise self.refuse(f"cuts the axis into sections of {others}, and its copies do not fill them")
        grown = (*sizes[:keep], channels.size // others, *sizes[keep + 1 :])
        teacher, student = (np.arange(prod(s)).reshape(s).transpose(order).ravel() for s in (sizes, grown))
        return np.argsort(teacher)[channels[student]], grown, None

    def take(self, channels: Axis, index: Sequence[int], *, size: int) -> tuple[Axis, tuple[int, ...]]:
        if channels is None:
            return None, tuple(index)
        self._without_tail(channels, "reorders it")
        order = np.argsort(channels, kind="stable")
        starts = np.searchsorted(channels[order], np.arange(size + 1))
        copies = np.diff(starts)[list(index)]
        position = np.repeat(np.arange(len(index)), copies)
        number = np.arange(position.size) - np.repeat(np.cumsum(copies) - copies, copies)
        student = order[np.repeat(starts[:-1][list(index)], copies) + number]
        return position, tuple(student.tolist())

    def become(self, op: Op) -> None:
        self.replacement = op

    def width(self, channels: Axis, size: int) -> int:
        return size if channels is None else int(channels.size)

    def set(self, **attributes: Any) -> None:
        self.attributes |= attributes


def run_student(labels: Labels, counts: Ints, *, indexed: bool = False) -> StudentRun:
    """The student with that many copies of each class, or the refusal.

    Args:
        labels: of the teacher.
        counts: `(classes,)` copies of each class, at least 1, and lengths of tails.
        indexed: whether shuffles of channels become lists of indices, which keep the copies of a channel together; the
            network's own shuffle, made wider, may part them.

    Raises:
        GrowthRefusedError: the student would not compute what the teacher computes; names the layer at which it fails.
    """
    graph = labels.graph
    flow = PositionFlow(labels, counts, indexed=indexed)
    values: dict[str, Axes] = {i.name: (None,) * len(i.shape) for i in graph.inputs}
    layers, made = [], {}
    for layer in graph.layers:
        flow.layer, flow.attributes, flow.replacement = layer, {}, None
        read = (Channels(graph.shapes[n], values[n]) for n in (*layer.inputs, *layer.op.references()))
        values[layer.name] = passed(flow, layer.op, read)
        layers.append(_checked(flow, layer, _with(layer, flow.attributes, flow.replacement)))
        made[layer.name] = layers[-1].op
        if layer.op == graph.by_name[layer.owner].op and layers[-1].op != made[layer.owner]:
            raise flow.refuse("uses the same weights for another number of channels")
    for output, value in graph.outputs.items():
        flow.layer = graph.by_name.get(value, layers[-1]) if layers else flow.layer
        for axis in values[value]:
            flow.mix(axis, f"is the network's output `{output}`")
    student = dataclasses.replace(graph, layers=tuple(layers))
    _check_widths(student, graph, values)
    factors, parts = _factors(graph, flow)
    return StudentRun(student, flow.gathers, flow.readings, factors, values, parts)


def _factors(graph: Graph, flow: PositionFlow) -> tuple[dict[Place, Floats], dict[str, dict[int, Floats]]]:
    """Axes that follow the channels that they read: each copy's part is taken off before the reader.

    Returns:
        axis of a tensor -> the parts; and value -> axis -> the parts of channels that it holds in place of channels.
    """
    found: dict[Place, Floats] = {}
    held: dict[str, dict[int, Floats]] = {}
    for place in [p for p in flow.gathers if p in flow.readings]:
        channels = flow.readings.pop(place).position
        for reader in flow.readers[place]:
            flow.layer = reader
            try:
                before = absorber(graph, reader)
            except NoAbsorberError as none:
                raise flow.refuse(str(none)) from None
            owner = before.layer
            for key in owner.op.silent:
                if key in owner.op.tensors():
                    found[owner.name, key, 0] = _parts(flow, (owner.name, key, 0), channels)
            held |= {value: {axis: _each(channels)} for value, axis in before.values}
    return found, held


def _parts(flow: PositionFlow, place: Place, channels: Ints) -> Floats:
    """What each slice of a layer whose slices are the channels is multiplied by."""
    own = flow.gathers.get(place)
    if own is None or not np.array_equal(own.position, channels):
        raise flow.refuse(f"reads its channels in another order than `{place[0]}` makes them")
    return _each(channels)


def _each(channels: Ints) -> Floats:
    """`(width,)`: one over the number of copies, for each slice."""
    copies: Floats = np.bincount(channels[0])[channels[0]].astype(np.float64)
    return 1.0 / copies


def _checked(flow: PositionFlow, teacher: Layer, student: Layer) -> Layer:
    try:
        if student.op is not teacher.op:
            student.op.check()
    except ValueError as wrong:
        raise flow.refuse(f"cannot be so wide: {wrong}") from None
    return student


def _with(layer: Layer, attributes: dict[str, Any], replacement: Op | None) -> Layer:
    if replacement is not None:
        return dataclasses.replace(layer, op=replacement)
    changed = {k: v for k, v in attributes.items() if getattr(layer.op, k) != v}
    return dataclasses.replace(layer, op=dataclasses.replace(layer.op, **changed)) if changed else layer  # type: ignore[type-var]


def _check_widths(student: Graph, teacher: Graph, values: dict[str, Axes]) -> None:
    """The shapes that follow from the student's attributes are those that its positions have: a check on every op."""
    for name, axes in values.items():
        for i, (axis, size) in enumerate(zip(axes, teacher.shapes[name], strict=True)):
            expected = size if axis is None else Batch(axis.size) if isinstance(size, Batch) else axis.size
            assert student.shapes[name][i] == expected, (name, i, student.shapes[name], expected)
