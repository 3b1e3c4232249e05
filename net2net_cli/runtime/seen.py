"""Running each recorded call at several batch sizes at once: what is known of every value while tracing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import Node, map_aggregate

from net2net_cli.architecture.shapes import Batch, Dim, Shape
from net2net_cli.runtime import adapters

META_SIZES = (2, 3, 17)
"""Batch sizes of runs without values: they cost next to nothing."""

REAL_SIZES = (2, 3)
"""Batch sizes of runs with values, where a network cannot run without."""

SEEN = "net2net.seen"
"""The key of a node's `Seen` in its `meta`."""


class MetaFailedError(Exception):
    """A call cannot be run on tensors without values; the network is traced again with values."""


@dataclass(slots=True)
class Seen:
    """What one call gave.

    Attributes:
        values: one for each batch size.
        by_batch: it is no tensor and was computed from the batch size.
        wrote: identities of the arguments' memory that the call changed in place.

    """

    values: tuple[Any, ...]
    by_batch: bool = False
    wrote: frozenset[int] = frozenset()

    @property
    def first(self) -> Any:
        """The value at the first batch size."""
        return self.values[0]

    @property
    def constant(self) -> bool:
        """The same at every batch size."""
        return all(type(v) is type(self.first) and v == self.first for v in self.values)


def seen_of(node: Node) -> Seen:
    """What a node's call gave."""
    found: Seen = node.meta[SEEN]
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested containers, in order."""
    found: list[Tensor] = []

    def collect(inner: Any) -> Any:
        if isinstance(inner, Tensor):
            found.append(inner)
        return inner

    map_aggregate(value, collect)
    return found


def dim_of(sizes: Sequence[int], batches: Sequence[int]) -> Dim:
    """A size by what it was at each batch size.

    Raises:
        ValueError: it is neither constant nor a multiple of the batch size.

    """
    if all(size == sizes[0] for size in sizes):
        return sizes[0]
    times = sizes[0] // batches[0]
    if any(size != times * batch for size, batch in zip(sizes, batches, strict=True)):
        raise ValueError(
            "a size depends on the batch in a way that a spec cannot say: "
            + ", ".join(f"{size} at batch size {batch}" for size, batch in zip(sizes, batches, strict=True))
        )
    return Batch(times)


def shape_of(tensors: Sequence[Tensor], batches: Sequence[int]) -> Shape:
    """A tensor's shape with a symbolic batch axis.

    Raises:
        ValueError: a size is neither constant nor a multiple of the batch size, or the number of axes is not constant.

    """
    if len({t.ndim for t in tensors}) > 1:
        raise ValueError("the number of axes depends on the batch size")
    return tuple(dim_of(sizes, batches) for sizes in zip(*(t.shape for t in tensors), strict=True))


class Runs:
    """Runs calls at each of several batch sizes, on tensors without values or, where that fails, with values.

    Args:
        model: its tensors are read, never written.
        inputs: example inputs, batch first.
        meta: without values.

    """

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], *, meta: bool) -> None:
        self.model = model
        self.meta = meta
        self.batches: tuple[int, ...] = META_SIZES if meta else REAL_SIZES
        self.inputs = [Seen(tuple(self._input(x, batch) for batch in self.batches)) for x in inputs]
        self._twins: dict[nn.Module, nn.Module] = {}
        self._held: dict[int, Tensor] = {}

    def _input(self, example: Tensor, batch: int) -> Tensor:
        if self.meta:
            return torch.empty((batch, *example.shape[1:]), dtype=example.dtype, device="meta")
        return example[torch.arange(batch, device=example.device) % len(example)]

    def held(self, tensor: Tensor) -> Seen:
        """A parameter or buffer."""
        if id(tensor) not in self._held:
            self._held[id(tensor)] = self._convert(tensor)
        return Seen((self._held[id(tensor)],) * len(self.batches))

    def _convert(self, tensor: Tensor) -> Tensor:
        if not self.meta:
            return tensor.detach().clone()
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, *, draws: bool = False) -> Seen:
        """Call a function whose arguments hold nodes; one that `draws` may do so without a trace."""
        made = []
        given = [n for n in _nodes((args, kwargs)) if SEEN in n.meta]
        taken = function is operator.getitem  # an element of a shape is by the batch only if it is that element
        by_batch = any(seen_of(n).by_batch or (not taken and _differs(n)) for n in given)
        tensors = tensors_in([seen_of(n).first for n in given])
        versions = [adapters.version_of(t) for t in tensors]
        for i in range(len(self.batches)):
            at = _at(i)
            with torch.no_grad(), nullcontext() if self.meta and not draws else adapters.same_random_state():
                made.append(function(*map_aggregate(args, at), **map_aggregate(kwargs, at)))
        changed = [t for t, version in zip(tensors, versions, strict=True) if adapters.version_of(t) != version]
        wrote = frozenset(map(adapters.storage_of, changed))
        return Seen(tuple(made), by_batch and not tensors_in(made[0]), wrote)

    def module(self, module: nn.Module, args: Any, kwargs: Any) -> Seen:
        """Call a module."""
        if self.meta and isinstance(module, adapters.BATCH_NORMS):
            return self.call(torch.empty_like, args, kwargs)
        if self.meta and adapters.returns_states(module):
            return self.call(partial(adapters.results_of_recurrent, module), args, kwargs)
        if module not in self._twins:
            self._twins[module] = adapters.twin_of(module, self._convert)
        twin = self._twins[module]
        return self.call(partial(type(twin).forward, twin), args, kwargs)  # hooks are the tracer's business


def _nodes(value: Any) -> list[Node]:
    found: list[Node] = []

    def collect(inner: Any) -> Any:
        if isinstance(inner, Node):
            found.append(inner)
        return inner

    map_aggregate(value, collect)
    return found


def _differs(node: Node) -> bool:
    seen = seen_of(node)
    return not tensors_in(seen.first) and not seen.constant


def _at(i: int) -> Callable[[Any], Any]:
    def pick(inner: Any) -> Any:
        return seen_of(inner).values[i] if isinstance(inner, Node) else inner

    return pick
