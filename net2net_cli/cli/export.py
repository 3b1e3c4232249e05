"""`net2net export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from net2net_cli.cli import options as o

EXAMPLES = o.examples(
    "net2net export student.safetensors --to python -o student.py",
    "net2net export student.safetensors --to torch -o student.pt",
)


def export(
    checkpoint: Annotated[Path, o.path_argument(metavar="CHECKPOINT", help="Checkpoint to export.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="python: module source; torch: state dict.")],
    out: Annotated[Path | None, o.path_option("-o", "--out", metavar="FILE", help="Where it goes.")] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class-name", metavar="NAME", help="Of the Python class; the network's, if not given."),
    ] = None,
    spec: o.Spec = None,
    force: o.Force = False,
    allow_nan: o.AllowNan = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Write plain PyTorch source, or a state dict."""
    from net2net_cli.architecture.trust import check_trust
    from net2net_cli.cli.exporting import check_format, check_place, export_to
    from net2net_cli.cli.opening import open_network
    from net2net_cli.cli.printing import Printer

    printer = Printer(quiet, verbose, json)
    check_format(to)
    place = check_place(checkpoint, to, out, force=force)
    network = open_network(checkpoint, spec, printer, allow_nan=allow_nan, trust_code=trust_code)
    check_trust(network.graph, trusted=trust_code)
    payload = export_to(network, to, place, class_name)
    printer.say(f"wrote `{place}`")
    printer.object(payload)
