"""Do two networks compute the same? Both are run on the same inputs, one after the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Mode
from net2net_cli.checking import Exactness
from net2net_cli.errors import InputError, OutputsDifferError, UsageError
from net2net_cli.runtime.build import Network, graph_of, outputs_of
from net2net_cli.runtime.machine import describe_device, explained, full_precision, release_memory

Batch: TypeAlias = tuple[Tensor, ...]

RUN_TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""What rounding in the forward pass may do to an output, in standard deviations of it, by the type it runs in.

Two ResNet-50 that are equal but for factors before and in their batch norms differ by 2e-14, 5e-6, 2e-2 and 3e-2.
"""

STORED_TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-8, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""What a student's statistics, rounded to the type in which they are stored, may do to an output."""

SCALED_TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-7, torch.float16: 4e-3, torch.bfloat16: 4e-2}
"""What the weights in front of a scaled stream may do, rounded likewise: eight units of roundoff.

Transformers with such a stream were off by up to three.
"""


def default_tolerance(run: torch.dtype, stored: torch.dtype, exactness: Exactness = "exact") -> float:
    """The largest error at which outputs count as equal.

    Args:
        run: the type in which the networks are run.
        stored: the type in which the student's parameters are stored.
        exactness: whether storing them rounded any.

    """
    allowed = RUN_TOLERANCES.get(run, RUN_TOLERANCES[torch.bfloat16])
    if exactness == "exact":
        return allowed
    stored_tolerances = SCALED_TOLERANCES if exactness == "scaled" else STORED_TOLERANCES
    return max(allowed, stored_tolerances.get(stored, stored_tolerances[torch.bfloat16]))


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of both networks.

    Attributes:
        name: of the output.
        largest: the largest absolute difference of two elements; infinite where either network gives NaN or infinity,
            or the shapes differ.
        scale: what it is measured by: the standard deviation of the teacher's output, or where that is constant its
            largest magnitude, or 1 where it is zero.
        relative: the root mean square of the differences, over that of the teacher's output.
        same_top: share of samples, or of places in them, whose largest element along axis 1 is the same; None for
            outputs of one axis.
        place: index of the largest difference; the first axis counts through all samples.
        teacher_value: the teacher's element there.
        student_value: the student's element there.
        warnings: what makes this comparison weak or impossible, as sentences.

    """

    name: str
    largest: float
    scale: float
    relative: float
    same_top: float | None
    place: tuple[int, ...]
    teacher_value: float
    student_value: float
    warnings: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The largest difference in units of `scale`."""
        return self.largest / self.scale


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found when two networks ran on the same inputs.

    Attributes:
        outputs: each output.
        samples: how many samples were compared.
        device: where, for people.
        dtype: the type in which both ran: `float64`.
        mode: `eval` or `train`.
        tolerance: the largest error that passes.

    """

    outputs: tuple[OutputDifference, ...]
    samples: int
    device: str
    dtype: str
    mode: Mode
    tolerance: float

    @property
    def worst(self) -> OutputDifference:
        """The output with the largest error."""
        return max(self.outputs, key=lambda output: output.error)

    @property
    def error(self) -> float:
        """The largest error of all outputs: max |Δ| / standard deviation of the teacher's output."""
        return self.worst.error

    @property
    def smallest_tolerance(self) -> float:
        """The smallest tolerance that would pass; infinite where none would."""
        return self.error

    @property
    def passed(self) -> bool:
        """Whether both networks compute the same, up to the tolerance."""
        return self.error <= self.tolerance

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the comparison weak or impossible."""
        return tuple(warning for output in self.outputs for warning in output.warnings)

    def raise_if_different(self) -> None:
        """Raise `OutputsDifferError` where they do not compute the same."""
        if self.passed:
            return
        worst = self.worst
        at = f"at {list(worst.place)} of output `{worst.name}`, teacher {worst.teacher_value:.9g}"
        hint = "one of them gives values that are no numbers, or their outputs have different shapes"
        if math.isfinite(self.error):
            hint = f"`--tolerance {self.smallest_tolerance:.2g}` would pass"
        raise OutputsDifferError(
            f"the outputs differ by {self.error:.3g} standard deviations, {self.tolerance:.3g} are allowed: "
            f"{at}, student {worst.student_value:.9g}",
            hint,
        )


def compare(
    teacher: nn.Module,
    student: nn.Module,
    inputs: Sequence[Batch],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
    mode: Mode = "eval",
) -> Comparison:
    """Run both networks on the same inputs and compare what they return.

    One network at a time is on the device, as a copy; outputs are kept on the host. Neither module is changed.

    Args:
        teacher: made by `build`, or any module.
        student: likewise.
        inputs: batches, each a tuple of the arguments of `forward`, `(n, ...)`.
        device: where to run them.
        dtype: floating-point parameters and inputs are converted to it.
        tolerance: largest error that passes; None for what `dtype` allows.
        mode: `train` compares with batch statistics, and with dropout and stochastic depth switched off.

    Raises:
        UsageError: there are no inputs.
        InputError: the networks return different things.
        MachineError: the device failed or has not enough memory.

    """
    device = torch.device(device)
    if not inputs:
        raise UsageError("there are no inputs to compare on", "give at least one sample")
    found = [_outputs(network, inputs, device, dtype, mode) for network in (teacher, student)]
    if found[0].keys() != found[1].keys():
        names = " and ".join("`" + "`, `".join(outputs) + "`" for outputs in found)
        raise InputError(f"the networks return different outputs: {names}", "compare networks of one kind")
    differences = tuple(difference(name, t, found[1][name]) for name, t in found[0].items())
    return Comparison(
        differences,
        sum(len(batch[0]) for batch in inputs),
        describe_device(device),
        str(dtype).removeprefix("torch."),
        mode,
        default_tolerance(dtype, dtype) if tolerance is None else tolerance,
    )


def _outputs(
    network: nn.Module, inputs: Sequence[Batch], device: torch.device, dtype: torch.dtype, mode: Mode
) -> dict[str, Tensor]:
    """All outputs on the host, by name, the batches joined."""
    collected: dict[str, list[Tensor]] = {}
    with explained(device), full_precision(), torch.no_grad(), _seeded(device):
        copied = converted(network, device, dtype).train(mode == "train")
        quiet(copied)
        for batch in inputs:
            arguments = [x.to(device, dtype if x.is_floating_point() else x.dtype) for x in batch]
            made = outputs_of(copied, *arguments) if isinstance(copied, Network) else flattened(copied(*arguments))
            for name, value in made.items():
                collected.setdefault(name, []).append(value.cpu())
        del copied
        release_memory(device)
    return {name: torch.cat(parts) if parts[0].ndim else torch.stack(parts) for name, parts in collected.items()}


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """What is drawn at random is the same for every network; the caller's generators are left as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def converted(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy on the device, its floating-point tensors converted; only the device holds a second set of tensors."""
    memo: dict[int, Any] = {}
    if isinstance(network, Network):
        memo[id(graph_of(network))] = graph_of(network)
    for tensor in (*network.parameters(), *network.buffers()):
        new = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        memo[id(tensor)] = nn.Parameter(new, requires_grad=False) if isinstance(tensor, nn.Parameter) else new
    return copy.deepcopy(network, memo)


_BRANCH_DROPS = {"StochasticDepth": "p", "DropPath": "drop_prob"}
"""Classes, ours, torchvision's and timm's, that drop whole branches, and where they keep the probability."""


def quiet(network: nn.Module) -> None:
    """Switch off what is drawn at random in training."""
    for module in network.modules():
        if isinstance(module, nn.RReLU):
            module.lower = module.upper = (module.lower + module.upper) / 2
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0
        elif type(module).__name__ in _BRANCH_DROPS:
            setattr(module, _BRANCH_DROPS[type(module).__name__], 0.0)


def flattened(value: Any, name: str = "") -> dict[str, Tensor]:
    """Tensors in what a module returned, by name: a single one is `out`, others bear their keys, fields or places."""
    if isinstance(value, Tensor):
        return {name or "out": value}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    parts: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        parts = value
    elif isinstance(value, (list, tuple)):
        parts = dict(enumerate(value))
    found: dict[str, Tensor] = {}
    for key, part in parts.items():
        found |= flattened(part, f"{name}.{key}" if name else str(key))
    return found


def difference(name: str, teacher: Tensor, student: Tensor) -> OutputDifference:
    """Compare one output of all samples, `(samples, ...)`."""
    if teacher.shape != student.shape:
        shapes = (
            f"output `{name}` has the shape {list(teacher.shape)} in the teacher, {list(student.shape)} in the student"
        )
        return OutputDifference(name, math.inf, 1.0, math.inf, None, (), math.nan, math.nan, (shapes,))
    if teacher.is_complex() and student.is_complex():
        return difference(name, torch.view_as_real(teacher), torch.view_as_real(student))
    if teacher.numel() == 0:
        return OutputDifference(name, 0.0, 1.0, 0.0, None, (), math.nan, math.nan, (f"output `{name}` is empty",))
    t, s = (x.to(torch.float64) for x in (teacher, student))
    apart = (t - s).abs()
    lost = ~torch.isfinite(apart)
    flat = int((lost.int() if lost.any() else apart).argmax())
    scale, warnings = _scale(name, t, teacher.dtype)
    return OutputDifference(
        name,
        math.inf if lost.any() else float(apart.max()),
        scale,
        math.inf if lost.any() else float(apart.norm() / max(float(t.norm()), torch.finfo(torch.float64).tiny)),
        float((t.argmax(1) == s.argmax(1)).double().mean()) if t.ndim >= 2 else None,
        tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), t.shape)),
        float(t.flatten()[flat]),
        float(s.flatten()[flat]),
        warnings,
    )


def _scale(name: str, teacher: Tensor, run: torch.dtype) -> tuple[float, tuple[str, ...]]:
    """What differences are measured by, and what is to be said about it."""
    if not torch.isfinite(teacher).all():
        return 1.0, (f"the teacher's own output `{name}` holds values that are no finite numbers",)
    largest = float(teacher.abs().max())
    deviation = float(teacher.std(correction=0))
    if deviation <= 4 * (torch.finfo(run).eps if run.is_floating_point else 0) * largest:
        said = f"the teacher's output `{name}` is constant: differences are measured by its magnitude"
        return largest or 1.0, (said,)
    if len(teacher) > 1 and bool((teacher == teacher[:1]).all()):
        return deviation, (f"the teacher's output `{name}` is the same for every input: agreement says little",)
    return deviation, ()
