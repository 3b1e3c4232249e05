"""Layers on their way from a recorded call to the graph: they know their inputs, and have no names yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from net2net_cli.architecture.ops import Op, SizeOf
from net2net_cli.architecture.shapes import Shape
from net2net_cli.errors import TraceError
from net2net_cli.runtime.arrangement import Arrangement
from net2net_cli.runtime.where import Where


@dataclass(eq=False, slots=True)
class Draft:
    """A layer or network input without a name.

    Attributes:
        op: what it does; None for a network input, or where `trouble` says why there is none.
        inputs: the values it reads.
        shape: of its value, as it was seen.
        wish: the name it would like to have.
        where: the user's line.
        sizes_of: values whose sizes it reads; `SizeOf.value` in `op` is an index into it.
        owner: the module path at which its tensors are, in the user's model.
        tensors: identities of its tensors, by the op's names for them.
        trouble: raised if the value turns out to be needed.

    """

    op: Op | Arrangement | None
    inputs: tuple[Draft, ...]
    shape: Shape
    wish: str
    where: Where = field(default_factory=Where)
    sizes_of: tuple[Draft, ...] = ()
    owner: str | None = None
    tensors: dict[str, int] = field(default_factory=dict)
    trouble: TraceError | None = None

    @property
    def reads(self) -> tuple[Draft, ...]:
        """All values it needs."""
        return (*self.inputs, *self.sizes_of)


class FinalStates(tuple[Draft, ...]):
    """The states in which layers and directions of a recurrent module end, each `(n, hidden)`: one tensor to users."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class NamedTuple:
    """A named tuple that `forward` returns."""

    name: str
    fields: dict[str, Tree]


Tree: TypeAlias = "Draft | NamedTuple | dict[str, Any] | list[Any] | tuple[Any, ...] | None"
"""What `forward` returns, with drafts as leaves."""


@dataclass(slots=True)
class Recorded:
    """What one mode computes: inputs, layers in order, and what is returned."""

    inputs: tuple[Draft, ...]
    drafts: list[Draft]
    returned: Tree


def leaves(tree: Tree) -> Iterator[Draft]:
    """The values in a tree, in order."""
    if isinstance(tree, Draft):
        yield tree
    elif tree is not None:
        for part in parts(tree):
            yield from leaves(part[1])


def parts(tree: NamedTuple | dict[str, Any] | list[Any] | tuple[Any, ...]) -> list[tuple[str, Tree]]:
    """One level of a tree: names or numbers, and what they hold."""
    held = tree.fields if isinstance(tree, NamedTuple) else tree
    return list(held.items()) if isinstance(held, dict) else [(str(i), part) for i, part in enumerate(held)]


def needed(outputs: Iterable[Draft]) -> set[Draft]:
    """The drafts that the outputs need."""
    found: set[Draft] = set()
    waiting = list(outputs)
    while waiting:
        draft = waiting.pop()
        if draft not in found:
            found.add(draft)
            waiting.extend(draft.reads)
    return found


def with_sizes_of(op: Op, names: tuple[str, ...]) -> Op:
    """The op with the names of the values whose sizes it reads."""

    def named(value: Any) -> Any:
        if isinstance(value, SizeOf):
            return SizeOf(names[int(value.value)], value.axis)
        return tuple(named(v) for v in value) if isinstance(value, tuple) else value

    changed = {f.name: named(getattr(op, f.name)) for f in dataclasses.fields(op)}  # type: ignore[arg-type]
    return dataclasses.replace(op, **changed)  # type: ignore[type-var]
