"""`net2net random-pad`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from net2net_cli.cli import options as o

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

EXAMPLES = o.examples("net2net random-pad teacher.safetensors layer1.0.conv1=2x -o padded.safetensors")


def random_pad(
    teacher: o.Teacher,
    widths: o.Widths = None,
    out: o.Out = None,
    std: Annotated[
        float | None, typer.Option("--std", min=0.0, help="Of new weights; PyTorch's initialisation if not given.")
    ] = None,
    round_to: o.RoundTo = 1,
    where_possible: o.WherePossible = False,
    spec: o.Spec = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    seed: o.Seed = 0,
    allow_nan: o.AllowNan = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Make layers wider with random weights: the paper's baseline.

    The shapes are those of `widen`; all that is new is drawn at random. It preserves nothing.
    """
    from net2net_cli.cli.growing import Growth, grow
    from net2net_cli.cli.printing import Printer
    from net2net_cli.cli.requests import finite, widths_or_like

    wanted = widths_or_like(teacher, widths or [], None, command="random-pad")
    finite("--std", std)

    def operation(network: Net2Net) -> Net2Net:
        return network.random_pad(wanted, std=std, seed=seed, round_to=round_to, where_possible=where_possible)

    printer = Printer(quiet, verbose, json)
    grow(Growth(teacher, out, spec, force, dry_run, "cpu", False, allow_nan, seed, printer), operation)
