"""What `widen`, `deepen` and `random-pad` have in common: load, plan, publish, report.

With `--json` they print one object:

- `operation`, `arguments`, `seed`, `exact`: as the student's lineage records them;
- `teacher`, `student`: paths as given (`student` may be null with `--dry-run`); `dry_run`: whether nothing was written;
- `layers`: each layer that differs: `name`, `op`, `kind` (`wider`, `new`, `other`), `width` and `parameters`, each
  `[before, after]`, and `attributes`, name -> `[before, after]`;
- `parameters`, `multiply_adds`, `bytes`: `[before, after]`; bytes are those of the tensors;
- `tensors`: each changed tensor: `name`, `before` and `after` (shapes; `before` is null for a new one), `how`;
- `verification`: null where none was made, else as `net2net verify --json` prints it;
- `notes`: sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.cli.opening import open_model, stored_bytes
from net2net_cli.cli.printing import Printer, code_that_may_print
from net2net_cli.cli.torch_needed import need_torch
from net2net_cli.errors import MachineError, OutputsDifferError, UntrustedCodeError, UsageError

if TYPE_CHECKING:
    from net2net_cli.checkpoint.publish import Companion
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.compare import Comparison
    from net2net_cli.runtime.training_file import TrainingFile

MOST_NOTES = 4
WITHOUT = "`--no-verify` writes the student without comparing outputs"
DIFFER = (
    "nothing was written; to look into it, write the student with `--no-verify` and compare with `net2net verify`, "
    "which takes `--dtype`, `--inputs` and `--tolerance`"
)
STAGES = {"write": "writing the student", "verify": "comparing outputs", "noise": "writing the student with noise"}


@dataclass(frozen=True, slots=True)
class Growth:
    """What the user asked for, beside the operation itself.

    Attributes:
        out: None only with `dry_run`.
        verify: whether outputs are compared.
        trust_code: whether code that the spec names may be run for it.
        optimizer: what a training run saved of its optimizer, to be grown with the teacher.
    """

    teacher: Path
    out: Path | None
    spec: Path | None
    force: bool
    dry_run: bool
    device: str
    verify: bool
    allow_nan: bool
    seed: int
    printer: Printer
    trust_code: bool = False
    optimizer: Path | None = None


def grow(asked: Growth, operation: Callable[[Net2Net], Net2Net]) -> None:
    """Load the teacher, grow it, and write the student, or tell what would be written."""
    out = _place(asked)
    teacher = open_model(asked.teacher, asked.spec, asked.allow_nan, asked.printer, trust_code=asked.trust_code)
    if out is not None:
        _check_place(asked, teacher, out)
    training = _training_file(asked, teacher)
    student = operation(teacher)
    comparison = None
    if not asked.dry_run and out is not None:
        comparison = _publish(asked, student, teacher, out, training)
        if training is not None:
            _tell_training_files(asked.printer, out)
    _report(asked, teacher, student, comparison)


def _place(asked: Growth) -> Path | None:
    if asked.out is None and not asked.dry_run:
        example = asked.teacher.with_name("student.safetensors")
        raise UsageError("no place for the student was given", f"add `-o {example}`, or `--dry-run` to see the plan")
    return asked.out


def _training_file(asked: Growth, teacher: Net2Net) -> TrainingFile | None:
    """Read and checked before any work; None where none was given."""
    if asked.optimizer is None:
        return None
    need_torch("without `--optimizer` the student is written without it")
    from net2net_cli.runtime.training_file import read_training_file

    return read_training_file(asked.optimizer, teacher.graph)


def _companions(student: Net2Net, training: TrainingFile | None, out: Path) -> Sequence[Companion]:
    if training is None:
        return ()
    from net2net_cli.training_files import training_files

    return training_files(student, training, out)


def _tell_training_files(printer: Printer, out: Path) -> None:
    from net2net_cli.training_files import HAND_OFF, STATE

    state, hand_off = (out.with_suffix(suffix) for suffix in (STATE, HAND_OFF))
    printer.say(f"the optimizer's state is in `{state}`, what a training script should know in `{hand_off}`")


def _check_place(asked: Growth, teacher: Net2Net, out: Path) -> None:
    """All that can be known about the place before any work."""
    from net2net_cli.checkpoint.publish import Publication

    assert teacher.file is not None
    Publication(out, force=asked.force, teacher=teacher.file.path, spec=teacher.file.spec_path)


def _publish(
    asked: Growth, student: Net2Net, teacher: Net2Net, out: Path, training: TrainingFile | None
) -> Comparison | None:
    from net2net_cli.checking import Checking
    from net2net_cli.cli.progress import Progress
    from net2net_cli.publishing import publish

    checking = Checking(device=asked.device, seed=asked.seed) if asked.verify else None
    if checking is not None:
        _check_trusted(asked, teacher, student)
        need_torch(WITHOUT)
    begun = [""]
    with Progress(asked.printer, stored_bytes(student)) as progress:

        def stage(name: str) -> None:
            begun.append(name)
            progress.stage(STAGES[name])

        try:
            with code_that_may_print(trusted=asked.trust_code):
                return publish(
                    student,
                    teacher,
                    out,
                    force=asked.force,
                    checking=checking,
                    companions=_companions(student, training, out),
                    on_stage=stage,
                    on_bytes=progress.advance,
                )
        except OutputsDifferError as differ:
            differ.hint = DIFFER
            raise
        except MachineError as failed:
            if begun[-1] == "verify":
                failed.hint = f"{failed.hint}; {WITHOUT}" if failed.hint else WITHOUT
            raise


def _check_trusted(asked: Growth, teacher: Net2Net, student: Net2Net) -> None:
    """Whether both may be run; before the long work."""
    from net2net_cli.architecture.trust import check_trust

    try:
        for model in (teacher, student):
            check_trust(model.graph, trusted=asked.trust_code)
    except UntrustedCodeError as refused:
        refused.hint = f"{refused.hint}; {WITHOUT}"
        raise


def _report(asked: Growth, teacher: Net2Net, student: Net2Net, comparison: Comparison | None) -> None:
    printer = asked.printer
    if printer.silent:
        return
    from net2net_cli.cli.growth_report import growth_payload, growth_text, headline, plan_text

    _tell_notes(printer, [note for plan in student.plans for note in plan.notes])
    inexact = [plan.operation.name for plan in student.plans if not plan.operation.exact]
    if inexact:
        printer.say(_approximate(inexact[0]))
    elif not asked.verify and not asked.dry_run:
        printer.say("outputs were not compared (`--no-verify`)")
    for warning in comparison.warnings if comparison else ():
        printer.warn(warning)
    payload = growth_payload(asked, teacher, student, comparison)
    printer.say(headline(payload))
    text = growth_text(payload)
    if asked.dry_run:
        text = f"{plan_text(payload)}\n\n{text}"
    printer.summary(text, payload)


def _approximate(operation: str) -> str:
    if operation == "random-pad":
        return "random padding preserves nothing: the student is not compared with its teacher"
    return "outputs were compared before the noise was added: with it, the student is approximate"


def _tell_notes(printer: Printer, notes: Sequence[str]) -> None:
    shown = len(notes) if printer.verbose else MOST_NOTES
    for note in notes[:shown]:
        printer.say(note)
    if notes[shown:]:
        printer.say(f"… and {len(notes) - shown} more notes (`--verbose` shows them)")
