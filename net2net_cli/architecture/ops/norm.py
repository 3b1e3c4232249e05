"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow, Tail
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.ops.conv import expect_channels
from net2net_cli.architecture.shapes import Shape, show


@dataclass(frozen=True)
class PerChannelNorm(Op):
    """Normalises every channel by itself: carries all axes; each tensor has one entry per channel."""

    ranks: ClassVar[tuple[int, ...]]

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool

    def tensors(self) -> dict[str, TensorSlot]:
        n = (self.num_features,)
        slots = {"weight": TensorSlot(n, default=1.0), "bias": TensorSlot(n, default=0.0)} if self.affine else {}
        if self.track_running_stats:
            slots |= {
                "running_mean": TensorSlot(n, "buffer", default=0.0),
                "running_var": TensorSlot(n, "buffer", default=1.0),
                "num_batches_tracked": TensorSlot((), "buffer", integer=True, default=0),
            }
        return slots

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) not in self.ranks:
            raise ValueError(f"its input has {len(x)} axes; {' or '.join(map(str, self.ranks))} are needed")
        expect_channels(x[1], self.num_features)
        return x

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        for name, slot in self.tensors().items():
            if slot.shape:
                f.carry(name, 0, axes[1], size=self.num_features)
        for axis in axes[2:]:
            if self.track_running_stats:  # what is tracked is divided by n − 1, and n would change
                f.mix(axis, "takes statistics over it")
            else:
                f.uniform(axis, "takes statistics over it")
        f.set(num_features=f.width(axes[1], self.num_features))
        return axes


@op("BatchNorm1d", module="torch.nn.BatchNorm1d")
class BatchNorm1d(PerChannelNorm):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

    ranks = (2, 3)


@op("BatchNorm2d", module="torch.nn.BatchNorm2d")
class BatchNorm2d(PerChannelNorm):
    """Batch normalisation of images."""

    ranks = (4,)


@op("BatchNorm3d", module="torch.nn.BatchNorm3d")
class BatchNorm3d(PerChannelNorm):
    """Batch normalisation of videos."""

    ranks = (5,)


@op("SyncBatchNorm", module="torch.nn.SyncBatchNorm")
class SyncBatchNorm(PerChannelNorm):
    """Batch normalisation over all processes."""

    ranks = (2, 3, 4, 5)


@op("InstanceNorm1d", module="torch.nn.InstanceNorm1d")
class InstanceNorm1d(PerChannelNorm):
    """Every channel of every sample normalised by itself."""

    ranks = (3,)


@op("InstanceNorm2d", module="torch.nn.InstanceNorm2d")
class InstanceNorm2d(PerChannelNorm):
    """Instance normalisation of images."""

    ranks = (4,)


@op("InstanceNorm3d", module="torch.nn.InstanceNorm3d")
class InstanceNorm3d(PerChannelNorm):
    """Instance normalisation of videos."""

    ranks = (5,)


@op("FrozenBatchNorm2d", module="net2net_cli.runtime.modules.FrozenBatchNorm2d")
class FrozenBatchNorm2d(Op):
    """Batch normalisation whose four tensors are buffers that never change, as torchvision.ops defines it."""

    reads_modules = ("torchvision.ops.misc.FrozenBatchNorm2d",)

    num_features: int
    eps: float

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        return len(module.weight) if attribute == "num_features" else super().read_attribute(module, attribute)

    def tensors(self) -> dict[str, TensorSlot]:
        defaults = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        return {name: TensorSlot((self.num_features,), "buffer", default=value) for name, value in defaults.items()}

    def shape(self, *inputs: Shape) -> Shape:
        expect_channels(inputs[0][1], self.num_features)
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        for name in self.tensors():
            f.carry(name, 0, axes[1], size=self.num_features)
        f.set(num_features=f.width(axes[1], self.num_features))
        return axes


@op("GroupNorm", module="torch.nn.GroupNorm")
class GroupNorm(Op):
    """Normalises groups of channels (Wu & He 2018, arXiv:1803.08494).

    Whole groups are copied: each copy sees its teacher group's own mean and variance. A single group stays one, in
    which every channel has equally many copies.
    """

    num_groups: int
    num_channels: int
    eps: float
    affine: bool

    def check(self) -> None:
        if self.num_channels % self.num_groups:
            raise ValueError(f"{self.num_groups} groups divide {self.num_channels} channels unevenly")

    def tensors(self) -> dict[str, TensorSlot]:
        n = (self.num_channels,)
        return {"weight": TensorSlot(n, default=1.0), "bias": TensorSlot(n, default=0.0)} if self.affine else {}

    def shape(self, *inputs: Shape) -> Shape:
        expect_channels(inputs[0][1], self.num_channels)
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        groups = 1
        if self.num_groups == 1:
            f.uniform(axes[1], "takes statistics over it")
        else:
            groups = f.whole_parts(axes[1], size=self.num_channels, parts=self.num_groups)
        for name in self.tensors():
            f.carry(name, 0, axes[1], size=self.num_channels)
        for axis in axes[2:]:
            f.uniform(axis, "takes statistics over it")
        f.set(num_groups=groups, num_channels=f.width(axes[1], self.num_channels))
        return axes


@dataclass(frozen=True)
class OverLastAxes(Op):
    """Normalises over the last axes: exact for equally many copies throughout, over one axis with a tail behind them.

    A tail changes what is averaged by a known factor alone; see `net2net_cli.channels.tails`.
    """

    linear: ClassVar[bool] = True
    folds: ClassVar[bool] = True
    tail: ClassVar[Tail]
    averages: ClassVar[str]

    normalized_shape: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if x[len(x) - len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(f"its input is {show(x)}; its last axes must be {show(self.normalized_shape)}")
        return x

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = inputs[0].axes
        last = axes[len(axes) - len(self.normalized_shape) :]
        f.set(normalized_shape=tuple(f.width(a, n) for a, n in zip(last, self.normalized_shape, strict=True)))
        if len(last) == 1 and self.tensors():
            return (*axes[:-1], self._over_one_axis(f, last[0]))
        for i, (axis, size) in enumerate(zip(last, self.normalized_shape, strict=True)):
            f.uniform(axis, self.averages)
            for name in self.tensors():
                f.carry(name, i, axis, size=size)
        return axes

    def _over_one_axis(self, f: Flow, axis: Axis) -> Axis:
        """The weight takes back the scale of a stream with a tail; the bias adds nothing to the tail."""
        (size,) = self.normalized_shape
        out = f.normalise(axis, size=size, tail=self.tail, why=self.averages)
        f.unscale("weight", 0, axis, size=size)
        if "bias" in self.tensors():
            f.carry("bias", 0, out, size=size)
        return out


@op("LayerNorm", module="torch.nn.LayerNorm")
class LayerNorm(OverLastAxes):
    """Mean 0 and variance 1 over the last axes (Ba et al. 2016, arXiv:1607.06450)."""

    tail = "mean"
    averages = "takes the mean over it"

    eps: float
    elementwise_affine: bool
    bias: bool

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        return module.bias is not None if attribute == "bias" else super().read_attribute(module, attribute)

    def tensors(self) -> dict[str, TensorSlot]:
        if not self.elementwise_affine:
            return {}
        slots = {"weight": TensorSlot(self.normalized_shape, default=1.0)}
        return slots | ({"bias": TensorSlot(self.normalized_shape, default=0.0)} if self.bias else {})


@op("RMSNorm", module="torch.nn.RMSNorm")
class RMSNorm(OverLastAxes):
    """Divides by the root mean square over the last axes (Zhang & Sennrich 2019, arXiv:1910.07467).

    Attributes:
        eps: None for the smallest step at 1 of the input's type.
    """

    tail = "zero"
    averages = "takes the mean of squares over it"
    silent: ClassVar[tuple[str, ...]] = ("weight",)

    eps: float | None
    elementwise_affine: bool

    def tensors(self) -> dict[str, TensorSlot]:
        return {"weight": TensorSlot(self.normalized_shape, default=1.0)} if self.elementwise_affine else {}


@op("LocalResponseNorm", module="torch.nn.LocalResponseNorm")
class LocalResponseNorm(Op):
    """Divides by a sum over neighbouring channels (Krizhevsky et al. 2012): copies would change the neighbourhood."""

    functions: ClassVar = {"torch.nn.functional.local_response_norm": "input size alpha beta k"}

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        f.mix(inputs[0].axes[1], "sums over neighbouring channels")
        return inputs[0].axes
