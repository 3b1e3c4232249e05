"""A proof, for people and for programs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.tables import brief, count, facts, plural, table
from net2net_cli.errors import UsageError

if TYPE_CHECKING:
    import typer

    from net2net_cli.cli.printing import Printer
    from net2net_cli.proof import Proof, TensorDifference

MOST_ROWS = 10
MEANT = {
    *("ctx", "teacher", "student", "level", "spec", "allow_nan", "trust_code", "json", "quiet", "verbose"),
    *("report", "force"),
}
"""Parameters of `verify` that mean something where nothing is run."""

EXACTNESS = {
    "exact": "exactly: numbers of the teacher's, or numbers that sum to them",
    "rounded": "up to the rounding of a new batch norm's statistics",
    "scaled": "up to the rounding of weights that the growth multiplied",
}


def prove(context: typer.Context, printer: Printer) -> None:
    """`net2net verify --level proof`, with the other parameters of the command.

    Raises:
        UsageError: an option says how networks are run.
        NotProvedError: the student is not what its lineage says, or not meant to compute the same.
    """
    from net2net_cli.cli.locating import Wanted
    from net2net_cli.cli.opening import open_model, stored_bytes
    from net2net_cli.cli.progress import Progress

    _refuse_options(context)
    given = context.params
    # some versions of typer keep the words of the command line here
    paths = {name: given[name] and Path(given[name]) for name in ("teacher", "student", "spec", "report")}
    wanted = Wanted(False, paths["report"], given["force"], (paths["teacher"], paths["student"]))
    # NaN are bits like all others
    teacher = open_model(paths["teacher"], paths["spec"], True, printer)
    student = open_model(paths["student"], None, True, printer)
    with Progress(printer, stored_bytes(student)) as progress:
        progress.stage("comparing bits")
        found = student.prove(teacher, on_bytes=progress.advance)
    payload = proof_payload(found)
    printer.summary(proof_text(found), payload)
    wanted.write(teacher, student, payload, None)
    found.raise_if_different()


def _refuse_options(context: typer.Context) -> None:
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in MEANT and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"`{parameter.opts[0]}` says how networks are run, and `--level proof` runs none",
                "leave it out, or compare what they compute: `--level outputs`",
            )


def proof_payload(found: Proof) -> dict[str, Any]:
    """Stable keys; a number that is not finite is null.

    `level` (`proof`), `passed`; `replays` (every bit is what the lineage says), `exact` (its growths keep what the
    network computes; both must hold), `exactness` (`exact`, `rounded` or `scaled`); `operations` (from teacher to
    student), `tensors` and `bytes` (how many were compared), `identities` (batch norms of which only that was checked,
    since their statistics were measured on data), `problems` (sentences), and for each tensor of `differences`: `name`,
    `differing` (how many elements) of `elements`, and of the first one: `index`, `expected`, `expected_bits`, `found`,
    `found_bits`, `teacher_tensor` and `teacher_index` (which it should come from; null for what is new, and an index of
    null where the mean is taken).
    """
    return {
        "level": "proof",
        "passed": found.passed,
        "replays": found.replays,
        "exact": found.exact,
        "exactness": found.exactness,
        "operations": [step.operation for step in found.steps],
        "tensors": found.tensors,
        "bytes": found.bytes,
        "identities": list(found.identities),
        "problems": list(found.problems),
        "differences": [_difference_payload(difference) for difference in found.differences],
    }


def _difference_payload(difference: TensorDifference) -> dict[str, Any]:
    bits, place = difference.bits, difference.place
    return {
        "name": bits.name,
        "differing": bits.count,
        "elements": bits.elements,
        "index": list(bits.index),
        "expected": _finite(bits.expected.value),
        "expected_bits": bits.expected.bits,
        "found": _finite(bits.found.value),
        "found_bits": bits.found.bits,
        "teacher_tensor": place.tensor,
        "teacher_index": list(place.index) if place.tensor is not None else None,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def proof_text(found: Proof) -> str:
    """What differs, and the verdict."""
    size = f"{plural(found.tensors, 'tensor')}, {brief(found.bytes)}B"
    verdict = facts(
        [
            ("proof", _verdict(found)),
            ("compared", f"{size}{'' if found.differences else ': each bit is what its growth makes of the teacher'}"),
            ("grown by", ", ".join(step.operation for step in found.steps)),
            ("numbers", f"agree {EXACTNESS[found.exactness]}" if found.passed else ""),
            ("new channels", _new_channels(found)),
            ("checked otherwise", _identities(found)),
        ]
    )
    return f"{_differences(found)}\n\n{verdict}" if found.differences else verdict


def _new_channels(found: Proof) -> str:
    new = found.passed and any(plan.split == "fresh" for plan in found.plans)
    return "weights of zero read them" if new else ""


def _verdict(found: Proof) -> str:
    if found.passed:
        return "the student computes what the teacher computes"
    if found.replays:
        return "none: the student is what its lineage says, to the last bit, and approximate by construction"
    return "none: the student is not what its lineage says"


def _identities(found: Proof) -> str:
    if not found.identities:
        return ""
    norms = plural(len(found.identities), "batch norm")
    return f"{norms} with statistics that were measured on data: the identity, whatever the data"


def _differences(found: Proof) -> str:
    shown = found.differences[:MOST_ROWS]
    rows = [
        (b.name, f"{count(b.count)} of {count(b.elements)}", str(list(b.index)), b.found.bits, b.expected.bits)
        for b in (difference.bits for difference in shown)
    ]
    text = table(("tensor", "differ", "first at", "found", "expected"), rows, "<><>>")
    rest = len(found.differences) - len(shown)
    return f"{text}\n… and {plural(rest, 'more tensor')}" if rest else text
