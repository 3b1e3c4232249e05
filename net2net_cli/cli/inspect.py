"""`net2net inspect`.

With `--json` one object:

- `name`, `source`, `file`; `parameters`, `multiply_adds`; `bytes` and `dtypes` (dtype -> bytes), null for a spec alone;
- `inputs`: `name`, `shape` (the batch axis is `"n"`), `dtype`; `outputs`: name -> shape;
- `code`: what opaque layers name, `module:callable` -> their layers; to run it takes `--trust-code`;
- `lineage`: the steps by which it was grown, oldest first, as the checkpoint records them;
- `layers`: those with tensors, or those that were named: `name`, `op`, `kernel`, `groups`, `depthwise`, `width`,
  `own_width` (false where it follows others), `widths` (others that it has, by name, as an attention's `heads`),
  `parameters`, `multiply_adds`, `grows_with` (a list of `layer`, `why`), `follows`, `followers`, `readers`,
  `not_widened` and `not_deepened` (null, or why not), `not_fresh` (null, or what would see new channels that stand in
  the place of copies, `--split fresh`); `next_widths` for those that were named;
- `blocks`: the residual blocks that `net2net deepen` can repeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from net2net_cli.cli import options as o

EXAMPLES = o.examples(
    "net2net inspect model.safetensors",
    "net2net inspect model.safetensors layer1.0.conv3   # one layer, and why it grows with others",
)


def inspect(
    checkpoint: Annotated[Path, o.path_argument(metavar="CHECKPOINT", help="Checkpoint, or a spec (.json).")],
    layers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LAYER", help="Show all about these: layers, globs, blocks.", autocompletion=o.complete_layer
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="List norms and the like as well.")] = False,
    spec: o.Spec = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show the layers, what grows with them, and what can grow.

    With LAYER, all about these: the coupled group and the reason for each member, and why one cannot be grown.
    """
    from net2net_cli.cli.inspect_report import inspect_payload, inspect_text
    from net2net_cli.cli.opening import open_network
    from net2net_cli.cli.printing import Printer

    printer = Printer(quiet, verbose, json)
    payload = inspect_payload(open_network(checkpoint, spec, printer), layers or [])
    printer.data(inspect_text(payload, detail=bool(layers), every=every or verbose), payload)
