"""Weights shared out among copies so that what is stored sums to the teacher's weights, in every stored type.

A weight is a whole number n of units in its last place. Its copies get whole numbers of the same units: each its share
of n, rounded, and the last one what is left. All of them are smaller than n, so that the stored type holds them, and
their sum is n itself: nothing is lost by storing shares. Shares that are powers of two are exact as they are.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from net2net_cli.channels.unions import Ints
from net2net_cli.growth.shares import copy_numbers

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def share_out(block: Array, shares: Floats, position: Ints, start: int = 0) -> Array:
    """Columns of a reader after what it reads was widened (Net2WiderNet, arXiv:1511.05641).

    Args:
        block: `(rows, columns, …)`, the teacher's weights gathered by `position[start : start + columns]`.
        shares: `(rows, width)`, over the copies of each position they sum to 1.
        position: `(width,)` teacher slice of each student slice.
        start: where the block's columns stand among all.

    Returns:
        `(rows, columns, …)`, dtype of `block`: over the copies of each position they sum to the teacher's weight.
    """
    weight = block.astype(np.float64)
    unit = units(weight, block.dtype)
    whole = weight / unit
    spread = shares.reshape(shares.shape + (1,) * (block.ndim - 2))
    own = spread[:, start : start + block.shape[1]]
    with np.errstate(invalid="ignore"):  # of infinities and NaN, where they are allowed
        parts = np.rint(whole * own)
        for column, members in _last_copies(position, start, start + block.shape[1]):
            rest = whole[:, column]
            parts[:, column] = rest - sum(np.rint(rest * spread[:, member]) for member in members)
        as_they_are = ~np.isfinite(weight)
        if (shares == 1.0 / copy_numbers(position)[1]).all():  # else a power of two would be one of several kinds
            as_they_are |= _is_power_of_two(own) & (unit * own >= units(np.zeros(()), block.dtype))
        shared = np.where(as_they_are, weight * own, parts * unit)
    return shared.astype(block.dtype)


def _is_power_of_two(numbers: Floats) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.frexp(numbers)[0] == 0.5
    return found


def units(weight: Floats, dtype: npt.DTypeLike) -> Floats:
    """The unit in the last place of each number in its stored type; that of the smallest ones for zero."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call] # its types end here
    exponent = np.where(weight == 0, info.minexp, np.frexp(weight)[1] - 1)
    unit: Floats = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    return unit


def _last_copies(position: Ints, start: int, stop: int) -> list[tuple[Ints, list[Ints]]]:
    """Columns from `start` that are the last of n > 1 copies, for each n, with the n − 1 that stand before them."""
    number, copies = copy_numbers(position)
    order = np.argsort(position, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    last = start + np.flatnonzero((number == copies - 1)[start:stop] & (copies > 1)[start:stop])
    by_count = [last[copies[last] == n] for n in sorted(set(copies[last].tolist()))]
    return [
        (columns - start, [order[place[columns] - before] for before in range(1, int(copies[columns[0]]))])
        for columns in by_count
    ]
