"""Code that a spec names: what it is, and that nobody runs it unasked."""

from __future__ import annotations

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.errors import UntrustedCodeError

_SHOWN = 4


def named_code(graph: Graph) -> dict[str, list[str]]:
    """The code that opaque layers name, and the layers that name it, in order."""
    found: dict[str, list[str]] = {}
    for layer in graph.layers:
        if isinstance(layer.op, Opaque):
            found.setdefault(layer.op.rebuild, []).append(layer.name)
    return found


def check_trust(graph: Graph, *, trusted: bool) -> None:
    """Whether the code that a graph names may be imported and run.

    Raises:
        UntrustedCodeError: it names some, and is not trusted; nothing was imported.
    """
    code = named_code(graph)
    if code and not trusted:
        said = ", ".join(f"`{rebuild}` (layer {_listed(layers)})" for rebuild, layers in list(code.items())[:_SHOWN])
        more = f" and {len(code) - _SHOWN} more" if len(code) > _SHOWN else ""
        raise UntrustedCodeError(
            f"to run `{graph.name}`, code that its spec names would be imported: {said}{more}",
            "if you trust whoever made the file, add `--trust-code` (in Python: `trust_code=True`)",
        )


def _listed(layers: list[str]) -> str:
    return f"`{layers[0]}`" + (f" and {len(layers) - 1} more" if len(layers) > 1 else "")
