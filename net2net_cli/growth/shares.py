"""How the copies of a channel share what its readers did with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from net2net_cli.channels.unions import Ints, distinct
from net2net_cli.growth.plan import Split

Floats = npt.NDArray[np.float64]
Orders = npt.NDArray[np.int32]
Shares = npt.NDArray[np.float64] | npt.NDArray[np.bool_]

ORDERS = 64
"""Random orders of the rows that are dealt out; positions draw one of them each, and a random start."""

_ORDERS_AT_A_TIME = 16
"""So that they are sorted in the processor's cache."""

PLACES = 1 << 16
"""How many slices of rows are listed at a time: few enough to stay in the processor's cache."""


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
            yield deal.owned(block.start, block.stop)
        elif split == "fresh":
            yield np.broadcast_to(number == 0, (len(block), position.size))
        elif split == "random":
            yield _random(position, len(block), rng)
        else:
            yield np.broadcast_to(1.0 / copies, (len(block), position.size))


class Deal:
    """`ownership`: which copy of a position gets the whole of it, in each row; the others get nothing.

    Row after row a position goes to its copies in turn. In which order the rows come is one of `ORDERS` random orders,
    and which copy is the first is random too; so the copies of a position fare in one of few ways, which are looked up.

    Args:
        position: `(width,)` teacher slice of each student slice.
        rows: how many rows there are in all.
        rng: the source of every draw.
    """

    def __init__(self, position: Ints, rows: int, rng: np.random.Generator) -> None:
        orders = _drawn_orders(rows, rng)
        size = int(position.max(initial=-1)) + 1
        order, first = rng.integers(ORDERS, size=size), rng.integers(1 << 30, size=size)
        self.width = position.size
        copies = copy_numbers(position)[1]
        slices = np.argsort(position, kind="stable")
        self._contested = []
        for count in distinct(copies[copies > 1]).tolist():
            members = slices[copies[slices] == count].reshape(-1, count)
            which = position[members[:, 0]]
            self._contested.append(_Contested(members, orders, order[which], first[which] % count))

    def left_out(self, start: int, stop: int) -> Iterator[Ints]:
        """Which slices get nothing in rows start … stop, as `(row - start) · width + slice`, some at a time."""
        for contested in self._contested:
            step = max(1, PLACES // len(contested.members))
            for low in range(start, stop, step):
                high = min(low + step, stop)
                yield from contested.left_out(low, high, np.arange(low - start, high - start)[:, None] * self.width)

    def owned(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """`(stop - start, width)`: whether each slice gets its position, in rows start … stop."""
        owned = np.ones((stop - start) * self.width, dtype=bool)
        for places in self.left_out(start, stop):
            owned[places] = False
        return owned.reshape(stop - start, self.width)


def _drawn_orders(rows: int, rng: np.random.Generator) -> Orders:
    """`(ORDERS, rows)`: random orders of the rows, as `argsort` makes them of random numbers."""
    orders = np.empty((ORDERS, rows), dtype=np.int32)
    for start in range(0, ORDERS, _ORDERS_AT_A_TIME):
        orders[start : start + _ORDERS_AT_A_TIME] = argsorted(rng.random((_ORDERS_AT_A_TIME, rows)))
    return orders


def argsorted(keys: Floats) -> Ints:
    """`np.argsort(keys, axis=1)` of `(n, width)` keys from 0 up to 1; numpy sorts in less than half of the time.

    The last bits of each key are made the number of its place, and what is sorted holds both.
    """
    places = np.arange(keys.shape[1], dtype=np.uint64)
    low = np.uint64((1 << keys.shape[1].bit_length()) - 1)
    ordered = keys + 1.0  # from 1 up to 2, where all have one exponent
    bits = ordered.view(np.uint64)
    bits &= ~low
    bits |= places
    ordered.sort(axis=1)
    found = (bits & low).view(np.int64)
    bits |= low
    # Those that differed in their last bits alone might stand in the wrong order.
    return np.argsort(keys, axis=1) if (bits[:, 1:] == bits[:, :-1]).any() else found


class _Contested:
    """Positions that have equally many copies.

    Attributes:
        members: `(positions, copies)` the slices that are copies of each position.
    """

    def __init__(self, members: Ints, orders: Orders, order: Ints, first: Ints) -> None:
        """Look for those that fare alike.

        Args:
            members: see above.
            orders: `(ORDERS, rows)`.
            order: `(positions,)` which order each goes by.
            first: `(positions,)` the copy that comes first in it.
        """
        count = members.shape[1]
        self.members = members
        ways, self._way = np.unique(first * ORDERS + order, return_inverse=True)
        small = np.min_scalar_type(2 * count)
        turns = (orders - orders // count * count).astype(small)  # the remainder, in a quarter of the time
        self._turn = np.ascontiguousarray(turns.T).take(ways % ORDERS, axis=1)
        self._turn += (ways // ORDERS).astype(small)
        steps = distinct(np.diff(members, axis=1))
        self._step = int(steps[0]) if steps.size == 1 else None
        self._wrapped = np.arange(3 * count) % count * (self._step or 1)
        self._held = np.empty((0, 0), dtype=np.int64)

    def left_out(self, start: int, stop: int, offset: Ints) -> Iterator[Ints]:
        """Slices that get nothing in rows start … stop, one for each position and row at a time.

        Args:
            start: of the rows.
            stop: of the rows.
            offset: `(stop - start, 1)`, what is added to the slices of each row.

        Yields:
            `((stop - start) · positions,)`, until the next are asked for.
        """
        turn = self._turn[start:stop]
        for further in range(1, self.members.shape[1]):
            other = self._wrapped[further:].take(turn)
            if self._step is None:
                slices = np.take_along_axis(self.members, other[:, self._way].T, axis=1).T + offset
            else:  # as copies mostly stand, side by side; far faster
                other += offset
                slices = self._memory((stop - start, len(self.members)))
                other.take(self._way, axis=1, out=slices, mode="clip")
                slices += self.members[:, 0]
            yield slices.reshape(-1)

    def _memory(self, shape: tuple[int, int]) -> Ints:
        """The same each time: fresh memory would take as long as what is put there."""
        if self._held.size < shape[0] * shape[1]:
            self._held = np.empty(shape, dtype=np.int64)
        return self._held.reshape(-1)[: shape[0] * shape[1]].reshape(shape)


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
