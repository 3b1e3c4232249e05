"""Students compared with the original: written, read back, rebuilt, run, and scrambled layer by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.coverage.records import EXACT, INSENSITIVE, WRONG
from benchmarks.coverage.teachers import MODES, SENSITIVE, TOLERANCE, Teacher, error, outputs, sensitivity
from net2net_cli import Net2Net

VISIBLE = 1e-3
"""What rounding in float32 cannot move an output by."""

LARGEST_TWICE = 1e9
"""Parameters of a student up to which another one, in float32, has room beside it (then 12 GB in all)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a student is from its teacher, and how much scrambling one of its layers is seen.

    Attributes:
        error: max |Δ| / standard deviation of the teacher's output.
        moved: the same after scrambling; of several layers the one that is seen least. 0 where there is none.
        allowed: what it may be off by.
    """

    error: float
    moved: float
    allowed: float = TOLERANCE

    @property
    def outcome(self) -> str:
        """Wrong counts before insensitive: a student that differs differs, whatever the layer does."""
        if not self.error <= self.allowed:
            return WRONG
        return EXACT if self.moved >= SENSITIVE else INSENSITIVE


def rebuilt(student: Net2Net, folder: Path) -> nn.Module:
    """The module that the student's own files give; the files are gone afterwards."""
    path = folder / "student.safetensors"
    try:
        student.save(path, force=True)
        return Net2Net.load(path).to_module(dtype=torch.float64)
    finally:
        for written in (path, path.with_suffix(".json")):
            written.unlink(missing_ok=True)


def check(
    teacher: Teacher,
    student: nn.Module,
    scrambled: Sequence[Sequence[str]],
    *,
    train: bool,
    known: dict[str, float] | None = None,
) -> list[Seen]:
    """What is seen of each set of layers.

    Args:
        teacher: the original module and what it returned.
        student: rebuilt from files; left as it was.
        scrambled: for each answer the layers to scramble, each by itself.
        train: whether both are compared in training mode as well.
        known: how far scrambling each layer moved another exact student of the teacher, where it was seen; of these
            layers none is scrambled again. What is found is added.
    """
    known = {} if known is None else known
    modes = MODES if train else MODES[:1]
    off = max(_error(teacher, student, mode) for mode in modes)
    allowed = TOLERANCE if off <= TOLERANCE else teacher.tolerance
    if not off <= allowed:
        return [Seen(off, 0.0, allowed) for _ in scrambled]
    layers_of_all = dict.fromkeys(layer for layers in scrambled for layer in layers)
    _scramble(teacher, student, [layer for layer in layers_of_all if known.get(layer, 0.0) < SENSITIVE], known)
    return [Seen(off, min((known[layer] for layer in layers), default=0.0), allowed) for layers in scrambled]


def _scramble(teacher: Teacher, student: nn.Module, layers: Sequence[str], known: dict[str, float]) -> None:
    """Scramble one layer after the other; in float32, which is faster, where that is enough to see it."""
    twice = bool(layers) and sum(p.numel() for p in student.parameters()) <= LARGEST_TWICE
    single = _in_float32(student) if twice else None
    narrow = teacher.to(torch.float32)
    for layer in layers:
        known[layer] = 0.0 if single is None else sensitivity(narrow, single, layer, enough=VISIBLE)
        if known[layer] < VISIBLE:
            known[layer] = sensitivity(teacher, student, layer, enough=SENSITIVE)


def _in_float32(module: nn.Module) -> nn.Module:
    """A copy, of which nothing is ever held in float64."""
    parameters = {id(p): nn.Parameter(p.detach().float(), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, parameters).float()


def _error(teacher: Teacher, student: nn.Module, mode: str) -> float:
    """Infinite where the student returns tensors of other shapes."""
    expected, found = teacher.expected[mode], outputs(student, teacher.inputs, mode)
    if [t.shape for t in expected] != [t.shape for t in found]:
        return math.inf
    return error(expected, found)
