"""A comparison of outputs, for people and for programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.tables import facts, plural, table

if TYPE_CHECKING:
    from net2net_cli.runtime.compare import Comparison, OutputDifference


def comparison_payload(found: Comparison) -> dict[str, Any]:
    """Stable keys; a number that is not finite is null.

    `passed`, `error` (the largest difference of an output, over the standard deviation of the teacher's), `tolerance`,
    `smallest_tolerance`, `samples`, `device`, `dtype`, `mode`, `warnings`, and for each of `outputs`: `name`,
    `largest` (absolute), `relative`, `error`, `same_top` (share of samples with the same largest element), `place`,
    `teacher_value`, `student_value`.
    """
    return {
        "passed": found.passed,
        "error": _finite(found.error),
        "tolerance": found.tolerance,
        "smallest_tolerance": _finite(found.smallest_tolerance),
        "samples": found.samples,
        "device": found.device,
        "dtype": found.dtype,
        "mode": found.mode,
        "warnings": list(found.warnings),
        "outputs": [_output_payload(output) for output in found.outputs],
    }


def _output_payload(output: OutputDifference) -> dict[str, Any]:
    return {
        "name": output.name,
        "largest": _finite(output.largest),
        "relative": _finite(output.relative),
        "error": _finite(output.error),
        "same_top": output.same_top,
        "place": list(output.place),
        "teacher_value": _finite(output.teacher_value),
        "student_value": _finite(output.student_value),
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def comparison_text(found: Comparison) -> str:
    """A row for each output, and the verdict."""
    header = ("output", "largest difference", "relative", "error", "same top class")
    rows = [
        (o.name, f"{o.largest:.3g}", f"{o.relative:.3g}", f"{o.error:.3g}", _share(o.same_top)) for o in found.outputs
    ]
    verdict = facts(
        [
            ("outputs", "agree" if found.passed else "differ"),
            ("error", f"{found.error:.3g} standard deviations of the output; {found.tolerance:.3g} are allowed"),
            ("smallest tolerance", f"{found.smallest_tolerance:.3g} would pass"),
            ("compared", how_compared(found)),
        ]
    )
    return f"{table(header, rows, '<>>>>')}\n\n{verdict}"


def how_compared(found: Comparison) -> str:
    """`8 inputs in float64 on the CPU`."""
    mode = ", in training mode" if found.mode == "train" else ""
    return f"{plural(found.samples, 'input')} in {found.dtype} on {found.device}{mode}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
