"""Resampling: carries channels, changes the size of the other axes."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Call, Input, Op, SizeOf, op
from net2net_cli.architecture.ops.join import keep_sizes
from net2net_cli.architecture.shapes import Shape, fixed

_ARGUMENTS = "input size scale_factor mode align_corners"


@op("interpolate")
class Interpolate(Op):
    """`torch.nn.functional.interpolate`: to a size, which may be another value's, or by a factor."""

    linear = True

    functions: ClassVar = {
        "torch.nn.functional.interpolate": _ARGUMENTS + " recompute_scale_factor antialias",
        "torch.nn.functional.upsample": _ARGUMENTS,
    }
    reads_modules = ("torch.nn.Upsample", "torch.nn.UpsamplingNearest2d", "torch.nn.UpsamplingBilinear2d")

    size: tuple[int | SizeOf, ...] | None = None
    scale_factor: tuple[float, ...] | None = None
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"] = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None
    antialias: bool = False

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        return super().read_attribute(module, attribute) if hasattr(module, attribute) else False

    def __post_init__(self) -> None:
        for name in ("size", "scale_factor"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, tuple):
                object.__setattr__(self, name, (value,))

    def shape(self, *inputs: Shape) -> Shape:
        x, *others = inputs
        known = dict(zip(self.references(), others, strict=True))
        space = x[2:]
        if self.size is not None:
            wanted = self.size * (len(space) if len(self.size) == 1 else 1)
            return (*x[:2], *(known[s.value][s.axis] if isinstance(s, SizeOf) else s for s in wanted))
        if self.scale_factor is None:
            raise ValueError("neither `size` nor `scale_factor` is given")
        factors = self.scale_factor * (len(space) if len(self.scale_factor) == 1 else 1)
        return (*x[:2], *(math.floor(fixed(n) * s) for n, s in zip(space, factors, strict=True)))

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        x, *others = inputs
        for axis in x.axes[2:]:
            f.mix(axis, "resamples it")
        keep_sizes(f, self.size or (), dict(zip(self.references(), others, strict=True)))
        return (*x.axes[:2], *(None for _ in x.axes[2:]))  # of another size, perhaps

    def call(self, shapes: tuple[Shape, ...]) -> Call:
        rank = len(shapes[0]) - 2

        def each(values: tuple[Any, ...] | None) -> list[Any] | None:
            return None if values is None else list(values * (rank if len(values) == 1 else 1))

        arguments = {"size": each(self.size), "scale_factor": each(self.scale_factor), "mode": self.mode}
        rest = {
            "align_corners": self.align_corners,
            "recompute_scale_factor": self.recompute_scale_factor,
            "antialias": self.antialias,
        }
        return Call("torch.nn.functional.interpolate", (Input(0),), {k: v for k, v in (arguments | rest).items() if v})

    def references(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.value for s in self.size or () if isinstance(s, SizeOf)))
