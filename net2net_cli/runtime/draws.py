"""What is drawn at random in training, and how a student draws the same as its teacher.

Dropout at a layer of the teacher takes a mask that depends on the layer's name alone; at the student's layer each slice
takes the mask of the teacher's slice that it equals. Where that is not known, and for what draws inside of a larger
module (attention, recurrent layers), nothing is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from net2net_cli.runtime.build import Network, named_layers
from net2net_cli.runtime.modules import StochasticDepth

Slices: TypeAlias = tuple[npt.NDArray[np.intp] | None, ...]
"""For each axis of a value, the teacher's slice that each slice of the student's equals; None for an unchanged axis."""

Maps: TypeAlias = Mapping[str, tuple[str, Slices]]
"""A layer of the student -> the layer of the teacher whose output its own equals, and how."""

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


@dataclass
class Draws:
    """The draws of one network.

    Attributes:
        maps: layers that draw, with the teacher's layer and slices; for the teacher itself, each with its own name.
            No other layer draws.
        shapes: of the teacher's masks, by layer and call; the teacher's run notes them, the student's reads them.
        off: layers and modules that would draw in training and do not; filled by `prepare`.

    """

    maps: Maps = field(default_factory=dict)
    shapes: dict[tuple[str, int], torch.Size] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)
    _calls: dict[str, int] = field(default_factory=dict)

    def prepare(self, network: nn.Module) -> None:
        """Let a network, a copy made to be run, draw from here."""
        self._calls.clear()
        layers = named_layers(network) if isinstance(network, Network) else dict(network.named_modules())
        drawing = {id(m) for name, m in layers.items() if name in self.maps and isinstance(m, _SHARED)}
        self.off[:] = [name for name, m in network.named_modules() if id(m) not in drawing and silence(m)]
        for name, module in layers.items():
            if id(module) in drawing:
                module.forward = partial(self._dropped, module, name)

    def _dropped(self, module: nn.Module, name: str, x: Tensor) -> Tensor:
        """Dropout or stochastic depth at one layer."""
        p = float(module.p)  # type: ignore[arg-type]
        if not module.training or p == 0.0:
            return x
        layer, slices = self.maps[name]
        call = self._calls[name] = self._calls.get(name, -1) + 1
        shape = self.shapes.setdefault((layer, call), mask_shape(module, x.shape))
        kept = mask(layer, call, shape, slices) >= p
        return x * kept.to(x.device, x.dtype) / (1.0 - p) if p < 1.0 else x * 0.0


def mask(layer: str, call: int, shape: torch.Size, slices: Slices) -> Tensor:
    """Uniform numbers of the teacher's mask, taken at the student's slices.

    Args:
        layer: the teacher's.
        call: how often it was called before.
        shape: of the teacher's mask; axes of size 1 stand for all slices.
        slices: as in `Maps`.

    """
    generator = torch.Generator().manual_seed(seed_of(layer, str(call)))
    found = torch.rand(shape, generator=generator)
    for axis, slice_of in enumerate(slices):
        if slice_of is not None and shape[axis] != 1:
            found = found.index_select(axis, torch.from_numpy(np.asarray(slice_of, dtype=np.int64)))
    return found


def mask_shape(module: nn.Module, shape: torch.Size) -> torch.Size:
    """The shape of what a module draws for an input `(n, ...)`: one number an element, a channel, a row, or one."""
    if isinstance(module, StochasticDepth):
        kept = 1 if module.mode == "row" else 0
    else:
        kept = 2 if isinstance(module, _CHANNELS) else len(shape)
    return torch.Size((*shape[:kept], *(1,) * (len(shape) - kept)))


def seed_of(*names: str) -> int:
    """A seed that depends on names alone."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:7])


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
