"""`net2net import`.

With `--json` one object: the keys of `net2net inspect --json` without `layers` and `blocks`, and `notes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from net2net_cli.cli import options as o

EXAMPLES = o.examples(
    "net2net import torchvision.models:resnet18 --weights resnet18.pth -o teacher.safetensors",
    "net2net import model.py:Net --kwarg num_classes=10 --input 1x28x28 --weights net.pt -o teacher.safetensors",
)


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="package.module:callable or file.py:callable; makes an nn.Module.")
    ],
    out: Annotated[
        Path | None, o.path_option("-o", "--out", metavar="FILE", help="Where it goes (.safetensors).")
    ] = None,
    weights: Annotated[
        Path | None,
        o.path_option(
            "--weights", metavar="FILE", help="A .safetensors, .pt or .pth file, or the index of shards (.json)."
        ),
    ] = None,
    kwarg: Annotated[
        list[str] | None, typer.Option("--kwarg", metavar="NAME=VALUE", help="Argument for the callable; repeatable.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="Of one input, as in 3x224x224; repeatable, in order."),
    ] = None,
    leaf: o.Leaves = None,
    force: o.Force = False,
    seed: o.Seed = 0,
    allow_nan: o.AllowNan = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Trace a PyTorch network; write its spec and checkpoint.

    The network is called, traced in evaluation and in training mode, rebuilt from its spec, and compared with itself.
    What is not known is kept as it is (`opaque`), and names the code that is needed to run it.
    """
    from net2net_cli.cli.importing import Import, run_import
    from net2net_cli.cli.printing import Printer

    asked = Import(
        source, out, weights, tuple(kwarg or ()), tuple(inputs or ()), force, seed, allow_nan, tuple(leaf or ())
    )
    run_import(asked, Printer(quiet, verbose, json))
