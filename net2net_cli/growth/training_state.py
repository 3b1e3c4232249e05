"""What a training run knows beside the weights, grown like them: momenta, second moments, learning rates.

A copy of a channel that its readers take with shares gets these shares of the channel's gradient, and weights that
read a copy get the gradient of the weights that read the channel (both by the chain rule). So over the slices of an
axis that *follows* channels, a momentum is multiplied by the mean of the copy's shares over the rows that read it, and
a second moment by the mean of their squares; over an axis that *reads* channels both stay. For equal shares, which are
the same in every row, that is what the student's own history would have been; for others it is its expectation, where
the rows' gradients are uncorrelated.

An optimizer that is to move the student's function as it would have moved the teacher's takes other steps. Adam's do
not depend on the size of gradients: a weight that reads one of c copies moves by 1/c of the step. Those of SGD do: a
weight whose channel has c copies is multiplied by c besides. The factors are means over the slices of a tensor, since
an optimizer has one learning rate for each.

New channels in the place of copies (`fresh`) have no history, and neither have the zeros that read them: their state is
zero. The other channels get the gradients that they got, so that nothing is multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from net2net_cli.channels.unions import Ints
from net2net_cli.growth.plan import MEAN, AxisMap, Plan, Split, TensorPlan
from net2net_cli.growth.shares import copy_numbers

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

Quantity: TypeAlias = Literal["momentum", "second moment"]
"""What an optimizer keeps: an average of gradients, or of their squares."""

Rule: TypeAlias = Literal["adam", "sgd"]
"""Steps that do not depend on the size of gradients, and steps that are proportional to them."""


@dataclass(frozen=True, slots=True)
class StepFactors:
    """What a parameter's learning rate is multiplied by, and its weight decay divided by.

    Attributes:
        adam: for Adam and AdamW.
        sgd: for SGD, with or without momentum.
    """

    adam: float = 1.0
    sgd: float = 1.0

    def __mul__(self, other: StepFactors) -> StepFactors:
        return StepFactors(self.adam * other.adam, self.sgd * other.sgd)


def inherited(plan: Plan) -> dict[str, str]:
    """Each tensor of the student that goes on from one of the teacher's, and which; all others are new.

    A repeated block takes its tensors from the block that it repeats, which goes on from them itself: it is new.
    """
    heirs: dict[str, str] = {}
    for name, tensor in plan.tensors.items():
        if tensor.source is not None and (tensor.source not in heirs or name == tensor.source):
            heirs[tensor.source] = name
    return {name: source for source, name in heirs.items()}


def grown_state(plan: Plan, name: str, quantity: Quantity, teacher: Array) -> Array | None:
    """An optimizer's state of one parameter of the student.

    Args:
        plan: how it was grown.
        name: of the student's parameter.
        quantity: what the state is.
        teacher: the teacher's, of the shape of its parameter.

    Returns:
        an array of the student's shape and the teacher's dtype; None where the parameter is new, or no rule says what
        its state would be, so that it begins without.
    """
    tensor = plan.tensors[name]
    if tensor.source is None or (tensor.axes and plan.operation.name == "deepen"):
        return None
    if tensor.fill is not None and plan.split != "fresh":
        return None
    if _is_renormalised(tensor):
        return None
    found = teacher.astype(np.float64)
    for axis in tensor.axes:
        found = _along(found, tensor, axis, quantity, plan.split)
    return found.astype(teacher.dtype, copy=False)


def _is_renormalised(tensor: TensorPlan) -> bool:
    """Whether weight norm makes other gradients of those of the weights than it did."""
    return tensor.lengths is not None or (
        tensor.directions is not None and any(axis.axis != tensor.directions or axis.shares for axis in tensor.axes)
    )


def _along(state: Array, tensor: TensorPlan, axis: AxisMap, quantity: Quantity, split: Split) -> Array:
    """The state after one axis has grown."""
    sections = np.split(state, len(axis.position), axis=0) if axis.axis == 1 else [state]
    shape = [-1 if i == axis.axis else 1 for i in range(len(tensor.shape))]
    grown = [
        np.take(part, np.maximum(at, 0), axis.axis) * _state_factor(axis, number, quantity, split).reshape(shape)
        for number, (part, at) in enumerate(zip(sections, axis.position, strict=True))
    ]
    return grown[0] if len(grown) == 1 else np.concatenate(grown)


def _state_factor(axis: AxisMap, section: int, quantity: Quantity, split: Split) -> Floats:
    """`(width,)`: what a state is multiplied by in each slice; 0 for slices of which nothing is known."""
    position = axis.position[section]
    weight = np.ones(axis.width) if axis.factor is None else np.asarray(axis.factor, np.float64)
    share = np.ones(axis.width)
    if axis.shares is None and split != "fresh":
        share = _mean_share(position, squared=quantity == "second moment", split=split)
    power = 2 if quantity == "second moment" else 1
    known = (position != MEAN) & (weight != 0)
    if axis.free is not None:
        known &= ~axis.free
    if split == "fresh":
        known &= ~axis.later[section]
    # The student's weight is a multiple of the teacher's, so that its gradient is divided by it.
    return np.where(known, share / np.where(known, weight, 1.0) ** power, 0.0)


def _mean_share(position: Ints, *, squared: bool, split: Split) -> Floats:
    """`(width,)`: the mean over many rows of the shares that each slice gets, or of their squares."""
    _, copies = copy_numbers(position)
    if not squared or split == "ownership":  # shares of 0 and 1 are their own squares
        return 1.0 / copies
    if split == "equal":
        return 1.0 / copies.astype(np.float64) ** 2
    return _random_squares(copies)


def _random_squares(copies: Ints) -> Floats:
    """E[a²] of one of c shares a = u / Σu with u uniform in (0.5, 1.5), to second order in the spread.

    u has the mean 1 and the variance 1/12; with u = 1 + ε, a ≈ (1 + ε − mean of all ε)/c.
    """
    c = copies.astype(np.float64)
    return (1 + (1 - 1 / c) / 12) / c**2


def step_factors(plan: Plan, name: str) -> StepFactors:
    """For one parameter of the student; 1 where its axes did not grow, for new layers and beside new channels."""
    tensor = plan.tensors[name]
    reads, follows = 1.0, 1.0
    if tensor.source is None or plan.operation.name == "deepen" or plan.split == "fresh":
        return StepFactors()
    if tensor.lengths is not None or tensor.directions is not None:
        return StepFactors()
    for axis in tensor.axes:
        teacher = np.unique(axis.position[0][axis.position[0] >= 0]).size
        if axis.shares is not None:
            reads *= teacher / axis.width
        else:
            follows *= axis.width / teacher
    return StepFactors(reads, reads * follows)


def hand_off(plans: Sequence[Plan]) -> dict[str, Any]:
    """What whoever trains the student may want to know, as a JSON object.

    Its keys are `format`, `version`, and `parameters`: each that changed by name, with

    - `new`: whether no tensor of the teacher's is in it;
    - `lr_factor`: for `adam` and for `sgd`, by what to multiply the learning rate and divide the weight decay, so that
      the student's function moves as the teacher's would have;
    - `copies`: axis -> for each section of the rows, the teacher's slice that each slice of the student's copies, −1
      where it copies none.
    """
    slots = {name: slot for name, _, _, slot in plans[-1].student.tensors()}
    parameters = {}
    sources = [inherited(plan) for plan in plans]
    for name in plans[-1].tensors:
        if slots[name].kind == "parameter" and (told := _told(plans, sources, name)):
            parameters[name] = told
    return {"format": "net2net-training", "version": 1, "parameters": parameters}


def _told(plans: Sequence[Plan], sources: Sequence[dict[str, str]], name: str) -> dict[str, Any]:
    """One parameter, followed back from the last growth to the first."""
    factors = StepFactors()
    copies: dict[int, Ints] = {}
    for plan, from_teacher in zip(reversed(plans), reversed(sources), strict=True):
        tensor = plan.tensors[name]
        if name not in from_teacher:
            return {"new": True, "lr_factor": {"adam": 1.0, "sgd": 1.0}, "copies": {}}
        factors *= step_factors(plan, name)
        for axis in tensor.axes:
            later, own = copies.get(axis.axis), axis.position
            if plan.split == "fresh":
                own = np.where(axis.later, -1, own)
            copies[axis.axis] = own if later is None else _composed(later, own)
        name = from_teacher[name]
    if not copies:
        return {}
    return {
        "new": False,
        "lr_factor": {"adam": factors.adam, "sgd": factors.sgd},
        "copies": {str(axis): np.maximum(copies[axis], -1).tolist() for axis in sorted(copies)},
    }


def _composed(later: Ints, earlier: Ints) -> Ints:
    """Positions of positions; sections that are more on one side hold for several on the other."""
    sections = max(len(later), len(earlier))
    outer, inner = (np.repeat(side, sections // len(side), axis=0) for side in (later, earlier))
    found: Ints = np.where(outer < 0, -1, np.take_along_axis(inner, np.maximum(outer, 0), axis=1))
    return found
