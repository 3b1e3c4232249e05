"""Students that answer many wishes at once: growths that touch nothing of each other's are made in one student.

Where such a student returns what the teacher returns, every growth in it is exact; where it does not, it is halved
until what is wrong stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from net2net_cli import Net2Net
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import Net2NetError
from net2net_cli.growth.plan import AxisMap, Plan, Split

Wish: TypeAlias = tuple[str, str]
"""A layer or a block, and one of `GROWTHS`."""

Copied: TypeAlias = Mapping[tuple[str, int], Ints]
"""Axis of a student's tensor -> teacher slices that it holds more than once, or otherwise than they were."""

ROOM = 1.0
"""Parameters that a student may have beside its teacher's, as a share of these, before it answers no more wishes."""


@dataclass(slots=True)
class Member:
    """A wish that a student answers.

    Attributes:
        scrambled: layers of the student that must each be seen.
        through: the layer that was asked for in its place.
    """

    wish: Wish
    scrambled: tuple[str, ...]
    through: str | None = None


@dataclass(slots=True)
class Group:
    """One growth, and all wishes that it answers.

    Attributes:
        layer: what is asked for.
        width: how much wider; None where it is deepened.
        split: how copies share; None where it is deepened.
        added: parameters that the student has beside its teacher's.
        copied: what of the teacher it copies; empty where it is deepened.
        train: whether it is exact in training mode as well.
    """

    layer: str
    width: str | None
    split: Split | None
    added: int
    copied: Copied = field(default_factory=dict)
    train: bool = True
    members: list[Member] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str | None, str | None, bool]:
        """Equal for growths that one call can make, and one comparison judge."""
        return self.width, self.split, self.train

    def independent(self, other: Group) -> bool:
        """Whether they copy nothing in common, so that each is in the student of both what it is by itself."""
        common = self.copied.keys() & other.copied.keys()
        return not any(np.intersect1d(self.copied[at], other.copied[at]).size for at in common)


def parameters(net: Net2Net) -> int:
    """How many numbers its tensors hold."""
    return sum(int(np.prod(slot.shape)) for _, _, _, slot in net.graph.tensors())


def copied(plan: Plan) -> Copied:
    """What of the teacher a plan copies."""
    return {(tensor.name, axis.axis): _more_than_once(axis) for tensor in plan.tensors.values() for axis in tensor.axes}


def _more_than_once(axis: AxisMap) -> Ints:
    held, times = np.unique(axis.position[0], return_counts=True)
    # A factor or a tail concerns every slice of the axis.
    return held if axis.factor is not None or held[0] < 0 else held[times > 1]


def packed(groups: Sequence[Group], room: float) -> Iterator[list[Group]]:
    """The groups in as few packs as a simple search finds: of one kind, independent, and of no more parameters.

    Args:
        groups: in any order.
        room: parameters that a pack may add; one group may be beyond it.
    """
    open_packs: list[list[Group]] = []
    for group in groups:
        for pack in open_packs:
            fits = pack[0].kind == group.kind and sum(one.added for one in pack) + group.added <= room
            if fits and all(group.independent(one) for one in pack):
                pack.append(group)
                break
        else:
            open_packs.append([group])
    yield from open_packs


def grown(net: Net2Net, groups: Sequence[Group]) -> Net2Net:
    """The student of a pack."""
    first = groups[0]
    if first.width is None or first.split is None:
        return net.deepen([one.layer for one in groups])
    return net.widen({one.layer: first.width for one in groups}, split=first.split)


def possible(net: Net2Net, pack: list[Group]) -> Iterator[tuple[list[Group], Net2Net]]:
    """The pack and its student; or those of its halves, where the tool refuses to make them together.

    Args:
        net: the teacher.
        pack: at least one group.
    """
    try:
        student = grown(net, pack)
        names = student.graph.by_name
        if len(pack) == 1 or all(s in names for g in pack for m in g.members for s in m.scrambled):
            yield pack, student
            return
    except Net2NetError:
        if len(pack) == 1:
            raise
    for half in halves(pack):
        yield from possible(net, half)


def halves(pack: list[Group]) -> tuple[list[Group], list[Group]]:
    """A pack of two or more as two."""
    middle = len(pack) // 2
    return pack[:middle], pack[middle:]
