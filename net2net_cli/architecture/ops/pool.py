"""Pooling: carries channels, slides over the other axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from net2net_cli.architecture.flow import Axes, Channels, Flow, all_known
from net2net_cli.architecture.ops.base import Op, op
from net2net_cli.architecture.shapes import Shape, fixed

WINDOW = {"kernel_size", "stride", "padding", "dilation", "output_size"}
"""Attributes with one number for each axis; PyTorch takes one number for all."""


def _tuple(value: Any, rank: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank


@dataclass(frozen=True)
class Window(Op):
    """A window that slides over the last `rank` axes."""

    rank: ClassVar[int]

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        value = super().read_attribute(module, attribute)
        return (
            _tuple(value, cls.rank)
            if attribute in {"kernel_size", "stride", "padding", "dilation", "output_size"}
            else value
        )

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Self:
        if arguments.get("return_indices"):
            raise ValueError("`return_indices` is not supported")
        if not arguments.get("stride"):  # PyTorch's default is the kernel's size
            arguments = {**arguments, "stride": arguments.get("kernel_size")}
        wide = {k: _tuple(v, cls.rank) if k in WINDOW else v for k, v in arguments.items() if v is not None}
        return super().from_call(wide, shapes)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        for axis in axes[len(axes) - self.rank :]:
            f.mix(axis, "pools over it")
        return (*axes[: len(axes) - self.rank], *(None,) * self.rank)  # of another size, perhaps


def _pooled(size: int, span: int, stride: int, padding: int, *, ceil: bool) -> int:
    """Output length; with `ceil` a window starts inside the input or its left padding, never in the right padding."""
    free = size + 2 * padding - span
    if free < 0:
        raise ValueError(f"its input of size {size} is smaller than its window")
    length = (-(-free // stride) if ceil else free // stride) + 1
    return length - 1 if ceil and (length - 1) * stride >= size + padding else length


@dataclass(frozen=True)
class SlidingPool(Window):
    """Pooling with a window of given size."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        outer = len(x) - self.rank
        return (*x[:outer], *(self._length(fixed(n), i) for i, n in enumerate(x[outer:])))

    def _length(self, size: int, i: int) -> int:
        dilation = getattr(self, "dilation", (1,) * self.rank)[i]
        span = dilation * (self.kernel_size[i] - 1) + 1
        ceil = bool(getattr(self, "ceil_mode", False))
        return _pooled(size, span, self.stride[i], self.padding[i], ceil=ceil)


@dataclass(frozen=True)
class MaxPool(SlidingPool):
    """Largest element of each window."""

    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", self.padding or (0,) * self.rank)
        object.__setattr__(self, "dilation", self.dilation or (1,) * self.rank)

    @classmethod
    def from_module(cls, module: Any) -> Self:
        if module.return_indices:
            raise ValueError("`return_indices` is not supported")
        return super().from_module(module)


@dataclass(frozen=True)
class AvgPool(SlidingPool):
    """Mean of each window."""

    linear = True

    padding: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", self.padding or (0,) * self.rank)


_MAX = "input kernel_size stride padding dilation ceil_mode return_indices"
_AVG = "input kernel_size stride padding ceil_mode count_include_pad divisor_override"


@op("MaxPool1d", module="torch.nn.MaxPool1d")
class MaxPool1d(MaxPool):
    """Max pooling of sequences."""

    rank = 1
    functions: ClassVar = {"torch.nn.functional.max_pool1d": _MAX}


@op("MaxPool2d", module="torch.nn.MaxPool2d")
class MaxPool2d(MaxPool):
    """Max pooling of images."""

    rank = 2
    functions: ClassVar = {"torch.nn.functional.max_pool2d": _MAX}


@op("MaxPool3d", module="torch.nn.MaxPool3d")
class MaxPool3d(MaxPool):
    """Max pooling of videos."""

    rank = 3
    functions: ClassVar = {"torch.nn.functional.max_pool3d": _MAX}


@op("AvgPool1d", module="torch.nn.AvgPool1d")
class AvgPool1d(SlidingPool):
    """Average pooling of sequences."""

    rank = 1
    functions: ClassVar = {
        "torch.nn.functional.avg_pool1d": "input kernel_size stride padding ceil_mode count_include_pad"
    }

    padding: tuple[int, ...] = (0,)
    ceil_mode: bool = False
    count_include_pad: bool = True


@op("AvgPool2d", module="torch.nn.AvgPool2d")
class AvgPool2d(AvgPool):
    """Average pooling of images."""

    rank = 2
    functions: ClassVar = {"torch.nn.functional.avg_pool2d": _AVG}


@op("AvgPool3d", module="torch.nn.AvgPool3d")
class AvgPool3d(AvgPool):
    """Average pooling of videos."""

    rank = 3
    functions: ClassVar = {"torch.nn.functional.avg_pool3d": _AVG}


@dataclass(frozen=True)
class LPPool(Window):
    """p-norm of each window."""

    norm_type: float
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        if attribute == "stride" and module.stride is None:
            return _tuple(module.kernel_size, cls.rank)
        return super().read_attribute(module, attribute)

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        outer = len(x) - self.rank
        windows = zip(x[outer:], self.kernel_size, self.stride, strict=True)
        return (*x[:outer], *(_pooled(fixed(n), k, s, 0, ceil=self.ceil_mode) for n, k, s in windows))

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        if self.norm_type <= 0 or self.norm_type % 1:
            all_known(f, inputs[0])
        return super().flow(f, *inputs)


@op("LPPool1d", module="torch.nn.LPPool1d")
class LPPool1d(LPPool):
    """p-norm pooling of sequences."""

    rank = 1

    def module_arguments(self) -> dict[str, Any]:
        return super().module_arguments() | {"kernel_size": self.kernel_size[0], "stride": self.stride[0]}


@op("LPPool2d", module="torch.nn.LPPool2d")
class LPPool2d(LPPool):
    """p-norm pooling of images."""

    rank = 2


@dataclass(frozen=True)
class AdaptivePool(Window):
    """Pooling to a given output size; null keeps the input's."""

    output_size: tuple[int | None, ...]

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        outer = len(x) - self.rank
        return (*x[:outer], *(n if m is None else m for n, m in zip(x[outer:], self.output_size, strict=True)))


@op("AdaptiveAvgPool1d", module="torch.nn.AdaptiveAvgPool1d")
class AdaptiveAvgPool1d(AdaptivePool):
    """Means of sequences."""

    linear = True
    rank = 1
    functions: ClassVar = {"torch.nn.functional.adaptive_avg_pool1d": "input output_size"}

    def module_arguments(self) -> dict[str, Any]:
        return {"output_size": self.output_size[0]}


@op("AdaptiveAvgPool2d", module="torch.nn.AdaptiveAvgPool2d")
class AdaptiveAvgPool2d(AdaptivePool):
    """Means of images."""

    linear = True
    rank = 2
    functions: ClassVar = {"torch.nn.functional.adaptive_avg_pool2d": "input output_size"}


@op("AdaptiveAvgPool3d", module="torch.nn.AdaptiveAvgPool3d")
class AdaptiveAvgPool3d(AdaptivePool):
    """Means of videos."""

    linear = True
    rank = 3
    functions: ClassVar = {"torch.nn.functional.adaptive_avg_pool3d": "input output_size"}


@op("AdaptiveMaxPool1d", module="torch.nn.AdaptiveMaxPool1d")
class AdaptiveMaxPool1d(AdaptivePool):
    """Largest elements of sequences."""

    rank = 1
    functions: ClassVar = {"torch.nn.functional.adaptive_max_pool1d": "input output_size return_indices"}

    def module_arguments(self) -> dict[str, Any]:
        return {"output_size": self.output_size[0]}


@op("AdaptiveMaxPool2d", module="torch.nn.AdaptiveMaxPool2d")
class AdaptiveMaxPool2d(AdaptivePool):
    """Largest elements of images."""

    rank = 2
    functions: ClassVar = {"torch.nn.functional.adaptive_max_pool2d": "input output_size return_indices"}


@op("AdaptiveMaxPool3d", module="torch.nn.AdaptiveMaxPool3d")
class AdaptiveMaxPool3d(AdaptivePool):
    """Largest elements of videos."""

    rank = 3
    functions: ClassVar = {"torch.nn.functional.adaptive_max_pool3d": "input output_size return_indices"}
