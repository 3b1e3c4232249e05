"""The drawing of a network: what is read at a place can be followed up its lane."""

from __future__ import annotations

import re

import numpy as np
import pytest

from net2net_cli.report.network import Node, lanes, network
from net2net_cli.report.scale import Decades


def nodes(*rows: str) -> list[Node]:
    """`name: what it reads`."""
    split = (row.partition(":") for row in rows)
    return [Node(name, "op", tuple(reads.split()), "same") for name, _, reads in split]


def test_a_chain_stands_in_one_lane() -> None:
    assert lanes(nodes("x", "a: x", "b: a", "c: b")).lane == (0, 0, 0, 0)


def test_a_shortcut_keeps_its_lane_and_the_branch_has_another() -> None:
    assert lanes(nodes("x", "a: x", "b: a", "c: b", "add: c a", "out: add")).lane == (0, 0, 1, 1, 1, 1)


def random_network(seed: int) -> list[Node]:
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(40)]
    reads = [rng.choice(names[max(0, i - 9) : i], size=min(i, int(rng.integers(1, 4)))) for i in range(40)]
    return nodes(*(f"{name}: {' '.join(read)}" for name, read in zip(names, reads, strict=True)))


@pytest.mark.parametrize("seed", range(10))
def test_no_two_values_that_are_still_to_be_read_share_a_lane(seed: int) -> None:
    drawn = random_network(seed)
    place = lanes(drawn)
    last = {node.name: i for i, node in enumerate(drawn)}
    last |= {value: i for i, node in enumerate(drawn) for value in node.inputs}
    spans = [(place.lane[i], i, last[node.name]) for i, node in enumerate(drawn)]
    for lane, start, end in spans:
        assert 0 <= lane < place.count
        others = [(a, b) for other, a, b in spans if other == lane and a != start]
        assert all(b <= start or a >= end for a, b in others)


def test_each_layer_has_a_row_and_each_reading_a_line() -> None:
    drawn = random_network(0)
    text = network(drawn, 1e-12)
    assert text.count('<g class="row"') == len(drawn)
    read = {value for node in drawn for value in node.inputs}
    assert text.count('class="edge"') == len(read)
    lane = dict(zip((node.name for node in drawn), lanes(drawn).lane, strict=True))
    crossing = sum(lane[value] != lane[node.name] for node in drawn for value in set(node.inputs))
    assert len(re.findall("Q", text)) == crossing


def test_what_differs_by_itself_is_marked_and_what_was_not_compared_says_so() -> None:
    text = network(
        [
            Node("x", "input", (), "input"),
            Node("a", "Conv2d", ("x",), "wider", "4 → 8", 1e-16, 0.0, "equal"),
            Node("b", "Conv2d", ("a",), "same", "", 0.5, 0.25, "own"),
            Node("c", "ReLU", ("b",), "new", "8"),
        ],
        1e-12,
    )
    assert text.count('class="ring"') == 1
    assert text.count('id="first"') == 1
    assert "error 0.5, its own 0.25" in text
    assert text.count("not compared") == 1
    assert "4 → 8" in text


def test_an_axis_holds_zero_and_infinity() -> None:
    axis = Decades.over([0.0, 1e-16, 3.0, float("inf")], 1e-12)
    assert (axis.low, axis.high) == (-16, 1)
    assert (axis.at(0.0), axis.at(float("inf")), axis.at(10.0)) == (0.0, 1.0, 1.0)
    assert 0 < axis.at(1e-16) < axis.at(1e-12) < axis.at(3.0) < 1


def test_an_axis_without_errors_shows_the_tolerance() -> None:
    axis = Decades.over([0.0, 0.0], 1e-12)
    assert axis.low <= -12 < axis.high
