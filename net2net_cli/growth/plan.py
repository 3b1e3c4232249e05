"""A plan: what each tensor of the student is made of. Data only; planners decide, `apply` obeys.

Dry runs, `--json`, the file writer and the tests read the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.graph import Graph
from net2net_cli.channels.layout import later_copies
from net2net_cli.channels.unions import Ints
from net2net_cli.channels.values import Value

MEAN: Final = -1
"""In an axis map: the mean of all of the teacher's slices."""

Split: TypeAlias = Literal["ownership", "random", "equal", "fresh"]
"""How the copies of a channel share what its readers did with it; or new channels, which get nothing."""

SPLITS: tuple[Split, ...] = ("ownership", "random", "equal", "fresh")
COPYING: tuple[Split, ...] = SPLITS[:3]
"""Those that make copies; the other one makes new channels."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Factors on an axis that reads copied channels: over the copies of one channel they sum to 1, for each row.

    Attributes:
        split: `ownership` gives the whole to one copy, another one for each row; `random` draws positive shares;
            `equal` gives each copy the same; `fresh` gives the whole to the first, since the others are new channels.
        rows: the tensor's axis along which the shares differ.
    """

    split: Split
    rows: int


@dataclass(frozen=True, slots=True)
class AxisMap:
    """One axis of a student tensor in terms of the teacher's: `student[j] = factor[j] · teacher[position[j]]`.

    Attributes:
        axis: 0 or higher; sections other than one only on axis 1.
        position: `(sections, width)` teacher slices, or `MEAN` for the mean of all; section s holds for the s-th part
            of the rows (axis 0).
        shares: where the axis reads copied channels.
        factor: `(width,)` fixed factors, or None for 1.
        free: `(width,)` which slices read what is zero, so that any values would do; they are no copies, and nothing is
            shared out to them. None where all count.
    """

    axis: int
    position: Ints
    shares: Shares | None = None
    factor: npt.NDArray[Any] | None = None
    free: npt.NDArray[np.bool_] | None = None

    @property
    def sharing(self) -> Ints:
        """`(sections, width)`: equal for slices that share a position of the teacher's."""
        if self.free is None:
            return self.position
        alone = int(self.position.max()) + 1 + np.arange(self.width)
        return np.where(self.free, alone, self.position)

    @property
    def pads(self) -> bool:
        """Whether it puts zeros around what the teacher has, as around a kernel: nothing there is a copy."""
        if self.axis < 2 or self.shares is not None or self.factor is None:
            return False
        inside = np.flatnonzero(self.factor)
        return 0 < inside.size < self.width and bool((np.diff(self.position[0][inside]) == 1).all())

    @property
    def later(self) -> npt.NDArray[np.bool_]:
        """`(sections, width)`: slices that are not the first that stand for their position."""
        return later_copies(self.sharing)

    @property
    def width(self) -> int:
        """Slices of the student's axis."""
        return int(self.position.shape[1])


def times(axes: Sequence[AxisMap], axis: int, factor: npt.NDArray[np.float64]) -> tuple[AxisMap, ...]:
    """The axes of a tensor with further factors on the slices of one of them.

    Args:
        axes: as they were.
        axis: which one.
        factor: `(width,)` of the student's axis.
    """
    own = next((m for m in axes if m.axis == axis), AxisMap(axis, np.arange(factor.size)[None]))
    both = factor if own.factor is None else factor * own.factor
    return tuple(sorted((replace(own, factor=both), *(m for m in axes if m.axis != axis)), key=lambda m: m.axis))


@dataclass(frozen=True, slots=True)
class Fill:
    """Values that no teacher tensor gives: a closed set of constructors.

    Attributes:
        kind: `constant`; `dirac` (value at `[i, i mod width, centre]`); `split_pair` ([I; −I]·value, likewise);
            `join_pair` ([I, −I]·value); `vector`; `uniform` in ±value; `normal` with std value.
        value: see `kind`.
        vector: `(n, …)` for kind `vector`: all of it.
        zero_row: of kind `normal`, a row that is zero instead.
    """

    kind: Literal["constant", "dirac", "split_pair", "join_pair", "vector", "uniform", "normal"]
    value: float = 0.0
    vector: npt.NDArray[Any] | None = None
    zero_row: int | None = None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of slices whose directions another tensor holds (weight norm): `student = teacher · ‖v'‖ / ‖v‖`.

    So what the directions gain or lose by growing is taken off again.

    Attributes:
        of: the student's tensor v'; its source is v.
        axis: along which both have one slice for each length.
    """

    of: str
    axis: int


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor of the student.

    Attributes:
        name: in the state dict.
        shape: the student's.
        source: the teacher's tensor that it is gathered from, or None where `fill` makes it.
        axes: the axes that change; none for a plain copy.
        fill: makes the tensor where it has no source; otherwise redraws every entry that stands at the second or a
            later copy of a slice, on an axis that has no shares (random padding, new channels).
        noise: standard deviation, in units of the tensor's own root mean square, of what is added to those entries.
        dtype: the safetensors name of the stored type where it is not that of the source.
        lengths: where it holds lengths that follow what the slices of another tensor become.
        directions: the axis along which slices count by their direction alone, their lengths being in another tensor.
    """

    name: str
    shape: tuple[int, ...]
    source: str | None
    axes: tuple[AxisMap, ...] = ()
    fill: Fill | None = None
    noise: float = 0.0
    dtype: str | None = None
    lengths: Lengths | None = None
    directions: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked for, as the lineage records it."""

    name: str
    arguments: Mapping[str, Any]
    seed: int | None
    exact: bool


@dataclass(frozen=True)
class Plan:
    """A growth.

    Attributes:
        teacher: the network that grows.
        student: the grown network.
        tensors: the student's, by name, in the order of its layers.
        operation: for the lineage.
        rounds: whether stored values are products that were rounded (a scaled stream, batch-norm statistics), so that
            outputs agree to the stored type's precision and no better.
        notes: for people: what was decided where they left it open.
        scaled: whether these are weights of whole layers, whose roundings add up in the outputs.
        values: what layers of the student return, in terms of what layers of the teacher return. A layer that is left
            out returns nothing that the teacher has. New batch norms are the identity in eval mode alone.
    """

    teacher: Graph
    student: Graph
    tensors: Mapping[str, TensorPlan]
    operation: Operation
    rounds: bool = False
    notes: tuple[str, ...] = field(default=())
    scaled: bool = False
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def split(self) -> Split:
        """How copies share; new layers have none."""
        split: Split = self.operation.arguments.get("split", "ownership")
        return split

    @property
    def changed(self) -> list[TensorPlan]:
        """Tensors that are no plain copies."""
        return [t for t in self.tensors.values() if t.axes or t.fill or t.lengths or t.source is None]
