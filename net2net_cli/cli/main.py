"""The command `net2net`. Only what `--help` needs is imported here; each command imports the rest when it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from net2net_cli.cli import apply, deepen, diff, env, export, grow, import_, inspect, random_pad, schema, verify, widen
from net2net_cli.cli.boundary import CommandGroup
from net2net_cli.cli.conversion import Command
from net2net_cli.cli.options import settings

app = typer.Typer(
    name="net2net",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help comes up in half the time
    pretty_exceptions_enable=False,
    context_settings=settings(),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from net2net_cli.cli.printing import print_raw
        from net2net_cli.version import __version__

        print_raw(f"net2net {__version__}\n")
        raise typer.Exit


@app.callback()
def net2net(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Grow trained neural networks without changing what they compute.

    Start with `net2net import`, look with `net2net inspect`, grow with `net2net widen` and `net2net deepen`.
    """


def _add(name: str, command: Any, epilog: str) -> None:
    app.command(name, cls=Command, epilog=epilog, context_settings=settings())(command)


_add("import", import_.import_, import_.EXAMPLES)
_add("inspect", inspect.inspect, inspect.EXAMPLES)
_add("widen", widen.widen, widen.EXAMPLES)
_add("deepen", deepen.deepen, deepen.EXAMPLES)
_add("grow", grow.grow, grow.EXAMPLES)
_add("apply", apply.apply, apply.EXAMPLES)
_add("random-pad", random_pad.random_pad, random_pad.EXAMPLES)
_add("verify", verify.verify, verify.EXAMPLES)
_add("diff", diff.diff, diff.EXAMPLES)
_add("export", export.export, export.EXAMPLES)
_add("schema", schema.schema, schema.EXAMPLES)
_add("env", env.env, env.EXAMPLES)


def main() -> None:
    """Run the command line and end the process."""
    typer.main.get_command(app).main(args=sys.argv[1:], prog_name="net2net")
