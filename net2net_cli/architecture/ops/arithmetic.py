"""Arithmetic of two tensors, or of a tensor and a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow, all_known
from net2net_cli.architecture.ops.base import Call, Input, Op, TensorSlot, op
from net2net_cli.architecture.shapes import Batch, Dim, Shape


def broadcast(*shapes: Shape) -> Shape:
    """The common shape, by PyTorch's rule: aligned at the last axis, where 1 stretches.

    Raises:
        ValueError: two sizes differ and neither is 1.

    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(_common(sizes) for sizes in zip(*padded, strict=True))


def _common(sizes: tuple[Dim, ...]) -> Dim:
    wide = {s for s in sizes if s != 1}
    if len(wide) > 1:
        raise ValueError(f"sizes {' and '.join(map(str, sizes))} do not go together")
    return wide.pop() if wide else 1


def slices(size: Dim) -> int:
    """How many slices an axis has; a batch axis has those of one sample."""
    return size.times if isinstance(size, Batch) else size


def tie_broadcast(f: Flow, inputs: tuple[Channels, ...], *, adds: bool | None = None) -> Axes:
    """Axes of an elementwise result: equal sizes are tied; an axis of size 1 that is stretched keeps its one slice.

    Args:
        f: the run.
        inputs: the operands.
        adds: whether the result is a sum or difference (true) or a product (false), which decides what a stream with a
            tail may meet: a sum another such stream, a product a factor that is the same for all channels.
    """
    shape = broadcast(*(x.shape for x in inputs))
    axes = []
    for i, size in enumerate(shape):
        meeting = []
        for x in inputs:
            place = i - (len(shape) - len(x.shape))
            if place < 0:
                continue
            if x.shape[place] == size:
                meeting.append(x.axes[place])
            else:
                f.mix(x.axes[place], "stretches its one slice over the other operand")
        axis = meeting[0]
        if len(inputs) == 2 and adds is not None and adds != (len(meeting) == 2):
            f.plain(axis, "adds one number to all channels" if adds else "multiplies channel by channel")
        for other in meeting[1:]:
            axis = f.tie(axis, other, size=slices(size))
        axes.append(axis)
    return tuple(axes)


@dataclass(frozen=True)
class Binary(Op):
    """Acts on elements at the same place: ties the axes of its operands, or carries those of the one tensor.

    Attributes:
        scalar: the second operand, where it is a number and not a tensor.

    """

    arity: ClassVar[int | None] = None
    folds: ClassVar[bool] = True
    tensors_taken: ClassVar[tuple[int, ...]] = (1, 2)
    adds: ClassVar[bool | None] = None
    """True for sums and differences, false for products, None for what is linear in neither way."""

    scalar: float | int | None = None

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        if arguments.get("rounding_mode") is not None or arguments.get("alpha", 1) != 1:
            raise ValueError("`rounding_mode` and `alpha` are not supported; write the multiplication out")
        return cls(scalar=arguments.get("other")) if len(shapes) == 1 else cls()

    def shape(self, *inputs: Shape) -> Shape:
        if len(inputs) != (2 if self.scalar is None else 1):
            raise ValueError(f"it has {len(inputs)} inputs; two are needed, or one and a number")
        if len(inputs) not in self.tensors_taken:
            raise ValueError("it takes two tensors" if 2 in self.tensors_taken else "it takes a number and a tensor")
        return broadcast(*inputs)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.adds and self.scalar is not None:
            for axis in inputs[0].axes:
                f.plain(axis, "adds a number to every channel")
        return tie_broadcast(f, inputs, adds=self.adds)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        second = Input(1) if len(shapes) == 2 else self.scalar
        return Call(f"operator.{self.operator}", (Input(0), second))

    operator: ClassVar[str]


def _forms(name: str, *more: str) -> dict[str, str]:
    functions = {
        f"torch.{name}": "input other *",
        f"Tensor.{name}": "input other *",
        f"Tensor.{name}_": "input other *",
    }
    return functions | dict.fromkeys(more, "input other")


@op("add")
class Add(Binary):
    """x + y."""

    operator = "add"
    adds = linear = True
    functions: ClassVar = _forms("add", "operator.add", "operator.iadd")


@op("sub")
class Sub(Binary):
    """x − y."""

    operator = "sub"
    adds = linear = True
    functions: ClassVar = _forms("sub", "operator.sub", "operator.isub", "torch.subtract")


@op("mul")
class Mul(Binary):
    """x · y."""

    operator = "mul"
    adds, linear = False, True
    functions: ClassVar = _forms("mul", "operator.mul", "operator.imul", "torch.multiply")


@op("div")
class Div(Binary):
    """x / y."""

    operator = "truediv"
    functions: ClassVar = _forms("div", "operator.truediv", "operator.itruediv", "torch.true_divide")

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        for divisor in inputs[1:]:
            all_known(f, divisor)
        return super().flow(f, *inputs)


@op("pow")
class Pow(Binary):
    """xʸ."""

    operator = "pow"
    functions: ClassVar = {
        "operator.pow": "input other",
        "torch.pow": "input other",
        "Tensor.pow": "input other",
    }

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.scalar is None or self.scalar < 0 or self.scalar % 1:
            for x in inputs:
                all_known(f, x)
        return super().flow(f, *inputs)


@op("rsub")
class ReverseSub(Binary):
    """number − x."""

    tensors_taken = (1,)

    functions: ClassVar = {"torch.rsub": "input other *"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.sub", (self.scalar, Input(0)))


@op("rdiv")
class ReverseDiv(Binary):
    """number / x."""

    tensors_taken = (1,)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        all_known(f, inputs[0])
        return super().flow(f, *inputs)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.truediv", (self.scalar, Input(0)))


@op("rpow")
class ReversePow(Binary):
    """number to the power of x."""

    tensors_taken = (1,)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.scalar is None or self.scalar <= 0:
            all_known(f, inputs[0])
        return super().flow(f, *inputs)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("operator.pow", (self.scalar, Input(0)))


@op("maximum")
class Maximum(Binary):
    """The larger of two, element by element."""

    tensors_taken = (2,)

    functions: ClassVar = {"torch.maximum": "input other", "Tensor.maximum": "input other"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.maximum", (Input(0), Input(1)))


@op("minimum")
class Minimum(Binary):
    """The smaller of two, element by element."""

    tensors_taken = (2,)

    functions: ClassVar = {"torch.minimum": "input other", "Tensor.minimum": "input other"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.minimum", (Input(0), Input(1)))


@op("addcmul")
class AddCMul(Op):
    """x + value · y · z, element by element."""

    functions: ClassVar = {
        "torch.addcmul": "input tensor1 tensor2 value",
        "Tensor.addcmul": "input tensor1 tensor2 value",
    }
    arity = 3
    folds = True

    value: float = 1.0

    def shape(self, *inputs: Shape) -> Shape:
        return broadcast(*inputs)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        return tie_broadcast(f, inputs)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.addcmul", tuple(Input(i) for i in range(3)), {"value": self.value})


@op("matmul")
class Matmul(Op):
    """Matrix product of two activations over the inner axis; axes before the last two are tied.

    No weight stands between the operands that could share out the copies of the inner axis, so it keeps its slices.
    """

    functions: ClassVar = {
        "torch.matmul": "input other",
        "operator.matmul": "input other",
        "Tensor.matmul": "input other",
        "torch.mm": "input other",
        "Tensor.mm": "input other",
        "torch.bmm": "input other",
        "Tensor.bmm": "input other",
    }
    arity = 2
    folds = True

    def shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        if min(len(a), len(b)) < 2:
            raise ValueError("products of vectors are not supported")
        if a[-1] != b[-2]:
            raise ValueError(f"inner sizes {a[-1]} and {b[-2]} differ")
        return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        a, b = inputs
        for axis in (a.axes[-1], b.axes[-2]):
            f.mix(axis, "multiplies two activations over it, and no weight can share out the copies")
        outer = (Channels(a.shape[:-2], a.axes[:-2]), Channels(b.shape[:-2], b.axes[:-2]))
        return (*tie_broadcast(f, outer), a.axes[-2], b.axes[-1])

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.matmul", (Input(0), Input(1)))


@op("Parameter")
class Parameter(Op):
    """A tensor of the user's own module: its layer's name is the tensor's. It has no batch axis.

    Attributes:
        size: the tensor's shape.
        trainable: false for buffers.
        dtype: of a buffer that holds no real numbers, such as a mask.

    """

    arity = 0
    linear = True
    silent = ("",)

    size: tuple[int, ...]
    trainable: bool = True
    dtype: Literal["int64", "int32", "int16", "int8", "uint8", "bool"] | None = None

    def check(self) -> None:
        if self.trainable and self.dtype is not None:
            raise ValueError("integers are not trained")

    def tensors(self) -> dict[str, TensorSlot]:
        kind = "parameter" if self.trainable else "buffer"
        return {"": TensorSlot(self.size, kind, integer=self.dtype is not None, default=0.0)}

    def shape(self, *inputs: Shape) -> Shape:
        return self.size

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = tuple(f.create("", i, n) if n > 1 else None for i, n in enumerate(self.size))
        f.set(size=tuple(f.width(a, n) for a, n in zip(axes, self.size, strict=True)))
        return axes


@op("BorrowedParameter")
class BorrowedParameter(Parameter):
    """The value of a tensor that belongs to another layer: every axis of it is that layer's, those of one slice too."""

    borrows = True

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = tuple(f.create("", i, n) for i, n in enumerate(self.size))
        f.set(size=tuple(f.width(a, n) for a, n in zip(axes, self.size, strict=True)))
        return axes
