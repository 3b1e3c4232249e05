"""The command `net2net`. Each command is made when it is asked for, and imports what it needs when it runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from net2net_cli.cli.boundary import CommandGroup, end_process
from net2net_cli.cli.conversion import Command
from net2net_cli.cli.options import settings

COMMANDS = {
    "import": "import_",
    "inspect": "inspect",
    "widen": "widen",
    "deepen": "deepen",
    "grow": "grow",
    "apply": "apply",
    "random-pad": "random_pad",
    "verify": "verify",
    "diff": "diff",
    "export": "export",
    "schema": "schema",
    "env": "env",
}
"""Every command, in the order of the help, with the name of its module and of its function."""

PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,  # plain help comes up in half the time
    "pretty_exceptions_enable": False,
}


class Commands(CommandGroup):
    """All commands; those that nobody asks for are not made."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _made(cmd_name)
        return self.commands.get(cmd_name)


def _made(name: str) -> Any:
    module = import_module(f"net2net_cli.cli.{COMMANDS[name]}")
    alone = typer.Typer(add_completion=False, **PLAIN)
    command = alone.command(name, cls=Command, epilog=module.EXAMPLES, context_settings=settings())
    command(getattr(module, COMMANDS[name]))
    return typer.main.get_command(alone)


app = typer.Typer(name="net2net", cls=Commands, no_args_is_help=True, context_settings=settings(), **PLAIN)


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


def main() -> None:
    """Run the command line and end the process."""
    end_process(typer.main.get_command(app).main(args=sys.argv[1:], prog_name="net2net", standalone_mode=False))
