"""Reductions over axes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow, all_known
from net2net_cli.architecture.ops.base import Call, Input, Op, op
from net2net_cli.architecture.ops.join import positive
from net2net_cli.architecture.shapes import Shape


@dataclass(frozen=True)
class Reduction(Op):
    """One number for all slices along some axes."""

    folds: ClassVar[bool] = True
    reading: ClassVar[str]

    dim: tuple[int, ...]
    keepdim: bool = False

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        rank = len(shapes[0])
        dim = arguments.get("dim")
        if dim is None or dim == ():
            raise ValueError("it reduces the batch axis too")
        dims = tuple(positive(d, rank) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
        if 0 in dims:
            raise ValueError("it reduces the batch axis")
        return cls(dim=tuple(sorted(dims)), keepdim=bool(arguments.get("keepdim", False)))

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if not self.dim or not all(a < b for a, b in pairwise((-1, *self.dim, len(x)))):
            raise ValueError(f"the axes {list(self.dim)} of {len(x)} are reduced; each has to be there, and named once")
        return tuple(1 if i in self.dim else n for i, n in enumerate(x) if self.keepdim or i not in self.dim)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        for i in self.dim:
            self.reduce(f, axes[i])
        return tuple(None if i in self.dim else a for i, a in enumerate(axes) if self.keepdim or i not in self.dim)

    def reduce(self, f: Flow, axis: Any) -> None:
        """What the reduction needs of an axis: here, that it stays as it is."""
        f.mix(axis, self.reading)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call(f"torch.{self.name}", (Input(0),), {"dim": list(self.dim), "keepdim": self.keepdim})


def _forms(name: str) -> dict[str, str]:
    return {f"torch.{name}": "input dim keepdim", f"Tensor.{name}": "input dim keepdim"}


@op("mean")
class Mean(Reduction):
    """Mean over axes: exact where every slice has equally many copies."""

    linear = True

    functions: ClassVar = _forms("mean")

    def reduce(self, f: Flow, axis: Any) -> None:
        f.uniform(axis, "takes the mean over it")


@op("sum")
class Sum(Reduction):
    """Sum over axes: copies would count twice, and no weight can share them out."""

    linear = True
    reading = "sums over it, and no weight can share out the copies"
    functions: ClassVar = _forms("sum")


@op("amax")
class AMax(Reduction):
    """Largest element over axes: copies change nothing."""

    reading = "takes the largest of it"
    functions: ClassVar = _forms("amax")

    def reduce(self, f: Flow, axis: Any) -> None:
        """Copies may come in any number: the largest of copies is the largest of the originals."""
        f.known(axis, self.reading)


@op("amin")
class AMin(AMax):
    """Smallest element over axes: copies change nothing."""

    reading = "takes the smallest of it"
    functions: ClassVar = _forms("amin")


@op("var")
class Var(Reduction):
    """Variance over axes; dividing by n − 1 does not commute with copying."""

    reading = "takes the variance over it"
    functions: ClassVar = {"torch.var": "input dim unbiased keepdim", "Tensor.var": "input dim unbiased keepdim"}

    unbiased: bool = True

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        base = super().from_call(arguments, shapes)
        return cls(base.dim, base.keepdim, unbiased=bool(arguments.get("unbiased", True)))

    def reduce(self, f: Flow, axis: Any) -> None:
        if self.unbiased:
            f.mix(axis, self.reading)
        else:
            f.uniform(axis, self.reading)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        correction = int(self.unbiased)
        return Call(
            "torch.var", (Input(0),), {"dim": list(self.dim), "correction": correction, "keepdim": self.keepdim}
        )


@op("norm")
class Norm(Reduction):
    """‖x‖ₚ over axes, (Σ |x|ᵖ)^(1/p): copies would count twice."""

    reading = "takes the norm over it"
    functions: ClassVar = {
        "torch.norm": "input p dim keepdim",
        "Tensor.norm": "input p dim keepdim",
        "torch.linalg.vector_norm": "input ord dim keepdim",
    }

    p: float = 2.0

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        base = super().from_call(arguments, shapes)
        p = arguments.get("p", arguments.get("ord", 2.0))
        if p in ("fro", None):
            p = 2.0  # over any axes it is the root of the sum of squares
        if isinstance(p, str):
            raise ValueError(f"the norm `{p}` is one of matrices")
        return cls(base.dim, base.keepdim, p=float(p))

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.p <= 0 and not math.isinf(self.p):
            all_known(f, inputs[0])
        return super().flow(f, *inputs)

    def reduce(self, f: Flow, axis: Any) -> None:
        """The largest and the smallest of copies are those of the originals; the other norms count them."""
        if math.isinf(self.p):
            f.known(axis, self.reading)
        else:
            f.mix(axis, self.reading)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        given = {"ord": self.p, "dim": list(self.dim), "keepdim": self.keepdim}
        return Call("torch.linalg.vector_norm", (Input(0),), given)


@dataclass(frozen=True)
class Normalized(Op):
    """Exponentials divided by their sum over an axis: copies would change the sum."""

    folds: ClassVar[bool] = True

    dim: int

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        if arguments.get("dim") is None:
            raise ValueError("`dim` is not given")
        if arguments.get("dtype") is not None:
            raise ValueError("`dtype` is not supported")
        return cls(dim=positive(arguments["dim"], len(shapes[0])))

    def shape(self, *inputs: Shape) -> Shape:
        positive(self.dim, len(inputs[0]))
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        f.mix(inputs[0].axes[self.dim], "normalises over it")
        return inputs[0].axes


def _softmax_forms(name: str) -> dict[str, str]:
    return {
        f"torch.{name}": "input dim dtype",
        f"Tensor.{name}": "input dim dtype",
        f"torch.nn.functional.{name}": "input dim _stacklevel dtype",
    }


@op("Softmax", module="torch.nn.Softmax")
class Softmax(Normalized):
    """Probabilities over an axis."""

    functions: ClassVar = _softmax_forms("softmax")


@op("LogSoftmax", module="torch.nn.LogSoftmax")
class LogSoftmax(Normalized):
    """Log-probabilities over an axis."""

    functions: ClassVar = _softmax_forms("log_softmax")


@op("Softmin", module="torch.nn.Softmin")
class Softmin(Normalized):
    """Softmax of the negated input."""


@op("Softmax2d", module="torch.nn.Softmax2d")
class Softmax2d(Op):
    """Probabilities over the channels at each place of an image."""

    def shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) not in (3, 4):
            raise ValueError(f"it has {len(inputs[0])} axes; three or four are needed")
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        f.mix(inputs[0].axes[-3], "normalises over it")
        return inputs[0].axes


@op("normalize")
class Normalize(Op):
    """x / ‖x‖ₚ over an axis."""

    functions: ClassVar = {"torch.nn.functional.normalize": "input p dim eps"}

    p: float = 2.0
    dim: int = 1
    eps: float = 1e-12

    def shape(self, *inputs: Shape) -> Shape:
        positive(self.dim, len(inputs[0]))
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        f.mix(inputs[0].axes[self.dim], "divides by the norm over it")
        return inputs[0].axes

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.nn.functional.normalize", (Input(0),), {"p": self.p, "dim": self.dim, "eps": self.eps})
