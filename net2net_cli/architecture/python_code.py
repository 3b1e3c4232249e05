"""Code that opaque layers name, as an exported file imports and calls it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import PurePath

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.arguments import Form, unfolded
from net2net_cli.architecture.ops.base import Call
from net2net_cli.architecture.ops.opaque import THE_MODULE, Code, Opaque
from net2net_cli.architecture.python_layout import Expression, call, flat, grouping, listing, literal, quoted
from net2net_cli.errors import UsageError

ATTRIBUTE = "getattr"
"""The target of a `Call` that reads an attribute of its first argument."""


def imports_of(graph: Graph) -> list[tuple[str, str]]:
    """The modules that opaque layers need beside torch, and what is to be said of each.

    Raises:
        UsageError: a file has no name by which it can be imported.
    """
    found: dict[str, str] = {}
    for layer in graph.layers:
        if isinstance(layer.op, Opaque):
            code = Code.of(layer.op.rebuild)
            if not _in_torch(code.place) and code.place != "builtins":
                found[module_name(code)] = f"{code.place}, whose folder must be on sys.path" if code.is_file else ""
    return sorted(found.items())


def module_name(code: Code) -> str:
    """The module by which code is imported: for a file the file's name.

    Raises:
        UsageError: it is no name of a module.
    """
    name = PurePath(code.place).stem if code.is_file else code.place
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"`{code.place}` cannot be imported by a Python file, because `{name}` is no name of a module",
            "`--to torch` needs no source; or rename the file and import the network again",
        )
    return name


def _in_torch(place: str) -> bool:
    return place == "torch" or place.startswith("torch.")


def written(made: Call) -> Call:
    """The call of an opaque layer with its target as it stands in the file."""
    args = tuple(written(arg) if isinstance(arg, Call) else arg for arg in made.args)
    return dataclasses.replace(made, target=_target(made.target), args=args)


def _target(target: str) -> str:
    if target == THE_MODULE or ":" not in target:
        return target
    code = Code.of(target)
    return ATTRIBUTE if target == "builtins:getattr" else f"{module_name(code)}.{code.name}"


def maker(op: Opaque) -> Expression:
    """What makes the module of an opaque layer: `nn.Bilinear(…)`, `model.Net(width=8).get_submodule("mixer")`."""
    code = Code.of(op.rebuild)
    home = "nn" if code.place == "torch.nn" else module_name(code)
    made = call(f"{home}.{code.name}", (), {key: plain(unfolded(held)) for key, held in op.made_with.items()})
    return f"{flat(made)}.get_submodule({quoted(op.submodule)})" if op.submodule else made


def plain(argument: object) -> Expression:
    """A plain argument as Python."""
    if isinstance(argument, Form):
        return f"torch.{argument.value}"
    if isinstance(argument, dict):
        return "{" + ", ".join(f"{flat(plain(key))}: {flat(plain(held))}" for key, held in argument.items()) + "}"
    if isinstance(argument, list):
        return listing(map(plain, argument))
    return grouping(map(plain, argument)) if isinstance(argument, tuple) else literal(argument)


def dtypes_in(graph: Graph) -> Iterator[str]:
    """The types that arguments of opaque layers name."""
    waiting: list[object] = []
    for layer in graph.layers:
        if isinstance(layer.op, Opaque):
            waiting += [*layer.op.args, *layer.op.kwargs.values(), *layer.op.made_with.values()]
    while waiting:
        held = waiting.pop()
        if isinstance(held, Form) and held.kind == "dtype":
            yield str(held.value)
        inner = held.value if isinstance(held, Form) else held
        waiting += inner if isinstance(inner, tuple) else ()
