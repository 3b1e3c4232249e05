"""Shapes with a symbolic batch axis."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Batch:
    """An axis whose size is a multiple of the batch size, written `n` or `4n`."""

    times: int = 1

    def __str__(self) -> str:
        return "n" if self.times == 1 else f"{self.times}n"


Dim: TypeAlias = int | Batch
Shape: TypeAlias = tuple[Dim, ...]


def product(dims: Iterable[Dim]) -> Dim:
    """The size of the axis that merges `dims`; at most one of them holds the batch.

    Raises:
        ValueError: two of them hold it.

    """
    dims = tuple(dims)
    times = math.prod(d.times if isinstance(d, Batch) else d for d in dims)
    batches = sum(isinstance(d, Batch) for d in dims)
    if batches > 1:
        raise ValueError("the batch axis cannot be multiplied by itself")
    return Batch(times) if batches else times


def divide(dim: Dim, by: Dim) -> Dim:
    """The factor that is left of `dim` when `by` is taken out of it.

    Raises:
        ValueError: it does not go evenly.

    """
    times, divisor = (d.times if isinstance(d, Batch) else d for d in (dim, by))
    if divisor == 0 or times % divisor or (isinstance(by, Batch) and not isinstance(dim, Batch)):
        raise ValueError(f"an axis of size {dim} cannot be divided by {by}")
    quotient = times // divisor
    return Batch(quotient) if isinstance(dim, Batch) and not isinstance(by, Batch) else quotient


def fixed(dim: Dim) -> int:
    """A size that is a plain number.

    Raises:
        ValueError: it depends on the batch size.

    """
    if isinstance(dim, Batch):
        raise ValueError(f"an axis of size {dim} stands where a fixed size is needed")
    return dim


def concrete(shape: Shape, batch: int) -> tuple[int, ...]:
    """The shape at one batch size."""
    return tuple(d.times * batch if isinstance(d, Batch) else d for d in shape)


def parse_dim(text: int | str) -> Dim:
    """`"n"`, `"4n"` or a number, as the spec writes it.

    Raises:
        ValueError: it is none of these.

    """
    if isinstance(text, int):
        return text
    if match := re.fullmatch(r"(\d*)n", text):
        return Batch(int(match[1] or 1))
    raise ValueError(f"`{text}` is no size: a number or `n` is needed")


def dim_to_json(dim: Dim) -> int | str:
    """What the spec writes for a size."""
    return str(dim) if isinstance(dim, Batch) else dim


def show(shape: Shape) -> str:
    """A shape for people: `n×64×56×56`."""
    return "×".join(str(d) for d in shape) if shape else "scalar"
