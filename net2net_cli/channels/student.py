"""What the run over positions finds out: the student, and how each axis of each tensor follows or reads channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.matrix import Matrix
from net2net_cli.channels.collected import Place
from net2net_cli.channels.unions import Ints
from net2net_cli.channels.values import Value, value_at

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gather:
    """An axis of a tensor follows channels: student slice j is the teacher's slice `position[section, j]`.

    Attributes:
        position: `(sections, width)`; more than one section where the tensor's axis is one section long. Negative for a
            tail: `tails.MEAN` is the mean of all slices of the teacher, the others are zero.
        factor: of the whole axis.
    """

    position: Ints
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """An axis of a tensor is summed over with channels.

    Attributes:
        position: `(sections, width)`: the teacher slice that student slice j of the axis meets, for the rows of each
            section; more than one section in grouped convolutions. Negative for a tail: `tails.MEAN` must not be read,
            the others are zero, and may be read with any weight.
        rows: the tensor's other axis, along which the shares may differ.
        factor: of the whole axis.
    """

    position: Ints
    rows: int
    factor: float = 1.0


@dataclass
class StudentRun:
    """What the run over positions found.

    Attributes:
        graph: the student.
        gathers: axis of a tensor -> how it follows channels; unchanged axes are left out.
        readings: axis of a tensor -> how it reads channels; unchanged axes are left out.
        factors: axis of a tensor that follows channels -> what each student slice is multiplied by besides, where the
            copies of a channel are read by weights that cannot share them out.
        axes: positions on each axis of what each layer returns.
        parts: what a layer returns -> axis -> what each slice is multiplied by, where it holds parts of channels that
            are to be added up.
        new: what a layer returns -> on each axis 1 for slices that are new channels; empty where all are copies.
    """

    graph: Graph
    gathers: dict[Place, Gather] = field(default_factory=dict)
    readings: dict[Place, Reading] = field(default_factory=dict)
    factors: dict[Place, Floats] = field(default_factory=dict)
    axes: dict[str, Axes] = field(default_factory=dict)
    parts: dict[str, dict[int, Floats]] = field(default_factory=dict)
    new: dict[str, Axes] = field(default_factory=dict)

    def values(self, teacher: Graph) -> dict[str, Value]:
        """What each layer returns, in terms of what it returns in the teacher.

        A matrix whose columns are shared out is no such value.
        """
        shapes, parts, new = teacher.shapes, self.parts, self.new
        return {
            name: value_at(name, shapes[name], self.axes[name], parts.get(name, {}), new.get(name, ()))
            for name in (layer.name for layer in teacher.layers if not isinstance(layer.op, Matrix))
        }
