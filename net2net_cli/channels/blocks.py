"""Which labels are copied as one unit, such as the H·W features that one channel becomes when it is flattened."""

from __future__ import annotations

import numpy as np

from net2net_cli.channels.collected import Collected
from net2net_cli.channels.unions import Ints, components


def blocks(found: Collected, tied: list[tuple[Ints, Ints]]) -> Ints:
    """Blocks after ties; a merged axis takes over the blocks of its factor, and the factor those of the whole."""
    block = components(found.count, tied + found.same_block)
    while True:
        more: list[tuple[Ints, Ints]] = []
        for nested in found.nested:
            whole, factor = nested.whole, nested.factor
            inside = (block[whole[:, :-1, 0]] == block[whole[:, 1:, 0]]).any(axis=0)
            joined = inside | (block[factor[:-1]] == block[factor[1:]])
            at = np.flatnonzero(joined)
            if at.size:
                more += [(whole[:, at, -1], whole[:, at + 1, 0]), (factor[at], factor[at + 1])]
        after = components(found.count, more, block)
        if np.array_equal(after, block):
            return block
        block = after


def block_lengths(found: Collected, block: Ints) -> Ints:
    """How many consecutive labels make one unit of each block: the longest run where the block was declared."""
    length = np.ones(max(found.count, 1), dtype=np.int64)
    declared = [n.whole.reshape(n.whole.shape[0], -1) for n in found.nested]
    declared += [np.concatenate([a, b[:, -1:]], axis=1) for a, b in found.same_block if a.ndim == 2]
    declared += [n.factor[None] for n in found.nested]
    for rows in declared:
        ids = block[rows]
        starts = np.ones(ids.shape, dtype=bool)
        starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
        at = np.flatnonzero(starts.ravel())
        runs = np.diff(np.append(at, ids.size))
        np.maximum.at(length, ids.ravel()[at], runs)
    return length
