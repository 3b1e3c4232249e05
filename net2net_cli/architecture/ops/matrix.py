"""Matrices of the user's own, as `self.W` in `x @ self.W`, and the products with them: linear layers in two parts."""

from __future__ import annotations

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, TensorSlot, op
from net2net_cli.architecture.ops.conv import BorrowedLinear
from net2net_cli.architecture.shapes import Shape


@op("Matrix")
class Matrix(Op):
    """A trained matrix that layers multiply by, and that nothing else reads. Its layer's name is the tensor's.

    Its columns may share out what its rows copy, so that it is no value like others: only `matrix_product` takes it.

    Attributes:
        size: rows and columns.
        summed: the axis over which the products sum.
    """

    arity = 0
    linear = True
    silent = ("",)

    size: tuple[int, int]
    summed: int

    def check(self) -> None:
        _check_axis(self.summed)

    def tensors(self) -> dict[str, TensorSlot]:
        return {"": TensorSlot(self.size, fan_in=self.size[self.summed])}

    def shape(self, *inputs: Shape) -> Shape:
        return self.size

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        made = f.create("", 1 - self.summed, self.size[1 - self.summed])
        read = f.awaited("", self.summed, size=self.size[self.summed])
        axes = (read, made) if self.summed == 0 else (made, read)
        f.set(size=tuple(f.width(axis, size) for axis, size in zip(axes, self.size, strict=True)))
        return axes


@op("matrix_product")
class MatrixProduct(BorrowedLinear):
    """The last axis multiplied by a `Matrix`, its second input.

    Attributes:
        summed: the axis of the matrix over which it sums: x W for 0, x Wᵀ for 1.
    """

    linear = True

    summed: int

    def check(self) -> None:
        _check_axis(self.summed)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Of the matrix."""
        read, made = self.in_features, self.out_features
        return (read, made) if self.summed == 0 else (made, read)

    @property
    def rows(self) -> int:
        """The axis of the matrix whose slices make the outputs."""
        return 1 - self.summed

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.matmul" if self.summed == 0 else "torch.nn.functional.linear", (Input(0), Input(1)))


def _check_axis(summed: int) -> None:
    if summed not in (0, 1):
        raise ValueError(f"`summed` is {summed}; a matrix has the axes 0 and 1")
