"""A value of the teacher as its student holds it."""

from __future__ import annotations

import torch
from torch import Tensor

from net2net_cli.channels.tails import MEAN
from net2net_cli.channels.values import Slices, Value


def in_student(value: Tensor, claim: Value) -> Tensor:
    """What the student must hold where the teacher holds `value`.

    Args:
        value: the teacher's, at any batch size; of a floating type where the claim has factors or means.
        claim: how the student's follows from it.

    Returns:
        the student's, in the type and on the device of `value`, which itself is returned where nothing changes.
    """
    for axis, slices in enumerate(claim.axes):
        if slices is not None:
            value = _along(value, axis, slices)
    return value


def _along(value: Tensor, axis: int, slices: Slices) -> Tensor:
    """One axis; where it holds more slices than the teacher's axis has, the batch is folded into it, outermost."""
    if value.shape[axis] != slices.size:
        samples = value.reshape(*value.shape[:axis], -1, slices.size, *value.shape[axis + 1 :])
        return _along(samples, axis + 1, slices).flatten(axis, axis + 1)
    position = torch.from_numpy(slices.position.clip(min=0)).to(value.device)
    taken = value.index_select(axis, position)
    means = torch.from_numpy(slices.position == MEAN).to(value.device)
    if means.any():
        shape = [-1 if i == axis else 1 for i in range(value.ndim)]
        taken = torch.where(means.reshape(shape), value.mean(axis, keepdim=True), taken)
    if slices.factor is None and (slices.position >= 0).all():
        return taken
    factors = torch.from_numpy(slices.factors).to(value)
    return taken * factors.reshape([-1 if i == axis else 1 for i in range(value.ndim)])


def new_in(claim: Value, shape: torch.Size) -> Tensor | None:
    """Where a value of the student holds new channels, of which its teacher says nothing; None where nowhere.

    Args:
        claim: how the student's value follows from the teacher's.
        shape: of the student's value, at any batch size.

    Returns:
        bool, of the same number of axes, to be stretched to the shape.
    """
    found: Tensor | None = None
    for axis, slices in enumerate(claim.axes):
        if slices is None or slices.new is None:
            continue
        samples = shape[axis] // slices.new.size  # the batch may be folded into the axis, outermost
        marks = (
            torch.from_numpy(slices.new).repeat(samples).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        )
        found = marks if found is None else found | marks
    return found
