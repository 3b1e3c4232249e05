"""How the copies of a channel share what its readers did with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from net2net_cli.channels.unions import Ints
from net2net_cli.growth.plan import Split

Floats = npt.NDArray[np.float64]
Shares = npt.NDArray[np.float64] | npt.NDArray[np.bool_]

ORDERS = 64
"""Random orders of the rows that are dealt out; positions draw one of them each, and a random start."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """A stream of random numbers of its own for each seed and name, the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "little")]))


def copy_numbers(position: Ints) -> tuple[Ints, Ints]:
    """For each slice, which copy of its position it is (0, 1, …), and how many copies that position has.

    Args:
        position: `(width,)`.

    Returns:
        two arrays `(width,)`.
    """
    order = np.argsort(position, kind="stable")
    ordered = position[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if position.size else np.zeros(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, position.size))
    number = np.empty_like(position)
    number[order] = np.arange(position.size) - np.repeat(starts, sizes)
    copies = np.empty_like(position)
    copies[order] = np.repeat(sizes, sizes)
    return number, copies


def share_rows(split: Split, position: Ints, rows: int, step: int, rng: np.random.Generator) -> Iterator[Shares]:
    """Shares of the copies, some rows at a time: over the copies of one position they sum to 1 in each row.

    `ownership` deals the rows out to the copies in turn, in random order, so that no copy goes without. Where there are
    more copies than rows, some start with zero shares: no dead end, since a zero share's own gradient is that of any
    other. `fresh` gives all rows to the first.

    Args:
        split: the rule.
        position: `(width,)` teacher slice of each student slice.
        rows: how many rows there are in all.
        step: how many rows a block has.
        rng: the source of every draw; blocks of any size draw the same.

    Yields:
        `(≤ step, width)`; of dtype bool for `ownership` and `fresh`, whose shares are 0 and 1.
    """
    number, copies = copy_numbers(position)
    deal = Deal(position, rows, rng) if split == "ownership" else None
    for start in range(0, rows, step):
        block = range(start, min(rows, start + step))
        if deal is not None:
            yield deal.owned(block.start, block.stop, np.array([False, True]))
        elif split == "fresh":
            yield np.broadcast_to(number == 0, (len(block), position.size))
        elif split == "random":
            yield _random(position, len(block), rng)
        else:
            yield np.broadcast_to(1.0 / copies, (len(block), position.size))


class Deal:
    """`ownership`: which copy of a position gets the whole of it, in each row; the others get nothing.

    Row after row a position goes to its copies in turn. In which order the rows come is one of `ORDERS` random orders,
    and which copy is the first is random too; so a column of shares is one of few, which are looked up.

    Args:
        position: `(width,)` teacher slice of each student slice.
        rows: how many rows there are in all.
        rng: the source of every draw.
    """

    def __init__(self, position: Ints, rows: int, rng: np.random.Generator) -> None:
        number, copies = copy_numbers(position)
        self.orders = np.argsort(rng.random((ORDERS, rows)), axis=1).astype(np.int32)
        size = int(position.max(initial=-1)) + 1
        order, start = rng.integers(ORDERS, size=size), rng.integers(1 << 30, size=size)
        turn = (number - start[position]) % copies
        stride = int(copies.max(initial=1)) + 1
        column = (copies * stride + turn) * ORDERS + order[position]
        column[copies == 1] = -1
        columns, self.column = np.unique(column, return_inverse=True)
        self.contested = columns >= 0
        contested = columns[self.contested]
        self.order = contested % ORDERS
        self.copies, self.turn = (a.astype(np.int32) for a in np.divmod(contested // ORDERS, stride))

    def owned(
        self, start: int, stop: int, values: npt.NDArray[Any], out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """Whether each slice gets its position, in rows start … stop.

        Args:
            start: of the rows.
            stop: of the rows.
            values: `(2, …)` what stands for no, and for yes.
            out: where the result is put, if given.

        Returns:
            `(stop - start, width, …)`
        """
        yes = np.ones((stop - start, self.contested.size), dtype=np.intp)
        yes[:, self.contested] = self.orders[:, start:stop].T[:, self.order] % self.copies == self.turn
        return np.take(values[yes], self.column, axis=1, out=out, mode="clip")


def _random(position: Ints, rows: int, rng: np.random.Generator) -> Floats:
    """Positive shares between about 1/3 and 3 of the mean."""
    raw = 0.5 + rng.random((rows, position.size))
    order = np.argsort(position, kind="stable")
    ordered = position[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums = np.add.reduceat(raw[:, order], starts, axis=1)
    which = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]])
    totals = np.empty_like(raw)
    totals[:, order] = sums[:, which]
    shares: Floats = raw / totals
    return shares
