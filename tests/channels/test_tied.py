"""Channels that are read by the weights that make them: the layer before gives each copy its part, or they stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from channels.sketch import make
from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie
from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.shapes import Batch
from net2net_cli.channels.groups import Groups
from net2net_cli.channels.labels import find_labels
from net2net_cli.channels.tied import NoAbsorberError, absorber
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.plan import Plan
from net2net_cli.growth.requests import parse_request
from net2net_cli.growth.widen import plan_widen

EMBED = make("Embedding", 9, 4, None, False, False)
HEAD = Layer("head", make("Linear", 4, 9, True), ("last",), tied=(Tie("weight", "embed", "weight"),))
NORM = make("LayerNorm", (4,), 1e-5, True, True)


def network(*between: tuple[str, Op, str], head: Layer = HEAD) -> Graph:
    layers = (Layer("embed", EMBED, ("x",)), *(Layer(name, op, (value,)) for name, op, value in between), head)
    tokens = NetworkInput("x", (Batch(), 5), "int64")
    return Graph("n", "s", (tokens,), layers, {"out": head.name})


def plan(graph: Graph, request: str) -> Plan:
    return plan_widen(graph, [parse_request(request)])


def refused(graph: Graph, request: str = "embed=2x") -> str:
    with pytest.raises(GrowthRefusedError) as caught:
        plan(graph, request)
    return caught.value.message


def test_the_norm_before_a_tied_head_gives_each_of_three_copies_a_third() -> None:
    made = plan(network(("last", NORM, "embed")), "embed=3x")
    for name in ("last.weight", "last.bias"):
        (axis,) = made.tensors[name].axes
        np.testing.assert_array_equal(axis.factor, np.full(12, 1 / 3))
    (axis,) = made.tensors["embed.weight"].axes
    assert (axis.axis, axis.shares, axis.factor) == (1, None, None)
    assert axis.position.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]]
    assert made.rounds
    assert "head.weight" not in made.tensors


def test_a_linear_layer_gives_channels_with_different_numbers_of_copies_different_parts() -> None:
    made = plan(network(("last", make("Linear", 4, 4, True), "embed")), "embed=6")
    follows, reads = made.tensors["last.weight"].axes
    position = follows.position[0]
    np.testing.assert_array_equal(follows.factor, 1 / np.bincount(position)[position])
    assert reads.shares is not None
    assert not made.rounds  # halves are exact


def test_what_leaves_channels_in_proportion_may_stand_between() -> None:
    between = (
        ("norm", NORM, "embed"),
        ("half", make("mul", scalar=0.5), "norm"),
        ("last", make("Dropout", 0.1), "half"),
    )
    assert plan(network(*between), "embed=2x").tensors["norm.weight"].axes[0].factor is not None


@pytest.mark.parametrize(
    ("between", "message"),
    [
        ([("norm", NORM, "embed"), ("last", make("Tanh"), "norm")], "`last` (Tanh) is neither"),
        ([("last", make("LayerNorm", (4,), 1e-5, False, False), "embed")], "`last` has no weight"),
        ([("last", NORM, "embed"), ("other", make("Linear", 4, 2, True), "last")], "`last` is read by others too"),
    ],
)
def test_without_such_a_layer_the_channels_stay(between: list[Any], message: str) -> None:
    graph = network(*between)
    assert "`embed` cannot be widened: `head` reads its channels by the weights that make them" in refused(graph)
    assert message in refused(graph)


def turned(pattern: str) -> list[Any]:
    return [("norm", NORM, "embed"), ("last", make("rearrange", pattern), "norm")]


def test_axes_may_be_reordered_between_as_long_as_the_channels_are_read() -> None:
    picked = ("last", make("select", 2, 0), "turned")
    between = (("norm", NORM, "embed"), ("turned", make("rearrange", "n t c -> n c t"), "norm"), picked)
    assert plan(network(*between), "embed=2x").tensors["norm.weight"].axes[0].factor is not None
    over_time = ("last", make("mean", (1,)), "norm")
    assert plan(network(("norm", NORM, "embed"), over_time), "embed=2x").tensors["norm.bias"].axes[0].factor is not None


def test_a_head_that_reads_something_else_than_the_channels_of_the_norm_is_refused() -> None:
    graph = replace(network(*turned("n t c -> n c t")), inputs=(NetworkInput("x", (Batch(), 4), "int64"),))
    with pytest.raises(NoAbsorberError, match="it reads something else than the channels of `norm`"):
        absorber(graph, graph.by_name["head"])


def test_a_head_alone_behind_its_embedding_stays() -> None:
    assert "`embed` (Embedding) is neither" in refused(network(head=Layer("head", HEAD.op, ("embed",), tied=HEAD.tied)))


def test_the_words_of_a_tied_head_stay() -> None:
    assert refused(network(("last", NORM, "embed")), "head=+1").endswith("`embed` looks up its rows by number")


def test_a_tied_head_reads_its_embedding_and_has_words_for_a_width() -> None:
    labels = find_labels(network(("last", NORM, "embed")))
    assert Groups(labels).readers("embed") == ["head"]
    sizes = [axis.size for axis in map(labels.output_axis, ("embed", "head")) if axis is not None]
    assert sizes == [4, 9]
