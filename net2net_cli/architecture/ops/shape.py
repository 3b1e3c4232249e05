"""`rearrange`: view, reshape, flatten, permute, transpose, squeeze, unsqueeze, pixel shuffle, channel shuffle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, op
from net2net_cli.architecture.ops.join import IndexSelect
from net2net_cli.architecture.shapes import Batch, Dim, Shape, divide, product

Side = tuple[tuple[str, ...], ...]
"""One side of a pattern: for each axis its factors, outermost first; `1` is a factor-less axis."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def parse_side(text: str) -> Side:
    """`"n (c h) 1"` -> `(("n",), ("c", "h"), ())`.

    Raises:
        ValueError: the text is no einops pattern of plain names.

    """
    axes: list[tuple[str, ...]] = []
    for token in re.findall(r"\([^()]*\)|[^\s()]+", text):
        names = tuple(name for name in token.strip("()").split() if name != "1")
        if any(not _NAME.fullmatch(name) for name in names):
            raise ValueError(f"`{token}` is no axis of a pattern")
        axes.append(names)
    return tuple(axes)


@dataclass(frozen=True)
class Pattern:
    """Both sides of an einops pattern, checked."""

    text: str
    left: Side = field(init=False)
    right: Side = field(init=False)

    def __post_init__(self) -> None:
        parts = self.text.split("->")
        if len(parts) != 2:
            raise ValueError(f"`{self.text}` is no pattern: one `->` is needed")
        left, right = (parse_side(part) for part in parts)
        for side in (left, right):
            names = [n for axis in side for n in axis]
            if len(names) != len(set(names)):
                raise ValueError(f"`{self.text}` names an axis twice on one side")
        if {n for axis in left for n in axis} != {n for axis in right for n in axis}:
            raise ValueError(f"`{self.text}` names different axes on its two sides")
        object.__setattr__(self, "left", left)
        object.__setattr__(self, "right", right)

    def sizes(self, shape: Shape, known: Mapping[str, int]) -> dict[str, Dim]:
        """The size of every named axis.

        Raises:
            ValueError: the shape does not fit the pattern.

        """
        if len(shape) != len(self.left):
            raise ValueError(f"its pattern has {len(self.left)} axes; its input has {len(shape)}")
        found: dict[str, Dim] = dict(known)
        for axis, size in zip(self.left, shape, strict=True):
            free = [name for name in axis if name not in found]
            if len(free) > 1:
                raise ValueError(f"the sizes of {', '.join(free)} are not given")
            rest = divide(size, product(found[name] for name in axis if name in found))
            if free:
                found[free[0]] = rest
            elif rest != 1:
                raise ValueError(f"axis ({' '.join(axis)}) does not have size {size}")
        return found


@op("rearrange")
class Rearrange(Op):
    """Moves data without changing it, as an einops pattern says: labels and positions are moved by the same rule.

    Slices that are merged into an axis behind the batch, such as heads in `n h t d -> (n h) t d`, stay what they are: a
    batch axis carries the slices of one sample.

    Attributes:
        pattern: for example `n c h w -> n (c h w)`.
        axes: sizes of the factors that the input's shape does not tell, the batch excepted.

    """

    linear = True
    folds = True

    pattern: str
    axes: Mapping[str, int] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.pattern, tuple(sorted(self.axes.items()))))

    @cached_property
    def parsed(self) -> Pattern:
        """The pattern, parsed once."""
        return Pattern(self.pattern)

    def check(self) -> None:
        unknown = set(self.axes) - {name for axis in self.parsed.left for name in axis}
        if unknown:
            raise ValueError(f"`axes` names {', '.join(sorted(unknown))}, which the pattern does not")

    def shape(self, *inputs: Shape) -> Shape:
        sizes = self.parsed.sizes(inputs[0], self.axes)
        return tuple(product(sizes[name] for name in axis) for axis in self.parsed.right)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        sizes = self.parsed.sizes(x.shape, self.axes)
        plain = {name: None if isinstance(size, Batch) else size for name, size in sizes.items()}
        factors: dict[str, Axis] = {}
        whole: dict[tuple[str, ...], Axis] = {}
        grown: dict[str, int] = {}
        index: tuple[int, tuple[int, ...]] | None = None
        for i, (names, axis) in enumerate(zip(self.parsed.left, x.axes, strict=True)):
            if not names:
                f.mix(axis, "drops it as an axis of a single slice")
            known = [plain[n] for n in names]
            if len(names) > 1 and None in known and (known[0] is not None or sizes[names[0]] != Batch()):
                f.mix(axis, "takes it out of a batch axis that does not begin with the batch")
                axis = None
            reordered = self._reordered(names)
            if reordered is not None and None not in known:
                order = [names.index(n) for n in reordered]
                alone = self.parsed.right == (*self.parsed.left[:i], reordered, *self.parsed.left[i + 1 :])
                whole[reordered], now, student = f.permute(axis, [n or 1 for n in known], order, alone=alone)
                grown |= dict(zip(names, now, strict=True))
                index = index if student is None else (i, student)
            else:
                pieces = f.split(axis, known, site=f"axis {i}") if len(names) > 1 else (axis,)
                factors |= dict(zip(names, pieces, strict=False))
                grown |= {n: f.width(factors[n], plain[n] or 1) for n in names}
        if index is not None:
            f.become(IndexSelect(*index))
        f.set(axes={name: grown[name] for name in self.axes})
        return tuple(whole[n] if n in whole else self._merged(f, n, factors, sizes) for n in self.parsed.right)

    @property
    def shuffles(self) -> bool:
        """Whether it reorders factors within an axis."""
        return any(self._reordered(names) not in (None, names) for names in self.parsed.left)

    def _reordered(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """The axis on the right that has the same factors in another order, as in a channel shuffle."""
        same = (other for other in self.parsed.right if sorted(other) == sorted(names))
        return next(same, None) if len(names) > 1 else None

    @staticmethod
    def _merged(f: Flow, names: tuple[str, ...], factors: Mapping[str, Axis], sizes: Mapping[str, Dim]) -> Axis:
        if len(names) > 1 and sizes[names[0]] == Batch() and factors[names[0]] is None:
            names = names[1:]  # slices that follow the batch are those of each sample
        if not names:
            return None
        plain = {n: None if isinstance(size, Batch) else size for n, size in sizes.items()}
        return factors[names[0]] if len(names) == 1 else f.merge([(factors[n], plain[n]) for n in names])

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        """Unflatten, squeeze, permute, unsqueeze, flatten: no size is written that the input tells."""
        value: Any = Input(0)
        left, right = self.parsed.left, self.parsed.right
        names: list[str | None] = []
        for axis in left:
            place = len(names)
            if len(axis) > 1:
                free = [n for n in axis if n not in self.axes]
                sizes = [-1 if n in free else self.axes[n] for n in axis]
                value = Call("torch.unflatten", (value, place, sizes))
            if axis:
                names.extend(axis)
            else:
                value = Call("torch.squeeze", (value, place))
        order = [name for axis in right for name in axis]
        if order != names:
            value = Call("torch.permute", (value, [names.index(name) for name in order]))
        return self._flattened(value, right)

    @staticmethod
    def _flattened(value: Any, right: Side) -> Call:
        for place, axis in enumerate(right):
            if len(axis) > 1:
                value = Call("torch.flatten", (value, place, place + len(axis) - 1))
            elif not axis:
                value = Call("torch.unsqueeze", (value, place))
        return value if isinstance(value, Call) else Call("torch.Tensor.view_as", (value, value))
