"""Channel shuffles whose channels have copies: the network's own shuffle where it keeps them together, else indices."""

from __future__ import annotations

import numpy as np
import pytest

from channels.sketch import conv, layer, make, network
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.join import IndexSelect
from net2net_cli.architecture.ops.shape import Rearrange
from net2net_cli.channels.counts import Demand, NoCountsError, labels_of, prove, solve
from net2net_cli.channels.positions import StudentRun
from net2net_cli.errors import GrowthRefusedError

SHUFFLE = make("rearrange", "n (g c) h w -> n (c g) h w", {"g": 2})


def units(count: int, width: int = 12) -> Graph:
    """Units of ShuffleNet v2: half of the channels pass, half are convolved, then both are shuffled."""
    half = width // 2
    layers = [layer("stem", conv(3, width), "x"), layer("start", SHUFFLE, "stem")]
    value = "start"
    for i in range(count):
        layers += [
            layer(f"{i}.kept", make("chunk", 2, 1, 0), value),
            layer(f"{i}.half", make("chunk", 2, 1, 1), value),
            layer(f"{i}.conv", conv(half, half), f"{i}.half"),
            layer(f"{i}.cat", make("cat", 1), f"{i}.kept", f"{i}.conv"),
            layer(f"{i}.shuffle", SHUFFLE, f"{i}.cat"),
        ]
        value = f"{i}.shuffle"
    return network((3, 4, 4), *layers, layer("out", conv(width, 2), value))


def grown(graph: Graph, name: str, width: int, *, own_shuffles: bool = False) -> StudentRun:
    labels = labels_of(graph)
    axis = labels.output_axis(name)
    assert axis is not None
    counts = solve(labels, [Demand(name, axis, width)], np.random.default_rng(1))
    return prove(labels, counts, own_shuffles=own_shuffles)


@pytest.mark.parametrize("width", [7, 8, 9, 12, 13, 18])
def test_every_unit_behind_many_shuffles_can_have_any_width(width: int) -> None:
    graph = units(5)
    student = grown(graph, "3.conv", width).graph
    assert [student.shapes[f"{i}.conv"][1] for i in range(5)] == [width] * 5
    assert student.shapes["out"] == graph.shapes["out"]


def test_a_shuffle_stays_the_networks_own_where_that_keeps_copies_together() -> None:
    student = grown(units(1), "stem", 24).graph
    assert all(isinstance(student.by_name[name].op, Rearrange) for name in ("start", "0.shuffle"))


def test_a_shuffle_that_would_part_copies_becomes_a_list_of_indices() -> None:
    """Teacher (0 1 2 | 3 4 5) goes to 0 3 1 4 2 5, and so do the copies, side by side."""
    run = grown(units(5), "3.conv", 12)
    op = run.graph.by_name["0.shuffle"].op
    assert isinstance(op, IndexSelect)
    assert op.index == tuple(i + offset for j in range(0, 12, 2) for offset in (0, 12) for i in (j, j + 1))


def test_in_the_targets_own_class_shuffles_stay_what_they_are() -> None:
    with pytest.raises(GrowthRefusedError, match="needs 2 sections of equal size"):
        grown(units(5), "3.conv", 12, own_shuffles=True)


def test_halves_of_an_odd_width_are_no_halves() -> None:
    with pytest.raises(NoCountsError, match="needs 2 sections of equal size"):
        grown(units(2), "stem", 13)


def test_slices_taken_by_index_take_all_their_copies_along() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 3), "x"),
        layer("taken", make("index_select", 1, (2, 0, 2)), "a"),
        layer("out", conv(3, 2), "taken"),
    )
    labels = labels_of(graph)
    counts = labels.ones()
    axis = labels.output_axis("a")
    assert axis is not None
    counts[labels.group[axis]] = [1, 2, 3]
    run = prove(labels, counts)
    assert run.graph.by_name["taken"].op == IndexSelect(1, (3, 4, 5, 0, 3, 4, 5))
    assert run.readings["out", "weight", 1].position.tolist() == [[0, 0, 0, 1, 2, 2, 2]]
