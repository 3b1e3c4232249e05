"""What `forward` returns: output names nested in tuples, lists, dicts and named tuples.

A structure is JSON: an output's name, null, `{"tuple": […]}`, `{"list": […]}`, `{"dict": {…}}` or
`{"namedtuple": "TypeName", "fields": {…}}`.
"""

from __future__ import annotations

from collections.abc import Iterator

from net2net_cli.architecture.graph import Graph, Layer, Mode, Structure


def structure_of(graph: Graph, mode: Mode) -> Structure:
    """What `forward` returns in `mode`.

    Where the graph does not say it, the other mode's structure holds; where it says nothing at all, a single output is
    returned as it is and several as a tuple.
    """
    for known in (mode, "eval", "train"):
        if known in graph.returns:
            return graph.returns[known]
    names = list(graph.outputs)
    return names[0] if len(names) == 1 else {"tuple": names}


def output_names(structure: Structure) -> Iterator[str]:
    """The outputs that a structure holds, in its order."""
    if isinstance(structure, str):
        yield structure
    elif structure is not None:
        for part in parts_of(structure):
            yield from output_names(part)


def parts_of(structure: dict[str, Structure]) -> list[Structure]:
    """What one level of a structure holds."""
    held = structure["fields"] if "namedtuple" in structure else next(iter(structure.values()))
    return list(held.values()) if isinstance(held, dict) else list(held)


def layers_of(graph: Graph, mode: Mode) -> list[Layer]:
    """The layers that run in `mode`, in order."""
    return [layer for layer in graph.layers if mode == "train" or layer.when == "always"]
