"""Growths asserted to be exact, by the measures of the coverage sweep."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.coverage.teachers import (
    DROPS,
    NORMS,
    SENSITIVE,
    TOLERANCE,
    WIDTHS,
    Teacher,
    cause,
    error,
    new_layers,
    outputs,
    random_inputs,
    sensitive,
    sensitivity,
    tensors_in,
)
from net2net_cli import Net2Net

__all__ = [
    "DROPS",
    "NORMS",
    "SENSITIVE",
    "TOLERANCE",
    "WIDTHS",
    "Teacher",
    "cause",
    "check_growth",
    "error",
    "new_layers",
    "outputs",
    "random_inputs",
    "sensitive",
    "sensitivity",
    "tensors_in",
]


def check_growth(
    teacher: Teacher, student: Net2Net, grown: Sequence[str], *, train: bool = True, tolerance: float = TOLERANCE
) -> None:
    """Assert that a student returns what its teacher returns, and that this says something.

    Args:
        teacher: the original module and what it returned.
        student: grown from it.
        grown: the student's layers to scramble, each by itself: if the output hardly moves, the check is insensitive.
        train: whether both also agree in training mode.
        tolerance: the largest error that passes.
    """
    module = student.to_module(dtype=torch.float64)
    for mode in ("eval", "train") if train else ("eval",):
        found = error(teacher.expected[mode], outputs(module, teacher.inputs, mode))
        assert found <= tolerance, f"{grown} in {mode} mode: off by {found:.2g}"
    for layer in grown:
        moved = sensitivity(teacher, module, layer)
        assert moved >= 1000 * tolerance, f"insensitive: scrambling {layer} moves the output by {moved:.2g}"
