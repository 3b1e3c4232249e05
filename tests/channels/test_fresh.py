"""Which slices of a student are new where it has new channels in the place of copies, and what must not see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from channels.sketch import chain, conv, deconv, layer, linear, make, network, norm
from net2net_cli.architecture.graph import Graph, Layer, Tie
from net2net_cli.channels.counts import Demand, labels_of, prove, solve
from net2net_cli.channels.fresh import COPIES, FreshFlow, with_new_channels
from net2net_cli.channels.labels import Labels
from net2net_cli.channels.layout import later_copies
from net2net_cli.channels.student import StudentRun
from net2net_cli.channels.unions import Ints
from net2net_cli.errors import GrowthRefusedError


def counted(labels: Labels, **widths: int) -> Ints:
    demands = []
    for name, width in widths.items():
        own = labels.output_axis(name)
        assert own is not None
        demands.append(Demand(name, own, width))
    return solve(labels, demands, np.random.default_rng(0))


def fresh(graph: Graph, **widths: int) -> StudentRun:
    labels = labels_of(graph)
    counts = counted(labels, **widths)
    return with_new_channels(labels, counts, prove(labels, counts))


def marks(run: StudentRun, value: str, axis: int = 1) -> list[int] | None:
    found = run.new[value][axis]
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([0, 1, 2], [0, 0, 0]),
        ([0, 0, 1, 2, 2, 2], [0, 1, 0, 0, 1, 1]),
        ([0, 1, 0, 1, 2, 3], [0, 0, 1, 1, 0, 0]),
        ([1, 0, 1, 0], [0, 0, 1, 1]),
        ([0, 1, -1, -1], [0, 0, 1, 1]),
        ([], []),
    ],
)
def test_all_but_the_first_that_stand_for_a_position_are_later_copies(position: list[int], expected: list[int]) -> None:
    assert later_copies(np.array(position, dtype=np.int64)).tolist() == expected
    assert later_copies(np.array([position, position], dtype=np.int64)).tolist() == [expected, expected]


def test_copies_of_a_channel_are_new_up_to_its_readers() -> None:
    run = fresh(chain((3, 4, 4), a=conv(3, 2), bn=norm(2), relu=make("ReLU"), b=conv(2, 3), out=conv(3, 2)), a=6)
    assert [marks(run, name) for name in ("a", "bn", "relu")] == [[0, 1, 1, 0, 1, 1]] * 3
    assert marks(run, "b") == [0, 0, 0]
    assert marks(run, "out") == [0, 0]


def test_all_pixels_of_a_flattened_channel_are_new() -> None:
    flat = make("rearrange", "n c h w -> n (c h w)")
    run = fresh(chain((3, 2, 1), a=conv(3, 2), flat=flat, out=linear(4, 2)), a=4)
    assert marks(run, "flat") == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_concatenation_holds_the_new_channels_of_both_and_none_of_the_input_s() -> None:
    run = fresh(
        network(
            (3, 4, 4),
            layer("a", conv(3, 1), "x"),
            layer("b", conv(3, 1), "x"),
            layer("cat", make("cat", 1), "a", "x", "b"),
            layer("out", conv(5, 2), "cat"),
        ),
        a=2,
        b=3,
    )
    assert marks(run, "cat") == [0, 1, 0, 0, 0, 0, 1, 1]


def test_a_sum_is_new_where_either_operand_is() -> None:
    run = fresh(
        network(
            (3, 4, 4),
            layer("a", conv(3, 2), "x"),
            layer("b", conv(2, 2), "a"),
            layer("add", make("add"), "a", "b"),
            layer("out", conv(2, 2), "add"),
        ),
        a=4,
    )
    assert marks(run, "b") == marks(run, "add") == [0, 1, 0, 1]


def test_padded_channels_have_new_ones_beside_them() -> None:
    """What is padded is zero in all copies; counted as new, no reader has to share it out."""
    run = fresh(
        network(
            (3, 4, 4),
            layer("a", conv(3, 2), "x"),
            layer("pad", make("pad", (0, 0, 0, 0, 0, 1), "constant", 0.0), "a"),
            layer("b", conv(3, 3), "x"),
            layer("add", make("add"), "pad", "b"),
            layer("out", conv(3, 2), "add"),
        ),
        b=6,
    )
    assert marks(run, "pad") == marks(run, "add") == [0, 1, 0, 1, 0, 1]


def test_new_channels_are_shuffled_like_the_others() -> None:
    run = fresh(
        chain(
            (3, 2, 2),
            a=conv(3, 4),
            shuffle=make("rearrange", "n (g c) h w -> n (c g) h w", {"g": 2}),
            out=conv(4, 2),
        ),
        a=8,
    )
    assert marks(run, "a") == [0, 1] * 4 or marks(run, "a") == [0, 0, 1, 1] * 2
    found = run.new["shuffle"][1]
    assert found is not None
    assert sorted(found.tolist()) == [0] * 4 + [1] * 4


def test_a_group_of_a_group_norm_may_be_new_as_a_whole() -> None:
    run = fresh(chain((3, 4, 4), a=conv(3, 4), gn=make("GroupNorm", 2, 4, 1e-5, True), out=conv(4, 2)), a=8)
    assert marks(run, "gn") == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_layer_that_is_used_again_on_its_own_channels_has_new_rows_and_columns() -> None:
    again = layer("b", conv(3, 3), "a", weights_of="a")
    run = fresh(network((3, 4, 4), layer("stem", conv(3, 3), "x"), layer("a", conv(3, 3), "stem"), again,
                        layer("out", conv(3, 2), "b")), a=6)  # fmt: skip
    assert marks(run, "a") == marks(run, "b") == marks(run, "stem") == [0, 1] * 3


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_grouped_convolutions_read_past_new_channels_in_each_group(parts: int, transposed: bool) -> None:
    middle = (deconv if transposed else conv)(4, 6, groups=parts)
    run = fresh(chain((3, 4, 4), a=conv(3, 4), b=middle, out=conv(6, 2)), a=6, b=8)
    new_a, new_b = marks(run, "a"), marks(run, "b")
    assert new_a is not None
    assert new_b is not None
    assert (sum(new_a), sum(new_b)) == (2, 2)


TOKENS = (4, 6)
DENSE = layer("a", linear(6, 4), "x")
POINTWISE = layer("a", conv(3, 4), "x")
EMBED = layer("a", make("Embedding", 9, 4, None, False, False), "x")
HEAD = Layer("head", make("Linear", 4, 9, True), ("last",), tied=(Tie("weight", "a", "weight"),))


def after(op: Any, *more: Layer, first: Layer = POINTWISE, also: tuple[str, ...] = ()) -> tuple[Layer, ...]:
    return (first, layer("b", op, "a", *also), *more)


LAYER_NORM = make("LayerNorm", (4,), 1e-5, True, True)
ONE = layer("k", linear(6, 4), "x")
UNDEFINED = "`b` is not defined for every number"

SEEN: dict[str, tuple[tuple[Any, ...], tuple[Layer, ...], str]] = {
    "layer norm": (
        TOKENS,
        after(LAYER_NORM, layer("out", linear(4, 2), "b"), first=DENSE),
        "`b` takes the mean over it",
    ),
    "RMS norm": (
        TOKENS,
        after(make("RMSNorm", (4,), 1e-5, True), layer("out", linear(4, 2), "b"), first=DENSE),
        "`b` takes the mean of squares over it",
    ),
    "group norm of one group": (
        (3, 6, 6),
        after(make("GroupNorm", 1, 4, 1e-5, True), layer("out", conv(4, 2), "b")),
        "`b` takes statistics over it",
    ),
    "mean": (
        (3, 6, 6),
        after(make("mean", (1,), True), layer("out", conv(1, 2), "b")),
        "`b` takes the mean over it",
    ),
    "variance": (
        (3, 6, 6),
        after(make("var", (1,), True, False), layer("out", conv(1, 2), "b")),
        "`b` takes the variance over it",
    ),
    "largest": (
        (3, 6, 6),
        after(make("amax", (1,), True), layer("out", conv(1, 2), "b")),
        "`b` takes the largest of it",
    ),
    "smallest": (
        (3, 6, 6),
        after(make("amin", (1,), True), layer("out", conv(1, 2), "b")),
        "`b` takes the smallest of it",
    ),
    **{
        name: ((3, 6, 6), after(make(name), layer("out", conv(4, 2), "b")), UNDEFINED)
        for name in ("log", "sqrt", "rsqrt", "reciprocal")
    },
    **{
        f"{name} {number}": ((3, 6, 6), after(make(name, number), layer("out", conv(4, 2), "b")), UNDEFINED)
        for name, number in (("pow", -1), ("pow", 0.5), ("rdiv", 1), ("rpow", -2.0), ("rpow", 0))
    },
    "divisor": (
        TOKENS,
        (DENSE, ONE, layer("b", make("div"), "k", "a"), layer("out", linear(4, 2), "b")),
        UNDEFINED,
    ),
    "power of two tensors": (
        TOKENS,
        (DENSE, ONE, layer("b", make("pow"), "k", "a"), layer("out", linear(4, 2), "b")),
        UNDEFINED,
    ),
    "pooling by an odd norm": (
        (3, 6, 6),
        after(make("LPPool2d", 1.5, (2, 2), (2, 2)), layer("out", conv(4, 2), "b")),
        UNDEFINED,
    ),
    "tied embedding": (
        (5,),
        (EMBED, layer("last", linear(4, 4), "a"), HEAD),
        "`head` reads them by the weights that make them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_what_would_see_new_channels_is_refused_where_copies_can_stand(name: str) -> None:
    shape, layers, why = SEEN[name]
    graph = network(shape, *layers)
    if len(shape) == 1:
        graph = replace(graph, inputs=(replace(graph.inputs[0], dtype="int64"),))
    labels = labels_of(graph)
    counts = counted(labels, a=8)
    run = prove(labels, counts)
    with pytest.raises(GrowthRefusedError) as refused:
        with_new_channels(labels, counts, run)
    assert refused.value.message == f"new channels (`--split fresh`) cannot be exact: {why}"
    assert refused.value.layer == why.split("`")[1]
    assert refused.value.hint == COPIES


DEFINED: dict[str, tuple[Layer, ...]] = {
    "square": after(make("pow", 2), layer("out", linear(4, 2), "b"), first=DENSE),
    "power of a number": after(make("rpow", 2.0), layer("out", linear(4, 2), "b"), first=DENSE),
    "number subtracted": after(make("rsub", 1.0), layer("out", linear(4, 2), "b"), first=DENSE),
    "quotient": after(make("div", 2.0), layer("out", linear(4, 2), "b"), first=DENSE),
    "exponential": after(make("exp"), layer("out", linear(4, 2), "b"), first=DENSE),
}


@pytest.mark.parametrize("name", DEFINED)
def test_what_is_defined_for_every_number_may_have_new_channels(name: str) -> None:
    run = fresh(network(TOKENS, *DEFINED[name]), a=8)
    assert marks(run, "b", 2) == [0, 1] * 4


def test_a_tail_is_new_and_seen() -> None:
    """A stream of 4 channels and a mean of them all, which the norm needs."""
    graph = network(TOKENS, *after(LAYER_NORM, layer("out", linear(4, 2), "b"), first=DENSE))
    labels = labels_of(graph)
    counts = counted(labels, a=5)
    assert (prove(labels, counts).gathers["a", "weight", 0].position < 0).any()
    with pytest.raises(GrowthRefusedError, match="`b` takes the mean over it"):
        with_new_channels(labels, counts, prove(labels, counts))


def flow() -> FreshFlow:
    labels = labels_of(chain((3, 4, 4), a=conv(3, 3), bn=norm(3), out=conv(3, 2)))
    counts = counted(labels, a=5)
    made = FreshFlow(labels, counts, prove(labels, counts))
    made.layer = labels.graph.by_name["out"]
    return made


def ints(*numbers: int) -> Ints:
    return np.array(numbers, dtype=np.int64)


def norm_of(f: FreshFlow, channels: Ints | None) -> None:
    f.layer = f.labels.graph.by_name["bn"]
    f.carry("bias", 0, channels, size=5)


LOST: dict[str, Callable[[FreshFlow], object]] = {
    "a reader whose first copies are new": lambda f: f.consume("weight", 1, ints(1, 1, 1, 1, 1), size=5, rows=0),
    "a reader without copies": lambda f: f.consume("bias", 0, ints(0, 1), size=2, rows=0),
    "a norm that is drawn in part, at channels that never change": lambda f: norm_of(f, None),
    "a norm whose numbers are drawn, at channels that are not new": lambda f: norm_of(f, ints(0, 0, 0, 0, 0)),
    "an operand that never changes": lambda f: f.tie(ints(0, 1), None, size=2),
    "the same on the other side": lambda f: f.tie(None, ints(0, 1), size=2),
    "a group of which a part is new": lambda f: f.whole_parts(ints(0, 1, 0, 0), size=4, parts=2),
    "heads that are served by new ones": lambda f: f.serve(ints(0, 0, 0, 0), ints(0, 1), size=4, parts=2),
    "the same where heads never change": lambda f: f.serve(None, ints(0, 1), size=4, parts=2),
    "a merge with the batch": lambda f: f.merge([(None, None), (ints(0, 1), 2)]),
}


@pytest.mark.parametrize("name", LOST)
def test_the_run_refuses_what_would_find_new_channels_where_it_needs_the_teachers(name: str) -> None:
    with pytest.raises(GrowthRefusedError, match="no longer finds the channels that it needs beside the new ones"):
        LOST[name](flow())


def test_what_is_allowed_passes() -> None:
    f = flow()
    assert f.tie(None, ints(0, 0), size=2) is None
    assert f.whole_parts(ints(0, 0, 1, 1), size=4, parts=2) == 2
    assert f.whole_parts(None, size=4, parts=2) == 2
    f.serve(ints(0, 1, 0, 1), ints(0, 0), size=4, parts=2)
    f.serve(ints(0, 0, 1, 1), ints(0, 1), size=4, parts=2)
    f.serve(ints(0, 0, 1, 1), None, size=4, parts=2)
    merged = f.merge([(ints(0, 1), 2), (None, 3), (ints(0, 1), 2)])
    assert merged is not None
    assert merged.reshape(2, 3, 2).tolist() == [[[0, 1]] * 3, [[1, 1]] * 3]
    assert f.pad(None, size=3, before=1, after=0, attribute="pad0") == (None, 1, 0)
    assert f.split(None, (2, 3), site="axis 0") == (None, None)
