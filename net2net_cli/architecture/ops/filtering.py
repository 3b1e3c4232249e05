"""Channels filtered one by one, by weights that are a value: blurring before a stride, resampling without aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops import conv
from net2net_cli.architecture.ops.base import REGISTRY, Call, Input, Op, attributes, op
from net2net_cli.architecture.shapes import Shape, fixed


@dataclass(frozen=True)
class Filter(Op):
    """`F.conv2d(x, w, groups=x.shape[1])`: every channel with its own filter, or all with the same.

    Its second input is the filters, `(channels, 1, *kernel)` or `(1, 1, *kernel)`.
    """

    rank: ClassVar[int]
    like: ClassVar[str]
    arity: ClassVar[int | None] = 2

    stride: tuple[int, ...]
    padding: tuple[int, ...] | Literal["same", "valid"]
    dilation: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        x, filters = inputs
        ranks = (len(x), len(filters))
        if ranks != (self.rank + 2, self.rank + 2) or filters[1] != 1 or filters[0] not in (1, x[1]):
            raise ValueError("it needs a filter for each channel, or one for all of them")
        channels, kernel = fixed(x[1]), tuple(fixed(size) for size in filters[2:])
        alike: Any = REGISTRY[self.like]
        widths = {"in_channels": channels, "out_channels": channels, "groups": channels}
        convolution: conv.ConvolutionBase = alike(
            **widths, **attributes(self), kernel_size=kernel, bias=False, padding_mode="zeros"
        )
        return convolution.shape(x)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        x, filters = inputs
        batch, channels, *space = x.axes
        own = filters.shape[0] == x.shape[1]
        for axis in (*space, *filters.axes[1 if own else 0 :]):
            f.mix(axis, "slides over it")
        if own:
            channels = f.tie(channels, filters.axes[0], size=fixed(x.shape[1]))
        return (batch, channels, *(None for _ in space))

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        x, filters = shapes
        weight: Any = Input(1)
        if filters[0] != x[1]:
            weight = Call("torch.Tensor.expand", (Input(1), x[1], *(-1,) * (self.rank + 1)))
        function = "conv_transpose" if self.like.startswith("ConvTranspose") else "conv"
        named = {**attributes(self), "groups": x[1]}
        return Call(f"torch.nn.functional.{function}{self.rank}d", (Input(0), weight), named)


@op("filter1d")
class Filter1d(Filter):
    """Over one axis."""

    rank, like = 1, "Conv1d"


@op("filter2d")
class Filter2d(Filter):
    """Over two axes."""

    rank, like = 2, "Conv2d"


@op("filter3d")
class Filter3d(Filter):
    """Over three axes."""

    rank, like = 3, "Conv3d"


@dataclass(frozen=True)
class TransposedFilter(Filter):
    """Likewise, transposed."""

    output_padding: tuple[int, ...]


@op("filter_transpose1d")
class FilterTranspose1d(TransposedFilter):
    """Over one axis."""

    rank, like = 1, "ConvTranspose1d"


@op("filter_transpose2d")
class FilterTranspose2d(TransposedFilter):
    """Over two axes."""

    rank, like = 2, "ConvTranspose2d"


@op("filter_transpose3d")
class FilterTranspose3d(TransposedFilter):
    """Over three axes."""

    rank, like = 3, "ConvTranspose3d"
