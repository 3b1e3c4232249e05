"""Which recorded calls are read by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.fx.node import Node

from net2net_cli.architecture.ops import REGISTRY, Op
from net2net_cli.runtime import adapters, views
from net2net_cli.runtime.functional import HANDLERS, call_of
from net2net_cli.runtime.site import Site, Value


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads a call by what an op says of it."""

    op: type[Op]
    signature: str

    def __call__(self, site: Site) -> Value:
        return call_of(site, self.op, self.signature)


_ATTRIBUTES: dict[Any, Callable[[Site], Any]] = {"T": views.permute, "mT": views.permute, "data": views.data}


class Table:
    """Which calls are read by what."""

    def __init__(self) -> None:
        self.functions: dict[Any, Callable[[Site], Any]] = {}
        self.methods: dict[str, Callable[[Site], Any]] = {}
        for op in REGISTRY.values():
            for name, signature in op.functions.items():
                self._enter(name, Reader(op, signature))
        for name, handler in HANDLERS.items():
            self._enter(name, handler)

    def _enter(self, name: str, handler: Callable[[Site], Any]) -> None:
        if name.startswith("Tensor."):
            self.methods[name.removeprefix("Tensor.")] = handler
        elif (found := adapters.loaded(name)) is not None:
            self.functions[found] = handler

    def handler_of(self, node: Node) -> Callable[[Site], Any] | None:
        """What reads a call, or None where nothing does."""
        if node.op == "call_method":
            return self.methods.get(str(node.target))
        if node.target is getattr:
            return _ATTRIBUTES.get(node.args[1])
        return self.functions.get(node.target)
