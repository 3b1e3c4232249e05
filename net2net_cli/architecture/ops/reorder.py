"""Slices of axes in another order: `roll` and `flip`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, op
from net2net_cli.architecture.ops.join import IndexSelect, positive, replaced
from net2net_cli.architecture.shapes import Batch, Shape, fixed


def _as_tuple(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


@dataclass(frozen=True)
class Reordering(Op):
    """Axes whose slices change their order, each in a way that its size alone decides.

    Attributes:
        dims: the axes, ascending.
    """

    linear: ClassVar[bool] = True
    folds: ClassVar[bool] = True

    dims: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if not self.dims or not all(a < b for a, b in pairwise((-1, *self.dims, len(x)))):
            raise ValueError(f"the axes {list(self.dims)} of {len(x)} are named; each has to be there, and named once")
        if any(isinstance(x[dim], Batch) for dim in self.dims):
            raise ValueError("it reorders the batch")
        return x

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        """One axis of channels is reordered label by label; the student then lists its slices."""
        (x,) = inputs
        if len(self.dims) > 1:
            for dim in self.dims:
                f.mix(x.axes[dim], "reorders it together with another axis")
            return x.axes
        (dim,) = self.dims
        if x.axes[dim] is None:
            return x.axes
        axis, index = f.take(x.axes[dim], self.order(0, fixed(x.shape[dim])), size=fixed(x.shape[dim]))
        if index != self.order(0, len(index)):
            f.become(IndexSelect(dim, index))
        return replaced(x.axes, dim, axis)

    def order(self, number: int, size: int) -> tuple[int, ...]:
        """The slices of the `number`-th of its axes, in their new order."""
        raise NotImplementedError(self.name)


@op("roll")
class Roll(Reordering):
    """Slices move on by a number of places, and those that leave at the end come in at the start.

    Attributes:
        shifts: by how many places, for each axis.
    """

    functions: ClassVar = {"torch.roll": "input shifts dims", "Tensor.roll": "input shifts dims"}

    shifts: tuple[int, ...]

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        if arguments.get("dims") in (None, ()):
            raise ValueError("it rolls all elements, those of the batch too")
        moves: dict[int, int] = {}
        for dim, shift in zip(_as_tuple(arguments["dims"]), _as_tuple(arguments["shifts"]), strict=True):
            place = positive(dim, len(shapes[0]))
            moves[place] = moves.get(place, 0) + shift
        return cls(tuple(sorted(moves)), tuple(moves[dim] for dim in sorted(moves)))

    def check(self) -> None:
        if len(self.shifts) != len(self.dims):
            raise ValueError("`shifts` and `dims` differ in length")

    def order(self, number: int, size: int) -> tuple[int, ...]:
        return tuple(np.roll(np.arange(size), self.shifts[number]).tolist())

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.roll", (Input(0),), {"shifts": list(self.shifts), "dims": list(self.dims)})


@op("flip")
class Flip(Reordering):
    """Slices in the opposite order."""

    def order(self, number: int, size: int) -> tuple[int, ...]:
        return tuple(range(size - 1, -1, -1))

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.flip", (Input(0), list(self.dims)))
