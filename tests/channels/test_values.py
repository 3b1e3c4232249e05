"""What a student's values are in terms of its teacher's, over several growths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from channels.sketch import chain, linear, make
from net2net_cli.channels.tails import MEAN, ZERO
from net2net_cli.channels.values import Slices, Value, chained, composition, same_values

Floats = npt.NDArray[np.float64]


def slices(position: list[int], size: int, factor: list[float] | None = None) -> Slices:
    return Slices(np.array(position), size, None if factor is None else np.array(factor))


def held(x: Floats, by: Slices) -> Floats:
    """The formula: factor[j] · x[position[j]], the mean of all, or zero."""
    factors = np.ones(by.position.size) if by.factor is None else by.factor
    kinds = {MEAN: x.mean(), ZERO: 0.0}
    return np.array([f * kinds.get(int(p), x[max(p, 0)]) for p, f in zip(by.position, factors, strict=True)])


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (slices([0, 0, 1, 2], 3), slices([0, 1, 1, 2, 3], 4)),
        (slices([0, 0, 1, 1], 2, [0.5, 0.5, 0.5, 0.5]), slices([0, 1, 1, 2, 3, 3], 4)),
        (slices([0, 1, 0, 1], 2, [1.0, 1.0, -1.0, -1.0]), slices([3, 3, 0, 1, 2], 4, [1.0, 2.0, 3.0, 4.0, 5.0])),
        (slices([0, 1, MEAN], 2, [1.2, 1.2, 1.2]), slices([0, 0, 1, 1, 2, 2], 3)),
        (slices([0, 1, MEAN], 2, [1.2, 1.2, 1.2]), slices([0, 1, 2, MEAN], 3, [1.1, 1.1, 1.1, 1.1])),
        (slices([0, 1, ZERO], 2), slices([2, 0, 1, ZERO], 3)),
        (slices([0, 1, ZERO], 2, [1.2, 1.2, 1.2]), slices([0, 1, 2, 2], 3)),
        (slices([0, 0, 1, 1], 2), slices([0, 1, 2, 3, MEAN, MEAN], 4, [1.2] * 6)),
    ],
)
def test_a_growth_after_a_growth_holds_what_the_formula_gives(first: Slices, then: Slices) -> None:
    x = np.random.default_rng(0).normal(size=first.size)
    both = composition(Value("middle", (None, then)), Value("teacher", (None, first)))
    assert both is not None
    assert both.name == "teacher"
    assert both.axes[0] is None
    assert both.axes[1] is not None
    np.testing.assert_allclose(held(x, both.axes[1]), held(held(x, first), then), rtol=0, atol=1e-15)


def test_a_mean_of_slices_of_which_some_stand_there_more_often_is_no_claim() -> None:
    uneven, mean = slices([0, 0, 1], 2), slices([0, 1, 2, MEAN], 3)
    assert composition(Value("b", (mean,)), Value("a", (uneven,))) is None


def test_an_axis_that_one_growth_leaves_alone_is_the_other_ones() -> None:
    one = slices([0, 0], 1)
    assert composition(Value("b", (None, one)), Value("a", (one, None))) == Value("a", (one, one))


def test_values_that_a_growth_makes_anew_are_left_out() -> None:
    graph = chain((5,), a=linear(5, 3), act=make("ReLU"), out=linear(3, 2))
    same = same_values(graph)
    assert same["a"] == Value("a", (None, None))
    assert chained([same, {**same, "new": Value("other", (None, None))}], graph) == same
    assert chained([], graph) == same
