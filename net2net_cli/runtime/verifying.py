"""Two models compared: which device, which inputs, which tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.shapes import show
from net2net_cli.channels.values import Value
from net2net_cli.checking import Checking, Exactness
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.errors import InputError, UsageError
from net2net_cli.runtime.build import Network
from net2net_cli.runtime.compare import Batch, Comparison, compare, default_tolerance
from net2net_cli.runtime.inputs import load_inputs, random_inputs
from net2net_cli.runtime.locating import Located, fitting, locate, sample_count, some
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
    batches = _batches(teacher.graph, checking)
    tolerance = checking.tolerance
    if tolerance is None:
        tolerance = default_tolerance(dtype, stored_type(student), student.exactness)
    modules = (teacher.to_module(), student.to_module())
    return compare(*modules, batches, device=device, dtype=dtype, tolerance=tolerance, mode=checking.mode)


def _batches(graph: Graph, checking: Checking) -> list[Batch]:
    if checking.batch < 1:
        raise UsageError(f"{checking.batch} inputs are none", "use `--batch 1` or more")
    if checking.inputs is not None:
        return load_inputs(checking.inputs, graph, batch=checking.batch).batches
    return [random_inputs(graph, checking.batch, checking.seed, torch.float64)]


def locate_models(
    teacher: Model, student: Model, claims: Mapping[str, Value], checking: Checking, found: Comparison
) -> Located:
    """Compare what their layers return, on the samples that differ most.

    Args:
        teacher: a network.
        student: another one.
        claims: layers of the student that return what layers of the teacher return.
        checking: how outputs were compared.
        found: what that gave.

    Raises:
        MachineError: the device is not there, or its memory does not suffice.
    """
    device = pick_device(checking.device)
    dtype = _dtype(checking.dtype) or default_dtype(device)
    batch, first = _batch_of(teacher.graph, _batches(teacher.graph, checking), found.worst.place)
    if found.mode == "eval":
        batch = some(teacher.graph, batch, first, fitting(teacher.graph, claims, dtype))
    first_network, second_network = teacher.to_module(), student.to_module()
    assert isinstance(first_network, Network)
    assert isinstance(second_network, Network)
    tolerance, mode = found.tolerance, found.mode
    return locate(
        first_network, second_network, claims, batch, device=device, dtype=dtype, tolerance=tolerance, mode=mode
    )


def _batch_of(graph: Graph, batches: Sequence[Batch], place: tuple[int, ...]) -> tuple[Batch, int]:
    """The batch that holds a sample, and the sample's number in it; the first ones, where that cannot be known."""
    number = place[0] if place else 0
    for batch in batches:
        count = sample_count(graph, batch)
        if number < count:
            return batch, number
        number -= count
    return batches[0], 0


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
