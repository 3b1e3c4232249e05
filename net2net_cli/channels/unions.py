"""Union-find over arrays of integers, without a Python loop over elements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def components(count: int, pairs: list[tuple[Ints, Ints]], parent: Ints | None = None) -> Ints:
    """The smallest member of each integer's component.

    Args:
        count: the integers are 0 … count − 1.
        pairs: arrays of equal length; `a[i]` and `b[i]` belong together.
        parent: an earlier result to go on from.

    Returns:
        `(count,)`: the representative of each integer.
    """
    root = np.arange(count, dtype=np.int64) if parent is None else parent.copy()
    if not pairs:
        return root
    a = np.concatenate([np.asarray(p[0], dtype=np.int64).ravel() for p in pairs])
    b = np.concatenate([np.asarray(p[1], dtype=np.int64).ravel() for p in pairs])
    while True:
        left, right = root[a], root[b]
        low, high = np.minimum(left, right), np.maximum(left, right)
        apart = low != high
        if not apart.any():
            return root
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, shorter := root[root]):
            root = shorter


def distinct(values: Ints) -> Ints:
    """The different values in order, flat; `np.unique` would import `numpy.ma`, and take its time."""
    ordered = np.sort(values, axis=None)
    first = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
