"""Tolerances follow the type, the depth and what was stored."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from net2net_cli.runtime.tolerance import default_tolerance


@pytest.mark.parametrize(
    ("run", "stored", "exactness", "expected"),
    [
        (torch.float64, torch.float32, "exact", 1e-12),
        (torch.float64, torch.float64, "rounded", 1e-12),
        (torch.float64, torch.float32, "rounded", 5e-8),
        (torch.float32, torch.float32, "rounded", 2e-4),
        (torch.float64, torch.bfloat16, "rounded", 4e-3),
        (torch.float64, torch.float8_e4m3fn, "rounded", 4e-3),
        (torch.float64, torch.float32, "scaled", 5e-7),
        (torch.float32, torch.float32, "scaled", 2e-4),
    ],
)
def test_tolerances_follow_the_types(run: Any, stored: Any, exactness: Any, expected: float) -> None:
    assert default_tolerance(run, stored, exactness).value == expected


@pytest.mark.parametrize(
    ("depth", "back", "expected"),
    [
        (50, False, 1e-12),
        (25, False, 0.5e-12),
        (25, True, 1e-12),
        (10, False, 0.2e-12),
        (1, False, 0.2e-12),
        (100, False, 4e-12),
        (50, True, 4e-12),
    ],
)
def test_they_grow_with_the_depth_and_in_deep_networks_with_its_square(depth: int, back: bool, expected: float) -> None:
    found = default_tolerance(torch.float64, torch.float32, depth=depth, back=back)
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_no_depth_makes_half_a_standard_deviation_nothing() -> None:
    for run in (torch.float16, torch.bfloat16):
        assert default_tolerance(run, torch.float32, depth=400).value == 0.5


def test_each_new_batch_norm_behind_another_may_add_its_rounding() -> None:
    one = default_tolerance(torch.float64, torch.float32, "rounded", 40)
    ten = default_tolerance(torch.float64, torch.float32, "rounded", 50, added=10)
    assert ten.value == pytest.approx(10 * one.value, rel=1e-12)
    assert ten.reason == "10 new batch norms behind each other are stored in float32"
    assert default_tolerance(torch.float64, torch.float32, "exact", 50, added=10).value == 1e-12
    assert default_tolerance(torch.float64, torch.float32, "scaled", 50, added=10).value == 5e-7


def test_what_storing_rounds_counts_twice_in_gradients() -> None:
    found = default_tolerance(torch.float64, torch.float32, "scaled", 38, back=True)
    assert found.value == 2 * default_tolerance(torch.float64, torch.float32, "scaled", 38).value == 1e-6


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"run": torch.float32, "stored": torch.float32}, "float32"),
        ({"run": torch.float64, "stored": torch.float32, "depth": 18}, "float64, 18 layers deep"),
        (
            {"run": torch.float64, "stored": torch.float32, "depth": 18, "back": True},
            "float64, 18 layers there and back",
        ),
        (
            {"run": torch.float64, "stored": torch.bfloat16, "exactness": "rounded", "depth": 18},
            "new batch norms are stored in bfloat16",
        ),
        (
            {"run": torch.float64, "stored": torch.float32, "exactness": "scaled"},
            "weights that the growth multiplied are stored in float32",
        ),
        (
            {"run": torch.bfloat16, "stored": torch.bfloat16, "exactness": "scaled", "depth": 18},
            "bfloat16, 18 layers deep",
        ),
    ],
)
def test_they_say_where_they_come_from(how: dict[str, Any], reason: str) -> None:
    assert default_tolerance(**how).reason == reason
