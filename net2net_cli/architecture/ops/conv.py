"""Convolutions: they consume channels, create channels, and slide over the other axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, TensorSlot, op
from net2net_cli.architecture.shapes import Dim, Shape, fixed


def expect_channels(found: Dim, needed: int) -> None:
    """Raise ValueError where the input's channel axis has another size than the weights were made for."""
    if found != needed:
        raise ValueError(f"its input has {found} channels; {needed} are needed")


def expect_rank(shape: Shape, rank: int) -> None:
    """Raise ValueError where the input has another number of axes."""
    if len(shape) != rank:
        raise ValueError(f"its input has {len(shape)} axes; {rank} are needed")


class Weighted(Op):
    """Weights that make channels of channels, and perhaps a bias."""

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        return module.bias is not None if attribute == "bias" else super().read_attribute(module, attribute)

    @property
    def weight_key(self) -> str:
        """What the weights are called, or that of which they are made."""
        return "weight"


@dataclass(frozen=True)
class ConvolutionBase(Weighted):
    """Attributes that all convolutions share, and how channels pass through them."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False
    linear: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | Literal["same", "valid"]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]

    def check(self) -> None:
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{self.groups} groups divide {self.in_channels} or {self.out_channels} channels unevenly")

    @property
    def depthwise(self) -> bool:
        """One filter bank per input channel; a convolution of one channel is an ordinary one."""
        return self.groups == self.in_channels > 1

    def tensors(self) -> dict[str, TensorSlot]:
        outer, inner = (
            (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        )
        slots = {self.weight_key: TensorSlot((outer, inner // self.groups, *self.kernel_size))}
        return slots | ({"bias": TensorSlot((self.out_channels,))} if self.bias else {})

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        expect_rank(x, self.rank + 2)
        expect_channels(x[1], self.in_channels)
        return (x[0], self.out_channels, *(self._length(fixed(n), i) for i, n in enumerate(x[2:])))

    def _length(self, size: int, i: int) -> int:
        """The output's size along its i-th axis behind the channels."""
        raise NotImplementedError(self.name)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        batch, channels, *space = inputs[0].axes
        for axis in space:
            f.mix(axis, "slides over it")
        out = self._follow(f, channels) if self.depthwise and channels is not None else self._read(f, channels)
        if self.bias:
            f.carry("bias", 0, out, size=self.out_channels)
        f.set(in_channels=f.width(channels, self.in_channels), out_channels=f.width(out, self.out_channels))
        return (batch, out, *(None for _ in space))  # of another size, perhaps

    def _follow(self, f: Flow, channels: Any) -> Any:
        """Depthwise: every filter bank follows its channel, in blocks of the channel multiplier."""
        multiplier = self.out_channels // self.groups
        f.plain(channels, "filters each channel by itself")
        out = f.merge([(channels, self.in_channels), (None, multiplier)])
        f.carry(
            self.weight_key,
            0,
            channels if self.transposed else out,
            size=self.in_channels if self.transposed else self.out_channels,
        )
        f.set(groups=f.width(channels, self.groups))
        return out

    def _read(self, f: Flow, channels: Any) -> Any:
        own, read = (1, 0) if self.transposed else (0, 1)
        f.equal_parts(channels, size=self.in_channels, parts=self.groups)
        out = f.create(self.weight_key, own, self.out_channels, parts=self.groups)
        f.consume(self.weight_key, read, channels, size=self.in_channels, rows=own, parts=self.groups)
        return out


@dataclass(frozen=True)
class Convolution(ConvolutionBase):
    """Cross-correlation with `weight` of shape (out, in / groups, *kernel)."""

    def _length(self, size: int, i: int) -> int:
        span = self.dilation[i] * (self.kernel_size[i] - 1)
        named = {"same": span, "valid": 0}
        padding = named[self.padding] if isinstance(self.padding, str) else 2 * self.padding[i]
        if size + padding - span < 1:
            raise ValueError(f"its input of size {size} is smaller than its kernel")
        return (size + padding - span - 1) // self.stride[i] + 1


@op("Conv1d", module="torch.nn.Conv1d")
class Conv1d(Convolution):
    """Convolution over one axis."""

    rank = 1


@op("Conv2d", module="torch.nn.Conv2d")
class Conv2d(Convolution):
    """Convolution over two axes."""

    rank = 2


@op("Conv3d", module="torch.nn.Conv3d")
class Conv3d(Convolution):
    """Convolution over three axes."""

    rank = 3


@dataclass(frozen=True)
class TransposedConvolution(ConvolutionBase):
    """Gradient of a convolution, with `weight` of shape (in, out / groups, *kernel)."""

    transposed = True

    output_padding: tuple[int, ...]

    def _length(self, size: int, i: int) -> int:
        padding = self.padding[i]
        assert isinstance(padding, int)
        span = self.dilation[i] * (self.kernel_size[i] - 1)
        return (size - 1) * self.stride[i] - 2 * padding + span + self.output_padding[i] + 1


@op("ConvTranspose1d", module="torch.nn.ConvTranspose1d")
class ConvTranspose1d(TransposedConvolution):
    """Transposed convolution over one axis."""

    rank = 1


@op("ConvTranspose2d", module="torch.nn.ConvTranspose2d")
class ConvTranspose2d(TransposedConvolution):
    """Transposed convolution over two axes."""

    rank = 2


@op("ConvTranspose3d", module="torch.nn.ConvTranspose3d")
class ConvTranspose3d(TransposedConvolution):
    """Transposed convolution over three axes."""

    rank = 3


@op("linear")
class BorrowedLinear(Op):
    """x Wᵀ over the last axis, with the weights of another layer: `F.linear(x, self.embed.weight)`.

    Its second input is the value of those weights, as a layer of their own.
    """

    arity = 2
    borrows = True

    in_features: int
    out_features: int

    @property
    def rows(self) -> int:
        """The axis of the weights whose slices make the outputs."""
        return 0

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Of the other layer's weights."""
        return self.out_features, self.in_features

    def tensors(self) -> dict[str, TensorSlot]:
        return {"weight": TensorSlot(self.weight_shape)}

    def shape(self, *inputs: Shape) -> Shape:
        x, weight = inputs
        if x[-1] != self.in_features or weight != self.weight_shape:
            raise ValueError(f"an input of {self.in_features} features and their weights are needed")
        return (*x[:-1], self.out_features)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        *outer, features = inputs[0].axes
        out = f.create("weight", self.rows, self.out_features)
        f.consume("weight", 1 - self.rows, features, size=self.in_features, rows=self.rows)
        f.set(in_features=f.width(features, self.in_features), out_features=f.width(out, self.out_features))
        return (*outer, out)

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        return Call("torch.nn.functional.linear", (Input(0), Input(1)))


@op("Linear", module="torch.nn.Linear")
class Linear(Weighted):
    """x Wᵀ + b over the last axis, for every index of the axes before it."""

    folds = True

    in_features: int
    out_features: int
    bias: bool

    linear = True
    reads_modules: ClassVar[tuple[str, ...]] = (
        "torch.nn.Linear",
        "torch.nn.modules.linear.NonDynamicallyQuantizableLinear",
    )

    def tensors(self) -> dict[str, TensorSlot]:
        slots = {self.weight_key: TensorSlot((self.out_features, self.in_features))}
        return slots | ({"bias": TensorSlot((self.out_features,))} if self.bias else {})

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if x[-1] != self.in_features:
            raise ValueError(f"the last axis of its input has size {x[-1]}; {self.in_features} is needed")
        return (*x[:-1], self.out_features)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        *outer, features = inputs[0].axes
        out = f.create(self.weight_key, 0, self.out_features)
        f.consume(self.weight_key, 1, features, size=self.in_features, rows=0)
        if self.bias:
            f.carry("bias", 0, out, size=self.out_features)
        f.set(in_features=f.width(features, self.in_features), out_features=f.width(out, self.out_features))
        return (*outer, out)
