"""Which layers `inspect` was asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from net2net_cli.errors import UsageError

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph


def named_layers(graph: Graph, known: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Layers, layers that match a glob, and layers inside a block; each once.

    Raises:
        UsageError: there is no such layer, or it has no parameters.
    """
    from net2net_cli.growth.requests import glob_to_regex, unknown_layer

    found: dict[str, None] = {}
    for name in names:
        if name in graph.by_name:
            matching = [_with_parameters(graph, known, name)]
        elif any(c in name for c in "*?["):
            pattern = glob_to_regex(name)
            matching = [layer for layer in known if pattern.fullmatch(layer)]
        else:
            matching = [layer for layer in known if layer.startswith(f"{name}.")]
        if not matching:
            raise unknown_layer(graph, name)
        found |= dict.fromkeys(matching)
    return list(found)


def _with_parameters(graph: Graph, known: Mapping[str, Any], name: str) -> str:
    layer = graph.by_name[name]
    if layer.owner in known:
        return layer.owner
    inputs = ", ".join(f"`{i}`" for i in layer.inputs)
    raise UsageError(
        f"`{name}` ({layer.op.name}) has no parameters: it takes its channels from {inputs}",
        f"ask about {inputs}, or about a layer before it",
    )
