"""`net2net verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from net2net_cli.cli import options as o

EXAMPLES = o.examples(
    "net2net verify teacher.safetensors student.safetensors",
    "net2net verify teacher.safetensors student.safetensors --dtype float32 --inputs images/",
    "net2net verify teacher.safetensors student.safetensors --level train",
    "net2net verify teacher.safetensors student.safetensors --level proof",
    "net2net verify teacher.safetensors student.safetensors --locate --report page.html",
)


def verify(
    ctx: typer.Context,
    teacher: o.Teacher,
    student: Annotated[Path, o.path_argument(metavar="STUDENT", help="Checkpoint to compare with it.")],
    level: Annotated[
        o.LevelChoice,
        typer.Option(
            "--level",
            help="proof: every bit, by the lineage, nothing run. outputs: in evaluation. train: with gradients.",
        ),
    ] = "outputs",
    dtype: Annotated[
        o.TypeChoice | None, typer.Option("--dtype", help="Type both run in; float64 if the device has it.")
    ] = None,
    float64: Annotated[
        bool, typer.Option("--float64", help="The same as --dtype float64: rounding explains 1e-13 and no more.")
    ] = False,
    autocast: Annotated[
        bool, typer.Option("--autocast", help="Keep weights in float32; run in --dtype as torch.autocast does.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="How many random inputs.")] = 8,
    inputs: o.Inputs = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0.0, help="Largest error that passes, in standard deviations.")
    ] = None,
    locate: Annotated[
        bool, typer.Option("--locate", help="Compare every layer that both have; name the first that differs.")
    ] = False,
    report: Annotated[
        Path | None, o.path_option("--report", metavar="FILE", help="Write a page (.html) of what was found.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", hidden=True, help="The same as --level train.")] = False,
    spec: o.Spec = None,
    force: o.Force = False,
    device: o.DeviceOption = "auto",
    seed: o.Seed = 0,
    allow_nan: o.AllowNan = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare the outputs of two networks.

    Both run on the same inputs, or with `--level proof` none: every tensor is what the lineage makes of the teacher.
    Exit code 0: they compute the same; 1: they do not, or that is not proved.
    """
    from net2net_cli.cli.printing import Printer, code_that_may_print

    printer = Printer(quiet, verbose, json)
    if level == "proof":
        from net2net_cli.cli.proof_report import prove

        prove(ctx, printer)
        return
    from net2net_cli.architecture.trust import check_trust
    from net2net_cli.checking import Checking
    from net2net_cli.cli.comparison import comparison_payload, comparison_text
    from net2net_cli.cli.locating import Wanted
    from net2net_cli.cli.opening import open_model
    from net2net_cli.cli.requests import finite, only_type
    from net2net_cli.cli.torch_needed import need_torch

    finite("--tolerance", tolerance)
    wanted = Wanted(locate, report, force, (teacher, student))
    first = open_model(teacher, spec, allow_nan, printer, trust_code=trust_code)
    second = open_model(student, None, allow_nan, printer, trust_code=trust_code)
    for model in (first, second):
        check_trust(model.graph, trusted=trust_code)
    need_torch()
    checking = Checking(
        device,
        only_type(dtype, float64=float64),
        batch,
        inputs,
        tolerance,
        seed,
        "train" if train or level == "train" else "outputs",
        autocast,
    )
    with code_that_may_print(trusted=trust_code):
        found = second.verify(first, checking=checking)
        where = wanted.found(first, second, checking, found)
    for warning in found.warnings:
        printer.warn(warning)
    for note in found.notes:
        printer.note(note)
    payload = comparison_payload(found)
    printer.summary(*wanted.told(comparison_text(found), payload, where))
    wanted.write(first, second, payload, where)
    found.raise_if_different()
