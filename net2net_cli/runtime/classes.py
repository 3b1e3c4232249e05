"""Do two outputs that score classes mean the same class?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops import conv

FEW = 5
"""How many of the best classes are compared beside the best one, where there are more than these."""

PIECE = 1 << 20
"""Elements that are converted to float64 at a time; one sample at least."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of classes, over all samples and all places in them (a segmentation map has one in each pixel).

    Attributes:
        top: share of places whose best class is the same.
        few: mean share of the teacher's five best classes that are among the student's five; None for five or fewer.
        divergence: mean of KL(teacher ‖ student) in nats, of the softmax of both; None where it is no number.

    """

    top: float
    few: float | None
    divergence: float | None


def agreement(teacher: Tensor, student: Tensor, axis: int | None = 1) -> Agreement | None:
    """Compare what two outputs say about classes.

    Args:
        teacher: `(samples, ...)`.
        student: likewise.
        axis: along which the classes' scores stand.

    Returns:
        None where the output cannot be scores of classes: it is of integers, or has no such axis, or one class.

    """
    if axis is None or not teacher.is_floating_point() or teacher.ndim < 2 or teacher.shape[axis] < 2:
        return None
    many = teacher.shape[axis] > FEW
    size = max(1, PIECE // max(teacher[0].numel(), 1))
    top = few = divergence = 0.0
    for t, s in zip(torch.split(teacher, size), torch.split(student, size), strict=True):
        ours, theirs = (x.double().movedim(axis, -1) for x in (t, s))
        top += float((ours.argmax(-1) == theirs.argmax(-1)).sum())
        few += _shared(ours, theirs) if many else 0.0
        divergence += _divergence(ours, theirs)
    places = teacher.numel() // teacher.shape[axis]
    mean = max(divergence / places, 0.0) if math.isfinite(divergence) else None
    return Agreement(top / places, few / places if many else None, mean)


def _shared(teacher: Tensor, student: Tensor) -> float:
    """Sum over places of the share of the teacher's best few that the student has too; classes last."""
    ours, theirs = (x.topk(FEW, dim=-1).indices for x in (teacher, student))
    return float((ours[..., :, None] == theirs[..., None, :]).sum()) / FEW


def _divergence(teacher: Tensor, student: Tensor) -> float:
    """Sum over places of Σ p log(p / q), p and q the softmax of both; classes last."""
    ours, theirs = teacher.log_softmax(-1), student.log_softmax(-1)
    p = ours.exp()
    return float(torch.where(p > 0, p * (ours - theirs), 0.0).sum())


def class_axis(graph: Graph, output: str) -> int:
    """The axis along which an output's channels stand: the last where a linear layer made it, else 1.

    Args:
        graph: the network.
        output: the value that is returned.

    """
    value = output
    while (layer := graph.by_name.get(value)) is not None:
        if isinstance(layer.op, (conv.Linear, conv.BorrowedLinear)):
            return -1
        if len(layer.inputs) != 1 or graph.shapes[layer.inputs[0]] != graph.shapes[value]:
            return 1
        (value,) = layer.inputs
    return 1
