"""Comparisons, and choices by a condition: how masks are made and applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.activation import Elementwise
from net2net_cli.architecture.ops.arithmetic import Binary, broadcast, tie_broadcast
from net2net_cli.architecture.ops.base import Call, Input, Op, op
from net2net_cli.architecture.shapes import Shape


class Comparison(Binary):
    """Compares elements at the same place, or all with a number."""

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        return cls(scalar=arguments.get("other")) if len(shapes) == 1 else cls()

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        second = Input(1) if len(shapes) == 2 else self.scalar
        return Call(f"torch.{self.name}", (Input(0), second))


def _forms(name: str) -> dict[str, str]:
    return dict.fromkeys((f"operator.{name}", f"torch.{name}", f"Tensor.{name}"), "input other")


@op("eq")
class Equal(Comparison):
    """x = y."""

    functions: ClassVar = _forms("eq")


@op("ne")
class NotEqual(Comparison):
    """x ≠ y; of a tensor and 0, what `Tensor.bool` gives."""

    functions: ClassVar = _forms("ne")


@op("lt")
class Less(Comparison):
    """x < y."""

    functions: ClassVar = _forms("lt")


@op("le")
class LessOrEqual(Comparison):
    """x ≤ y."""

    functions: ClassVar = _forms("le")


@op("gt")
class Greater(Comparison):
    """x > y."""

    functions: ClassVar = _forms("gt")


@op("ge")
class GreaterOrEqual(Comparison):
    """x ≥ y."""

    functions: ClassVar = _forms("ge")


@op("logical_not")
class LogicalNot(Elementwise):
    """True where x is zero or false."""

    functions: ClassVar = {"torch.logical_not": "input", "Tensor.logical_not": "input"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.logical_not", (Input(0),))


@op("logical_and")
class LogicalAnd(Binary):
    """True where both are."""

    tensors_taken = (2,)
    functions: ClassVar = {"torch.logical_and": "input other", "Tensor.logical_and": "input other"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.logical_and", (Input(0), Input(1)))


@op("logical_or")
class LogicalOr(Binary):
    """True where either is."""

    tensors_taken = (2,)
    functions: ClassVar = {"torch.logical_or": "input other", "Tensor.logical_or": "input other"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.logical_or", (Input(0), Input(1)))


@op("where")
class Where(Op):
    """Elements of one operand where the condition holds, of the other elsewhere: ties all of them.

    Inputs are the condition and those operands that are tensors.

    Attributes:
        input: what is taken where the condition holds, if that is a number.
        other: what is taken elsewhere, if that is a number.
    """

    arity = None
    folds = True

    input: float | int | None = None
    other: float | int | None = None

    def shape(self, *inputs: Shape) -> Shape:
        needed = 1 + (self.input is None) + (self.other is None)
        if len(inputs) != needed:
            raise ValueError(f"it has {len(inputs)} inputs; {needed} are needed: a condition, and what is no number")
        return broadcast(*inputs)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        return tie_broadcast(f, inputs)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        first = Input(1) if self.input is None else self.input
        second = Input(len(shapes) - 1) if self.other is None else self.other
        return Call("torch.where", (Input(0), first, second))


@op("triangle")
class Triangle(Op):
    """A matrix that has one value on and below a diagonal and another above it, as a causal mask has.

    Its input tells the device, and where values are real numbers the type if its own are.

    Attributes:
        rows: of the matrix.
        columns: of the matrix.
        diagonal: the last column that counts as below, in the first row.
        below: the value there.
        above: the value elsewhere.
    """

    rows: int
    columns: int
    diagonal: int
    below: float | bool
    above: float | bool

    def check(self) -> None:
        if isinstance(self.below, bool) != isinstance(self.above, bool):
            raise ValueError("one of its values is a number, and the other is not")

    def shape(self, *inputs: Shape) -> Shape:
        return (self.rows, self.columns)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        return (None, None)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        ones = Call("torch.Tensor.new_ones", (Input(0), [self.rows, self.columns]))
        holds = Call("torch.ne", (Call("torch.tril", (ones, self.diagonal)), 0))
        if isinstance(self.below, bool):
            return holds if self.below else Call("torch.logical_not", (holds,))
        # Scalars that are added to zeros of the input's type: real numbers keep it, and whole numbers become real.
        zero = Call("torch.Tensor.new_zeros", (Input(0), []))
        values = (Call("operator.add", (zero, value)) for value in (float(self.below), float(self.above)))
        return Call("torch.where", (holds, *values))
