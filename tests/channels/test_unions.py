"""Components of many pairs at once are those that a walk from each integer finds."""

from __future__ import annotations

import numpy as np
import pytest

from net2net_cli.channels.unions import Ints, components


def walked(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest integer that can be reached from each: breadth first, one start at a time."""
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    found = []
    for start in range(count):
        seen, waiting = {start}, [start]
        while waiting:
            for other in neighbours[waiting.pop(0)] - seen:
                seen.add(other)
                waiting.append(other)
        found.append(min(seen))
    return found


def arrays(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


@pytest.mark.parametrize("seed", range(40))
def test_components_are_those_that_a_walk_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    pairs = [(int(a), int(b)) for a, b in rng.integers(count, size=(int(rng.integers(0, 2 * count)), 2))]
    cut = len(pairs) // 3
    found = components(count, [arrays(pairs[:cut]), arrays(pairs[cut:])])
    assert found.tolist() == walked(count, pairs)


@pytest.mark.parametrize("seed", range(10))
def test_an_earlier_result_can_be_gone_on_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(int(a), int(b)) for a, b in rng.integers(30, size=(24, 2))]
    first = components(30, [arrays(pairs[:12])])
    before = first.copy()
    assert components(30, [arrays(pairs[12:])], first).tolist() == walked(30, pairs)
    assert (first == before).all()


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_a_long_chain_is_one_component(order: str) -> None:
    links = [(i, i + 1) for i in range(1999)]
    if order == "down":
        links = [(b, a) for a, b in reversed(links)]
    if order == "shuffled":
        links = [links[i] for i in np.random.default_rng(0).permutation(len(links))]
    assert not components(2000, [arrays(links)]).any()


def test_without_pairs_everything_stands_alone() -> None:
    assert components(4, []).tolist() == [0, 1, 2, 3]


def test_arrays_of_any_shape_are_paired_element_by_element() -> None:
    a = np.array([[0, 1], [2, 3]])
    assert components(6, [(a, a + 2)]).tolist() == walked(6, [(0, 2), (1, 3), (2, 4), (3, 5)])
