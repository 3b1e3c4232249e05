"""Ops that lay tensors end to end, cut them, or pad them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, SizeOf, op
from net2net_cli.architecture.shapes import Batch, Shape, fixed


def positive(dim: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ValueError: there is no such axis.

    """
    if not -rank <= dim < rank:
        raise ValueError(f"it names axis {dim} of a tensor with {rank} axes")
    return dim % rank


def replaced(axes: Axes, dim: int, axis: Any) -> Axes:
    """The axes with one of them exchanged."""
    return (*axes[:dim], axis, *axes[dim + 1 :])


def keep_sizes(f: Flow, sizes: Sequence[Any], values: Mapping[str, Channels]) -> None:
    """The axes of other values whose sizes are read keep them."""
    for size in sizes:
        if isinstance(size, SizeOf):
            f.mix(values[size.value].axes[size.axis], "takes another tensor's size from it")


@op("cat")
class Cat(Op):
    """Tensors laid end to end along an axis: joins their labels there, ties the other axes."""

    arity = None
    linear = True
    functions: ClassVar = {
        "torch.cat": "tensors dim",
        "torch.concat": "tensors dim",
        "torch.concatenate": "tensors dim",
    }

    dim: int = 0

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        return cls(dim=positive(arguments.get("dim", 0), len(shapes[0])))

    def shape(self, *inputs: Shape) -> Shape:
        first = inputs[0]
        dim = positive(self.dim, len(first))
        for other in inputs[1:]:
            if (*first[:dim], *first[dim + 1 :]) != (*other[:dim], *other[dim + 1 :]):
                raise ValueError("its inputs differ in an axis that is not joined")
        if any(isinstance(x[dim], Batch) for x in inputs):
            raise ValueError("it joins along the batch axis")
        return (*first[:dim], sum(fixed(x[dim]) for x in inputs), *first[dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        joined = f.concat([(x.axes[self.dim], fixed(x.shape[self.dim])) for x in inputs])
        axes = inputs[0].axes
        for x in inputs[1:]:
            pairs = zip(axes, x.axes, x.shape, strict=True)
            axes = tuple(
                a if i == self.dim or isinstance(n, Batch) else f.tie(a, b, size=n) for i, (a, b, n) in enumerate(pairs)
            )
        return replaced(axes, self.dim, joined)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.cat", ([Input(i) for i in range(len(shapes))],), {"dim": self.dim})


@op("chunk")
class Chunk(Op):
    """One of several sections of equal size, as `torch.chunk` cuts them: the sections must stay equal."""

    linear = True

    chunks: int
    dim: int
    index: int

    def _borders(self, size: int) -> tuple[int, int]:
        section = -(-size // self.chunks)
        return self.index * section, min(size, (self.index + 1) * section)

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        start, stop = self._borders(fixed(x[self.dim]))
        return (*x[: self.dim], stop - start, *x[self.dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        size = fixed(x.shape[self.dim])
        axis = x.axes[self.dim]
        if size % self.chunks:
            f.mix(axis, "cuts it into chunks of unequal size")
        else:
            f.equal_parts(axis, size=size, parts=self.chunks)
        start, stop = self._borders(size)
        section, _, _ = f.section(axis, size=size, start=start, stop=stop)
        return replaced(x.axes, self.dim, section)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.getitem", (Call("torch.chunk", (Input(0), self.chunks), {"dim": self.dim}), self.index))


@op("split")
class Split(Op):
    """One of several sections of given sizes, as `torch.split` cuts them; the student's sizes follow its channels."""

    linear = True

    sizes: tuple[int, ...]
    dim: int
    index: int

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if sum(self.sizes) != x[self.dim]:
            raise ValueError(f"its sections sum to {sum(self.sizes)}; the axis has {x[self.dim]}")
        return (*x[: self.dim], self.sizes[self.index], *x[self.dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        axis, size, start = x.axes[self.dim], sum(self.sizes), 0
        sections, sizes = [], []
        for section in self.sizes:
            piece, first, last = f.section(axis, size=size, start=start, stop=start + section)
            start += section
            sections.append(piece)
            sizes.append(last - first)
        f.set(sizes=tuple(sizes))
        return replaced(x.axes, self.dim, sections[self.index])

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call(
            "operator.getitem", (Call("torch.split", (Input(0), list(self.sizes)), {"dim": self.dim}), self.index)
        )


@op("slice")
class Slice(Op):
    """Slices start, start + step, … below stop of an axis; the student's borders follow its channels."""

    linear = True

    dim: int
    start: int
    stop: int
    step: int

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if not 0 <= self.start <= self.stop <= fixed(x[self.dim]) or self.step < 1:
            raise ValueError(f"there is no slice {self.start}:{self.stop}:{self.step} of an axis of size {x[self.dim]}")
        return (*x[: self.dim], len(range(self.start, self.stop, self.step)), *x[self.dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        axis = x.axes[self.dim]
        if self.step != 1:
            f.mix(axis, f"takes one slice of every {self.step} of it")
            axis = None
        section, start, stop = f.section(axis, size=fixed(x.shape[self.dim]), start=self.start, stop=self.stop)
        f.set(start=start, stop=stop)
        return replaced(x.axes, self.dim, section)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        index = (slice(None),) * self.dim + (slice(self.start, self.stop, self.step if self.step != 1 else None),)
        if self.step == 1 and self.stop == shapes[0][self.dim]:
            index = (slice(None),) * self.dim + (slice(self.start, None),)
        return Call("operator.getitem", (Input(0), index))


@op("index_select")
class IndexSelect(Op):
    """Slices of an axis in the order of a list of indices; a shuffle whose channels have copies of their own number."""

    linear = True

    dim: int
    index: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        size = fixed(x[self.dim])
        if not self.index or min(self.index) < 0 or max(self.index) >= size:
            raise ValueError(f"its indices are not all from 0 to {size - 1}")
        return (*x[: self.dim], len(self.index), *x[self.dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        axis, index = f.take(x.axes[self.dim], self.index, size=fixed(x.shape[self.dim]))
        f.set(index=index)
        return replaced(x.axes, self.dim, axis)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.getitem", (Input(0), (slice(None),) * self.dim + (list(self.index),)))


@op("select")
class Select(Op):
    """One slice of an axis, which disappears; the axis keeps its slices."""

    linear = True

    dim: int
    index: int

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if not 0 <= self.index < fixed(x[self.dim]):
            raise ValueError(f"there is no slice {self.index} of an axis of size {x[self.dim]}")
        return (*x[: self.dim], *x[self.dim + 1 :])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        f.mix(axes[self.dim], "takes a single slice of it")
        return (*axes[: self.dim], *axes[self.dim + 1 :])

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.getitem", (Input(0), ((slice(None),) * self.dim + (self.index,))))


@op("expand")
class Expand(Op):
    """Axes of size 1 stretched, new axes in front; −1 keeps a size, a `SizeOf` takes it from another value."""

    linear = True

    size: tuple[int | SizeOf, ...]

    def shape(self, *inputs: Shape) -> Shape:
        x, *others = inputs
        known = dict(zip(self.references(), others, strict=True))
        new = len(self.size) - len(x)
        if new < 0:
            raise ValueError(f"it gives {len(self.size)} sizes to a tensor with {len(x)} axes")
        wanted = [known[w.value][w.axis] if isinstance(w, SizeOf) else w for w in self.size]
        for have, want in zip(x, wanted[new:], strict=True):
            if have not in (1, want) and want != -1:
                raise ValueError(f"it stretches an axis of size {have} to {want}; only size 1 can be stretched")
        return tuple(have if want == -1 else want for have, want in zip((1,) * new + x, wanted, strict=True))

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        x, *others = inputs
        new = len(self.size) - len(x.shape)
        size, axes = list(self.size), list(x.axes)
        keep_sizes(f, self.size, dict(zip(self.references(), others, strict=True)))
        for i, (axis, have) in enumerate(zip(x.axes, x.shape, strict=True), start=new):
            if size[i] == have:
                size[i] = -1
            elif size[i] != -1:
                f.mix(axis, "stretches its one slice")
                axes[i - new] = None
        f.set(size=tuple(size))
        return (*(None,) * new, *axes)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.Tensor.expand", (Input(0), *self.size))

    def references(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.value for s in self.size if isinstance(s, SizeOf)))


@op("pad")
class Pad(Op):
    """Padding as `torch.nn.functional.pad` does it: last axis first, (before, after) for each.

    Constant slices that are added to a channel axis are channels of their own, and may have copies.
    """

    functions: ClassVar = {
        "torch.nn.functional.pad": "input pad mode value",
        "torch._C._nn.pad": "input pad mode value",
    }
    linear = True

    pad: tuple[int, ...]
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float | None = None

    def check(self) -> None:
        if len(self.pad) % 2:
            raise ValueError(f"`pad` has {len(self.pad)} entries; two are needed for each axis")

    def shape(self, *inputs: Shape) -> Shape:
        sizes = list(inputs[0])
        for i in range(len(self.pad) // 2):
            axis = len(sizes) - 1 - i
            if self.pad[2 * i] or self.pad[2 * i + 1]:
                sizes[axis] = fixed(sizes[axis]) + self.pad[2 * i] + self.pad[2 * i + 1]
        return tuple(sizes)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        (x,) = inputs
        axes, amounts = list(x.axes), list(self.pad)
        for axis in axes if self.value else ():
            f.plain(axis, "puts a value other than 0 beside them")
        for i in range(len(self.pad) // 2):
            before, after = self.pad[2 * i : 2 * i + 2]
            dim = len(axes) - 1 - i
            if not before and not after:
                continue
            if self.mode != "constant" or min(before, after) < 0:
                f.mix(axes[dim], f"pads it in mode `{self.mode}`")
                axes[dim] = None
            elif axes[dim] is not None:
                f.plain(axes[dim], "puts constants among them")
                size = fixed(x.shape[dim])
                axes[dim], *amounts[2 * i : 2 * i + 2] = f.pad(
                    axes[dim], size=size, before=before, after=after, attribute=f"pad{i}"
                )
        f.set(pad=tuple(amounts))
        return tuple(axes)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.nn.functional.pad", (Input(0), list(self.pad)), {"mode": self.mode, "value": self.value})
