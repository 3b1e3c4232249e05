"""Streams behind norms over channels, at widths between the multiples: copies, and a tail that no norm sees."""

from __future__ import annotations

import numpy as np
import pytest

from channels.sketch import chain, conv, layer, linear, make, network
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops import Op
from net2net_cli.channels.counts import Demand, NoCountsError, labels_of, next_width, solve
from net2net_cli.channels.labels import Labels, find_labels
from net2net_cli.channels.layout import layout
from net2net_cli.channels.positions import run_student
from net2net_cli.channels.tails import MEAN, TailRule, scale_of
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import GrowthRefusedError

NORM = make("LayerNorm", (4,), 1e-5, True, True)


def stream(norm: Op = NORM) -> Graph:
    """Two writers, whose sum goes through a norm into a reader: tokens of 3 numbers, a stream of 4."""
    return network(
        (5, 3),
        layer("embed", linear(3, 4), "x"),
        layer("norm", norm, "embed"),
        layer("read", linear(4, 6), "norm"),
        layer("write", linear(6, 4), "read"),
        layer("add", make("add"), "embed", "write"),
        layer("last", norm, "add"),
        layer("out", linear(4, 2), "last"),
    )


def axis_of(labels: Labels, name: str) -> Ints:
    axis = labels.output_axis(name)
    assert axis is not None
    return axis


def solved(labels: Labels, name: str, width: int) -> Ints:
    return solve(labels, [Demand(name, axis_of(labels, name), width)], np.random.default_rng(0))


def test_a_stream_between_linear_layers_and_layer_norms_may_have_a_tail() -> None:
    labels = find_labels(stream())
    (rule,) = labels.tails.values()
    assert rule == TailRule("mean", 4, labels.classes)


@pytest.mark.parametrize(
    ("width", "positions"),
    [
        (5, [0, 1, 2, 3, MEAN]),
        (7, [0, 1, 2, 3, MEAN, MEAN, MEAN]),
        (8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (10, [0, 0, 1, 1, 2, 2, 3, 3, MEAN, MEAN]),
    ],
)
def test_a_stream_has_as_many_whole_copies_as_fit_and_then_its_mean(width: int, positions: list[int]) -> None:
    labels = find_labels(stream())
    counts = solved(labels, "embed", width)
    for name in ("embed", "write"):
        assert layout(labels, counts, axis_of(labels, name)).tolist() == positions
    assert run_student(labels, counts).graph.shapes["add"][2] == width


def test_what_writes_into_a_stream_with_a_tail_is_scaled_and_what_reads_behind_its_norm_is_not() -> None:
    labels = find_labels(stream())
    run = run_student(labels, solved(labels, "embed", 6))
    scale = (6 / 4) ** 0.5  # √(H / kh)
    assert run.gathers["write", "weight", 0].factor == pytest.approx(scale)
    assert run.gathers["embed", "bias", 0].factor == pytest.approx(scale)
    assert run.gathers["norm", "weight", 0].factor == pytest.approx(1 / scale)
    assert run.gathers["norm", "bias", 0].factor == 1
    assert run.readings["read", "weight", 1].factor == 1


def test_an_axis_without_a_tail_is_not_scaled() -> None:
    assert scale_of(np.array([0, 0, 1, 1])) == 1.0


@pytest.mark.parametrize(
    "between",
    [
        make("GELU"),
        make("pow", 2),
        make("add", 1.0),
        make("rearrange", "n t (g c) -> n t (c g)", {"g": 2}),
        make("chunk", 2, 2, 0),
    ],
)
def test_what_is_not_linear_in_the_channels_bars_tails(between: Op) -> None:
    graph = chain((5, 3), embed=linear(3, 8), between=between, norm=make("LayerNorm", (8,), 1e-5, True, True))
    wide = {"chunk": 4}.get(graph.by_name["between"].op.name, 8)
    layers = [
        *graph.layers[:2],
        layer("norm", make("LayerNorm", (wide,), 1e-5, True, True), "between"),
        layer("out", linear(wide, 2), "norm"),
    ]
    assert not find_labels(network((5, 3), *layers)).tails


@pytest.mark.parametrize(
    ("pad", "value", "barred"),
    [
        ((0, 0, 0, 2), None, None),
        ((0, 0, 0, 2), 0.0, None),
        ((0, 0, 0, 2), 1.0, "puts a value other than 0"),
        ((0, 1, 0, 0), None, "puts constants among them"),
    ],
)
def test_padding_keeps_the_mean_over_channels_where_it_puts_zeros_beside_them(
    pad: tuple[int, ...], value: float | None, barred: str | None
) -> None:
    width = 4 + pad[1]
    graph = network(
        (5, 3),
        layer("embed", linear(3, 4), "x"),
        layer("pad", make("pad", pad=pad, mode="constant", value=value), "embed"),
        layer("norm", make("LayerNorm", (width,), 1e-5, True, True), "pad"),
        layer("out", linear(width, 2), "norm"),
    )
    found = find_labels(graph)
    assert bool(found.tails) == (barred is None)
    if barred is not None:
        assert any(barred in one.why for one in found.barred.values())


def test_a_depthwise_convolution_bars_tails() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 4), "x"),
        layer("deep", conv(4, 4, 3, groups=4), "a"),
        layer("last", make("rearrange", "n c h w -> n h w c"), "deep"),
        layer("norm", NORM, "last"),
        layer("out", linear(4, 2), "norm"),
    )
    assert not find_labels(graph).tails


def test_a_norm_of_two_streams_laid_end_to_end_bars_tails() -> None:
    graph = network(
        (5, 3),
        layer("a", linear(3, 2), "x"),
        layer("b", linear(3, 2), "x"),
        layer("cat", make("cat", 2), "a", "b"),
        layer("norm", NORM, "cat"),
        layer("out", linear(4, 2), "norm"),
    )
    labels = find_labels(graph)
    assert not labels.tails
    with pytest.raises(NoCountsError, match="2 at a time"):
        solved(labels, "a", 3)


def test_a_layer_norm_without_weights_bars_tails_since_nothing_could_undo_the_scale() -> None:
    labels = find_labels(stream(make("LayerNorm", (4,), 1e-5, False, False)))
    assert not labels.tails
    assert next_width(labels, Demand("embed", axis_of(labels, "embed"), 5)) == 8


def test_a_norm_behind_the_addition_has_no_exact_tail() -> None:
    graph = network(
        (5, 3),
        layer("embed", linear(3, 4), "x"),
        layer("norm", NORM, "embed"),
        layer("write", linear(4, 4), "norm"),
        layer("add", make("add"), "norm", "write"),
        layer("last", NORM, "add"),
        layer("out", linear(4, 2), "last"),
    )
    labels = find_labels(graph)
    with pytest.raises(GrowthRefusedError, match="`add`"):
        run_student(labels, solved(labels, "embed", 5))
    assert next_width(labels_of(graph), Demand("embed", axis_of(labels, "embed"), 5)) == 8


def test_heads_grow_with_the_stream_in_steps_that_both_can_take() -> None:
    attention = make("MultiheadAttention", 6, 3, 0.0, True, True)
    graph = network(
        (5, 3),
        layer("embed", linear(3, 6), "x"),
        layer("norm", make("LayerNorm", (6,), 1e-5, True, True), "embed"),
        layer("attention", attention, "norm", "norm", "norm"),
        layer("add", make("add"), "embed", "attention"),
        layer("last", make("LayerNorm", (6,), 1e-5, True, True), "add"),
        layer("out", linear(6, 2), "last"),
    )
    labels = find_labels(graph)
    op = run_student(labels, solved(labels, "embed", 10)).graph.by_name["attention"].op
    assert (op.embed_dim, op.num_heads) == (10, 5)  # type: ignore[attr-defined]
    with pytest.raises(NoCountsError, match="as wide as its heads of 2 are together"):
        solved(labels, "embed", 9)
    assert next_width(labels, Demand("embed", axis_of(labels, "embed"), 8)) == 10
    heads = labels.named_axes("attention")["heads"]
    counts = solve(labels, [Demand("attention:heads", heads, 7)], np.random.default_rng(0))
    assert run_student(labels, counts).graph.shapes["add"][2] == 14
