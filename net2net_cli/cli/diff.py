"""`net2net diff`.

With `--json` one object: `teacher`, `student` (paths), and `layers`, `parameters`, `multiply_adds`, `bytes` as for the
growing commands; `kind` may also be `narrower` or `gone`. `bytes` is null where one of the two is a spec alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from net2net_cli.cli import options as o

EXAMPLES = o.examples("net2net diff teacher.safetensors student.safetensors")


def diff(
    teacher: Annotated[Path, o.path_argument(metavar="TEACHER", help="Checkpoint, or a spec (.json).")],
    student: Annotated[Path, o.path_argument(metavar="STUDENT", help="Checkpoint, or a spec (.json).")],
    spec: o.Spec = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show what differs between two networks."""
    from net2net_cli.cli.diff_report import diff_payload, diff_text
    from net2net_cli.cli.opening import open_network
    from net2net_cli.cli.printing import Printer

    printer = Printer(quiet, verbose, json)
    payload = diff_payload(open_network(teacher, spec, printer), open_network(student, None, printer))
    printer.data(diff_text(payload, every=verbose), payload)
