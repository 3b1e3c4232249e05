"""Tensors that come neither from an input nor from the state dict: worked out while tracing, and said by value."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import Node, map_aggregate

from net2net_cli.architecture.ops.constant import LARGEST, Constant
from net2net_cli.architecture.ops.logic import Triangle
from net2net_cli.runtime.readings import is_random, spoken
from net2net_cli.runtime.seen import MetaFailedError, seen_of, tensors_in
from net2net_cli.runtime.tracer import Tracer

MAX_ELEMENTS = 2**24
"""Larger tensors are not worked out."""


class Constants:
    """The values of buffers and calls that depend on no input and no tensor of the network's state dict.

    Args:
        tracer: whose recording it is.
        buffers: of the network, by name, that its state dict does not hold.
    """

    def __init__(self, tracer: Tracer, buffers: Mapping[str, Tensor]) -> None:
        self.values: dict[Node, Tensor] = {}
        self._tracer = tracer
        self._buffers = buffers

    def work_out(self, node: Node) -> Tensor | None:
        """The value of a call, or None where it is no constant. Calls come in the order in which they were recorded."""
        first = seen_of(node).first
        if node.op == "get_attr" and (buffer := self._buffers.get(str(node.target))) is not None:
            self.values[node] = buffer.detach().cpu().clone()  # a call that writes into it shall not change the model
            return self.values[node]
        if node.op not in ("call_function", "call_method") or not isinstance(first, Tensor):
            return None
        if (
            is_random(spoken(node, bare=True))
            or first.numel() > MAX_ELEMENTS
            or not all(map(self._known, node.all_input_nodes))
        ):
            return None
        if node.target == self._tracer.constant:
            held = self._tracer.constants[int(node.args[0])]  # type: ignore[arg-type] # it is an index
            if held.is_meta and self._tracer.runs.meta:
                raise MetaFailedError  # it was made on the device of a tensor without values
            self.values[node] = held
            return held
        args: Any = map_aggregate(node.args, self._value)
        kwargs: Any = map_aggregate(node.kwargs, self._value)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                made = getattr(args[0], node.target)(*args[1:], **kwargs) if isinstance(node.target, str) else None
                made = node.target(*args, **kwargs) if callable(node.target) else made
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None  # what cannot run on the CPU is no mask
        if isinstance(made, Tensor):
            self.values[node] = made
        return made if isinstance(made, Tensor) else None

    def _known(self, node: Node) -> bool:
        seen = seen_of(node)
        return node in self.values if tensors_in(seen.first) else seen.constant

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, Node):
            return self._value(self.values[argument] if argument in self.values else seen_of(argument).first)
        return torch.device("cpu") if isinstance(argument, torch.device) else argument


def triangle_of(value: Tensor, like: torch.dtype) -> Triangle | None:
    """The triangle that a tensor is, with any number of axes of one slice before its last two; None for others.

    Args:
        value: the tensor.
        like: the type that real numbers get: their own, or a wider one, to which they go where they meet others.
    """
    if value.ndim < 2 or prod(value.shape[:-2]) != 1 or not _fits(value.dtype, like):
        return None
    matrix = value.detach().cpu().reshape(value.shape[-2:])
    rows, columns = matrix.shape
    if min(rows, columns) < 2:
        return None
    below, above = matrix[-1, 0], matrix[0, -1]
    diagonal = int((matrix[0] == below).sum()) - 1
    holds = torch.ones(rows, columns, dtype=torch.bool).tril(diagonal)
    if torch.equal(below, above) or not torch.equal(matrix, torch.where(holds, below, above)):
        return None
    return Triangle(rows, columns, diagonal, below.item(), above.item())


def _fits(dtype: torch.dtype, like: torch.dtype) -> bool:
    real = like.is_floating_point
    return dtype in (torch.bool, like if real else torch.float32) or (dtype, like) == (torch.float32, torch.float64)


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def constant_of(value: Tensor, own: Set[torch.dtype]) -> Constant | None:
    """The constant that a tensor is; None for one that is trained, too large, or of a type that could not be kept.

    Args:
        value: the tensor.
        own: the types of the network's own real numbers. A rebuilt network converts its constants to their type, so
            that they have to be of it; or of one that it holds, where both meet in an operation anyway.
    """
    if value.requires_grad or value.layout != torch.strided:
        return None
    if value.dtype not in _WHOLE:
        held = (value.dtype, set(own)) == (torch.float32, {torch.float64})
        if value.dtype not in _REAL or not (held or set(own or {torch.float32}) == {value.dtype}):
            return None
        value = value if value.dtype == torch.float64 else value.float()  # which holds the half types exactly
    if value.numel() * value.element_size() > LARGEST:
        return None
    return Constant.of(value.cpu().contiguous().numpy())
