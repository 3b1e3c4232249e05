"""`net2net deepen`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from net2net_cli.cli import options as o

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

EXAMPLES = o.examples(
    "net2net deepen teacher.safetensors features.3 -o student.safetensors",
    "net2net deepen resnet.safetensors layer2.1 --count 2 -o student.safetensors   # repeats a residual block",
)


def deepen(
    teacher: o.Teacher,
    layers: o.Layers,
    out: o.Out = None,
    kernel: Annotated[
        int | None, typer.Option("--kernel", min=1, help="Size of new kernels, odd; that of the layer before.")
    ] = None,
    number: Annotated[int, typer.Option("--count", min=1, metavar="N", help="New layers or blocks for each name.")] = 1,
    bn: Annotated[
        o.StartChoice, typer.Option("--bn", help="New batch norms: statistics as estimated, or mean 0, variance 1.")
    ] = "estimate",
    where_possible: o.WherePossible = False,
    inputs: o.Inputs = None,
    optimizer: o.Optimizer = None,
    spec: o.Spec = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    device: o.DeviceOption = "auto",
    seed: o.Seed = 0,
    verify: o.Verify = True,
    allow_nan: o.AllowNan = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Make the network deeper; the outputs stay the same.

    Behind a LAYER's activation a new layer is inserted that starts as the identity; a residual block is repeated, with
    a branch that starts at zero.
    """
    from net2net_cli.cli.growing import Growth, grow
    from net2net_cli.cli.printing import Printer
    from net2net_cli.cli.torch_needed import need_torch

    if inputs is not None:
        need_torch("without `--inputs` statistics are estimated")

    def operation(network: Net2Net) -> Net2Net:
        return network.deepen(
            layers,
            kernel=kernel,
            count=number,
            batch_norm=bn,
            where_possible=where_possible,
            inputs=inputs,
            device=device,
        )

    printer = Printer(quiet, verbose, json)
    asked = Growth(
        *(teacher, out, spec, force, dry_run, device, verify, allow_nan, seed, printer, trust_code), optimizer=optimizer
    )
    grow(asked, operation)
