"""Where copies stand: every unit is replaced, in place, by its adjacent copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axis
from net2net_cli.channels.labels import Labels
from net2net_cli.channels.tails import CODES
from net2net_cli.channels.unions import Ints


def layout(labels: Labels, counts: Ints, axis: Ints) -> Ints:
    """Positions of an axis whose labels are given: every unit is replaced, in place, by its adjacent copies.

    Args:
        labels: the resolved labels.
        counts: `(classes,)` copies of each class.
        axis: `(n,)` labels.

    Returns:
        `(Σ counts,)` positions in 0 … n − 1, and behind them those of a tail.
    """
    position = _copies(labels, counts, axis)
    rule = labels.tails.get(int(labels.group[axis[0]])) if labels.tails and axis.size else None
    length = 0 if rule is None or axis.size != rule.size else int(counts[rule.slot])
    return position if rule is None or not length else np.r_[position, np.full(length, CODES[rule.tail])]


def _copies(labels: Labels, counts: Ints, axis: Ints) -> Ints:
    copies = counts[labels.group[axis]]
    block = labels.block[axis]
    length = labels.block_length[block]
    if (length == 1).all() or (copies == 1).all():
        return np.repeat(np.arange(axis.size, dtype=np.int64), copies)
    pieces = []
    start = 0
    while start < axis.size:
        stop = start + 1
        limit = min(axis.size, start + int(length[start]))
        while stop < limit and block[stop] == block[start]:
            stop += 1
        pieces.append(np.tile(np.arange(start, stop, dtype=np.int64), int(copies[start])))
        start = stop
    return np.concatenate(pieces)


def later_copies(position: Ints) -> npt.NDArray[np.bool_]:
    """Which slices are not the first that stand for their position: second and later copies, and tails.

    Args:
        position: `(…, width)`, each row for itself.
    """
    if position.ndim > 1:
        return np.stack([later_copies(row) for row in position])
    later = np.ones(position.size, dtype=bool)
    later[np.unique(position, return_index=True)[1]] = False
    return later | (position < 0)


def unchanged(axis: Axis, size: int) -> bool:
    """Whether the student's axis is the teacher's."""
    return axis is None or (axis.size == size and bool((axis == np.arange(size)).all()))
