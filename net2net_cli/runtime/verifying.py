"""Two models compared: which device, which inputs, which tolerance."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.shapes import show
from net2net_cli.checking import Checking, Exactness
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.errors import InputError, UsageError
from net2net_cli.runtime.compare import Comparison, compare, default_tolerance
from net2net_cli.runtime.inputs import load_inputs, random_inputs
from net2net_cli.runtime.machine import default_dtype, pick_device

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Model(Protocol):
    """A network with its weights, as `Net2Net` is one."""

    graph: Graph

    @property
    def exactness(self) -> Exactness:
        """Whether growing it rounded stored values, and of what."""
        ...

    def tensor_info(self, name: str) -> TensorInfo:
        """Stored type and shape of a tensor."""
        ...

    def to_module(self) -> nn.Module:
        """The network, to be run."""
        ...


def compare_models(teacher: Model, student: Model, checking: Checking) -> Comparison:
    """Run both on the same inputs and compare what they return.

    Raises:
        UsageError: an unknown dtype, or inputs that are not there.
        InputError: the two networks do not take the same inputs.
        MachineError: the device is not there, or its memory does not suffice.
    """
    _check_inputs(teacher.graph, student.graph)
    device = pick_device(checking.device)
    dtype = _dtype(checking.dtype) or default_dtype(device)
    if checking.batch < 1:
        raise UsageError(f"`batch` is {checking.batch}; at least one input is needed", "use 1 or more")
    if checking.inputs is not None:
        batches = load_inputs(checking.inputs, teacher.graph, batch=checking.batch).batches
    else:
        batches = [random_inputs(teacher.graph, checking.batch, checking.seed, torch.float64)]
    tolerance = checking.tolerance
    if tolerance is None:
        tolerance = default_tolerance(dtype, stored_type(student), student.exactness)
    modules = (teacher.to_module(), student.to_module())
    return compare(*modules, batches, device=device, dtype=dtype, tolerance=tolerance, mode=checking.mode)


def _dtype(name: str | None) -> torch.dtype | None:
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
