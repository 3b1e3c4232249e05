"""Each figure of an output against its definition, written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.runtime import classes, figures
from net2net_cli.runtime.classes import agreement, class_axis
from net2net_cli.runtime.figures import QUANTILES, difference

NAN, INF = math.nan, math.inf


def scores(*shape: int, noise: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher = 2 * torch.randn(shape, generator=generator, dtype=torch.float64) + 1
    return teacher, teacher + noise * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[1 << 20, 7], ids=["in one piece", "in pieces of 7"])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PIECE", request.param)
    monkeypatch.setattr(classes, "PIECE", request.param)


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("shape", [(6, 10), (3, 4, 5, 2), (1, 9), (40,)])
def test_distances_are_those_of_their_definitions(shape: tuple[int, ...]) -> None:
    teacher, student = scores(*shape)
    found = difference("y", teacher, student)
    t, s = teacher.numpy(), student.numpy()
    apart = np.abs(t - s)
    assert found.largest == apart.max()
    assert found.place == tuple(int(i) for i in np.unravel_index(apart.argmax(), shape))
    assert (found.teacher_value, found.student_value) == (t[found.place], s[found.place])
    assert found.mean == pytest.approx(apart.mean(), rel=1e-12)
    assert found.scale == pytest.approx(t.std(), rel=1e-12)
    assert found.error == pytest.approx(apart.max() / t.std(), rel=1e-12)
    assert found.relative == pytest.approx(np.linalg.norm(t - s) / np.linalg.norm(t), rel=1e-12)
    assert found.cosine == pytest.approx((t * s).sum() / np.linalg.norm(t) / np.linalg.norm(s), rel=1e-12)
    assert found.quantiles == tuple(np.quantile(apart, QUANTILES, method="inverted_cdf"))


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("shape", [(6, 10), (3, 6, 5, 2), (4, 5)])
def test_agreement_of_classes_is_that_of_its_definition(shape: tuple[int, ...]) -> None:
    teacher, student = scores(*shape, noise=1.0)
    found = agreement(teacher, student)
    t, s = (np.moveaxis(x.numpy(), 1, -1).reshape(-1, shape[1]) for x in (teacher, student))
    assert found is not None
    assert 0 < found.top < 1
    assert found.top == np.mean(t.argmax(1) == s.argmax(1))
    best = [(set(np.argsort(-a)[:5]), set(np.argsort(-b)[:5])) for a, b in zip(t, s, strict=True)]
    expected = np.mean([len(a & b) / 5 for a, b in best])
    assert found.few == (None if shape[1] <= 5 else pytest.approx(expected, rel=1e-12))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (t, s))
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-10)


def test_classes_may_stand_on_the_last_axis() -> None:
    teacher, student = scores(3, 4, 7, noise=1.0)
    assert agreement(teacher, student, -1) == agreement(teacher.movedim(-1, 1), student.movedim(-1, 1), 1)


@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [
        (nn.Sequential(nn.Linear(4, 7), nn.ReLU()), (5, 4), -1),  # tokens, as in a language model
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.ReLU()), (3, 4, 4), 1),
        (nn.Sequential(nn.Linear(4, 7), nn.Flatten()), (5, 4), 1),
        (nn.ReLU(), (5, 4), 1),
    ],
)
def test_classes_stand_where_the_last_layer_puts_its_channels(
    model: nn.Module, shape: tuple[int, ...], axis: int
) -> None:
    graph = Net2Net.from_module(model, torch.zeros(2, *shape)).graph
    assert class_axis(graph, graph.outputs["out"]) == axis


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_an_output_without_classes_has_no_agreement_of_them(shape: tuple[int, ...]) -> None:
    assert difference("y", *scores(*shape)).classes is None


def test_integers_are_no_scores() -> None:
    numbers = torch.arange(6).reshape(2, 3)
    found = difference("y", numbers, numbers + torch.tensor([0, 0, 2]))
    assert (found.classes, found.largest, found.same_top) == (None, 2.0, None)


def test_classes_that_are_masked_by_minus_infinity_take_no_part() -> None:
    teacher, student = torch.tensor([[1.0, 2.0, -INF]]), torch.tensor([[1.0, 2.0, -INF]])
    found = agreement(teacher, student)
    assert found is not None
    assert (found.top, found.divergence) == (1.0, 0.0)


@pytest.mark.usefixtures("piece")
def test_nan_and_infinities_in_the_same_places_are_equal_and_reported() -> None:
    teacher, student = scores(4, 5)
    for place, value in (((1, 2), NAN), ((2, 0), INF), ((3, 4), -INF)):
        teacher[place] = student[place] = value
    found = difference("y", teacher, student)
    finite = torch.isfinite(teacher)
    t, s = teacher[finite].numpy(), student[finite].numpy()
    assert found.largest == np.abs(t - s).max()
    assert found.scale == pytest.approx(t.std(), rel=1e-12)
    assert found.relative == pytest.approx(np.linalg.norm(t - s) / np.linalg.norm(t), rel=1e-12)
    assert found.not_finite is not None
    assert (found.not_finite.alike, found.not_finite.unlike, found.not_finite.first) == (3, 0, (1, 2))
    assert (
        found.warnings[0]
        == "NaN or infinite in both networks alike: 3 elements are so in output `y`, the first at [1, 2]"
    )


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("pair", [(NAN, 1.0), (1.0, NAN), (INF, -INF), (INF, 1.0), (NAN, INF), (-INF, NAN)])
def test_nan_and_infinities_that_are_not_alike_are_an_infinite_difference(pair: tuple[float, float]) -> None:
    teacher, student = scores(4, 5)
    teacher[0, 1] = student[0, 1] = NAN
    teacher[3, 1], student[3, 1] = pair
    found = difference("y", teacher, student)
    assert found.error == INF
    assert found.place == (3, 1)
    assert found.not_finite is not None
    assert (found.not_finite.alike, found.not_finite.unlike, found.not_finite.first) == (1, 1, (3, 1))
    assert (
        found.warnings[0] == "NaN or infinite in one network alone: 1 element is so in output `y`, the first at [3, 1]"
    )


def test_an_output_without_a_single_finite_number_agrees_with_nothing() -> None:
    found = difference("y", torch.full((2, 3), NAN), torch.full((2, 3), NAN))
    assert found.error == INF
    assert found.warnings == (
        "no element of output `y` is a finite number, in both networks: there is nothing to compare",
    )


def test_shapes_that_differ_are_an_infinite_difference() -> None:
    found = difference("y", torch.zeros(2, 3), torch.zeros(2, 4))
    assert found.error == INF
    assert found.warnings == ("output `y` has the shape [2, 3] in the teacher, [2, 4] in the student",)


def test_an_empty_output_is_equal_and_reported() -> None:
    found = difference("y", torch.zeros(2, 0), torch.zeros(2, 0))
    assert (found.error, found.warnings) == (0.0, ("output `y` is empty",))


def test_complex_outputs_are_compared_part_by_part() -> None:
    teacher = torch.complex(*(x.float() for x in scores(3, 4)))
    found = difference("y", teacher, teacher + 0.5j)
    assert found.largest == pytest.approx(0.5, rel=1e-6)
    assert found.place[-1] == 1
    assert found.classes is None


def test_a_zero_output_has_no_direction() -> None:
    found = difference("y", torch.zeros(2, 3), torch.ones(2, 3))
    assert found.cosine is None
    assert found.largest == 1


def test_the_deviation_of_a_large_mean_is_not_lost() -> None:
    teacher = torch.tensor([[1e8, 1e8 + 1], [1e8 + 2, 1e8 + 3]], dtype=torch.float64)
    assert difference("y", teacher, teacher).scale == pytest.approx(math.sqrt(1.25), rel=1e-12)


def test_numbers_whose_squares_overflow_are_compared_all_the_same() -> None:
    teacher = torch.tensor([[1e200, -1e200], [2e200, 0.0]], dtype=torch.float64)
    assert difference("y", teacher, teacher).error == 0
    found = difference("y", teacher, teacher * 1.5)
    assert found.error == pytest.approx(0.5)  # of the largest magnitude
    assert found.warnings == ("output `y` is too large for its deviation to be computed",)
    most = torch.full((1, 1), 1.7e308, dtype=torch.float64)
    assert difference("y", most, -most).error == INF
