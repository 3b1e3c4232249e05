"""Copies of each channel: they meet the widths and the equations, and what has no solution is refused with the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from channels.sketch import chain, conv, layer, linear, make, network
from net2net_cli.architecture.graph import Graph
from net2net_cli.channels.counts import Demand, NoCountsError, next_width, refuse, solve
from net2net_cli.channels.labels import Labels, find_labels
from net2net_cli.channels.unions import Ints


@dataclass(frozen=True)
class Case:
    """A graph, and by hand what its copies must meet.

    Attributes:
        classes: of each channel of layer `a`: channels of one class have equally many copies.
        parts: sections of channels whose copies must sum to one number.
        frozen: classes that keep one copy.
    """

    graph: Graph
    classes: Sequence[int]
    parts: Sequence[Sequence[Sequence[int]]] = ()
    frozen: frozenset[int] = field(default=frozenset())

    def allows(self, counts: Sequence[int]) -> bool:
        """Whether copies, one number a class, meet all that was written down."""
        each = [counts[c] for c in self.classes]
        sums = [[sum(each[i] for i in section) for section in sections] for sections in self.parts]
        return all(len(set(s)) == 1 for s in sums) and all(counts[c] == 1 for c in self.frozen)

    def widths(self, limit: int) -> set[int]:
        """Every width up to a limit that some copies have: all copies are tried."""
        sizes = [Counter(self.classes)[c] for c in sorted(set(self.classes))]
        every = ((counts, sum(n * s for n, s in zip(counts, sizes, strict=True))) for counts in _within(sizes, limit))
        return {width for counts, width in every if self.allows(counts)}


def _within(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, ...]]:
    """Every choice of copies, one number a class of the given size, whose width is within a limit."""
    if not sizes:
        yield ()
        return
    for copies_of_first in range(1, (limit - sum(sizes[1:])) // sizes[0] + 1):
        for rest in _within(sizes[1:], limit - copies_of_first * sizes[0]):
            yield (copies_of_first, *rest)


GATED = network(
    (3, 4, 4),
    layer("a", conv(3, 6), "x"),
    layer("p", make("chunk", 2, 1, 0), "a"),
    layer("q", make("chunk", 2, 1, 1), "a"),
    layer("mul", make("mul"), "p", "q"),
    layer("out", conv(3, 2), "mul"),
)

CHUNKED = network(
    (3, 4, 4),
    layer("a", conv(3, 6), "x"),
    layer("p", make("chunk", 3, 1, 0), "a"),
    layer("out", conv(2, 2), "p"),
)

HALF_FROZEN = network(
    (2, 4, 4),
    layer("a", conv(2, 5), "x"),
    layer("p", make("split", (2, 3), 1, 0), "a"),
    layer("q", make("split", (2, 3), 1, 1), "a"),
    layer("sum", make("add"), "p", "x"),
    layer("cat", make("cat", 1), "sum", "q"),
    layer("out", conv(5, 2), "cat"),
)

FROZEN_SECTION = network(
    (2, 4, 4),
    layer("a", conv(2, 4), "x"),
    layer("p", make("chunk", 2, 1, 0), "a"),
    layer("sum", make("add"), "p", "x"),
    layer("grouped", conv(4, 2, groups=2), "a"),
    layer("cat", make("cat", 1), "sum", "grouped"),
)

DUAL = network(
    (3, 4, 4),
    layer("b", conv(3, 4), "x"),
    layer("d", conv(3, 2), "x"),
    layer("a", conv(3, 6), "x"),
    layer("cat", make("cat", 1), "b", "d"),
    layer("sum", make("add"), "cat", "a"),
    layer("mean", make("mean", (1,), True), "b"),
    layer("grouped", conv(6, 2, groups=2), "sum"),
    layer("out", conv(1, 2), "mean"),
    layer("total", make("add"), "grouped", "out"),
)

TWO_GROUPINGS = network(
    (3, 4, 4),
    layer("a", conv(3, 6), "x"),
    layer("two", conv(6, 2, groups=2), "a"),
    layer("three", conv(6, 3, groups=3), "a"),
    layer("cat", make("cat", 1), "two", "three"),
)

OVERLAPPING = network(
    (3, 4, 4),
    layer("a", conv(3, 6), "x"),
    layer("two", conv(6, 2, groups=2), "a"),
    layer("tail", make("slice", 1, 2, 6, 1), "a"),
    layer("pair", conv(4, 2, groups=2), "tail"),
    layer("cat", make("cat", 1), "two", "pair"),
)

CYCLE = network(
    (3, 4, 4),
    layer("a", conv(3, 4), "x"),
    layer("turned", make("slice", 1, 1, 4, 1), "a"),
    layer("first", make("slice", 1, 0, 1, 1), "a"),
    layer("rolled", make("cat", 1), "turned", "first"),
    layer("sum", make("add"), "a", "rolled"),
    layer("out", conv(4, 2), "sum"),
)

CASES = {
    "plain": Case(chain((3, 4, 4), a=conv(3, 4), out=conv(4, 2)), [0, 1, 2, 3]),
    "gated": Case(GATED, [0, 1, 2, 0, 1, 2]),
    "chunked": Case(CHUNKED, [0, 1, 2, 3, 4, 5], [[(0, 1), (2, 3), (4, 5)]]),
    "read by a grouped convolution": Case(
        chain((3, 4, 4), a=conv(3, 6), out=conv(6, 2, groups=2)), range(6), [[(0, 1, 2), (3, 4, 5)]]
    ),
    "a grouped convolution": Case(
        chain((4, 4, 4), a=conv(4, 6, groups=2), out=conv(6, 2)), range(6), [[(0, 1, 2), (3, 4, 5)]]
    ),
    "mean": Case(chain((3, 4, 4), a=conv(3, 4), mean=make("mean", (1,), True), out=conv(1, 2)), [0] * 4),
    "group norm": Case(
        chain((3, 4, 4), a=conv(3, 6), norm=make("GroupNorm", 2, 6, 1e-5, True), out=conv(6, 2)), [0, 0, 0, 1, 1, 1]
    ),
    "depthwise with multiplier": Case(
        chain((3, 4, 4), b=conv(3, 3), a=conv(3, 6, groups=3), out=conv(6, 2)), [0, 0, 1, 1, 2, 2]
    ),
    "half frozen": Case(HALF_FROZEN, range(5), frozen=frozenset({0, 1})),
    "a frozen section": Case(FROZEN_SECTION, range(4), [[(0, 1), (2, 3)]], frozen=frozenset({0, 1})),
    "dual path": Case(DUAL, [0, 0, 0, 0, 1, 2], [[(0, 1, 2), (3, 4, 5)]]),
    "two groupings": Case(TWO_GROUPINGS, range(6), [[(0, 1, 2), (3, 4, 5)], [(0, 1), (2, 3), (4, 5)]]),
    "overlapping groupings": Case(OVERLAPPING, range(6), [[(0, 1, 2), (3, 4, 5)], [(2, 3), (4, 5)]]),
    "a cycle of ties": Case(CYCLE, [0] * 4),
}


def demand(labels: Labels, name: str, width: int) -> Demand:
    axis = labels.output_axis(name)
    assert axis is not None
    return Demand(name, axis, width)


def copies(labels: Labels, case: Case, found: Ints) -> list[int]:
    """Copies of each class of a case."""
    axis = labels.output_axis("a")
    assert axis is not None
    each = found[labels.group[axis]].tolist()
    by_class = dict(zip(case.classes, each, strict=True))
    assert [by_class[c] for c in case.classes] == each
    return [by_class[c] for c in sorted(by_class)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_a_width_is_met_exactly_where_trying_all_copies_finds_some(name: str, seed: int) -> None:
    case = CASES[name]
    labels = find_labels(case.graph)
    present, limit = len(case.classes), 2 * len(case.classes) + 3
    able = case.widths(limit)
    for width in range(present + 1, limit + 1):
        try:
            found = solve(labels, [demand(labels, "a", width)], np.random.default_rng(seed))
        except NoCountsError:
            assert width not in able, width
        else:
            counts = copies(labels, case, found)
            assert case.allows(counts), width
            assert sum(counts[c] for c in case.classes) == width
            assert found.min() >= 1
            assert width in able


@pytest.mark.parametrize("name", CASES)
def test_the_next_width_is_the_next_that_trying_all_copies_finds(name: str) -> None:
    case = CASES[name]
    labels = find_labels(case.graph)
    present = len(case.classes)
    able = sorted(case.widths(2 * present + 4))
    for width in range(present, 2 * present):
        expected = next((w for w in able if w > width), None)
        assert next_width(labels, demand(labels, "a", width)) == expected, width


def test_copies_are_as_even_as_the_width_allows() -> None:
    labels = find_labels(CASES["plain"].graph)
    for width in range(5, 20):
        found = solve(labels, [demand(labels, "a", width)], np.random.default_rng(0))
        counts = copies(labels, CASES["plain"], found)
        assert max(counts) - min(counts) <= 1


def test_which_channels_get_more_is_drawn_from_the_seed() -> None:
    labels = find_labels(CASES["plain"].graph)
    drawn = {tuple(solve(labels, [demand(labels, "a", 6)], np.random.default_rng(seed)).tolist()) for seed in range(60)}
    assert len(drawn) == 6  # 4 channels, 2 of them copied
    first, again = (solve(labels, [demand(labels, "a", 6)], np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)


def test_classes_that_no_demand_reaches_keep_one_copy() -> None:
    graph = chain((3, 4, 4), a=conv(3, 4), b=conv(4, 4), out=conv(4, 2))
    labels = find_labels(graph)
    found = solve(labels, [demand(labels, "a", 9)], np.random.default_rng(0))
    other = labels.output_axis("b")
    assert other is not None
    assert found[labels.group[other]].tolist() == [1] * 4


def test_single_heads_are_added_beside_single_channels() -> None:
    """6 channels and 2 heads of 3 share one width: any multiple of 3."""
    attention = make("MultiheadAttention", 6, 2, 0.0, True, True)
    joined = [
        layer("a", linear(4, 6), "x"),
        layer("heads", attention, "a", "a", "a"),
        layer("out", linear(6, 2), "heads"),
    ]
    labels = find_labels(network((5, 4), *joined))
    able = []
    for width in range(7, 19):
        try:
            solve(labels, [demand(labels, "a", width)], np.random.default_rng(0))
        except NoCountsError:
            continue
        able.append(width)
    assert able == [9, 12, 15, 18]
    assert next_width(labels, demand(labels, "a", 7)) == 9


def test_several_demands_are_met_at_once() -> None:
    labels = find_labels(DUAL)
    wanted = [demand(labels, "a", 12), demand(labels, "b", 8)]
    found = solve(labels, wanted, np.random.default_rng(0))
    for one in wanted:
        assert found[labels.group[one.labels]].sum() == one.width


def test_a_refused_width_names_layer_equation_and_the_next_width() -> None:
    labels = find_labels(CASES["read by a grouped convolution"].graph)
    wanted = demand(labels, "a", 7)
    with pytest.raises(NoCountsError) as failed:
        solve(labels, [wanted], np.random.default_rng(0))
    refusal = refuse(labels, wanted, failed.value, [])
    assert refusal.message == "`a` cannot be widened to 7: `out` needs 2 sections of equal size"
    assert refusal.hint == "use `a=8`, or another width that fits"
    assert refusal.layer == "a"


def test_a_refused_width_of_a_class_tells_its_step() -> None:
    labels = find_labels(CASES["mean"].graph)
    wanted = demand(labels, "a", 7)
    with pytest.raises(NoCountsError) as failed:
        solve(labels, [wanted], np.random.default_rng(0))
    refusal = refuse(labels, wanted, failed.value, [])
    assert refusal.message == "`a` cannot be widened to 7: its channels only grow 4 at a time"
    assert refusal.hint == "use `a=8`, or another width that fits"


def test_frozen_channels_are_refused_with_what_froze_them() -> None:
    labels = find_labels(chain((5,), a=linear(5, 4), soft=make("Softmax", 1), out=linear(4, 2)))
    wanted = demand(labels, "a", 8)
    with pytest.raises(NoCountsError) as failed:
        solve(labels, [wanted], np.random.default_rng(0))
    refusal = refuse(labels, wanted, failed.value, [])
    assert refusal.message == "`a` cannot be widened: `soft` normalises over it"
