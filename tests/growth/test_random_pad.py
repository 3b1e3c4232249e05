"""The paper's baseline: the shapes of a wider student, the teacher where first copies stand, random elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from growth.teachers import grown_tensors, random_tensors
from growth.test_apply import GRAPHS, new_entries
from net2net_cli.growth.plan import TensorPlan
from net2net_cli.growth.random_pad import plan_random_pad
from net2net_cli.growth.requests import requests_from
from net2net_cli.growth.shares import copy_numbers
from net2net_cli.growth.widen import plan_widen


def first_copies(tensor: TensorPlan, made: np.ndarray) -> np.ndarray:
    """The entries that stand at first copies on every axis; sections of the second axis each for themselves."""
    maps = {m.axis: m.position for m in tensor.axes}
    own = maps[0][0] if 0 in maps else np.arange(tensor.shape[0])
    rows = np.flatnonzero(copy_numbers(own)[0] == 0)
    if 1 not in maps:
        return made[rows]
    sections = maps[1]
    per_section = tensor.shape[0] // len(sections)
    return np.stack([made[r][copy_numbers(sections[r // per_section])[0] == 0] for r in rows.tolist()])


@pytest.mark.parametrize("name", GRAPHS)
def test_the_teachers_tensors_stand_unscaled_where_first_copies_stand(name: str) -> None:
    graph, widths = GRAPHS[name]
    plan = plan_random_pad(graph, requests_from(widths))
    teacher = random_tensors(graph)
    student = grown_tensors(plan, teacher)
    for tensor in plan.tensors.values():
        assert tensor.source is not None
        kept = first_copies(tensor, student[tensor.name]) if tensor.axes else student[tensor.name]
        assert np.array_equal(kept, teacher[tensor.source]), tensor.name


@pytest.mark.parametrize("name", GRAPHS)
def test_the_shapes_are_those_of_widening(name: str) -> None:
    graph, widths = GRAPHS[name]
    padded, widened = plan_random_pad(graph, requests_from(widths)), plan_widen(graph, requests_from(widths))
    assert {n: t.shape for n, t in padded.tensors.items()} == {n: t.shape for n, t in widened.tensors.items()}
    assert padded.student == widened.student
    assert not padded.operation.exact


@pytest.mark.parametrize("name", GRAPHS)
def test_new_weights_and_biases_are_drawn_within_pytorchs_bounds(name: str) -> None:
    """PyTorch draws both from ±1/√fan_in; fan_in of a stored weight is the product of all its axes but the first."""
    graph, widths = GRAPHS[name]
    plan = plan_random_pad(graph, requests_from(widths))
    student = grown_tensors(plan, random_tensors(graph))
    for tensor in plan.tensors.values():
        owner, _, key = tensor.name.rpartition(".")
        new = new_entries(tensor)
        if owner == "bn" or not new.any():
            continue
        bound = 1 / math.sqrt(math.prod(plan.tensors[f"{owner}.weight"].shape[1:]))
        drawn = student[tensor.name][new]
        assert np.abs(drawn).max() <= bound
        assert np.unique(drawn).size == drawn.size
        if key == "weight" and drawn.size > 30:
            assert np.abs(drawn).max() > 0.8 * bound


def test_new_norm_entries_start_as_pytorchs_do() -> None:
    graph, widths = GRAPHS["convolutions"]
    plan = plan_random_pad(graph, requests_from(widths))
    student = grown_tensors(plan, random_tensors(graph))
    start = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for key, value in start.items():
        tensor = plan.tensors[f"bn.{key}"]
        assert student[tensor.name][new_entries(tensor)].tolist() == [value] * 3


def test_a_given_deviation_draws_weights_from_a_gaussian_and_leaves_biases_at_zero() -> None:
    graph, _ = GRAPHS["convolutions"]
    plan = plan_random_pad(graph, requests_from({"a": 60}), std=0.02)
    student = grown_tensors(plan, random_tensors(graph))
    weight, bias = plan.tensors["a.weight"], plan.tensors["a.bias"]
    drawn = student["a.weight"][new_entries(weight)]
    assert abs(drawn.std() / 0.02 - 1) < 0.1
    assert not student["a.bias"][new_entries(bias)].any()
    assert plan.operation.arguments["std"] == 0.02


@pytest.mark.parametrize("std", [0.0, -0.0])
def test_a_deviation_of_zero_draws_zeros(std: float) -> None:
    graph, _ = GRAPHS["convolutions"]
    plan = plan_random_pad(graph, requests_from({"a": 60}), std=std)
    weight = plan.tensors["a.weight"]
    assert not grown_tensors(plan, random_tensors(graph))["a.weight"][new_entries(weight)].any()
