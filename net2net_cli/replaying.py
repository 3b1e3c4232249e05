"""A student grown again from its teacher, by the lineage that its file carries. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from net2net_cli.checkpoint.lineage import UNKNOWN_SHA256, Step
from net2net_cli.errors import GrowthRefusedError, InputError, UsageError

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.model import Net2Net

MEASURED = "measured"
"""What a lineage says of batch norms whose statistics come from data that it does not hold."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be done to a teacher once more.

    Attributes:
        first: the number of its first step in the student's lineage.
        steps: that lineage from there on.
    """

    first: int
    steps: tuple[Step, ...]


def replayed(teacher: Net2Net, student: Net2Net) -> Net2Net:
    """The student as its lineage says that it came about, grown from the teacher again.

    New batch norms whose statistics were measured on data start as the plain identity here.

    Args:
        teacher: any network that the student descends from by recorded growths alone.
        student: a network with a lineage.

    Returns:
        The network, with a plan for each growth; its tensors are computed when they are read.

    Raises:
        InputError: the student has no lineage, descends from another network, or a step cannot be repeated.
    """
    check_teacher(teacher, student)
    return repeated(teacher, student)


def repeated(teacher: Net2Net, student: Net2Net) -> Net2Net:
    """As `replayed`, on any network: whether it is the one that was grown is not asked, which takes its digest."""
    replay = steps_from(teacher, student)
    for number, step in enumerate(replay.steps):
        last = number + 1 == len(replay.steps)
        teacher = _again(teacher, step, student.graph, last=last, place=f"step {replay.first + number + 1}")
    return teacher


def steps_from(teacher: Net2Net, student: Net2Net) -> Replay:
    """The steps of the student's lineage behind those that it has in common with the teacher.

    Raises:
        InputError: there are none.
    """
    before, steps = teacher.origin.steps, student.origin.steps
    if not steps:
        raise InputError(
            "the student has no lineage, so nothing says how it was grown",
            "name a checkpoint that net2net wrote; `net2net verify` without `--level proof` compares outputs",
        )
    if len(before) >= len(steps) or not _same(before, steps[: len(before)]):
        raise _other_teacher(teacher, student, steps)
    return Replay(len(before), tuple(steps[len(before) :]))


def check_teacher(teacher: Net2Net, student: Net2Net) -> None:
    """Whether the teacher is the very file that was grown; it is read for its digest.

    Raises:
        InputError: it is not; says which digests the lineage has.
    """
    first = steps_from(teacher, student).steps[0]
    if _digest(student, first) != teacher.origin.sha256():
        raise _other_teacher(teacher, student, [first])


def _digest(student: Net2Net, step: Step) -> str:
    return student.origin.sha256() if step.teacher_sha256 == UNKNOWN_SHA256 else step.teacher_sha256


def _same(ours: Sequence[Step], theirs: Sequence[Step]) -> bool:
    both = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        (a.operation, a.arguments, a.seed) == (b.operation, b.arguments, b.seed) for a, b in both
    )


def _other_teacher(teacher: Net2Net, student: Net2Net, steps: Sequence[Step]) -> InputError:
    known = list(dict.fromkeys(_digest(student, step)[:12] for step in steps))
    wanted = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    return InputError(
        f"the student was not grown from this teacher: by its lineage the teacher's sha256 begins with {wanted}, "
        f"and this one's with {teacher.origin.sha256()[:12]}",
        "name the file that was grown, as it was then; `sha256sum` shows which it is",
    )


def _again(teacher: Net2Net, step: Step, found: Graph, *, last: bool, place: str) -> Net2Net:
    """One step once more; `found` is the graph of the student, which the last step led to."""
    try:
        target = _target(step, found, last=last, place=place) if step.like else None
        return _applied(teacher, step, target, found, place)
    except (GrowthRefusedError, UsageError) as wrong:
        raise InputError(
            f"{place} of the student's lineage (`{step.operation}`) cannot be repeated: {wrong.message}", _hint(step)
        ) from wrong


def _applied(teacher: Net2Net, step: Step, target: Graph | None, found: Graph, place: str) -> Net2Net:
    from net2net_cli.growth.recipe import instruction

    said: dict[str, Any] = {k: v for k, v in step.arguments.items() if v is not None and k != "rounds"}
    if step.seed is not None:
        said["seed"] = step.seed
    if said.get("bn") == MEASURED:
        said["bn"] = "identity"
    if step.operation == "widen" and target is not None:
        said["layers"] = {"*": "1x"}  # in place of `like`: the target says the widths
        said.pop("like", None)
    checked = instruction({**said, "name": step.operation}, f"{place} of the student's lineage")
    if checked.arguments.get("count", 0) > len(found.layers):
        raise InputError(f"{place} of the student's lineage asks for more layers than the student has", _hint(step))
    if step.operation == "widen" and target is not None:
        return teacher.widen(like=target, **{k: v for k, v in checked.arguments.items() if k != "layers"})
    return teacher.apply([checked], None if target is None else lambda _: target)


def _target(step: Step, found: Graph, *, last: bool, place: str) -> Graph:
    """The network that a step grew its teacher into."""
    from net2net_cli.architecture.spec_file import from_json_text

    where = f"`target` of {place} of the student's lineage"
    if step.target is not None:
        return from_json_text(step.target, where=where)
    if last:
        return found
    raise InputError(
        f"{where} is missing, so that the step cannot be repeated",
        "the student was written by an older net2net; compare it with the checkpoint behind that step",
    )


def _hint(step: Step) -> str:
    from net2net_cli.version import __version__

    if step.tool_version != __version__:
        return f"it was made by net2net {step.tool_version}, and this is {__version__}: try that version"
    return "compare outputs: `net2net verify` without `--level proof`"
