"""What view, permute, squeeze and their kin do to the axes of a tensor: factors, moved; and its einops pattern."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from net2net_cli.architecture.ops.shape import Rearrange
from net2net_cli.architecture.shapes import Batch, Dim, Shape, divide, product

Side = tuple[tuple[int, ...], ...]
"""For each axis its factors by number, outermost first; an axis of size 1 may have none."""

_AXIS_NAMES = {1: "c", 2: "nc", 3: "ncl", 4: "nchw", 5: "ncdhw", 6: "nctdhw"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Factors of the axes of a tensor, and where they go. Factors are numbered from left to right on the left side.

    Attributes:
        left: the input's axes.
        right: the output's axes.
        sizes: of the factors.
        names: of the factors, where someone gave them one.

    """

    left: Side
    right: Side
    sizes: tuple[Dim, ...]
    names: tuple[str | None, ...] = field(default=(), compare=False)

    @property
    def identity(self) -> bool:
        """Nothing moves."""
        return self.left == self.right

    @property
    def transposes(self) -> bool:
        """A matrix is turned over."""
        return (self.left, self.right) == (((0,), (1,)), ((1,), (0,)))

    def shape(self) -> Shape:
        """The output's shape."""
        return tuple(product(self.sizes[f] for f in axis) for axis in self.right)


def numbered(
    left: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    sizes: Sequence[Dim],
    names: Sequence[str | None] = (),
) -> Arrangement:
    """An arrangement of factors that are numbered in any way, and may be more than are used."""
    order = [f for axis in left for f in axis]
    new = {old: i for i, old in enumerate(order)}
    given = tuple(names[f] if f < len(names) else None for f in order)
    sides = [tuple(tuple(new[f] for f in axis) for axis in side) for side in (left, right)]
    return Arrangement(sides[0], sides[1], tuple(sizes[f] for f in order), given)


def permuted(shape: Shape, order: Sequence[int]) -> Arrangement:
    """Axes in another order."""
    axes = [(i,) for i in range(len(shape))]
    return numbered(axes, [axes[i] for i in order], shape)


def reshaped(before: Shape, after: Shape, *, flatten: bool = True) -> Arrangement:
    """The same elements in the same order with other axes.

    Args:
        before: the input's shape.
        after: the output's shape.
        flatten: axes of size 1 that go into the last axis are merged with it, rather than dropped.

    Raises:
        ValueError: an axis of one is made of parts of axes of the other that are no factors.

    """
    if flatten and (kept := _flattened_from(before, after)):
        axes = [(i,) for i in range(len(before))]
        return numbered(axes, [*axes[:kept], tuple(range(kept, len(before)))], before)
    left: list[list[int]] = [[] for _ in before]
    right: list[list[int]] = [[] for _ in after]
    sizes: list[Dim] = []
    for i, j, size in _common_factors(before, after):
        left[i].append(len(sizes))
        right[j].append(len(sizes))
        sizes.append(size)
    return numbered(left, right, sizes)


def _flattened_from(before: Shape, after: Shape) -> int | None:
    """The first of the axes that are merged to the last axis, where that is all that happens."""
    kept = len(after) - 1
    if kept < 1 or len(before) < len(after) + 1 or before[:kept] != after[:kept]:
        return None
    return kept


def _common_factors(before: Shape, after: Shape) -> Iterator[tuple[int, int, Dim]]:
    """The factors that both shapes are made of, outermost first: an axis of each, and the size.

    Raises:
        ValueError: there are none.

    """
    ins, outs = (deque((i, n) for i, n in enumerate(shape) if n != 1) for shape in (before, after))
    while ins and outs:
        (i, a), (j, b) = ins.popleft(), outs.popleft()
        if a == b:
            yield i, j, a
        elif (rest := _quotient(a, b)) is not None:
            yield i, j, b
            ins.appendleft((i, rest))
        elif (rest := _quotient(b, a)) is not None:
            yield i, j, a
            outs.appendleft((j, rest))
        else:
            raise ValueError(f"an axis of size {b} would hold parts of axes of which one has size {a}")
    if ins or outs:
        raise ValueError("the numbers of elements differ")


def _quotient(size: Dim, by: Dim) -> Dim | None:
    try:
        rest = divide(size, by)
    except ValueError:
        return None
    return rest


def composed(first: Arrangement, then: Arrangement) -> Arrangement | None:
    """Both in one, or None where their factors do not fit into each other."""
    of_first: dict[int, list[int]] = {}
    of_then: dict[int, list[int]] = {}
    sizes: list[Dim] = []
    names: list[str | None] = []
    for made, read in zip(first.right, then.left, strict=True):
        try:
            for i, j, size in _met(first, made, then, read):
                of_first.setdefault(i, []).append(len(sizes))
                of_then.setdefault(j, []).append(len(sizes))
                names.append(_shared_name(first, i, then, j, size))
                sizes.append(size)
        except ValueError:
            return None
    left = [[p for f in axis for p in of_first.get(f, ())] for axis in first.left]
    right = [[p for f in axis for p in of_then.get(f, ())] for axis in then.right]
    return merged(numbered(left, right, sizes, names))


def _met(
    first: Arrangement, made: Sequence[int], then: Arrangement, read: Sequence[int]
) -> Iterator[tuple[int, int, Dim]]:
    """For an axis between two arrangements, the factors of both that meet.

    A factor of size 1 stays where both have it: it may be a channel axis that grows one day.
    """
    if len(made) == len(read) == 1 and first.sizes[made[0]] == then.sizes[read[0]] == 1:
        yield made[0], read[0], 1
    sizes = [tuple(a.sizes[f] for f in axis) for a, axis in ((first, made), (then, read))]
    for i, j, size in _common_factors(*sizes):
        yield made[i], read[j], size


def _shared_name(first: Arrangement, i: int, then: Arrangement, j: int, size: Dim) -> str | None:
    known = [a.names[f] for a, f in ((first, i), (then, j)) if a.names and a.sizes[f] == size]
    return next((name for name in known if name), None)


def merged(a: Arrangement) -> Arrangement:
    """Factors that stand side by side on both sides become one."""
    while pair := _neighbours(a):
        f, g = pair
        sizes, names = list(a.sizes), list(a.names or (None,) * len(a.sizes))
        sizes[f], names[f] = product((a.sizes[f], a.sizes[g])), None
        left, right = ([[x for x in axis if x != g] for axis in side] for side in (a.left, a.right))
        a = numbered(left, right, sizes, names)
    return a


def _neighbours(a: Arrangement) -> tuple[int, int] | None:
    on_left = {pair for axis in a.left for pair in pairwise(axis)}
    return next((p for axis in a.right for p in pairwise(axis) if p in on_left), None)


def rearrange_op(a: Arrangement) -> Rearrange:
    """The op with its pattern; sizes are written for all factors but one of each axis, never for the batch."""
    names = _names(a)
    sides = [" ".join(_token([names[f] for f in axis]) for axis in side) for side in (a.left, a.right)]
    axes = {names[f]: size for axis in a.left for f in _told(a, axis, names) if isinstance(size := a.sizes[f], int)}
    return Rearrange(pattern=" -> ".join(sides), axes=axes)


def _token(names: Sequence[str]) -> str:
    if not names:
        return "1"
    return names[0] if len(names) == 1 else f"({' '.join(names)})"


def _told(a: Arrangement, axis: Sequence[int], names: Sequence[str]) -> Iterable[int]:
    """The factors of an axis whose sizes must be written."""
    free = [f for f in axis if isinstance(a.sizes[f], Batch)] or [f for f in axis if names[f] == "c"]
    if not free and axis:
        free = [max(axis, key=lambda f: (a.sizes[f], f))]
    return [f for f in axis if f not in free[:1]]


def _names(a: Arrangement) -> list[str]:
    """Names that people would choose: those given, n for the batch, then by place."""
    names: list[str | None] = [None] * len(a.sizes)
    used: set[str] = set()

    def give(factor: int, name: str) -> None:
        if names[factor] is None and name not in used and _NAME.fullmatch(name):
            names[factor] = name
            used.add(name)

    for f, name in enumerate(a.names):
        give(f, name or "")
    for f, size in enumerate(a.sizes):
        if isinstance(size, Batch):
            give(f, "n")
    for side in sorted((a.left, a.right), key=len, reverse=True):
        for axis, letter in zip(side, _base_names(a, side), strict=True):
            if len(axis) == 1:
                give(axis[0], letter)
    for axis, letter in zip(a.left, _base_names(a, a.left), strict=True):
        for i, f in enumerate(axis):
            give(f, ("g", "c")[i] if (letter, len(axis)) == ("c", 2) else f"{letter}{i + 1}")
    for f in range(len(names)):
        for spare in "abdefgijkmpqrstuvwxyz":
            give(f, spare)
    return [name or f"f{i}" for i, name in enumerate(names)]


def _base_names(a: Arrangement, side: Side) -> str:
    rank = len(side)
    letters = _AXIS_NAMES.get(rank, "ncdefghijkl"[:rank].ljust(rank, "z"))
    batched = bool(side and side[0]) and any(isinstance(a.sizes[f], Batch) for f in side[0])
    return letters if batched or rank == 1 else letters.replace("n", "a", 1)
