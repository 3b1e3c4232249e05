"""Weight norm: weights as a length and a direction (Salimans & Kingma, 2016, arXiv:1602.07868).

W = g · v / ‖v‖, where v has the shape of the weights, g one number for each slice of v along one axis, and the norm is
that of the slice. Copied slices keep their length. A slice that loses or gains entries keeps its part of the weights
only if g follows what that does to ‖v‖, which is for whoever plans the tensors to see to.

PyTorch stores the two in one of two ways, under other names: by a hook (`torch.nn.utils.weight_norm`), or by a
parametrization (`torch.nn.utils.parametrizations.weight_norm`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, TypeAlias

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops import conv
from net2net_cli.architecture.ops.base import Call, Op, TensorSlot, attributes, op

Stored: TypeAlias = Literal["hook", "parametrization"]

KEYS: dict[Stored, tuple[str, str]] = {
    "hook": ("weight_g", "weight_v"),
    "parametrization": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}
"""What lengths and directions are called."""

_MAKERS: dict[Stored, str] = {
    "hook": "torch.nn.utils.weight_norm",
    "parametrization": "torch.nn.utils.parametrizations.weight_norm",
}

_USUAL_LENGTH = 3**-0.5
"""Of a slice of n numbers between ±1/√n, as fresh layers hold them: √(n · 1/(3n))."""


@dataclass(frozen=True)
class WeightNorm(conv.Weighted):
    """In front of a layer's own class: its weights are normalised along `norm_dim`."""

    norm_dim: int
    stored: Stored

    @property
    def length_key(self) -> str:
        """What the lengths g are called."""
        return KEYS[self.stored][0]

    @property
    def weight_key(self) -> str:
        """What the directions v are called."""
        return KEYS[self.stored][1]

    @property
    def silent(self) -> tuple[str, ...]:  # type: ignore[override]
        """Weights are zero where their lengths are."""
        return self.length_key, "bias"

    @property
    def around(self) -> Call:
        return Call(_MAKERS[self.stored], kwargs={} if self.norm_dim == 0 else {"dim": self.norm_dim})

    def module_arguments(self) -> dict[str, Any]:
        own = {field.name for field in dataclasses.fields(WeightNorm)}
        return {key: value for key, value in super().module_arguments().items() if key not in own}

    def check(self) -> None:
        super().check()
        groups, transposed = getattr(self, "groups", 1), getattr(self, "transposed", False)
        if self.norm_dim != 0 and not (self.norm_dim == 1 and transposed and groups == 1):
            raise ValueError(f"weights that are normalised along axis {self.norm_dim} are not known")

    def tensors(self) -> dict[str, TensorSlot]:
        slots = super().tensors()
        shape = slots[self.weight_key].shape
        ones = (size if axis == self.norm_dim else 1 for axis, size in enumerate(shape))
        slots[self.length_key] = TensorSlot(tuple(ones), default=_USUAL_LENGTH)
        if "bias" in slots:
            slots["bias"] = dataclasses.replace(slots["bias"], fan_in=prod(shape[1:]))
        return slots

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        axes = super().flow(f, *inputs)
        at = -1 if isinstance(self, conv.Linear) else 1
        read, made = inputs[0].axes[at], axes[at]
        why = "gives its weights lengths of their own"
        f.plain(made, why)
        along: Axis = made
        if self.norm_dim == 0 and getattr(self, "transposed", False):
            f.plain(read, why)
            along = read
        size = self.tensors()[self.length_key].shape[self.norm_dim]
        f.carry(self.length_key, self.norm_dim, along, size=size)
        return axes


@op("WeightNormConv1d", module="torch.nn.Conv1d")
class WeightNormConv1d(WeightNorm, conv.Conv1d):
    """Convolution over one axis."""

    reads_modules: ClassVar = ()


@op("WeightNormConv2d", module="torch.nn.Conv2d")
class WeightNormConv2d(WeightNorm, conv.Conv2d):
    """Convolution over two axes."""

    reads_modules: ClassVar = ()


@op("WeightNormConv3d", module="torch.nn.Conv3d")
class WeightNormConv3d(WeightNorm, conv.Conv3d):
    """Convolution over three axes."""

    reads_modules: ClassVar = ()


@op("WeightNormConvTranspose1d", module="torch.nn.ConvTranspose1d")
class WeightNormConvTranspose1d(WeightNorm, conv.ConvTranspose1d):
    """Transposed convolution over one axis."""

    reads_modules: ClassVar = ()


@op("WeightNormConvTranspose2d", module="torch.nn.ConvTranspose2d")
class WeightNormConvTranspose2d(WeightNorm, conv.ConvTranspose2d):
    """Transposed convolution over two axes."""

    reads_modules: ClassVar = ()


@op("WeightNormConvTranspose3d", module="torch.nn.ConvTranspose3d")
class WeightNormConvTranspose3d(WeightNorm, conv.ConvTranspose3d):
    """Transposed convolution over three axes."""

    reads_modules: ClassVar = ()


@op("WeightNormLinear", module="torch.nn.Linear")
class WeightNormLinear(WeightNorm, conv.Linear):
    """x Wᵀ + b over the last axis."""

    reads_modules: ClassVar = ()


_NORMED = {cls.__bases__[1]: cls for cls in WeightNorm.__subclasses__()}
"""By what each would be without weight norm."""


def normed(plain: Op, norm_dim: int, stored: Stored) -> Op:
    """The op of a module with weight norm.

    Args:
        plain: what it would be without.
        norm_dim: the axis along which slices of its weights are normalised.
        stored: in which of PyTorch's ways.

    Raises:
        ValueError: there is no such op; the text completes "because …".
    """
    cls = _NORMED.get(type(plain))
    if cls is None:
        raise ValueError(f"weight norm is not known of `{plain.name}`")
    made = cls(**attributes(plain), norm_dim=norm_dim, stored=stored)
    made.check()
    return made
