"""Elementwise functions of one tensor, and what deepening may know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow, all_known
from net2net_cli.architecture.ops.base import Call, Input, Op, TensorSlot, attributes, op
from net2net_cli.architecture.shapes import Shape


@dataclass(frozen=True)
class Elementwise(Op):
    """Acts on each element by itself: carries every axis."""

    folds: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    """φ(φ(x)) = φ(x): an identity layer may stand behind it."""
    partial: ClassVar[bool] = False
    """Whether there are numbers of which it makes no finite number."""

    def pair_scale(self) -> float | None:
        """The s with φ(x) − φ(−x) = s·x for every x, or None; 1 for ReLU, GELU, SiLU and Hardswish."""
        return None

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.partial:
            all_known(f, inputs[0])
        return inputs[0].axes


@op("Identity", module="torch.nn.Identity")
class Identity(Elementwise):
    """Does nothing."""

    linear = True
    idempotent = True
    functions: ClassVar = {"Tensor.contiguous": "input", "Tensor.clone": "input", "torch.clone": "input"}

    def pair_scale(self) -> float:
        return 2.0


@op("detach")
class Detach(Elementwise):
    """The same, through which no gradient goes back: `x.detach()`, or what was computed under `torch.no_grad()`."""

    linear = True
    functions: ClassVar = {"Tensor.detach": "input", "torch.detach": "input"}

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.Tensor.detach", (Input(0),))


@op("ReLU", module="torch.nn.ReLU")
class ReLU(Elementwise):
    """max(0, x)."""

    idempotent = True
    functions: ClassVar = {
        "torch.nn.functional.relu": "input inplace",
        "torch.relu": "input",
        "Tensor.relu": "input",
        "torch.nn.functional.relu_": "input",
        "torch.relu_": "input",
        "Tensor.relu_": "input",
    }

    def pair_scale(self) -> float:
        return 1.0


@op("ReLU6", module="torch.nn.ReLU6")
class ReLU6(Elementwise):
    """min(max(0, x), 6)."""

    idempotent = True
    functions: ClassVar = {"torch.nn.functional.relu6": "input inplace"}

    @classmethod
    def from_module(cls, module: Any) -> ReLU6:
        return cls()


@op("LeakyReLU", module="torch.nn.LeakyReLU")
class LeakyReLU(Elementwise):
    """x where positive, α·x elsewhere."""

    functions: ClassVar = {
        "torch.nn.functional.leaky_relu": "input negative_slope inplace",
        "torch.nn.functional.leaky_relu_": "input negative_slope",
    }

    negative_slope: float = 0.01

    def pair_scale(self) -> float | None:
        return 1.0 + self.negative_slope or None  # with a slope of −1 it is |x|, which forgets the sign


@op("PReLU", module="torch.nn.PReLU")
class PReLU(Elementwise):
    """LeakyReLU with learned slopes, one in all or one per channel."""

    num_parameters: int

    def tensors(self) -> dict[str, TensorSlot]:
        return {"weight": TensorSlot((self.num_parameters,), default=0.25)}

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.num_parameters > 1:
            channels = inputs[0].axes[1]
            f.carry("weight", 0, channels, size=self.num_parameters)
            f.set(num_parameters=f.width(channels, self.num_parameters))
        return inputs[0].axes


@op("GELU", module="torch.nn.GELU")
class GELU(Elementwise):
    """x·Φ(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    functions: ClassVar = {"torch.nn.functional.gelu": "input approximate"}

    approximate: Literal["none", "tanh"] = "none"

    def pair_scale(self) -> float:
        return 1.0


@op("SiLU", module="torch.nn.SiLU")
class SiLU(Elementwise):
    """x·σ(x)."""

    functions: ClassVar = {"torch.nn.functional.silu": "input inplace"}

    def pair_scale(self) -> float:
        return 1.0


@op("Hardswish", module="torch.nn.Hardswish")
class Hardswish(Elementwise):
    """x·ReLU6(x + 3)/6."""

    functions: ClassVar = {"torch.nn.functional.hardswish": "input inplace"}

    def pair_scale(self) -> float:
        return 1.0


@op("Hardsigmoid", module="torch.nn.Hardsigmoid")
class Hardsigmoid(Elementwise):
    """ReLU6(x + 3)/6."""

    functions: ClassVar = {"torch.nn.functional.hardsigmoid": "input inplace"}


@op("Hardtanh", module="torch.nn.Hardtanh")
class Hardtanh(Elementwise):
    """x clipped to an interval."""

    idempotent = True
    functions: ClassVar = {"torch.nn.functional.hardtanh": "input min_val max_val inplace"}

    min_val: float = -1.0
    max_val: float = 1.0


@op("clamp")
class Clamp(Elementwise):
    """x clipped to an interval that may be open."""

    idempotent = True
    functions: ClassVar = {
        "torch.clamp": "input min max",
        "Tensor.clamp": "input min max",
        "Tensor.clamp_": "input min max",
        "torch.clip": "input min max",
        "Tensor.clip": "input min max",
    }

    min: float | None = None
    max: float | None = None

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.clamp", (Input(0),), attributes(self))


@op("Sigmoid", module="torch.nn.Sigmoid")
class Sigmoid(Elementwise):
    """1/(1 + e⁻ˣ)."""

    functions: ClassVar = {
        "torch.sigmoid": "input",
        "Tensor.sigmoid": "input",
        "Tensor.sigmoid_": "input",
        "torch.nn.functional.sigmoid": "input",
    }


@op("Tanh", module="torch.nn.Tanh")
class Tanh(Elementwise):
    """Hyperbolic tangent."""

    functions: ClassVar = {
        "torch.tanh": "input",
        "Tensor.tanh": "input",
        "Tensor.tanh_": "input",
        "torch.nn.functional.tanh": "input",
    }


@op("ELU", module="torch.nn.ELU")
class ELU(Elementwise):
    """x where positive, α(eˣ − 1) elsewhere."""

    functions: ClassVar = {"torch.nn.functional.elu": "input alpha inplace"}

    alpha: float = 1.0


@op("CELU", module="torch.nn.CELU")
class CELU(Elementwise):
    """x where positive, α(e^(x/α) − 1) elsewhere."""

    functions: ClassVar = {"torch.nn.functional.celu": "input alpha inplace"}

    alpha: float = 1.0


@op("SELU", module="torch.nn.SELU")
class SELU(Elementwise):
    """ELU with self-normalising constants."""

    functions: ClassVar = {"torch.nn.functional.selu": "input inplace"}


@op("Mish", module="torch.nn.Mish")
class Mish(Elementwise):
    """x·tanh(softplus(x))."""

    functions: ClassVar = {"torch.nn.functional.mish": "input inplace"}


@op("Softplus", module="torch.nn.Softplus")
class Softplus(Elementwise):
    """log(1 + e^(βx))/β."""

    functions: ClassVar = {"torch.nn.functional.softplus": "input beta threshold"}

    beta: float = 1.0
    threshold: float = 20.0


@op("Softsign", module="torch.nn.Softsign")
class Softsign(Elementwise):
    """x/(1 + |x|)."""

    functions: ClassVar = {"torch.nn.functional.softsign": "input"}


@op("Softshrink", module="torch.nn.Softshrink")
class Softshrink(Elementwise):
    """Soft thresholding."""

    functions: ClassVar = {"torch.nn.functional.softshrink": "input lambd"}

    lambd: float = 0.5


@op("Hardshrink", module="torch.nn.Hardshrink")
class Hardshrink(Elementwise):
    """Hard thresholding."""

    functions: ClassVar = {"torch.nn.functional.hardshrink": "input lambd"}

    lambd: float = 0.5


@op("Tanhshrink", module="torch.nn.Tanhshrink")
class Tanhshrink(Elementwise):
    """x − tanh(x)."""

    functions: ClassVar = {"torch.nn.functional.tanhshrink": "input"}


@op("LogSigmoid", module="torch.nn.LogSigmoid")
class LogSigmoid(Elementwise):
    """log σ(x)."""

    functions: ClassVar = {"torch.nn.functional.logsigmoid": "input"}


@op("Threshold", module="torch.nn.Threshold")
class Threshold(Elementwise):
    """x where above a threshold, a constant elsewhere."""

    functions: ClassVar = {"torch.nn.functional.threshold": "input threshold value inplace"}

    threshold: float
    value: float


@op("RReLU", module="torch.nn.RReLU")
class RReLU(Elementwise):
    """LeakyReLU whose slope is drawn at random in training; the copies' draws differ there, as with dropout."""

    lower: float = 1 / 8
    upper: float = 1 / 3


@dataclass(frozen=True)
class Unary(Elementwise):
    """A function of torch of the same name."""

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call(f"torch.{self.name}", (Input(0),))


def _unary(name: str, formula: str, *more: str, idempotent: bool = False, partial: bool = False) -> None:
    methods = dict.fromkeys((f"torch.{name}", f"Tensor.{name}", f"Tensor.{name}_", *more), "input")
    known = {"functions": methods, "idempotent": idempotent, "partial": partial}
    body = {"__doc__": formula, "__module__": __name__, **known}
    op(name)(type(name, (Unary,), body))


_unary("exp", "eˣ.")
_unary("log", "Natural logarithm.", partial=True)
_unary("sqrt", "√x.", partial=True)
_unary("rsqrt", "1/√x.", partial=True)
_unary("abs", "|x|.", "operator.abs", idempotent=True)
_unary("neg", "−x.", "operator.neg")
_unary("square", "x².")
_unary("reciprocal", "1/x.", partial=True)
_unary("sin", "Sine.")
_unary("cos", "Cosine.")
_unary("erf", "Error function.")
