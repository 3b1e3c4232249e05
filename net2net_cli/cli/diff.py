"""`net2net diff`.

With `--json` one object: `teacher`, `student` (paths), and `layers`, `parameters`, `multiply_adds`, `bytes` as for the
growing commands; `kind` may also be `narrower` or `gone`. `bytes` is null where one of the two is a spec alone. With
`--recipe` the object is `{"recipe": TEXT}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from net2net_cli.cli import options as o

EXAMPLES = o.examples(
    "net2net diff teacher.safetensors student.safetensors",
    "net2net diff teacher.safetensors student.safetensors --recipe > recipe.toml",
)


def diff(
    teacher: Annotated[Path, o.path_argument(metavar="TEACHER", help="Checkpoint, or a spec (.json).")],
    student: Annotated[Path, o.path_argument(metavar="STUDENT", help="Checkpoint, or a spec (.json).")],
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Print the operations that led from one to the other, for `apply`.")
    ] = False,
    spec: o.Spec = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show what differs between two networks."""
    from net2net_cli.cli.diff_report import diff_payload, diff_text, recipe_between
    from net2net_cli.cli.opening import open_network
    from net2net_cli.cli.printing import Printer

    printer = Printer(quiet, verbose, json)
    before, after = open_network(teacher, spec, printer), open_network(student, None, printer)
    if recipe:
        text = recipe_between(before, after)
        printer.data(text.rstrip(), {"recipe": text})
        return
    payload = diff_payload(before, after)
    printer.data(diff_text(payload, every=verbose), payload)
