"""What is drawn at random, and how a student draws the same as its teacher.

Dropout at a layer of the teacher takes a mask that depends on the layer's name alone; at the student's layer each slice
takes the mask of the teacher's slice that it equals. So does noise. Where that is not known, and for what draws inside
of a larger module (attention, recurrent layers), nothing is drawn.

What evaluation draws too has the same slices in a student as in its teacher: there the layer's name is enough.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Mode
from net2net_cli.channels.tails import MEAN
from net2net_cli.channels.values import Slices, Value
from net2net_cli.runtime.build import Network, named_layers
from net2net_cli.runtime.mapped import in_student
from net2net_cli.runtime.modules import StochasticDepth
from net2net_cli.runtime.modules_noise import Noise

Values: TypeAlias = Mapping[str, Value]
"""Layers of the student, and what of the teacher each returns."""

Fill: TypeAlias = Callable[..., Tensor]
"""Draws into a tensor, in place, from a `generator`, and returns it."""

_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_SHARED = (nn.Dropout, *_CHANNELS, StochasticDepth, Noise)

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


def shared(teacher: nn.Module, student: nn.Module, values: Values, mode: Mode = "train") -> dict[str, Value]:
    """The layers of the student that can draw what a layer of the teacher draws."""
    if not (isinstance(teacher, Network) and isinstance(student, Network)):
        return {}
    theirs, ours = named_layers(teacher), named_layers(student)
    known = {name: values[name].name if name in values else name for name in ours}
    always = {name: Value(of, ()) for name, of in known.items() if _draws_in_evaluation(ours[name], theirs.get(of))}
    return always | {
        name: value
        for name, value in (values if mode == "train" else {}).items()
        if isinstance(ours.get(name), _SHARED)
        and type(ours[name]) is type(theirs.get(value.name))
        and not any(slices is not None and (slices.position == MEAN).any() for slices in value.axes)
    }


def _draws_in_evaluation(*modules: nn.Module | None) -> bool:
    """Whether they are noise of one kind that is not drawn in training alone."""
    return len(set(map(type, modules))) == 1 and all(isinstance(m, Noise) and not m.training_only for m in modules)


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
            if isinstance(module := layers[name], Noise):
                module.forward = partial(self._drawn, name, copy.copy(module))  # type: ignore[method-assign]
            else:
                module.forward = partial(self._dropped, name, float(module.p), own_axes(module))  # type: ignore[arg-type]

    def _dropped(self, name: str, p: float, own: int | None, x: Tensor) -> Tensor:
        """Dropout or stochastic depth at one layer."""
        if p == 0.0:
            return x
        kept = self._taken(name, mask_shape(own, x.shape), torch.Tensor.uniform_) >= p
        return x * kept.to(x.device, x.dtype) / (1.0 - p) if p < 1.0 else x * 0.0

    def _drawn(self, name: str, noise: Noise, like: Tensor) -> Tensor:
        """Random numbers that a layer returns."""
        return self._taken(name, like.shape, noise.filled).to(like)

    def _taken(self, name: str, shape: torch.Size, fill: Fill) -> Tensor:
        """What the next call of a layer draws."""
        value = self.values[name]
        call = self._calls[name] = self._calls.get(name, -1) + 1
        teachers = self.shapes.setdefault((value.name, call), shape)
        return drawn(value, call, teachers if value.axes else shape, fill)


def drawn(value: Value, call: int, shape: torch.Size, fill: Fill = torch.Tensor.uniform_) -> Tensor:
    """Random numbers of the teacher's layer, at the slices of the student's.

    Args:
        value: what of the teacher the layer returns.
        call: how often it was called before.
        shape: of what the teacher draws; axes of size 1 stand for all slices.
        fill: draws into a tensor, in place; evenly between 0 and 1, unless another is given.

    """
    generator = torch.Generator().manual_seed(seed_of(value.name, str(call)))
    axes = zip(value.axes, shape, strict=False)
    gathered = tuple(None if slices is None or size == 1 else _copied(slices) for slices, size in axes)
    return in_student(fill(torch.empty(shape), generator=generator), Value(value.name, gathered))


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
    if isinstance(module, Noise):
        if module.training_only:
            module.forward = torch.zeros_like  # type: ignore[assignment]
        return module.training_only
    if isinstance(module, nn.RReLU):
        module.lower = module.upper = (module.lower + module.upper) / 2
        return True
    places = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else _INNER.get(type(module).__name__, ())
    drawing = [place for place in places if getattr(module, place, None)]
    for place in drawing:
        setattr(module, place, 0.0)
    return bool(drawing)
