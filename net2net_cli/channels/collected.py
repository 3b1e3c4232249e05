"""What a run over labels collects: ties, freezes, sections and averages, before they are resolved. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from net2net_cli.architecture.flow import Axes, Axis, Tail
from net2net_cli.architecture.graph import Layer
from net2net_cli.channels.unions import Ints

Place: TypeAlias = tuple[str, str, int]
"""An axis of a tensor: owning layer, the op's name for the tensor, axis."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Labels that met at a layer: `a[i]` with `b[i]`."""

    a: Ints
    b: Ints
    layer: Layer
    why: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """Labels that keep one copy: "because `layer` why"."""

    labels: Ints
    layer: str
    why: str


@dataclass(frozen=True, slots=True)
class EqualParts:
    """Sections, one a row, whose copies must sum to the same number, because the layer `why`."""

    labels: Ints
    layer: str
    why: str


@dataclass(frozen=True, slots=True)
class Nested:
    """Labels `(outer, n, inner)` of a merged axis, whose blocks follow those of the `(n,)` labels of one factor."""

    whole: Ints
    factor: Ints


@dataclass(frozen=True, slots=True)
class Averaged:
    """Labels over all of which something is averaged; `tail` is what a norm allows behind their copies."""

    labels: Ints
    tail: Tail | None


@dataclass
class Collected:
    """All that a run over the graph has to say, before it is resolved."""

    count: int = 0
    ties: list[Tie] = field(default_factory=list)
    same_count: list[Tie] = field(default_factory=list)
    same_block: list[tuple[Ints, Ints]] = field(default_factory=list)
    nested: list[Nested] = field(default_factory=list)
    frozen: list[Freeze] = field(default_factory=list)
    parts: list[EqualParts] = field(default_factory=list)
    averaged: list[Averaged] = field(default_factory=list)
    plain: list[Freeze] = field(default_factory=list)
    seen: list[Freeze] = field(default_factory=list)
    places: dict[Place, Axis] = field(default_factory=dict)
    filled: list[Ints] = field(default_factory=list)
    created: dict[Place, Ints] = field(default_factory=dict)
    readers: dict[Place, list[Layer]] = field(default_factory=dict)
    widths: dict[str, list[Ints]] = field(default_factory=dict)
    values: dict[str, Axes] = field(default_factory=dict)
    options: dict[tuple[str, str], list[tuple[int, Ints]]] = field(default_factory=dict)
