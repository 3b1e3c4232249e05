"""What is drawn at random in training, and how a student draws the same as its teacher.

Dropout at a layer of the teacher takes a mask that depends on the layer's name alone; at the student's layer each slice
takes the mask of the teacher's slice that it equals. Where that is not known, and for what draws inside of a larger
module (attention, recurrent layers), nothing is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from net2net_cli.channels.tails import MEAN
from net2net_cli.channels.values import Slices, Value
from net2net_cli.runtime.build import Network, named_layers
from net2net_cli.runtime.mapped import in_student
from net2net_cli.runtime.modules import StochasticDepth

Values: TypeAlias = Mapping[str, Value]
"""Layers of the student, and what of the teacher each returns."""

_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_SHARED = (nn.Dropout, *_CHANNELS, StochasticDepth)

_INNER = {
    "StochasticDepth": ("p",),
    "DropPath": ("drop_prob",),
    "ScaledDotProductAttention": ("dropout_p",),
    **dict.fromkeys(("MultiheadAttention", "LSTM", "GRU", "RNN"), ("dropout",)),
    **dict.fromkeys(
        ("ShiftedWindowAttention", "ShiftedWindowAttentionV2", "ShiftedWindowAttention3d"),
        ("dropout", "attention_dropout"),
    ),
}
"""Classes, ours, torch's, torchvision's and timm's, that draw in training, and where they keep the probabilities."""


def shared(teacher: nn.Module, student: nn.Module, values: Values) -> dict[str, Value]:
    """The layers of the student that can draw what a layer of the teacher draws."""
    if not (isinstance(teacher, Network) and isinstance(student, Network)):
        return {}
    theirs, ours = named_layers(teacher), named_layers(student)
    return {
        name: value
        for name, value in values.items()
        if isinstance(ours.get(name), _SHARED)
        and type(ours[name]) is type(theirs.get(value.name))
        and not any(slices is not None and (slices.position == MEAN).any() for slices in value.axes)
    }


@dataclass
class Draws:
    """The draws of one network.

    Attributes:
        values: layers that draw, and what of the teacher each returns; for the teacher itself, each its own. No other
            layer draws.
        shapes: of the teacher's masks, by layer and call; the teacher's run notes them, the student's reads them.
        off: layers and modules that would draw in training and do not; filled by `prepare`.

    """

    values: Values = field(default_factory=dict)
    shapes: dict[tuple[str, int], torch.Size] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)
    _calls: dict[str, int] = field(default_factory=dict)

    def of_teacher(self) -> Draws:
        """The same draws in the teacher's own layers."""
        return Draws({value.name: Value(value.name, ()) for value in self.values.values()}, self.shapes)

    def prepare(self, network: nn.Module) -> None:
        """Let a network, a copy made to be run in training mode, draw from here; again, for the same draws again."""
        self._calls.clear()
        layers = named_layers(network) if isinstance(network, Network) else {}
        drawing = {id(layers[name]) for name in self.values}
        off = [name for name, m in network.named_modules() if id(m) not in drawing and silence(m)]
        self.off[:] = dict.fromkeys((*self.off, *off))
        for name in self.values:
            # Without the module itself: a cycle would keep the copy, and its memory on the device, for long.
            layers[name].forward = partial(self._dropped, name, float(layers[name].p), own_axes(layers[name]))  # type: ignore[arg-type]

    def _dropped(self, name: str, p: float, own: int | None, x: Tensor) -> Tensor:
        """Dropout or stochastic depth at one layer."""
        if p == 0.0:
            return x
        value = self.values[name]
        call = self._calls[name] = self._calls.get(name, -1) + 1
        shape = self.shapes.setdefault((value.name, call), mask_shape(own, x.shape))
        kept = mask(value, call, shape) >= p
        return x * kept.to(x.device, x.dtype) / (1.0 - p) if p < 1.0 else x * 0.0


def mask(value: Value, call: int, shape: torch.Size) -> Tensor:
    """Uniform numbers of the teacher's mask, at the slices of the student's.

    Args:
        value: what of the teacher the layer returns.
        call: how often it was called before.
        shape: of the teacher's mask; axes of size 1 stand for all slices.

    """
    generator = torch.Generator().manual_seed(seed_of(value.name, str(call)))
    axes = zip(value.axes, shape, strict=False)
    gathered = tuple(None if slices is None or size == 1 else _copied(slices) for slices, size in axes)
    return in_student(torch.rand(shape, generator=generator), Value(value.name, gathered))


def _copied(slices: Slices) -> Slices:
    """Which slice each is, whatever it is multiplied by; what is zero is dropped or not without a difference."""
    return replace(slices, position=slices.position.clip(min=0), factor=None)


def own_axes(module: nn.Module) -> int | None:
    """How many of the first axes have slices that are dropped each by itself; None for all axes.

    Stochastic depth drops rows or the whole batch, and `Dropout2d` channels.
    """
    if isinstance(module, StochasticDepth):
        return 1 if module.mode == "row" else 0
    return 2 if isinstance(module, _CHANNELS) else None


def mask_shape(own: int | None, shape: torch.Size) -> torch.Size:
    """The shape of what is drawn for an input; what is dropped together has an axis of size 1."""
    kept = len(shape) if own is None else own
    return torch.Size((*shape[:kept], *(1,) * (len(shape) - kept)))


def seed_of(*names: str) -> int:
    """A seed that depends on names alone."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:7])


def quiet(network: nn.Module) -> None:
    """Switch off all that a network draws in training."""
    for module in network.modules():
        silence(module)


def silence(module: nn.Module) -> bool:
    """Switch off what a module draws in training; whether there was anything."""
    if isinstance(module, nn.RReLU):
        module.lower = module.upper = (module.lower + module.upper) / 2
        return True
    places = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else _INNER.get(type(module).__name__, ())
    drawing = [place for place in places if getattr(module, place, None)]
    for place in drawing:
        setattr(module, place, 0.0)
    return bool(drawing)
