"""`net2net env`."""

from __future__ import annotations

from net2net_cli.cli import options as o

EXAMPLES = o.examples("net2net env")


def env(json: o.Json = False, quiet: o.Quiet = False, verbose: o.Verbose = False) -> None:
    """Show PyTorch, driver and devices, and whether they fit."""
    from net2net_cli.cli.environment import environment_payload, environment_text
    from net2net_cli.cli.printing import Printer
    from net2net_cli.errors import MachineError

    payload = environment_payload()
    Printer(quiet, verbose, json).data(environment_text(payload), payload)
    if payload["torch"] is None:
        raise MachineError(f"cannot use PyTorch: {payload['torch_problem']}", "install it: `pip install torch`")
