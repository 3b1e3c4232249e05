"""Proxies that know what their value was: sizes can be looped over, compared and used as numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx.node import Node

from net2net_cli.runtime import adapters
from net2net_cli.runtime.assigning import assign
from net2net_cli.runtime.seen import seen_of

_PLAIN = (bool, int, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


class _Values:
    """What both kinds of proxies share."""

    tracer: Any
    node: Node

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("node", "tracer", "root", "attr", "_node"):
            raise AttributeError(name)
        seen = seen_of(self.node)
        found = getattr(seen.first, name)
        if isinstance(found, _PLAIN) and not seen.by_batch and all(getattr(v, name) == found for v in seen.values):
            return found
        attribute = ValueAttribute(self, name)  # type: ignore[arg-type]  # both kinds of proxies are proxies
        if not callable(found):
            assert attribute.node is not None  # recorded now, at the user's line, and not when it is used
        return attribute

    def __bool__(self) -> bool:
        answer: bool = self.tracer.to_bool(self)
        return answer

    def __iter__(self) -> Iterator[Any]:
        items: Iterator[Any] = self.tracer.iter(self)
        return items

    def __len__(self) -> int:
        length: int = self.tracer.length(self)
        return length

    def __index__(self) -> int:
        number: int = self.tracer.number(self, operator.index)
        return number

    def __int__(self) -> int:
        number: int = self.tracer.number(self, int)
        return number

    def __float__(self) -> float:
        number: float = self.tracer.number(self, float)
        return number

    def __round__(self, digits: int | None = None) -> Any:
        return self.tracer.number(self, lambda value: round(value, digits))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", assign, (self, index, value), {})


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "matmul", "mod", "and", "or", "xor"):
    setattr(_Values, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


class ValueProxy(_Values, adapters.Proxy):
    """The value of a call."""


class ValueAttribute(_Values, adapters.Attribute):
    """An attribute of a value; recorded only where it is not called."""
