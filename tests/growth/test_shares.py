"""Shares of the copies of a channel: they sum to 1 for each row and position, and depend on nothing but the seed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from net2net_cli.channels.unions import Ints
from net2net_cli.growth.plan import SPLITS, Split
from net2net_cli.growth.shares import argsorted, copy_numbers, generator, share_rows

POSITIONS = {
    "no copies": [0, 1, 2, 3],
    "some copies": [0, 0, 1, 2, 2, 2, 3],
    "blocks": [0, 1, 0, 1, 2, 3, 2, 3],
    "all doubled": [0, 0, 1, 1, 2, 2],
    "many of one": [0] * 9 + [1],
    "out of order": [2, 0, 1, 2, 0],
    "unevenly far apart": [0, 1, 0, 2, 1, 3, 3, 2, 2],
}


def shares(split: Split, position: list[int], rows: int, *, step: int | None = None, seed: int = 0) -> np.ndarray:
    rng = generator(seed, "tensor")
    return np.concatenate(list(share_rows(split, np.array(position), rows, step or rows, rng)))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_shares_sum_to_one_for_each_row_and_position(split: Split, name: str, rows: int) -> None:
    position = POSITIONS[name]
    found = shares(split, position, rows).astype(np.float64)
    assert found.shape == (rows, len(position))
    for teacher in set(position):
        at = [j for j, p in enumerate(position) if p == teacher]
        assert np.abs(found[:, at].sum(axis=1) - 1).max() <= 4 * np.finfo(np.float64).eps


@pytest.mark.parametrize("name", POSITIONS)
def test_ownership_gives_all_or_nothing_wherever_there_are_rows_enough(name: str) -> None:
    found = shares("ownership", POSITIONS[name], 9)
    assert found.dtype == bool
    assert found.shape == (9, len(POSITIONS[name]))


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("seed", range(5))
def test_every_copy_owns_some_row_and_all_own_about_equally_many(name: str, seed: int) -> None:
    position = POSITIONS[name]
    for rows in range(max(position.count(p) for p in position), 24):
        owned = shares("ownership", position, rows, seed=seed).sum(axis=0)
        for teacher in set(position):
            each = [int(n) for n, p in zip(owned, position, strict=True) if p == teacher]
            assert min(each) >= 1
            assert max(each) - min(each) <= 1


@pytest.mark.parametrize("position", [*POSITIONS.values(), sorted([0, 1, 2, 3] * 300)])
def test_rows_are_dealt_in_one_of_64_orders_to_one_copy_after_the_other(position: list[int]) -> None:
    """The draw is part of the format: with another one, no student that was grown before could be proved."""
    rows = 23
    rng = generator(0, "tensor")
    orders = [sorted(range(rows), key=keys.__getitem__) for keys in rng.random((64, rows)).tolist()]
    order = rng.integers(64, size=max(position) + 1).tolist()
    first = rng.integers(1 << 30, size=max(position) + 1).tolist()
    expected = np.zeros((rows, len(position)), dtype=bool)
    for teacher in set(position):
        copies = [j for j, p in enumerate(position) if p == teacher]
        for row in range(rows):
            expected[row, copies[(orders[order[teacher]][row] + first[teacher]) % len(copies)]] = True
    assert np.array_equal(shares("ownership", position, rows), expected)
    assert np.array_equal(shares("ownership", position, rows, step=5), expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 4096, 5000])
def test_keys_are_argsorted_as_numpy_does(rows: int) -> None:
    keys = np.random.default_rng(rows).random((7, rows))
    assert np.array_equal(argsorted(keys), np.argsort(keys, axis=1))


def test_keys_that_differ_in_their_last_bit_alone_stand_in_order() -> None:
    """From the largest below 1 down, each the next smaller one; and numbers that `+ 1` makes equal."""
    falling = 1.0 - np.arange(1, 301, dtype=np.float64) * 2.0**-53
    assert argsorted(falling[None, :]).tolist() == [list(range(299, -1, -1))]
    assert argsorted(np.array([[3 * 2.0**-53, 2.0**-53, 0.5, 2.0**-52, 0.0]])).tolist() == [[4, 1, 3, 0, 2]]


def test_with_fewer_rows_than_copies_ownership_stays_exact_and_some_copies_start_unread() -> None:
    found = shares("ownership", [0, 0, 0, 1, 1, 2], 2)
    assert found.dtype == bool
    assert sorted(found[:, :3].sum(axis=0).tolist()) == [0, 1, 1]
    assert found[:, 3:5].sum(axis=0).tolist() == [1, 1]


def test_random_shares_are_positive_and_differ_between_rows() -> None:
    found = shares("random", [0, 0, 1, 1, 1], 6)
    assert (found > 0).all()
    assert np.unique(found[:, 0]).size == 6


def test_equal_shares_are_one_over_the_copies() -> None:
    assert shares("equal", [0, 0, 1, 2, 2, 2], 2).tolist() == [[1 / 2, 1 / 2, 1.0, 1 / 3, 1 / 3, 1 / 3]] * 2


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("rows", [2, 7, 30])
def test_the_size_of_the_blocks_changes_nothing(split: Split, rows: int) -> None:
    position = [0, 0, 0, 1, 2, 2]
    whole = shares(split, position, rows)
    for step in (1, 2, 3, 7, 29, 100):
        assert np.array_equal(shares(split, position, rows, step=step), whole), step


@pytest.mark.parametrize("split", ["ownership", "random"])
def test_a_seed_repeats_and_another_one_differs(split: Split) -> None:
    position = [0, 0, 1, 1, 2, 2]
    first = shares(split, position, 30, seed=3)
    assert np.array_equal(shares(split, position, 30, seed=3), first)
    assert not np.array_equal(shares(split, position, 30, seed=4), first)


def test_a_stream_is_seeded_by_its_names_alone() -> None:
    digest = hashlib.sha256(b"conv.weight\0shares").digest()
    expected = np.random.Generator(np.random.PCG64([5, int.from_bytes(digest[:8], "little")])).random(4)
    assert np.array_equal(generator(5, "conv.weight", "shares").random(4), expected)
    assert not np.array_equal(generator(5, "conv.weight", "fill").random(4), expected)


def test_owners_in_one_row_are_not_tied_between_positions() -> None:
    """If all positions were dealt out alike, copy 0 of every channel would own the same rows."""
    found = shares("ownership", [p for p in range(40) for _ in range(2)], 64)
    assert np.unique(found[:, ::2], axis=1).shape[1] > 10


def numbered(position: list[int]) -> tuple[Ints, Ints]:
    return copy_numbers(np.array(position, dtype=np.int64))


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_counted_in_the_order_in_which_they_stand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    position = [int(p) for p in rng.integers(0, 5, size=int(rng.integers(1, 15)))]
    number, copies = numbered(position)
    assert number.tolist() == [position[:j].count(p) for j, p in enumerate(position)]
    assert copies.tolist() == [position.count(p) for p in position]
