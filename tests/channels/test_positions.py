"""The student's run: where copies stand, what follows them, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from channels.sketch import chain, conv, deconv, layer, linear, make, network, norm
from net2net_cli.architecture.graph import Graph
from net2net_cli.channels.labels import Labels, find_labels
from net2net_cli.channels.layout import layout, unchanged
from net2net_cli.channels.positions import PositionFlow, StudentRun, run_student
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import GrowthRefusedError


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def counts_of(labels: Labels, **copies: Sequence[int]) -> Ints:
    """Copies of each class, given for the channels of some layers."""
    counts = np.ones(labels.classes, dtype=np.int64)
    for name, each in copies.items():
        axis = labels.output_axis(name)
        assert axis is not None
        counts[labels.group[axis]] = each
    return counts


def grown(graph: Graph, **copies: Sequence[int]) -> StudentRun:
    labels = find_labels(graph)
    return run_student(labels, counts_of(labels, **copies))


def gathered(run: StudentRun, name: str, key: str = "weight", axis: int = 0) -> list[list[int]]:
    return [[int(i) for i in row] for row in run.gathers[name, key, axis].position]


def read(run: StudentRun, name: str, axis: int = 1) -> list[list[int]]:
    return [[int(i) for i in row] for row in run.readings[name, "weight", axis].position]


def test_a_channel_is_replaced_in_place_by_its_adjacent_copies() -> None:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 3), out=conv(3, 2)))
    axis = labels.output_axis("a")
    assert axis is not None
    assert layout(labels, counts_of(labels, a=[2, 1, 3]), axis).tolist() == [0, 0, 1, 2, 2, 2]


def test_a_flattened_channel_is_copied_with_all_its_pixels() -> None:
    graph = chain((3, 1, 2), a=conv(3, 3), flat=make("rearrange", "n c h w -> n (c h w)"), out=linear(6, 2))
    labels = find_labels(graph)
    flat = labels.found.values["flat"][1]
    assert flat is not None
    assert layout(labels, counts_of(labels, a=[1, 3, 2]), flat).tolist() == [0, 1, 2, 3, 2, 3, 2, 3, 4, 5, 4, 5]


def test_an_axis_is_unchanged_only_where_every_slice_stands_where_it_stood() -> None:
    assert unchanged(None, 3)
    assert unchanged(ints(0, 1, 2), 3)
    assert not unchanged(ints(0, 1), 3)
    assert not unchanged(ints(0, 2, 1), 3)


def test_tensors_of_producer_norm_and_reader_follow() -> None:
    graph = chain((3, 4, 4), a=conv(3, 3), bn=norm(3), relu=make("ReLU"), b=conv(3, 2))
    run = grown(graph, a=[1, 2, 1])
    expected = [[0, 1, 1, 2]]
    assert gathered(run, "a") == expected
    assert gathered(run, "a", "bias") == expected
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert gathered(run, "bn", key) == expected
    assert read(run, "b") == expected
    assert run.readings["b", "weight", 1].rows == 0
    assert len(run.gathers) == 6
    assert len(run.readings) == 1


def test_the_students_attributes_are_derived() -> None:
    run = grown(chain((3, 4, 4), a=conv(3, 3), bn=norm(3), b=conv(3, 2)), a=[1, 2, 1])
    ops = {name: one.op for name, one in run.graph.by_name.items()}
    assert ops == {"a": conv(3, 4), "bn": norm(4), "b": conv(4, 2)}


def test_a_concatenation_shifts_later_branches_by_the_students_width() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 2), "x"),
        layer("b", conv(3, 2), "x"),
        layer("cat", make("cat", 1), "a", "x", "b"),
        layer("out", conv(7, 2), "cat"),
    )
    assert read(grown(graph, a=[2, 1], b=[1, 2]), "out") == [[0, 0, 1, 2, 3, 4, 5, 6, 6]]


def test_the_same_tensor_joined_twice_is_read_twice() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 2), "x"),
        layer("cat", make("cat", 1), "a", "a"),
        layer("out", conv(4, 2), "cat"),
    )
    assert read(grown(graph, a=[2, 1]), "out") == [[0, 0, 1, 2, 2, 3]]


def test_crossed_concatenations_are_read_by_position_not_by_label() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 1), "x"),
        layer("b", conv(3, 1), "x"),
        layer("ab", make("cat", 1), "a", "b"),
        layer("ba", make("cat", 1), "b", "a"),
        layer("sum", make("add"), "ab", "ba"),
        layer("out", conv(2, 2), "sum"),
    )
    assert read(grown(graph, a=[3]), "out") == [[0, 0, 0, 1, 1, 1]]


def test_a_flattened_reader_finds_the_pixels_of_each_copy() -> None:
    graph = chain((3, 1, 2), a=conv(3, 2), flat=make("rearrange", "n c h w -> n (c h w)"), out=linear(4, 2))
    assert read(grown(graph, a=[2, 1]), "out") == [[0, 1, 0, 1, 2, 3]]


def test_features_flattened_with_the_pixels_outside_are_copied_at_every_pixel() -> None:
    graph = chain((3, 1, 2), a=conv(3, 2), flat=make("rearrange", "n c h w -> n (h w c)"), out=linear(4, 2))
    assert read(grown(graph, a=[2, 1]), "out") == [[0, 0, 1, 2, 2, 3]]


def test_a_pixel_shuffled_channel_is_copied_in_blocks_of_its_pixels() -> None:
    shuffle = make("rearrange", "n (c p q) h w -> n c (h p) (w q)", {"p": 2, "q": 2})
    run = grown(chain((3, 2, 2), a=conv(3, 8), up=shuffle, out=conv(2, 1)), a=[2] * 4 + [1] * 4)
    assert gathered(run, "a") == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert read(run, "out") == [[0, 0, 1]]
    assert run.graph.by_name["up"].op == shuffle


def test_a_grouped_reader_gets_positions_within_each_group() -> None:
    graph = chain((3, 4, 4), a=conv(3, 4), b=conv(4, 6, groups=2), out=conv(6, 1))
    run = grown(graph, a=[2, 1, 1, 2])
    assert read(run, "b") == [[0, 0, 1], [0, 1, 1]]
    assert gathered(run, "a") == [[0, 0, 1, 2, 3, 3]]
    op = run.graph.by_name["b"].op
    assert op == conv(6, 6, groups=2)


def test_a_grouped_producer_copies_rows_within_each_group() -> None:
    graph = chain((4, 4, 4), a=conv(4, 4, groups=2), out=conv(4, 1))
    assert gathered(grown(graph, a=[1, 2, 2, 1]), "a") == [[0, 1, 1, 2, 2, 3]]


def test_a_grouped_transposed_convolution_makes_columns_within_each_group() -> None:
    graph = chain((4, 4, 4), a=deconv(4, 4, groups=2), out=conv(4, 1))
    run = grown(graph, a=[1, 2, 2, 1])
    assert gathered(run, "a", axis=1) == [[0, 1, 1], [0, 0, 1]]
    assert gathered(run, "a", "bias") == [[0, 1, 1, 2, 2, 3]]


def test_a_grouped_transposed_convolution_reads_along_its_first_axis() -> None:
    graph = chain((3, 4, 4), a=conv(3, 4), up=deconv(4, 4, groups=2), out=conv(4, 1))
    run = grown(graph, a=[2, 1, 1, 2])
    assert read(run, "up", axis=0) == [[0, 0, 1, 2, 3, 3]]
    assert run.readings["up", "weight", 0].rows == 1


def test_filters_of_a_depthwise_convolution_follow_in_blocks_of_its_multiplier() -> None:
    graph = chain((3, 4, 4), a=conv(3, 2), deep=conv(2, 4, 3, groups=2), out=conv(4, 1))
    run = grown(graph, a=[2, 1])
    assert gathered(run, "deep") == [[0, 1, 0, 1, 2, 3]]
    assert gathered(run, "deep", "bias") == [[0, 1, 0, 1, 2, 3]]
    assert run.graph.by_name["deep"].op == conv(3, 6, 3, groups=3)
    assert read(run, "out") == [[0, 1, 0, 1, 2, 3]]


def test_sizes_of_a_split_follow_its_channels() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 8), "x"),
        layer("p", make("split", (3, 5), 1, 0), "a"),
        layer("q", make("split", (3, 5), 1, 1), "a"),
        layer("outp", conv(3, 2), "p"),
        layer("outq", conv(5, 2), "q"),
        layer("sum", make("add"), "outp", "outq"),
    )
    run = grown(graph, a=[2, 1, 1, 1, 1, 1, 1, 3])
    assert run.graph.by_name["p"].op == make("split", (4, 7), 1, 0)
    assert read(run, "outp") == [[0, 0, 1, 2]]
    assert read(run, "outq") == [[0, 1, 2, 3, 4, 4, 4]]


def test_borders_of_a_slice_follow_its_channels() -> None:
    graph = chain((3, 4, 4), a=conv(3, 5), part=make("slice", 1, 1, 3, 1), out=conv(2, 2))
    run = grown(graph, a=[3, 2, 1, 1, 1])
    assert run.graph.by_name["part"].op == make("slice", 1, 3, 6, 1)
    assert read(run, "out") == [[0, 0, 1]]


def test_padded_channels_are_copied_like_those_they_are_added_to() -> None:
    graph = network(
        (3, 4, 4),
        layer("a", conv(3, 2), "x"),
        layer("padded", make("pad", (0, 0, 0, 0, 1, 1)), "a"),
        layer("b", conv(3, 4), "x"),
        layer("sum", make("add"), "padded", "b"),
        layer("out", conv(4, 2), "sum"),
    )
    run = grown(graph, b=[2, 1, 3, 1])
    assert gathered(run, "a") == [[0, 1, 1, 1]]
    assert run.graph.by_name["padded"].op == make("pad", (0, 0, 0, 0, 2, 1))
    assert read(run, "out") == [[0, 0, 1, 2, 2, 2, 3]]


def test_whole_groups_are_copied_for_a_group_norm() -> None:
    graph = chain((3, 4, 4), a=conv(3, 4), norm=make("GroupNorm", 2, 4, 1e-5, True), out=conv(4, 2))
    run = grown(graph, a=[2, 2, 1, 1])
    assert gathered(run, "a") == [[0, 1, 0, 1, 2, 3]]
    assert run.graph.by_name["norm"].op == make("GroupNorm", 3, 6, 1e-5, True)


def test_a_parameter_follows_what_it_is_added_to() -> None:
    graph = network(
        (5, 3),
        layer("embed", linear(3, 3), "x"),
        layer("position", make("Parameter", (1, 5, 3))),
        layer("sum", make("add"), "embed", "position"),
        layer("out", linear(3, 2), "sum"),
    )
    run = grown(graph, embed=[1, 1, 2])
    assert run.gathers["position", "", 2].position.tolist() == [[0, 1, 2, 2]]
    assert run.graph.by_name["position"].op == make("Parameter", (1, 5, 4))


def test_one_copy_of_each_gives_the_teacher_back() -> None:
    graph = chain((3, 4, 4), a=conv(3, 3), bn=norm(3), b=conv(3, 2))
    run = grown(graph, a=[1, 1, 1])
    assert run.graph == graph
    assert not run.gathers
    assert not run.readings


def flow() -> PositionFlow:
    labels = find_labels(chain((3, 4, 4), a=conv(3, 3), out=conv(3, 2)))
    made = PositionFlow(labels, counts_of(labels))
    made.layer = labels.graph.by_name["out"]
    return made


def carried_twice(f: PositionFlow) -> None:
    for axis in (ints(0, 0, 1), ints(0, 1, 1)):
        f.carry("bias", 0, axis, size=2)


REFUSALS: dict[str, tuple[Callable[[PositionFlow], object], str]] = {
    "operands that no longer line up": (
        lambda f: f.tie(ints(0, 0, 1), ints(0, 1, 1), size=2),
        "would combine channels that no longer line up",
    ),
    "a grown operand and one that stays": (
        lambda f: f.tie(ints(0, 0, 1), None, size=2),
        "would combine channels that no longer line up",
    ),
    "a reader that misses a channel": (
        lambda f: f.consume("weight", 1, ints(0, 0, 2), size=3, rows=0),
        "no longer receives every channel that it reads",
    ),
    "an op that mixes what has grown": (lambda f: f.mix(ints(0, 0, 1), "sums over it"), "sums over it"),
    "a mean over copies that differ in number": (
        lambda f: f.uniform(ints(0, 0, 1), "takes the mean over it"),
        "takes the mean over it, and its channels would not have equally many copies",
    ),
    "sections of unequal size": (
        lambda f: f.equal_parts(ints(0, 0, 1, 2, 3), size=4, parts=2),
        "needs 2 sections of equal size",
    ),
    "sections that took over a channel of the next": (
        lambda f: f.equal_parts(ints(0, 1, 2, 2, 2, 3), size=4, parts=2),
        "needs 2 sections of equal size",
    ),
    "half a group": (
        lambda f: f.whole_parts(ints(0, 1, 0, 2, 3), size=4, parts=2),
        "copies only whole groups of 2 channels",
    ),
    "a group whose channels are out of order": (
        lambda f: f.whole_parts(ints(0, 0, 1, 1, 2, 3), size=4, parts=2),
        "copies only whole groups of 2 channels",
    ),
    "a group of two groups' channels": (
        lambda f: f.whole_parts(ints(0, 3, 2, 1), size=4, parts=2),
        "copies only whole groups of 2 channels",
    ),
    "a cut through copies that are no neighbours": (
        lambda f: f.section(ints(0, 1, 2, 0, 1, 2), size=3, start=0, stop=2),
        "would cut out channels that are no longer neighbours",
    ),
    "growth merged with the batch": (
        lambda f: f.merge([(None, None), (ints(0, 0), 1)]),
        "merges a growing axis with the batch",
    ),
    "copies that do not fall into a grid": (
        lambda f: f.split(ints(0, 0, 1, 2, 3, 3), (2, 2), site="axis 0"),
        "cuts the axis into 2×2, and its copies do not fall into that grid",
    ),
    "copies that do not fill a grid": (
        lambda f: f.split(ints(0, 0, 1, 2, 3), (2, 2), site="axis 0"),
        "cuts the axis into 2×2, and its copies do not fall into that grid",
    ),
    "weights used for channels that no longer line up": (
        carried_twice,
        "uses the same weights for channels that no longer line up",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_run_refuses_and_says_why(name: str) -> None:
    wrong, why = REFUSALS[name]
    with pytest.raises(GrowthRefusedError) as refused:
        wrong(flow())
    assert refused.value.message == f"this growth cannot be exact: `out` {why}"
    assert refused.value.layer == "out"


def test_what_still_lines_up_is_not_refused() -> None:
    f = flow()
    grown_axis = ints(0, 0, 1)
    assert f.tie(grown_axis, grown_axis.copy(), size=2) is grown_axis
    f.mix(ints(0, 1, 2), "sums over it")
    f.uniform(ints(0, 0, 1, 1), "takes the mean over it")
    f.equal_parts(ints(0, 0, 1, 2, 3, 3), size=4, parts=2)
    assert f.whole_parts(ints(0, 1, 0, 1, 2, 3), size=4, parts=2) == 3
    assert f.width(grown_axis, 2) == 3
    assert f.width(None, 2) == 2


def mislabelled(labels: Labels) -> Labels:
    """The labels of a network whose ties went unnoticed: every label is a class and a unit of its own."""
    alone = np.arange(labels.group.size)
    return dataclasses.replace(labels, group=alone, block=alone, block_length=np.ones_like(alone), frozen={})


RESIDUAL = network(
    (3, 4, 4),
    layer("a", conv(3, 2), "x"),
    layer("b", conv(2, 2), "a"),
    layer("sum", make("add"), "a", "b"),
    layer("out", conv(2, 2), "sum"),
)

TWICE = network(
    (3, 4, 4),
    layer("a", conv(3, 2), "x"),
    layer("again", conv(2, 2), "a"),
    layer("twice", conv(2, 2), "again", weights_of="again"),
    layer("out", conv(2, 2), "twice"),
)

WRONG_LABELS = {
    "a tie": (RESIDUAL, "sum"),
    "a layer used twice": (TWICE, "twice"),
    "a mean": (chain((3, 4, 4), a=conv(3, 2), mean=make("mean", (1,), True), out=conv(1, 2)), "mean"),
    "a view": (
        chain((3, 1, 2), a=conv(3, 4), view=make("rearrange", "n (c d) h w -> n c (d h w)", {"d": 2}), b=linear(4, 2)),
        "view",
    ),
    "a frozen axis": (chain((3, 4, 4), a=conv(3, 2), soft=make("Softmax", 1), out=conv(2, 2)), "soft"),
    "an output": (chain((3, 4, 4), a=conv(3, 2)), "a"),
    "a group norm": (
        chain((3, 4, 4), a=conv(3, 2), norm=make("GroupNorm", 1, 2, 1e-5, True), out=conv(2, 2)),
        "norm",
    ),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_the_run_is_a_proof_that_does_not_trust_the_labels(name: str) -> None:
    graph, culprit = WRONG_LABELS[name]
    labels = mislabelled(find_labels(graph))
    counts = np.ones(labels.classes, dtype=np.int64)
    axis = labels.output_axis("a")
    assert axis is not None
    counts[axis[0]] = 2
    with pytest.raises(GrowthRefusedError) as refused:
        run_student(labels, counts)
    assert refused.value.layer == culprit
