"""Write, verify what was written, publish: how a student reaches its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.checking import Checking
from net2net_cli.checkpoint.publish import Companion
from net2net_cli.model import Net2Net

if TYPE_CHECKING:
    from net2net_cli.runtime.compare import Comparison


def publish(
    student: Net2Net,
    teacher: Net2Net,
    out: Path,
    *,
    force: bool = False,
    checking: Checking | None = None,
    companions: Sequence[Companion] = (),
    on_stage: Callable[[str], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Comparison | None:
    """Write a student beside its place, compare what was written with the teacher, and only then rename it.

    A student with noise is written and compared without it first.

    Args:
        student: grown from `teacher`.
        teacher: what it is compared with.
        out: `NAME.safetensors`.
        force: whether an existing file may be replaced.
        checking: how to compare; None for not at all, and then torch is not imported.
        companions: files that appear with the student.
        on_stage: told `write`, `verify` and `noise` as they begin.
        on_bytes: told the size of each block that was written.

    Returns:
        the comparison, or None where none was made.

    Raises:
        OutputsDifferError: the student does not compute what the teacher computes; nothing was published.
        UsageError, MachineError: as `Net2Net.save`.
        CheckpointError: the teacher was changed by another program meanwhile.
        UntrustedCodeError: they cannot be compared, because a spec names code that is not trusted.
    """
    stage = on_stage or (lambda _: None)
    noisy = any(tensor.noise for plan in student.plans for tensor in plan.tensors.values())
    with student.publication(out, force=force, teacher=teacher, companions=companions) as publication:
        stage("write")
        spec = student.write(publication.part, noise=not (noisy and checking), on_bytes=on_bytes)
        comparison = None
        if checking is not None:
            stage("verify")
            written = Net2Net.load(publication.part, allow_nan=True, trust_code=student.trust_code)
            comparison = written.verify(teacher, checking=checking)
            if teacher.file is not None:
                teacher.file.checkpoint.check_unchanged()
            comparison.raise_if_different()
            if noisy:
                stage("noise")
                spec = student.write(publication.part, on_bytes=on_bytes)
        publication.commit(spec)
    return comparison
