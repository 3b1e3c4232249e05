"""Where one element of a student comes from: its plans, followed back to the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from net2net_cli.growth.plan import MEAN, AxisMap, Plan, TensorPlan


@dataclass(frozen=True, slots=True)
class Place:
    """What an element is made of.

    Attributes:
        tensor: of the teacher's; None for an element that a growth made from nothing.
        index: in that tensor; None on an axis of which the mean is taken.
    """

    tensor: str | None
    index: tuple[int | None, ...]

    def __str__(self) -> str:
        if self.tensor is None:
            return "new"
        return f"`{self.tensor}`[{', '.join('mean' if i is None else str(i) for i in self.index)}]"


def place_in_teacher(plans: Sequence[Plan], name: str, index: Sequence[int]) -> Place:
    """The teacher's element that a student's is a copy or a share of, whatever factor it has and whatever is added.

    Args:
        plans: the growths, first to last.
        name: of the student's tensor.
        index: in it.
    """
    place = Place(name, tuple(index))
    for plan in reversed(plans):
        if place.tensor is not None:
            place = _before(plan, place)
    return place


def _before(plan: Plan, place: Place) -> Place:
    assert place.tensor is not None
    tensor = plan.tensors[place.tensor]
    index = list(place.index)
    for axis_map in tensor.axes:
        at, row = place.index[axis_map.axis], place.index[0]
        if at is None:
            continue
        sections = axis_map.position.shape[0]
        section = 0 if sections == 1 or row is None else row // (tensor.shape[0] // sections)
        position = int(axis_map.position[section, at])
        index[axis_map.axis] = None if position == MEAN else position
        if _holds_new(tensor, axis_map) and axis_map.later[section, at]:
            return Place(None, ())
    return Place(tensor.source, tuple(index) if tensor.source is not None else ())


def _holds_new(tensor: TensorPlan, axis: AxisMap) -> bool:
    """Whether later copies on this axis are none: drawn anew, or zeros that read what is new."""
    return tensor.fill is not None if axis.shares is None else axis.shares.split == "fresh"
