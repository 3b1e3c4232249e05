"""Do two networks compute the same? Both are run on the same inputs, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from net2net_cli.architecture.graph import Mode
from net2net_cli.checking import RunLevel
from net2net_cli.errors import InputError, OutputsDifferError, UsageError
from net2net_cli.runtime.build import Network, graph_of
from net2net_cli.runtime.classes import class_axis
from net2net_cli.runtime.draws import Draws, Values, shared
from net2net_cli.runtime.figures import OutputDifference, difference
from net2net_cli.runtime.machine import Machine, describe
from net2net_cli.runtime.running import GRADIENT, Batch, Outputs, Setting, run, samples
from net2net_cli.runtime.tolerance import Tolerance, default_tolerance

MOST_NAMES = 3
IN_EVALUATION = " (eval)"
"""Behind the names of outputs in evaluation, where there are those in training too."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found when two networks ran on the same inputs.

    Attributes:
        outputs: each output; in training mode the gradient of each input as well, and where the networks were also
            compared in evaluation, the outputs there (`out (eval)`).
        samples: how many samples were compared.
        machine: what computed.
        dtype: the type in which both ran: `float64`.
        mode: `eval` or `train`.
        tolerance: the largest error that passes.
        tolerance_reason: where it comes from, for people.
        autocast: whether parameters were kept in float32.
        notes: how the networks were run, where that is not plain, as sentences.
        explanation: why they differ, where that is known.

    """

    outputs: tuple[OutputDifference, ...]
    samples: int
    machine: Machine
    dtype: str
    mode: Mode
    tolerance: float
    tolerance_reason: str = ""
    autocast: bool = False
    notes: tuple[str, ...] = ()
    explanation: str | None = None

    @property
    def device(self) -> str:
        """Where they ran, for people."""
        return self.machine.device

    @property
    def level(self) -> RunLevel:
        """What was compared."""
        return "train" if self.mode == "train" else "outputs"

    @property
    def proves(self) -> str:
        """What follows from it, as a clause."""
        if not self.passed:
            return "the networks do not compute the same"
        back = any(output.name.startswith(GRADIENT) for output in self.outputs)
        return f"in {self.modes} on these inputs, same outputs{' and gradients' if back else ''} to rounding"

    @property
    def modes(self) -> str:
        """In which they were compared, for people."""
        if self.mode == "eval":
            return "evaluation"
        return f"{'evaluation and ' if any(o.name.endswith(IN_EVALUATION) for o in self.outputs) else ''}training"

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
        if not math.isfinite(self.error):
            why = next(iter(worst.warnings), f"by more than a number can hold, in `{worst.name}`")
            raise OutputsDifferError(f"the outputs differ: {why}", self.explanation or self._hint())
        raise OutputsDifferError(
            f"the outputs differ by {self.error:.3g} standard deviations, {self.tolerance:.3g} are allowed: "
            f"at {list(worst.place)} of output `{worst.name}`, "
            f"teacher {worst.teacher_value:.9g}, student {worst.student_value:.9g}",
            self.explanation or self._hint(),
        )

    def _hint(self) -> str:
        """What may be done about a difference that nothing explains."""
        if not math.isfinite(self.error):
            odd = self.worst.not_finite
            nothing = odd is not None and not odd.unlike
            inputs = "give inputs for which the networks return numbers: `--inputs`"
            return inputs if nothing else "`--locate` names the first layer that differs"
        enough = f"`--tolerance {self.smallest_tolerance:.2g}` would pass"
        if self.dtype == "float64":
            return enough
        device = "`--device cpu --float64`" if self.device.startswith("mps") else "`--float64`"
        return f"{device} tells whether it is more than the rounding of {self.dtype}; {enough}"


def with_evaluation(trained: Comparison, evaluated: Comparison) -> Comparison:
    """One comparison of two of the same networks, in training and in evaluation."""
    outputs = (replace(output, name=f"{output.name}{IN_EVALUATION}") for output in evaluated.outputs)
    notes = tuple(dict.fromkeys((*evaluated.notes, *trained.notes)))
    return replace(trained, outputs=(*outputs, *trained.outputs), notes=notes)


def compare(
    teacher: nn.Module,
    student: nn.Module,
    inputs: Sequence[Batch],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    tolerance: Tolerance | float | None = None,
    mode: Mode = "eval",
    autocast: bool = False,
    values: Values | None = None,
) -> Comparison:
    """Run both networks on the same inputs and compare what they return.

    One network at a time is on the device, as a copy; outputs are kept on the host. Neither module is changed. Batches
    that do not fit are split, for both networks alike.

    Args:
        teacher: made by `build`, or any module.
        student: likewise.
        inputs: batches, each a tuple of the arguments of `forward`, `(n, ...)`.
        device: where to run them.
        dtype: floating-point parameters and inputs are converted to it.
        tolerance: largest error that passes; None for what `dtype` allows.
        mode: `train` compares with batch statistics, and, in float64, the gradients of the inputs.
        autocast: keep parameters in float32, and run in `dtype` what `torch.autocast` runs in it.
        values: what of the teacher the student's layers return; those that draw at random in training draw alike, all
            others draw nothing. What evaluation draws too is known by its layer's name where nothing else is known.

    Raises:
        UsageError: there are no inputs.
        InputError: the networks return different things.
        MachineError: the device failed or has not enough memory.

    """
    if not inputs:
        raise UsageError("there are no inputs to compare on", "give at least one sample")
    setting = Setting(torch.device(device), dtype, mode, autocast)
    allowed = tolerance if tolerance is not None else default_tolerance(dtype, dtype)
    if not isinstance(allowed, Tolerance):
        allowed = Tolerance(allowed, "as asked for")
    found, notes = _run_both(teacher, student, inputs, setting, values or {})
    axis = _class_axes(teacher)
    return Comparison(
        tuple(difference(name, t, found[1][name], class_axis=axis(name)) for name, t in found[0].items()),
        sum(samples(teacher, batch) for batch in inputs),
        describe(setting.device),
        str(dtype).removeprefix("torch."),
        mode,
        allowed.value,
        allowed.reason,
        autocast,
        notes,
    )


def _run_both(
    teacher: nn.Module, student: nn.Module, inputs: Sequence[Batch], setting: Setting, values: Values
) -> tuple[tuple[Outputs, Outputs], tuple[str, ...]]:
    """What both return, run in batches of the same sizes, and notes."""
    most = max(samples(teacher, batch) for batch in inputs)
    second = Draws(shared(teacher, student, values, setting.mode))
    first = second.of_teacher()
    theirs, limit = run(teacher, inputs, setting, first, most)
    ours, smaller = run(student, inputs, setting, second, limit)
    if smaller < limit:  # kernels, and values that are no sample's own, depend on the size of the batch
        theirs, _ = run(teacher, inputs, setting, first, smaller)
    if theirs.keys() != ours.keys():
        names = " and ".join("`" + "`, `".join(outputs) + "`" for outputs in (theirs, ours))
        raise InputError(f"the networks return different outputs: {names}", "compare networks of one kind")
    off = list(dict.fromkeys((*first.off, *second.off)))
    gradients = any(name.startswith(GRADIENT) for name in theirs)
    return (theirs, ours), tuple(_notes(setting, smaller if smaller < most else None, off, gradients=gradients))


def _notes(setting: Setting, limit: int | None, off: Sequence[str], *, gradients: bool) -> Iterator[str]:
    """How the networks were run, where that is not plain."""
    if limit is not None:
        yield f"memory did not suffice for whole batches: {limit} inputs were run at a time"
    if setting.mode == "eval":
        return
    if off:
        more = f" and {len(off) - MOST_NAMES} more" if len(off) > MOST_NAMES else ""
        names = ", ".join(f"`{name}`" for name in off[:MOST_NAMES])
        yield f"nothing is drawn at random in {names}{more}: draws that both networks share are not known there"
    if setting.gradients and not gradients:
        yield "no gradients were compared: no output has one with respect to an input of floating-point numbers"
    if not setting.gradients:
        yield (
            "the gradients of the inputs were not compared, which takes float64: in other types a value that rounding "
            "puts on the other side of a ReLU's zero changes them by far more than rounding"
        )


def _class_axes(network: nn.Module) -> Callable[[str], int | None]:
    """For each output's name the axis along which it may have the scores of classes."""
    graph = graph_of(network) if isinstance(network, Network) else None

    def axis(name: str) -> int | None:
        if name.startswith(GRADIENT):
            return None
        return class_axis(graph, graph.outputs[name]) if graph else 1

    return axis
