"""Which values of a student are values of its teacher, slice for slice: what plans claim and `verify --locate` checks.

A value is what a layer returns. In a student it may hold copies of the teacher's slices, a multiple of them where a
stream is scaled or its copies are to be added up, and the tail of a stream; see `net2net_cli.channels.tails`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes, Axis
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.shapes import Batch, Shape
from net2net_cli.channels.layout import unchanged
from net2net_cli.channels.tails import MEAN, ZERO, scale_of
from net2net_cli.channels.unions import Ints

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slices:
    """One axis of a student's value: `student[j] = factor[j] · teacher[position[j]]`.

    Attributes:
        position: `(width,)` slices of the teacher's axis; `MEAN` for the mean of them all, `ZERO` for zero.
        size: how many slices the teacher's axis has; for each sample, where they are folded into the batch axis.
        factor: `(width,)`, or None for 1.
        new: `(width,)` which slices are new channels, so that nothing is said of what they hold; None for none.
    """

    position: Ints
    size: int
    factor: Floats | None = None
    new: npt.NDArray[np.bool_] | None = None

    @property
    def factors(self) -> Floats:
        """`(width,)`: the factors, zero where the position is `ZERO`."""
        given = np.ones(self.position.size) if self.factor is None else self.factor
        return np.where(self.position == ZERO, 0.0, given)


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the student as a value of the teacher.

    Attributes:
        name: the teacher's layer that makes it.
        axes: one for each axis of the tensor; None where the axis is the teacher's.
    """

    name: str
    axes: tuple[Slices | None, ...]


def same_values(graph: Graph) -> dict[str, Value]:
    """Every value of a network as itself."""
    return {layer.name: Value(layer.name, (None,) * len(graph.shapes[layer.name])) for layer in graph.layers}


def value_at(name: str, shape: Shape, axes: Axes, parts: Mapping[int, Floats], new: Axes = ()) -> Value:
    """A value as the run over positions leaves it.

    Args:
        name: of the layer, in both networks.
        shape: the teacher's.
        axes: positions on each axis.
        parts: axis -> `(width,)` what each slice is multiplied by besides.
        new: on each axis 1 for slices that are new channels; empty where there are none.
    """
    found = [_slices(size, axes[i], parts.get(i)) for i, size in enumerate(shape)]
    for i, marks in enumerate(new):
        slices = found[i]
        if slices is not None and marks is not None and marks.any():
            found[i] = replace(slices, new=marks.astype(bool))
    return Value(name, tuple(found))


def _slices(dim: int | Batch, axis: Axis, parts: Floats | None) -> Slices | None:
    size = dim.times if isinstance(dim, Batch) else dim
    if axis is None or (parts is None and unchanged(axis, size)):
        return None
    if parts is None and axis.min() >= 0:
        return Slices(axis, size)
    scale = scale_of(axis)
    factor = None if parts is None and scale == 1 else scale * (np.ones(axis.size) if parts is None else parts)
    return Slices(np.where(axis < MEAN, ZERO, axis), size, factor)


def chained(values: Iterable[Mapping[str, Value]], first: Graph) -> dict[str, Value]:
    """The last student's values in terms of the first teacher's.

    Args:
        values: what each growth claims, the first growth first.
        first: the network that it began with.
    """
    found = same_values(first)
    for claimed in values:
        composed = {n: composition(v, found[v.name]) for n, v in claimed.items() if v.name in found}
        found = {name: value for name, value in composed.items() if value is not None}
    return found


def composition(later: Value, earlier: Value) -> Value | None:
    """A value in terms of the first network, from what a later growth and an earlier one say of it.

    None where it cannot be said so: a mean of slices of which some stand there more often than others, or are new.
    """
    axes: list[Slices | None] = []
    for after, before in zip(later.axes, earlier.axes, strict=True):
        if after is None or before is None:
            axes.append(after or before)
            continue
        both = _composed(after, before)
        if both is None:
            return None
        axes.append(both)
    return Value(earlier.name, tuple(axes))


def _composed(after: Slices, before: Slices) -> Slices | None:
    copied = after.position >= 0
    position, factor = after.position.copy(), after.factors
    position[copied] = before.position[after.position[copied]]
    factor[copied] *= before.factors[after.position[copied]]
    if (after.position == MEAN).any():
        mean = _mean_of(before)
        if mean is None:
            return None
        factor[after.position == MEAN] *= mean
    new = np.zeros(position.size, dtype=bool) if after.new is None else after.new.copy()
    if before.new is not None:
        new[copied] |= before.new[after.position[copied]]
    plain = (factor[position != ZERO] == 1).all()
    return Slices(position, before.size, None if plain else factor, new if new.any() else None)


def _mean_of(slices: Slices) -> float | None:
    """How many times the teacher's mean the mean of all slices is; None where it is no multiple of it, or unknown."""
    if slices.new is not None:
        return None
    factors = slices.factors
    each = np.bincount(slices.position[slices.position >= 0], factors[slices.position >= 0], slices.size)
    each += factors[slices.position == MEAN].sum() / slices.size
    if not np.allclose(each, each[0], rtol=1e-12, atol=0):
        return None
    return float(each[0] * slices.size / slices.position.size)
