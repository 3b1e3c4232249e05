"""Patterns do to numbers what view, permute and their chains do."""

from __future__ import annotations

import math
from itertools import permutations

import einops
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net2net_cli.architecture.shapes import Batch, Shape, concrete
from net2net_cli.runtime.arrangement import Arrangement, composed, permuted, rearrange_op, reshaped

N = Batch()
BATCH = 5


def applied(a: Arrangement, x: np.ndarray) -> np.ndarray:
    op = rearrange_op(a)
    assert op.shape(before(a)) == a.shape()
    out: np.ndarray = einops.rearrange(x, op.pattern, **op.axes)
    return out


def before(a: Arrangement) -> Shape:
    return Arrangement(a.left, a.left, a.sizes).shape()


def numbers(shape: Shape) -> np.ndarray:
    sizes = concrete(shape, BATCH)
    return np.arange(math.prod(sizes)).reshape(sizes)


@st.composite
def chains(draw: st.DrawFn) -> tuple[Shape, list[tuple[str, tuple[int, ...]]]]:
    """A shape and moves: permutations, and views that merge or split neighbouring axes behind the batch."""
    shape = [draw(st.sampled_from([1, 2, 3, 4, 6])) for _ in range(draw(st.integers(1, 4)))]
    start: Shape = (N, *shape)
    moves: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["permute", "merge", "split", "one"]))
        i = draw(st.integers(0, len(shape) - 1))
        if kind == "permute":
            order = draw(st.permutations(range(len(shape))))
            shape = [shape[j] for j in order]
            moves.append(("permute", tuple(order)))
            continue
        if kind == "merge" and i + 1 < len(shape):
            shape[i : i + 2] = [shape[i] * shape[i + 1]]
        elif kind == "split" and shape[i] % 2 == 0:
            shape[i : i + 1] = draw(st.sampled_from([[2, shape[i] // 2], [shape[i] // 2, 2]]))
        elif kind == "one":
            shape.insert(i, 1)
        moves.append(("view", tuple(shape)))
    return start, moves


@settings(max_examples=150, deadline=None)
@given(chains(), st.booleans())
def test_each_move_and_their_composition_are_numpys(
    chain: tuple[Shape, list[tuple[str, tuple[int, ...]]]], flatten: bool
) -> None:
    shape, moves = chain
    start = expected = one_by_one = numbers(shape)
    whole: Arrangement | None = None
    for kind, argument in moves:
        if kind == "permute":
            order = (0, *(i + 1 for i in argument))
            step, expected = permuted(shape, order), expected.transpose(order)
        else:
            step, expected = reshaped(shape, (N, *argument), flatten=flatten), expected.reshape(BATCH, *argument)
        one_by_one = applied(step, one_by_one)
        np.testing.assert_array_equal(one_by_one, expected)
        shape = step.shape()
        whole = step if whole is None else composed(whole, step)
        if whole is None:
            return
        np.testing.assert_array_equal(applied(whole, start), expected)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_permutation_and_its_inverse_are_nothing(order: tuple[int, ...]) -> None:
    there = permuted((N, 3, 4), order)
    back = permuted(there.shape(), tuple(np.argsort(order).tolist()))
    both = composed(there, back)
    assert both is not None
    assert both.identity


@pytest.mark.parametrize(
    ("shape", "after"), [((N, 4, 6), (N, 3, 8)), ((N, 8), (8, N)), ((N, 6), (4, Batch(3))), ((4, 6), (6, 4))]
)
def test_views_that_cut_across_axes_have_no_pattern(shape: Shape, after: Shape) -> None:
    with pytest.raises(ValueError, match=r"parts of axes|numbers of elements|divided"):
        reshaped(shape, after)


def test_arrangements_that_do_not_fit_into_each_other_stay_apart() -> None:
    first = reshaped((N, 2, 3), (N, 6))
    assert composed(first, reshaped((N, 6), (N, 3, 2))) is None


@pytest.mark.parametrize(
    ("a", "pattern", "axes"),
    [
        (reshaped((N, 8, 2, 3), (N, 48)), "n c h w -> n (c h w)", {}),
        (reshaped((N, 48), (N, 8, 2, 3)), "n (c h w) -> n c h w", {"h": 2, "w": 3}),
        (reshaped((N, 8, 1, 1), (N, 8)), "n c h w -> n (c h w)", {}),
        (reshaped((N, 8, 1, 1), (N, 8), flatten=False), "n c 1 1 -> n c", {}),
        (permuted((N, 8, 2, 3), (0, 2, 3, 1)), "n c h w -> n h w c", {}),
        (reshaped((4, 6), (24,)), "a c -> (a c)", {}),
        (reshaped((N, 2, 3), (Batch(2), 3)), "n c l -> (n c) l", {}),
        (reshaped((Batch(2), 3), (N, 2, 3)), "(n c) l -> n c l", {"c": 2}),
        (reshaped((Batch(4), 3), (N, 2, 2, 3)), "(n c h) w -> n c h w", {"c": 2, "h": 2}),
    ],
)
def test_patterns_have_the_names_that_people_would_choose(a: Arrangement, pattern: str, axes: dict[str, int]) -> None:
    op = rearrange_op(a)
    assert (op.pattern, dict(op.axes)) == (pattern, axes)
