"""A comparison of outputs, for people and for programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.tables import facts, plural, table

if TYPE_CHECKING:
    from net2net_cli.runtime.compare import Comparison
    from net2net_cli.runtime.figures import OutputDifference

DIGITS = 8
"""Of a cosine, behind the point."""


def comparison_payload(found: Comparison) -> dict[str, Any]:
    """Stable keys; a number that is not finite, or that an output cannot have, is null.

    `passed`, `error` (the largest difference of an output, over the standard deviation of the teacher's), `tolerance`,
    `tolerance_reason`, `smallest_tolerance`, `level` (`outputs`, `train`), `proves` (a sentence), `explanation` (why
    they differ, where that is known), `samples`, `device`, `driver`, `torch`, `cuda_build`, `dtype`, `autocast`,
    `mode`, `warnings`, `notes`, and for each of `outputs`:

    - `name`, `largest` (absolute difference), `relative` (root mean square of the differences over that of the
      teacher's output), `error`, `place` (of the largest), `teacher_value`, `student_value` (there);
    - `mean`, `quantiles` (absolute differences: 50, 90, 99 and 99.9 % of them are at most so large), `cosine`;
    - `same_top` (share of samples with the same largest element along the axis of classes), `same_top5` (mean share of
      the teacher's five largest that are among the student's), `kl` (mean over samples of KL(teacher ‖ student) in
      nats, after a softmax);
    - `not_finite`: null, or how many elements are NaN or infinite in both `alike`, how many `unlike`, and the `first`.
    """
    machine = found.machine
    return {
        "passed": found.passed,
        "error": _finite(found.error),
        "tolerance": found.tolerance,
        "tolerance_reason": found.tolerance_reason,
        "smallest_tolerance": _finite(found.smallest_tolerance),
        "level": found.level,
        "proves": found.proves,
        "explanation": found.explanation,
        "samples": found.samples,
        "device": found.device,
        "driver": machine.driver,
        "torch": machine.torch,
        "cuda_build": machine.cuda,
        "dtype": found.dtype,
        "autocast": found.autocast,
        "mode": found.mode,
        "warnings": list(found.warnings),
        "notes": list(found.notes),
        "outputs": [_output_payload(output) for output in found.outputs],
    }


def _output_payload(output: OutputDifference) -> dict[str, Any]:
    classes, odd = output.classes, output.not_finite
    return {
        "name": output.name,
        "largest": _finite(output.largest),
        "relative": _finite(output.relative),
        "error": _finite(output.error),
        "same_top": output.same_top,
        "same_top5": classes.few if classes else None,
        "kl": classes.divergence if classes else None,
        "place": list(output.place),
        "teacher_value": _finite(output.teacher_value),
        "student_value": _finite(output.student_value),
        "mean": _finite(output.mean),
        "quantiles": [_finite(value) for value in output.quantiles],
        "cosine": output.cosine,
        "not_finite": odd and {"alike": odd.alike, "unlike": odd.unlike, "first": list(odd.first)},
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def comparison_text(found: Comparison) -> str:
    """The verdict, a row for each output, and where the largest difference is."""
    header = ("output", "max |Δ|", "mean |Δ|", "relative", "error", "top 1", "top 5", "KL")
    rows = [_row(output) for output in found.outputs]
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    figures = table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], "<" + ">" * (len(kept) - 1))
    return f"{figures}\n\n{facts([*_worst(found.worst, named=len(rows) > 1), *_verdict(found)])}"


def _row(output: OutputDifference) -> tuple[str, ...]:
    classes = output.classes
    return (
        output.name,
        f"{output.largest:.3g}",
        f"{output.mean:.3g}",
        f"{output.relative:.3g}",
        f"{output.error:.3g}",
        _share(classes.top if classes else None),
        _share(classes.few if classes else None),
        "" if classes is None or classes.divergence is None else f"{classes.divergence:.2g}",
    )


def _worst(worst: OutputDifference, *, named: bool) -> list[tuple[str, str]]:
    """More of the output with the largest error."""
    if not worst.largest or not worst.place:
        return []
    where = f"{list(worst.place)}" + (f" of `{worst.name}`" if named else "")
    shares = zip(("50 %", "90 %", "99 %", "99.9 %"), worst.quantiles, strict=True)
    return [
        ("largest |Δ|", f"at {where}: teacher {worst.teacher_value:.7g}, student {worst.student_value:.7g}"),
        ("quantiles", ", ".join(f"{share} ≤ {value:.2g}" for share, value in shares)),
        ("cosine", "" if worst.cosine is None else f"{worst.cosine:.{DIGITS}f}"),
    ]


def _verdict(found: Comparison) -> list[tuple[str, str]]:
    return [
        ("error", f"{found.error:.3g} (standard deviations; the smallest tolerance that passes)"),
        ("tolerance", f"{found.tolerance:.2g} ({found.tolerance_reason})"),
        ("compared", how_compared(found)),
        ("machine", str(found.machine)),
        ("outputs", "agree" if found.passed else "differ"),
        ("proves", found.proves),
    ]


def how_compared(found: Comparison) -> str:
    """`8 inputs in float64 on cpu`."""
    mode = ", in training mode" if found.mode == "train" else ""
    arithmetic = f"{found.dtype} autocast" if found.autocast else found.dtype
    return f"{plural(found.samples, 'input')} in {arithmetic} on {found.device}{mode}"


def _share(share: float | None) -> str:
    return "" if share is None else "100%" if share == 1 else f"{share:.3%}"
