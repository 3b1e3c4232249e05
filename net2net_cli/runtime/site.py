"""One recorded call, as the code that turns it into layers sees it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn
from torch.fx.node import Node

from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops.join import Cat
from net2net_cli.architecture.shapes import Batch, Shape, show
from net2net_cli.errors import Net2NetError, TraceError
from net2net_cli.runtime.arrangement import Arrangement, reshaped
from net2net_cli.runtime.drafts import Draft, FinalStates
from net2net_cli.runtime.readings import spoken
from net2net_cli.runtime.seen import Seen, dim_of, seen_of, shape_of, tensors_in
from net2net_cli.runtime.tracer import NAMED, WHERE
from net2net_cli.runtime.where import Where

Value: TypeAlias = "Draft | tuple[Draft, ...]"
"""What a call makes: a tensor, or several."""

_OTHER_NAMES = {"axis": "dim", "keepdims": "keepdim", "x2": "other", "axis0": "dim0", "axis1": "dim1"}
"""Numpy's names for arguments, which torch accepts, and torch's own."""

_HARMLESS = {"memory_format", "inplace", "out", "dtype", "non_blocking", "copy", "implicit", "_stacklevel"}


class Home(Protocol):
    """What a call needs of the graph that it stands in."""

    mode: str
    model: nn.Module
    batches: Sequence[int]
    inputs: list[Draft]

    def value_of(self, node: Node) -> Any:
        """The drafts that an earlier call made; refused where it was overwritten since."""

    def size_of(self, node: Node) -> Draft:
        """The draft of a tensor whose size alone is read."""

    def add(self, draft: Draft) -> Draft:
        """Put a draft behind the others."""

    def constant(self, site: Site, value: torch.Tensor) -> Draft | None:
        """The layer of a constant; None where a spec cannot hold it."""


@dataclass(slots=True)
class Arguments:
    """Arguments of a call by the names of its signature: tensors in order, and the others."""

    tensors: list[Draft]
    plain: dict[str, Any]
    named: dict[str, Any]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of the tensors."""
        return tuple(t.shape for t in self.tensors)


class Site:
    """A recorded call."""

    def __init__(self, home: Home, node: Node) -> None:
        self.home = home
        self.node = node

    @property
    def seen(self) -> Seen:
        """What it gave at each batch size."""
        return seen_of(self.node)

    @property
    def where(self) -> Where:
        """The user's line."""
        found: Where = self.node.meta[WHERE]
        return found

    @property
    def path(self) -> str:
        """The module that it stands in."""
        return self.where.module

    def shape(self, i: int | None = None) -> Shape:
        """Of its result, or of the i-th of several."""
        values = self.seen.values if i is None else tuple(v[i] for v in self.seen.values)
        return shape_of(values, self.home.batches)

    def error(self, problem: str, hint: str | None = None) -> TraceError:
        """An error at the user's line."""
        return self.where.error(problem, hint)

    def name(self, function: str | None = None) -> str:
        """The name that its layer would like to have."""
        if NAMED in self.node.meta:
            return str(self.node.meta[NAMED])
        last = (function or spoken(self.node, bare=True)).strip("_")
        return f"{self.path}.{last}" if self.path else last

    def emit(
        self,
        op: Op | Arrangement,
        inputs: Sequence[Draft],
        shape: Shape | None = None,
        *,
        function: str | None = None,
        sizes_of: Sequence[Draft] = (),
    ) -> Draft:
        """A new layer; an arrangement that moves nothing is its input."""
        if isinstance(op, Arrangement):
            if op.identity:
                return inputs[0]
            made = op.shape()
        else:
            made = op.shape(*(d.shape for d in (*inputs, *sizes_of)))
            if shape is not None and made != shape:
                said, seen = show(made), show(shape)
                raise Net2NetError(f"internal error: `{op.name}` should give {said}, but gave {seen}, {self.where}")
            function = function or (op.name if op.name.islower() else None)
        draft = Draft(op, tuple(inputs), made, self.name(function), self.where, tuple(sizes_of))
        return self.home.add(draft)

    def read(self, argument: Any) -> Any:
        """An argument: drafts for tensors, a `Batch` for sizes that scale with the batch, plain values as they are."""
        if isinstance(argument, Node):
            seen = seen_of(argument)
            given = tensors_in(seen.first)
            return self.whole(self.home.value_of(argument)) if given else plain(seen.values, self.home.batches)
        if isinstance(argument, slice):
            return slice(self.read(argument.start), self.read(argument.stop), self.read(argument.step))
        if isinstance(argument, (list, tuple, torch.Size)):
            return tuple(self.read(a) for a in argument)
        return argument

    def whole(self, value: Any) -> Any:
        """A value with final states of recurrent modules as the tensors that they are to users."""
        if isinstance(value, FinalStates):
            return self.stacked(value)
        return tuple(map(self.whole, value)) if isinstance(value, tuple) else value

    def stacked(self, states: Sequence[Draft]) -> Draft:
        """States as one tensor, `(states, n, hidden)`.

        Raises:
            TraceError: one of them is not known.
        """
        for state in states:
            if state.trouble is not None:
                raise state.trouble
        rows = [self.emit(reshaped(s.shape, (1, *s.shape), flatten=False), (s,), function="unsqueeze") for s in states]
        return self.emit(Cat(dim=0), rows) if len(rows) > 1 else rows[0]

    def nodes(self, signature: str) -> dict[str, Any]:
        """Arguments by the names of a signature, as they were recorded.

        Raises:
            ValueError: there are more than the signature knows.

        """
        names = signature.split()
        rest = names and names[-1] == "*"
        given = dict(zip((n for n in names if n != "*"), self.node.args, strict=False))
        if len(self.node.args) > len(given) and not rest:
            raise ValueError(f"it is given {len(self.node.args)} arguments; at most {len(given)} are known")
        for key, value in self.node.kwargs.items():
            name = _OTHER_NAMES.get(key, key) if key not in names else key
            if name not in names and not rest and not (key in _HARMLESS and value in (None, False, True)):
                if value is None:
                    continue
                raise ValueError(f"its argument `{key}` is not supported")
            given[name] = value
        return given

    def arguments(self, signature: str) -> Arguments:
        """Arguments by the names of a signature.

        Raises:
            ValueError: there are more than the signature knows, or a size cannot be said.

        """
        named = {name: self.read(value) for name, value in self.nodes(signature).items()}
        order = [name for name in signature.split() if name in named] + [n for n in named if n not in signature.split()]
        tensors: list[Draft] = []
        values: dict[str, Any] = {}
        for name in order:
            value = named[name]
            if isinstance(value, Draft):
                tensors.append(value)
            elif isinstance(value, tuple) and value and all(isinstance(v, Draft) for v in value):
                tensors.extend(value)
            else:
                values[name] = value
        return Arguments(tensors, values, named)

    def default(self, name: str) -> Any:
        """The default of an argument, by the function's own signature."""
        assert callable(self.node.target)
        return inspect.signature(self.node.target).parameters[name].default


def plain(values: Sequence[Any], batches: Sequence[int]) -> Any:
    """A value that is no tensor, by what it was at each batch size.

    Raises:
        ValueError: it is neither constant nor a multiple of the batch size.

    """
    first = values[0]
    if isinstance(first, (tuple, list)):
        if len({len(v) for v in values}) > 1:
            raise ValueError("a number of things depends on the batch size")
        return tuple(plain(items, batches) for items in zip(*values, strict=True))
    if all(type(v) is type(first) and v == first for v in values):
        return first
    if all(type(v) is int for v in values):
        return dim_of(values, batches)
    raise ValueError("a number depends on the batch size in a way that a spec cannot say")


def holds_batch(value: Any) -> bool:
    """Whether a size that scales with the batch is among the values."""
    if isinstance(value, (tuple, list)):
        return any(map(holds_batch, value))
    return isinstance(value, Batch)


Handler: TypeAlias = Callable[[Site], Value]
"""Turns a call into layers."""
