"""`net2net grow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from net2net_cli.cli import options as o

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

EXAMPLES = o.examples(
    "net2net grow resnet18.safetensors --like torchvision.models:resnet34 -o resnet34.safetensors",
    "net2net grow teacher.safetensors --like bigger.json -o student.safetensors",
)


def grow(
    teacher: o.Teacher,
    like: Annotated[
        str, typer.Option("--like", metavar="TARGET", help="A bigger network: a spec, or a source as for import.")
    ],
    out: o.Out = None,
    kwarg: Annotated[
        list[str] | None, typer.Option("--kwarg", metavar="NAME=VALUE", help="Argument for the source; repeatable.")
    ] = None,
    leaf: o.Leaves = None,
    split: o.Split = "ownership",
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
    """Widen and deepen until the student fits a bigger network.

    The student has the target's layers, names and shapes, so that its state dict loads strictly into the target's own
    class, and the teacher's outputs.
    """
    from net2net_cli.cli.growing import Growth
    from net2net_cli.cli.growing import grow as run
    from net2net_cli.cli.printing import Printer
    from net2net_cli.cli.targets import target_graph

    def operation(network: Net2Net) -> Net2Net:
        target = target_graph(like, tuple(kwarg or ()), network.graph, leaves=tuple(leaf or ()))
        return network.grow(target, split=split, seed=seed)

    printer = Printer(quiet, verbose, json)
    asked = Growth(
        *(teacher, out, spec, force, dry_run, device, verify, allow_nan, seed, printer, trust_code), optimizer=optimizer
    )
    run(asked, operation)
