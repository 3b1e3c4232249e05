"""Calls that no op reads become opaque layers: kept as they are."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import Node, map_aggregate

from net2net_cli.architecture.ops.arguments import Argument
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.shapes import Batch, Shape, dim_to_json
from net2net_cli.runtime import adapters
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.made_again import Remaking
from net2net_cli.runtime.opaque import argument
from net2net_cli.runtime.readings import is_random, spoken
from net2net_cli.runtime.seen import seen_of, tensors_in
from net2net_cli.runtime.site import Site, Value, holds_batch

HOMES = ("torch.nn.functional", "torch", "torch.fft", "torch.linalg", "torch.special", "operator")
"""Modules in which a function is looked for by itself, before the one that it says it comes from."""

BY_VALUE = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"}
"""Functions the shape of whose result depends on the values of what they are given."""


def keep_call(site: Site) -> Value:
    """A function that is not known.

    Raises:
        ValueError: it cannot be kept either; says why.
    """
    node, name = site.node, _own_name(site.node)
    if is_random(name):
        raise ValueError("it draws random numbers")
    if name in BY_VALUE:
        raise ValueError("the shape of what it returns depends on the data")
    _check_pure(site, name)
    if node.target is operator.getitem and any(t.dtype == torch.bool for t in tensors_in(_seen(node.args[1]))):
        raise ValueError("the shape of what it returns depends on the data")
    rebuild = _found_again(node)
    arguments = _Arguments(site)
    args = tuple(map(arguments.read, node.args))
    kwargs = {key: arguments.read(value) for key, value in node.kwargs.items()}

    def made(shape: Shape, output: int | None) -> Draft:
        _check_batch(arguments.inputs, shape)
        op = Opaque("function", rebuild, _written(shape), args, kwargs, output=output)
        return site.emit(op, arguments.inputs, shape, function=op.spoken.rpartition(".")[2].strip("_"))

    first = site.seen.first
    if isinstance(first, Tensor):
        return made(site.shape(), None)
    if not isinstance(first, (tuple, list)) or not all(isinstance(part, Tensor) for part in first):
        raise ValueError(f"it returns a `{type(first).__name__}` that holds more than tensors")
    return tuple(made(site.shape(i), i) for i in range(len(first)))


def keep_module(site: Site, module: nn.Module, path: str, remaking: Remaking) -> Draft:
    """A module that is not known, or is kept as it is on purpose.

    Raises:
        ValueError: it cannot be kept; says why.
    """
    if adapters.hooks_of(module):
        raise ValueError("it has hooks, which would not be made again with it")
    _check_pure(site, "forward")
    arguments = _Arguments(site)
    args = tuple(map(arguments.read, site.node.args))
    kwargs = {key: arguments.read(value) for key, value in site.node.kwargs.items()}
    output = _first_output(site.seen.first)
    shape = site.shape(output)
    _check_batch(arguments.inputs, shape)
    made = remaking.of(module, path)
    op = Opaque("module", output_shape=_written(shape), args=args, kwargs=kwargs, output=output, **made)
    draft = site.emit(op, arguments.inputs, shape)
    draft.wish, draft.owner = path, path if op.tensors() else None
    draft.tensors = {slot: id(attrgetter(slot)(module)) for slot in op.tensors()}
    return draft


def _first_output(returned: Any) -> int | None:
    """Which one is taken of what a module returned: the first of several, or None where it is a single tensor."""
    if isinstance(returned, Tensor):
        return None
    if not isinstance(returned, (tuple, list)) or not returned or not isinstance(returned[0], Tensor):
        raise ValueError(f"it returns a `{type(returned).__name__}`, and not a tensor, or a tensor first")
    return 0


class _Arguments:
    """Arguments of a call as a spec writes them; each tensor among them becomes an input."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.inputs: list[Draft] = []

    def read(self, value: Any) -> Argument:
        """One argument as it was recorded.

        Raises:
            ValueError: a spec cannot hold it.
        """
        return argument(self._plain(value), self._input)

    def _plain(self, value: Any) -> Any:
        """Nodes replaced by drafts and numbers; lists and tuples stay what they are."""
        if isinstance(value, Node):
            held = self._site.read(value)
            if holds_batch(held):
                raise ValueError("the batch size takes part in the computation")
            whole = isinstance(held, tuple) and isinstance(seen_of(value).first, list)
            return list(held) if whole else held
        if isinstance(value, slice):
            return slice(*map(self._plain, (value.start, value.stop, value.step)))
        if isinstance(value, (tuple, list)):
            items = [self._plain(item) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, torch.dtype) and (value.is_floating_point or value.is_complex):
            raise ValueError("a precision is written into it")
        return value

    def _input(self, value: Any) -> int:
        if not isinstance(value, Draft):
            return -1
        self.inputs.append(value)  # twice if it is given twice: so two calls of a module have the same form
        return len(self.inputs) - 1


def _seen(argument: Any) -> Any:
    """What an argument was, tensors in place of nodes."""
    return map_aggregate(argument, lambda inner: seen_of(inner).first if isinstance(inner, Node) else inner)


def _own_name(node: Node) -> str:
    if node.target is getattr:
        return str(node.args[1])
    return spoken(node, bare=True)


def _found_again(node: Node) -> str:
    """By which `module:callable` a function is found.

    Raises:
        ValueError: by none.
    """
    if node.op == "call_method":
        return f"torch:Tensor.{node.target}"
    if node.target is getattr:
        return "builtins:getattr"
    for home in HOMES:
        for name, function in vars(sys.modules[home]).items():
            if function is node.target and not name.startswith("_"):
                return f"{home}:{name}"
    module, qualified = (getattr(node.target, key, None) for key in ("__module__", "__qualname__"))
    if adapters.loaded(f"{module}.{qualified}") is not node.target:
        raise ValueError("it has no name by which it could be found again")
    return f"{module}:{qualified}"


def _check_pure(site: Site, name: str) -> None:
    in_place = name.endswith("_") and not name.endswith("__")
    if site.seen.wrote or in_place:
        raise ValueError("it writes in place into what it is given")


def _check_batch(inputs: Sequence[Draft], shape: Shape) -> None:
    """Each sample is computed by itself, as far as shapes tell: what comes in by the batch goes out by it."""
    if not inputs:
        raise ValueError("no tensor is given to it")
    batched = [any(isinstance(size, Batch) for size in sizes) for sizes in (*(x.shape for x in inputs), shape)]
    if any(batched) and not batched[-1]:
        raise ValueError("what it returns has no batch axis")


def _written(shape: Shape) -> tuple[int | str, ...]:
    return tuple(map(dim_to_json, shape))
