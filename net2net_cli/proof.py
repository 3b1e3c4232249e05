"""The proof on files: every bit of a student is what its lineage makes of its teacher. No forward pass, no torch.

A growth is planned by following positions through the student's graph, and a plan exists only if that run proves that
both networks compute the same. Here the growths of the lineage are planned again, so that run is made again; and then
each tensor of the student's is compared with what the plans make of the teacher's, bit by bit. So what is proved of the
plans holds for the files. Nothing is sampled, and no tolerance is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from net2net_cli.architecture.changes import LayerChange, changes
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import norm
from net2net_cli.checking import Exactness
from net2net_cli.checkpoint.lineage import Step
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.errors import InputError, NotProvedError
from net2net_cli.growth.batch_norm import is_identity
from net2net_cli.growth.elements import Place, place_in_teacher
from net2net_cli.growth.plan import Plan, TensorPlan
from net2net_cli.growth.same_bits import BitDifference, different_tensors
from net2net_cli.replaying import MEASURED, check_teacher, repeated, steps_from
from net2net_cli.version import __version__

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A tensor of which some bits are others.

    Attributes:
        bits: where it differs first, and how often.
        place: the teacher's element that the first one should come from.
    """

    bits: BitDifference
    place: Place

    def __str__(self) -> str:
        bits, at = self.bits, f"[{', '.join(map(str, self.bits.index))}]" if self.bits.index else ""
        origin = "as it is new" if self.place.tensor is None else f"from {self.place} of the teacher"
        wanted, there = (f"{element.value:.9g} ({element.bits})" for element in (bits.expected, bits.found))
        return f"`{bits.name}`{at} is {there}, and its growth makes it {wanted}, {origin}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found when a student was held against its lineage.

    Attributes:
        steps: the growths that lead from the teacher to the student.
        plans: what they do, as planned anew; whether they are exact, these say, and not the lineage.
        tensors: how many were compared.
        bytes: likewise.
        differences: tensors that have other bits than the growths give them.
        problems: what else is not as the growths leave it, as sentences.
        identities: batch norms whose statistics come from data that the lineage does not hold; they were found to be
            the identity, which is all that equal outputs need of them.
    """

    steps: tuple[Step, ...]
    plans: tuple[Plan, ...]
    tensors: int
    bytes: int
    differences: tuple[TensorDifference, ...]
    problems: tuple[str, ...]
    identities: tuple[str, ...]

    @property
    def replays(self) -> bool:
        """Whether the student is what its lineage says, to the last bit."""
        return not self.differences and not self.problems

    @property
    def exact(self) -> bool:
        """Whether the growths keep what the network computes; noise and random padding do not."""
        return all(plan.operation.exact for plan in self.plans)

    @property
    def exactness(self) -> Exactness:
        """Whether what is proved is equality, or equality up to the rounding of numbers that were stored."""
        if any(plan.scaled for plan in self.plans):
            return "scaled"
        return "rounded" if any(plan.rounds for plan in self.plans) else "exact"

    @property
    def passed(self) -> bool:
        """Whether it is proved that the student computes what the teacher computes."""
        return self.replays and self.exact

    def raise_if_different(self) -> None:
        """Raise `NotProvedError` where nothing is proved."""
        if self.problems:
            raise NotProvedError(self.problems[0], self._hint())
        if self.differences:
            first, others = self.differences[0], len(self.differences) - 1
            more = f", and {others} more tensors" if others else ""
            bits = first.bits
            raise NotProvedError(
                f"{first}; {bits.count:,} of its {bits.elements:,} elements differ{more}", self._hint()
            )
        if not self.exact:
            name = next(plan.operation.name for plan in self.plans if not plan.operation.exact)
            raise NotProvedError(
                f"every bit is what the lineage says, but `{name}` was not meant to keep what the network computes",
                "the files are sound: `--json` says so in `replays`; `--level outputs` measures how far outputs differ",
            )

    def _hint(self) -> str:
        versions = [step.tool_version for step in self.steps if step.tool_version != __version__]
        if versions:
            return f"it was grown by net2net {versions[0]}, and this is {__version__}: draws and rules may differ"
        if len({step.teacher_sha256 for step in self.steps}) > 1:
            return "if a network in between was trained, compare with that one; else the student was changed"
        return (
            "it was changed after it was grown, as by training or by hand; "
            "`--level outputs` compares what both networks compute"
        )


def prove(teacher: Net2Net, student: Net2Net, *, on_bytes: Callable[[int], None] | None = None) -> Proof:
    """Hold a student against what its lineage makes of its teacher.

    Args:
        teacher: any network that the student descends from by recorded growths alone.
        student: as it was written.
        on_bytes: told the size of each block that was compared.

    Raises:
        InputError: the student has no lineage, was grown from another teacher, or by steps that cannot be repeated; or
            a file was changed meanwhile.
    """
    teacher, student = _as_stored(teacher), _as_stored(student)
    try:
        again = repeated(teacher, student)
    except InputError:
        check_teacher(teacher, student)  # which would be the better reason
        raise
    proof = _compared(again, teacher, student, on_bytes)
    for model in (teacher, student):
        if model.file is not None:
            model.file.checkpoint.check_unchanged()
    if not proof.replays:
        # Only now: equal bits say more than an equal digest, which takes longer than all the rest.
        check_teacher(teacher, student)
    return proof


def _as_stored(model: Net2Net) -> Net2Net:
    """Without the search for NaN, whose bits are compared as all others."""
    if model.file is None or model.plans:
        return model
    return type(model)(model.graph, model.file.checkpoint, model.origin, file=model.file)


def _compared(again: Net2Net, teacher: Net2Net, student: Net2Net, on_bytes: Callable[[int], None] | None) -> Proof:
    steps = steps_from(teacher, student).steps
    plans = again.plans[-len(steps) :]
    problems = [*_spec_problems(again, student), *_type_problems(again, student)]
    found = {name: student.tensor_info(name) for name, *_ in student.graph.tensors()}
    expected = {name: again.tensor_info(name) for name, *_ in again.graph.tensors()}
    measured = _measured(steps, plans)
    names = [name for name, info in found.items() if expected.get(name) == info and name not in measured]
    differences = different_tensors(names, again.tensors, student.tensors, on_bytes=on_bytes)
    identities, wrong = _identities(student, measured)
    return Proof(
        steps,
        plans,
        len(found),
        sum(info.nbytes for info in found.values()),
        tuple(TensorDifference(bits, place_in_teacher(plans, bits.name, bits.index)) for bits in differences),
        (*problems, *wrong),
        identities,
    )


def _spec_problems(again: Net2Net, student: Net2Net) -> Iterator[str]:
    if again.graph != student.graph:
        yield _first_change(again.graph, student.graph)
    own = {name for name, *_ in again.graph.tensors()}
    tied = {gone: kept for gone, kept in again.origin.aliases.items() if kept in own and gone not in own}
    if tied != dict(student.origin.aliases):
        yield f"the student has the tied names {_names(student.origin.aliases)}, and its growth gives {_names(tied)}"
    if student.file is not None:
        yield from student.file.sidecar_warnings()


def _names(tied: Mapping[str, str]) -> str:
    return ", ".join(f"`{gone}` for `{kept}`" for gone, kept in sorted(tied.items())) or "none"


def _first_change(expected: Graph, found: Graph) -> str:
    for change in changes(expected, found):
        if change.attributes:
            return _other_attributes(change)
        if change.kind == "new":
            return f"`{change.name}` is in the student's spec, and not in its growth"
        if change.kind == "gone":
            return f"`{change.name}` is not in the student's spec, but in its growth"
        return f"`{change.name}` is another layer in the student's spec than in its growth"
    for ours, theirs in zip(expected.layers, found.layers, strict=False):
        if ours != theirs:
            return f"`{theirs.name}` stands or reads elsewhere in the student's spec than its growth has it"
    part = next(key for key in ("name", "source", "inputs", "outputs", "returns") if _differs(key, expected, found))
    return f"`{part}` of the student's spec is not what its growth gives"


def _other_attributes(change: LayerChange) -> str:
    now, was = (", ".join(f"`{key}` {both[i]!r}" for key, both in change.attributes.items()) for i in (1, 0))
    return f"`{change.name}` has {now} in the student's spec, and {was} by its growth"


def _differs(key: str, a: Graph, b: Graph) -> bool:
    return bool(getattr(a, key) != getattr(b, key))


def _type_problems(again: Net2Net, student: Net2Net) -> Iterator[str]:
    own = {name for name, *_ in again.graph.tensors()}
    for name, *_ in student.graph.tensors():
        if name in own:
            ours, theirs = again.tensor_info(name), student.tensor_info(name)
            if ours != theirs:
                yield f"`{name}` is stored as {_type(theirs)}, and its growth gives {_type(ours)}"


def _type(info: TensorInfo) -> str:
    return f"{info.dtype} {list(info.shape)}"


def _measured(steps: Sequence[Step], plans: Sequence[Plan]) -> set[str]:
    """Tensors of the student that hang on data that the lineage does not hold.

    They are those of batch norms that were inserted with measured statistics, and of those that were inserted later,
    since they may have been estimated from them.

    Raises:
        InputError: a later growth does more than to copy such a batch norm's channels.
    """
    names: set[str] = set()
    measuring = False
    for step, plan in zip(steps, plans, strict=True):
        measuring |= step.arguments.get("bn") == MEASURED
        names = {name for name, tensor in plan.tensors.items() if _hangs_on(tensor, names, step)}
        if measuring:
            names |= {n for n, t in plan.tensors.items() if t.fill is not None and t.fill.kind == "vector"}
    return names


def _hangs_on(tensor: TensorPlan, names: set[str], step: Step) -> bool:
    if tensor.source not in names:
        return False
    if tensor.fill is not None or any(axis.factor is not None for axis in tensor.axes):
        raise InputError(
            f"`{step.operation}` changed `{tensor.name}`, whose values were measured on data: it cannot be repeated",
            "compare with the checkpoint before that step, or outputs: `--level outputs`",
        )
    return True


def _identities(student: Net2Net, measured: set[str]) -> tuple[tuple[str, ...], list[str]]:
    """The measured batch norms, and what is wrong with them."""
    norms = [layer for layer in student.graph.layers if _names_of(layer) & measured]
    return tuple(layer.name for layer in norms), list(_norm_problems(student, norms))


def _norm_problems(student: Net2Net, norms: Sequence[Layer]) -> Iterator[str]:
    for layer in norms:
        if not _is_identity(student, layer):
            yield f"the batch norm `{layer.name}`, whose statistics were measured on data, is not the identity"


def _names_of(layer: Layer) -> set[str]:
    return {layer.tensor_name(key) for key in layer.own_tensors()}


def _is_identity(student: Net2Net, layer: Layer) -> bool:
    weight, bias, mean, variance = (student.tensor(layer.tensor_name(key)) for key in NORM_TENSORS)
    assert isinstance(layer.op, (norm.PerChannelNorm, norm.FrozenBatchNorm2d))
    with np.errstate(all="ignore"):
        return is_identity(weight, bias, mean, variance, layer.op.eps)
