"""Teachers in which everything that can be spoilt is seen, and where to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Oracle:
    """A teacher, and the places that mutations are made at.

    Attributes:
        make: builds it.
        shape: of its input, without the batch.
        wide: what is widened; each layer has copies that `reader` reads.
        fresh: what has new channels, which `reader` reads too.
        deep: what is deepened.
        weight: a tensor that holds a weight.
        bias: a bias that is not zero.
        norm: a norm, which has an eps.
        reader: a weight whose axis 1 reads copied channels.
        before: a layer that gives negative values too, behind which another can be put.
        head: the layer that makes the output.
        statistics: a batch norm; None where there is none.
        padded: a convolution that pads with zeros; None where there is none.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    wide: Mapping[str, str]
    fresh: Mapping[str, str]
    deep: tuple[str, ...]
    weight: str
    bias: str
    norm: str
    reader: str
    before: str
    head: str
    statistics: str | None = None
    padded: str | None = None


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.inner, self.inner_norm = nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.outer, self.outer_norm = nn.Conv2d(5, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.outer_norm(self.outer(torch.relu(self.inner_norm(self.inner(x))))))
        return self.head(x.mean((2, 3)))


class Separable(nn.Module):
    """A depthwise convolution, and a concatenation of what goes around it."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 5, 1, bias=False), nn.BatchNorm2d(5)
        self.deep, self.deep_norm = nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False), nn.BatchNorm2d(5)
        self.around = nn.Conv2d(3, 3, 1)
        self.mixed = nn.Conv2d(8, 7, 1)
        self.head = nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Any:
        y = nn.functional.hardswish(self.norm(self.expand(x)))
        y = torch.cat([torch.relu(self.deep_norm(self.deep(y))), self.around(x)], 1)
        return self.head(torch.relu(self.mixed(y)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 6)
        self.norm1, self.norm2, self.last = nn.LayerNorm(6), nn.LayerNorm(6), nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.inner, self.outer = nn.Linear(6, 9), nn.Linear(9, 6)
        self.head = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.outer(nn.functional.gelu(self.inner(self.norm2(x))))
        return self.head(self.last(x).mean(1))


ORACLES = {
    "residual": Oracle(
        Residual, (3, 6, 6), {"stem": "7", "inner": "2x"}, {"stem": "7", "inner": "2x"}, ("stem", "inner"),
        "outer.weight", "inner.bias", "norm", "head.weight", "outer_norm", "head",
        statistics="inner_norm", padded="inner",
    ),
    "separable": Oracle(
        Separable, (3, 6, 6), {"expand": "9", "mixed": "+2"}, {"expand": "9", "mixed": "+2"}, ("deep", "mixed"),
        "deep.weight", "around.bias", "norm", "mixed.weight", "norm", "head", statistics="deep_norm", padded="deep",
    ),
    "transformer": Oracle(
        Transformer, (4, 5), {"embed": "2x", "inner": "14"}, {"inner": "14"}, ("inner",),
        "attention.in_proj_weight", "outer.bias", "last", "outer.weight", "inner", "head",
    ),
}  # fmt: skip
