"""What the classes and calls of a network are: which op reads them, and what they are called."""

from __future__ import annotations

import operator
import sys
from typing import Any

from torch import nn
from torch.fx.node import Node

from net2net_cli.architecture.ops import REGISTRY, Op
from net2net_cli.architecture.ops.weight_norm import normed
from net2net_cli.runtime import adapters
from net2net_cli.runtime.assigning import assign

UNTOUCHED = {
    *("__init__", "__repr__", "extra_repr", "reset_parameters", "_load_from_state_dict", "_save_to_state_dict"),
    *("__setstate__", "__getstate__", "__module__", "__doc__", "__annotations__", "__dict__", "__weakref__"),
    *("__parameters__", "__orig_bases__", "__static_attributes__", "__firstlineno__", "__constants__", "_version"),
    *("_check_input_dim", "__annotate_func__", "__annotate__", "__annotations_cache__", "__abstractmethods__"),
    *("_abc_impl", "__qualname__", "__slots__"),
}
"""What a subclass may define anew without changing what `forward` computes."""


class Readings:
    """Which op reads which module class."""

    def __init__(self) -> None:
        self._ops: dict[type, type[Op]] = {}
        self._names: dict[str, type[Op]] = {}
        for op in REGISTRY.values():
            for name in op.reads_modules:
                self._names[name] = op
                cls = adapters.loaded(name)
                if cls is not None:
                    self._ops[cls] = op

    def op_of(self, module: nn.Module) -> type[Op] | None:
        """The op that a module performs: its class is known, or inherits all that counts from a known one."""
        if "forward" in module.__dict__:
            return None
        for i, base in enumerate(type(module).__mro__):
            op = self._op(base)
            if op is not None:
                changed = {name for cls in type(module).__mro__[:i] for name in vars(cls)} - UNTOUCHED
                return None if any(hasattr(base, name) for name in changed) else op
        return None

    def read(self, module: nn.Module, cls: type[Op]) -> Op:
        """What a module performs, whose class `cls` reads.

        Raises:
            ValueError: the op cannot say it; the text completes "because …". So do TypeError and AttributeError.
        """
        plain, norm = cls.from_module(module), adapters.weight_norm_of(module)
        return plain if norm is None else normed(plain, norm[1], norm[0])

    def base_of(self, module: nn.Module) -> type[Op] | None:
        """The op of the nearest known class among a module's bases, whatever it may do beside."""
        return next((op for op in map(self._op, type(module).__mro__) if op is not None), None)

    def _op(self, cls: type) -> type[Op] | None:
        return self._ops.get(cls) or self._names.get(adapters.dotted(cls))


RANDOM = {
    *("bernoulli", "multinomial", "normal", "poisson", "binomial", "gumbel_softmax", "rrelu", "uniform"),
    *("exponential", "cauchy", "log_normal", "geometric", "random"),
}
"""Functions that draw random numbers, beside those whose names begin with `rand`, or hold `dropout`."""

UNFILLED = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}


def is_random(name: str) -> bool:
    """Whether a function of this name draws random numbers, or returns what happens to be in memory."""
    name = name.rstrip("_")
    return name in RANDOM | UNFILLED or name.startswith("rand") or "dropout" in name


def draws(node: Node) -> bool:
    """Whether a recorded call draws random numbers, or returns what happens to be in memory."""
    return is_random(spoken(node, bare=True))


_SIGNS: dict[Any, str] = {
    getattr(operator, name): sign
    for name, sign in (
        *(("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%"), ("pow", "**")),
        *(("iadd", "+="), ("isub", "-="), ("imul", "*="), ("itruediv", "/="), ("ipow", "**="), ("matmul", "@")),
        *(("and_", "&"), ("or_", "|"), ("xor", "^"), ("iand", "&="), ("ior", "|="), ("invert", "~"), ("neg", "-")),
        *(("eq", "=="), ("ne", "!="), ("lt", "<"), ("gt", ">"), ("le", "<="), ("ge", ">="), ("getitem", "[…]")),
    )
} | {assign: "x[…] = …"}
"""Functions that users know by the sign that they write."""


def spoken(node: Node, *, bare: bool = False) -> str:
    """What a call is called, for people: `torch.fft.fft2`, `Tensor.view`."""
    if node.op == "call_method":
        return str(node.target) if bare else f"Tensor.{node.target}"
    if node.op != "call_function":
        return str(node.target)
    name = getattr(node.target, "__name__", str(node.target))
    if bare:
        return str(name)
    if node.target in _SIGNS:
        return _SIGNS[node.target]
    if node.target is getattr and len(node.args) == 2:
        return f"Tensor.{node.args[1]}"
    for home in ("torch.nn.functional", "torch", "torch.fft", "torch.linalg", "torch.special"):
        for known, function in vars(sys.modules[home]).items():
            if function is node.target:
                return f"{home}.{known}"
    module = getattr(node.target, "__module__", None) or "torch"
    return f"{module.removeprefix('_').replace('torch._C._', 'torch.')}.{name}"
