"""`net2net widen`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from net2net_cli.cli import options as o

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

EXAMPLES = o.examples(
    "net2net widen teacher.safetensors layer1.0.conv1=2x -o student.safetensors",
    "net2net widen teacher.safetensors 'layer3.*.conv1=+64' --round-to 32 --dry-run",
    "net2net widen vit.safetensors '**.self_attention:heads=16' -o student.safetensors",
)


def widen(
    teacher: o.Teacher,
    widths: o.Widths = None,
    out: o.Out = None,
    like: Annotated[
        Path | None, o.path_option("--like", metavar="SPEC", help="Take the widths of a wider network instead.")
    ] = None,
    split: o.Split = "ownership",
    noise: Annotated[
        float, typer.Option("--noise", min=0.0, help="Of copies, in units of their size; above 0 is approximate.")
    ] = 0.0,
    round_to: o.RoundTo = 1,
    where_possible: o.WherePossible = False,
    optimizer: o.Optimizer = None,
    spec: o.Spec = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    seed: o.Seed = 0,
    device: o.DeviceOption = "auto",
    verify: o.Verify = True,
    allow_nan: o.AllowNan = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Make layers wider; the outputs stay the same.

    All that is coupled to a layer grows with it. The student is written, read back, compared with the teacher, and only
    then put in its place.
    """
    from net2net_cli.cli.growing import Growth, grow
    from net2net_cli.cli.printing import Printer
    from net2net_cli.cli.requests import finite, widths_or_like

    wanted = widths_or_like(teacher, widths or [], like)
    finite("--noise", noise)

    def operation(network: Net2Net) -> Net2Net:
        return network.widen(
            wanted,
            like=like,
            split=split,
            noise=noise,
            seed=seed,
            round_to=round_to,
            where_possible=where_possible,
        )

    printer = Printer(quiet, verbose, json)
    asked = Growth(
        *(teacher, out, spec, force, dry_run, device, verify, allow_nan, seed, printer, trust_code), optimizer=optimizer
    )
    grow(asked, operation)
