"""What an op may say about the channels that pass through it.

An op states its rule once, in `Op.flow`, in the words of `Flow`. Two runs read it: one over labels (which channels must
grow together; `net2net_cli.channels.labels`) and one over positions (which teacher slice each student slice equals;
`net2net_cli.channels.positions`). The second is the proof that a student computes what its teacher computes. Where its
channels are new instead of copies, a third one has to find that nothing sees them (`net2net_cli.channels.fresh`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.shapes import Batch, Shape

if TYPE_CHECKING:
    from net2net_cli.architecture.ops.base import Op

Axis: TypeAlias = "npt.NDArray[np.int64] | None"
"""One axis of a tensor: an integer per slice (a label or a position), or None where the axis never changes."""

Axes: TypeAlias = tuple[Axis, ...]


Tail: TypeAlias = Literal["mean", "zero"]
"""What a stream may hold behind its copies, so that a norm over it stays exact at any width: the mean of all, or 0."""


@dataclass(frozen=True, slots=True)
class Channels:
    """A tensor as it passes through the graph: the teacher's shape, and what is known of each axis."""

    shape: Shape
    axes: Axes

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.axes), (self.shape, self.axes)


def passed(flow: Flow, op: Op, inputs: Iterable[Channels]) -> Axes:
    """What comes out of an op. What it does not say of itself is taken to be impossible.

    Slices folded into a batch axis keep one copy where it does not know of them, and a stream that it takes or gives
    has no tail where it is not linear.
    """
    taken = tuple(x if op.folds else _unfolded(flow, x) for x in inputs)
    axes = op.flow(flow, *taken)
    if not op.linear:
        for axis in (axis for x in (*(x.axes for x in taken), axes) for axis in x):
            flow.plain(axis, "does not keep the mean over them")
    return axes


def all_known(flow: Flow, x: Channels) -> None:
    """For an op that is not defined for every number: weights of zero do not take back infinities."""
    for axis in x.axes:
        flow.known(axis, "is not defined for every number")


def _unfolded(flow: Flow, x: Channels) -> Channels:
    axes = list(x.axes)
    for i, size in enumerate(x.shape):
        if isinstance(size, Batch) and axes[i] is not None:
            flow.mix(axes[i], "takes it for samples of the batch")
            axes[i] = None
    return Channels(x.shape, tuple(axes))


class Flow(ABC):
    """The vocabulary in which ops declare how channels pass. Sizes are always the teacher's."""

    @abstractmethod
    def create(self, parameter: str, axis: int, size: int, *, parts: int = 1) -> Axis:
        """Output channels that the parameter's axis makes; `parts` equal sections must stay equal (groups)."""

    @abstractmethod
    def carry(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        """The parameter has one slice per channel and follows them."""

    @abstractmethod
    def consume(self, parameter: str, axis: int, channels: Axis, *, size: int, rows: int, parts: int = 1) -> None:
        """The parameter's axis is summed over with the channels, for each row (its axis `rows`).

        With `parts` > 1 the channels fall into that many equal sections, and section p is read by section p of the
        rows alone (grouped convolution); the parameter's axis then is one section long.
        """

    @abstractmethod
    def tie(self, a: Axis, b: Axis, *, size: int) -> Axis:
        """Slice i of one operand meets slice i of the other: they must stay equal."""

    @abstractmethod
    def mix(self, channels: Axis, why: str) -> None:
        """The op lets the slices act on each other: the axis cannot change. `why` completes "because it …"."""

    @abstractmethod
    def uniform(self, channels: Axis, why: str) -> None:
        """All slices must have the same number of copies, as a mean over them needs."""

    @abstractmethod
    def known(self, channels: Axis, why: str) -> None:
        """What the slices hold must be what the teacher's hold; copies do, new channels do not."""

    @abstractmethod
    def normalise(self, channels: Axis, *, size: int, tail: Tail, why: str) -> Axis:
        """The norm over all slices, which sees equally many copies of each, and perhaps a tail; returns its output."""

    @abstractmethod
    def unscale(self, parameter: str, axis: int, channels: Axis, *, size: int) -> None:
        """As `carry`, for what multiplies normalised slices: it also undoes the scale of a stream that has a tail."""

    @abstractmethod
    def plain(self, channels: Axis, why: str) -> None:
        """Each slice is treated as a channel of its own: there can be no tail. `why` completes "because it …"."""

    @abstractmethod
    def same_width(self, a: Axis, b: Axis, *, size: int, why: str) -> None:
        """Two axes of equal size must stay equal in size. `why` completes "it …"."""

    @abstractmethod
    def equal_parts(self, channels: Axis, *, size: int, parts: int) -> None:
        """Sections of equal size must stay equal in size."""

    @abstractmethod
    def whole_parts(self, channels: Axis, *, size: int, parts: int) -> int:
        """Sections are copied only as wholes (group norm); returns how many there are in the student."""

    @abstractmethod
    def serve(self, channels: Axis, servers: Axis, *, size: int, parts: int) -> None:
        """Each of `parts` equal sections of the channels reads one slice of `servers`, in order.

        In the student too the sections are of equal size, so that each slice must still be read by its own section.
        """

    @abstractmethod
    def section(self, channels: Axis, *, size: int, start: int, stop: int) -> tuple[Axis, int, int]:
        """Slices start … stop, and the borders of the same section in the student."""

    @abstractmethod
    def concat(self, pieces: Sequence[tuple[Axis, int]]) -> Axis:
        """Axes laid end to end; each with the teacher's size."""

    @abstractmethod
    def pad(self, channels: Axis, *, size: int, before: int, after: int, attribute: str) -> tuple[Axis, int, int]:
        """Constant slices added at both ends; returns the axis and the student's amounts."""

    @abstractmethod
    def awaited(self, parameter: str, axis: int, *, size: int) -> Axis:
        """A parameter's axis as layers behind this one read it; known to the run over labels only once it is over."""

    @abstractmethod
    def fill(self, parameter: str, axis: int, size: int) -> Axis:
        """Slices that all hold the same by themselves; each is a channel of its own, and may have copies."""

    @abstractmethod
    def merge(self, factors: Sequence[tuple[Axis, int | None]]) -> Axis:
        """One axis out of several, outermost first; a size of None is the batch."""

    @abstractmethod
    def split(self, channels: Axis, sizes: Sequence[int | None], *, site: str) -> tuple[Axis, ...]:
        """Several axes out of one, outermost first; a size of None is the batch. `site` tells splits of an op apart."""

    @abstractmethod
    def permute(
        self, channels: Axis, sizes: Sequence[int], order: Sequence[int], *, alone: bool
    ) -> tuple[Axis, tuple[int, ...], tuple[int, ...] | None]:
        """An axis seen as a grid, whose axes are reordered and merged again, as a channel shuffle does it.

        Returns the axis and the student's sizes; or in place of these, where this is `alone` all that the op does, the
        slices in the student's order. Each slice keeps its own label: nothing is tied.
        """

    @abstractmethod
    def take(self, channels: Axis, index: Sequence[int], *, size: int) -> tuple[Axis, tuple[int, ...]]:
        """Slices of an axis in a given order; returns the axis and the student's indices."""

    @abstractmethod
    def become(self, op: Op) -> None:
        """The student has another op in this one's place."""

    @abstractmethod
    def width(self, channels: Axis, size: int) -> int:
        """How many slices the axis has in the student."""

    @abstractmethod
    def set(self, **attributes: Any) -> None:
        """The student's attributes of this op, where they differ from the teacher's."""
