"""Random networks, grown at random: what is not refused is exact, in both modes, as stored and as source code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from net2net_cli.growth.shares import share_rows
from zoo.random_growths import grow, run
from zoo.random_networks import random_network

QUICK = range(60)
LONG = range(1000, 3000)
BATCH = 20


def test_a_seed_always_draws_the_same_network() -> None:
    for seed in QUICK[::10]:
        assert repr(random_network(seed)) == repr(random_network(seed))


def totals(seeds: range) -> Counter[str]:
    count: Counter[str] = Counter()
    for seed in seeds:
        count += run(seed).count
    return count


@pytest.mark.parametrize("start", QUICK[::BATCH])
def test_random_growths_of_random_networks_are_exact_or_refused(start: int) -> None:
    count = totals(range(start, start + BATCH))
    assert count["exact"] > 2 * BATCH, "hardly any growth was tried"
    assert count["blind"] < count["exact"] / 20, "scrambled layers did not show"
    assert count["not imported"] + count["unusable"] < BATCH / 4, "hardly any network was read"


@pytest.mark.slow
@pytest.mark.parametrize("start", LONG[:: 5 * BATCH])
def test_many_random_growths_of_random_networks_are_exact_or_refused(start: int) -> None:
    assert totals(range(start, start + 5 * BATCH))["exact"] > 10 * BATCH


def test_a_wrong_student_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(*how: Any) -> Iterator[Any]:
        return (2.0 * share for share in share_rows(*how))

    monkeypatch.setattr("net2net_cli.growth.apply.share_rows", doubled)
    with pytest.raises(AssertionError, match="off by"):
        totals(QUICK)


def test_a_drawn_network_says_what_it_is_made_of() -> None:
    network = random_network(3)
    assert repr(network).startswith("inputs ")
    assert grow(network, 3).count["exact"] > 0
