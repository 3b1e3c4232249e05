"""Two models compared: which device, which inputs, which tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, get_args

import numpy as np
import torch
from torch import nn

from net2net_cli.architecture.depth import depth
from net2net_cli.architecture.graph import Graph, Mode
from net2net_cli.architecture.shapes import show
from net2net_cli.checking import Checking, Exactness, RunLevel
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.errors import InputError, UsageError
from net2net_cli.runtime.build import Network
from net2net_cli.runtime.compare import IN_EVALUATION, Comparison, compare, with_evaluation
from net2net_cli.runtime.draws import Values
from net2net_cli.runtime.expected import why_different
from net2net_cli.runtime.inputs import load_inputs, random_inputs
from net2net_cli.runtime.locating import Located, fitting, locate
from net2net_cli.runtime.machine import default_dtype, pick_device
from net2net_cli.runtime.running import Batch, Setting, samples, some
from net2net_cli.runtime.tolerance import Tolerance, default_tolerance

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
HALF = ("bfloat16", "float16")
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Model(Protocol):
    """A network with its weights, as `Net2Net` is one."""

    graph: Graph

    @property
    def exactness(self) -> Exactness:
        """Whether growing it rounded stored values, and of what."""
        ...

    @property
    def exact(self) -> bool:
        """Whether it is meant to compute what the network computes that it was grown from."""
        ...

    def tensor(self, name: str) -> np.ndarray:
        """One of its tensors."""
        ...

    def tensor_info(self, name: str) -> TensorInfo:
        """Stored type and shape of a tensor."""
        ...

    def to_module(self) -> nn.Module:
        """The network, to be run."""
        ...


def compare_models(teacher: Model, student: Model, checking: Checking, values: Values | None = None) -> Comparison:
    """Run both on the same inputs and compare what they return.

    Args:
        teacher: a network.
        student: another one, of the same inputs.
        checking: how.
        values: what of the teacher the student's layers return, as far as it is known; in training those that draw at
            random draw alike.

    Raises:
        UsageError: an unknown dtype, or inputs that are not there.
        InputError: the two networks do not take the same inputs.
        MachineError: the device is not there, or its memory does not suffice.
    """
    if checking.level not in get_args(RunLevel):
        raise UsageError(
            f"`{checking.level}` is no level at which networks are run",
            "use `outputs` or `train`; `student.prove(teacher)` compares bits",
        )
    _check_inputs(teacher.graph, student.graph)
    device = pick_device(checking.device)
    dtype = _dtype(checking) or default_dtype(device)
    mode: Mode = "train" if checking.level == "train" else "eval"
    modules, batches = (teacher.to_module(), student.to_module()), _batches(teacher.graph, checking)
    tolerance = _tolerance(teacher, student, checking, dtype, mode)

    def compared(mode: Mode) -> Comparison:
        return compare(
            *modules,
            batches,
            device=device,
            dtype=dtype,
            tolerance=tolerance,
            mode=mode,
            autocast=checking.autocast,
            values=values,
        )

    found = evaluated = compared("eval")
    if mode == "train":  # which knows nothing of running statistics, nor of a bias before a batch norm
        found = with_evaluation(compared("train"), evaluated)
    if found.passed:
        return found
    differs: Mode = mode if evaluated.passed else "eval"
    return replace(found, explanation=why_different(teacher, student, differs))


def _batches(graph: Graph, checking: Checking) -> list[Batch]:
    if checking.batch < 1:
        raise UsageError(f"`batch` is {checking.batch}; at least one input is needed", "use 1 or more")
    if checking.inputs is not None:
        return load_inputs(checking.inputs, graph, batch=checking.batch).batches
    return [random_inputs(graph, checking.batch, checking.seed, torch.float64)]


def locate_models(teacher: Model, student: Model, values: Values, checking: Checking, found: Comparison) -> Located:
    """Compare what their layers return, on the samples that differ most.

    Args:
        teacher: a network.
        student: another one.
        values: what of the teacher the student's layers return, as far as it is known.
        checking: how outputs were compared.
        found: what that gave.

    Raises:
        MachineError: the device is not there, or its memory does not suffice.
    """
    device = pick_device(checking.device)
    mode: Mode = "eval" if found.worst.name.endswith(IN_EVALUATION) else found.mode
    setting = Setting(device, _dtype(checking) or default_dtype(device), mode, checking.autocast)
    theirs, ours = teacher.to_module(), student.to_module()
    assert isinstance(theirs, Network)
    assert isinstance(ours, Network)
    batch, first = _batch_of(theirs, _batches(teacher.graph, checking), found.worst.place)
    if setting.mode == "eval":
        batch = some(theirs, batch, first, fitting(teacher.graph, values, setting.dtype))
    return locate(theirs, ours, values, batch, setting, found.tolerance)


def _batch_of(network: Network, batches: Sequence[Batch], place: tuple[int, ...]) -> tuple[Batch, int]:
    """The batch that holds a sample, and the sample's number in it; the first ones, where that cannot be known."""
    number = place[0] if place else 0
    for batch in batches:
        count = samples(network, batch)
        if number < count:
            return batch, number
        number -= count
    return batches[0], 0


def _tolerance(teacher: Model, student: Model, checking: Checking, dtype: torch.dtype, mode: Mode) -> Tolerance | float:
    """What was asked for, or what the type and the depth allow."""
    if checking.tolerance is not None:
        return checking.tolerance
    theirs, ours = (depth(model.graph, mode) for model in (teacher, student))
    back = mode == "train" and dtype == torch.float64
    added = ours - theirs
    return default_tolerance(dtype, stored_type(student), student.exactness, max(theirs, ours), added=added, back=back)


def _dtype(checking: Checking) -> torch.dtype | None:
    name = checking.dtype
    if checking.autocast and name not in HALF:
        raise UsageError("`--autocast` needs a type to run in", f"add `--dtype {HALF[0]}` or `--dtype {HALF[1]}`")
    if name is None:
        return None
    if name not in DTYPES:
        raise UsageError(f"`{name}` is no floating type", f"use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def stored_type(model: Model) -> torch.dtype:
    """The coarsest floating type among the model's parameters."""
    found = {model.tensor_info(name).dtype for name, _, _, slot in model.graph.tensors() if not slot.integer}
    known = [STORED[name] for name in found if name in STORED]
    return max(known, key=lambda t: torch.finfo(t).eps, default=torch.float32)


def _check_inputs(teacher: Graph, student: Graph) -> None:
    ours, theirs = (", ".join(f"{i.name} {show(i.shape)} {i.dtype}" for i in g.inputs) for g in (teacher, student))
    if ours != theirs:
        hint = "compare a student with its own teacher"
        raise InputError(f"the two networks take different inputs: {ours} and {theirs}", hint)
