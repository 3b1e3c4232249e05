"""The PyTorch functions that ops may call, as a closed table, and the evaluation of a `Call`."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from net2net_cli.architecture.ops import Call, Input, SizeOf
from net2net_cli.architecture.ops.arguments import Form
from net2net_cli.runtime import modules, modules_maxvit, modules_mvit, modules_noise, modules_swin

_OWN = (modules, modules_maxvit, modules_mvit, modules_noise, modules_swin)
_HOMES = {home.__name__: home for home in _OWN} | {"torch.nn": nn}
"""Where the classes of modules are defined."""
_OPERATORS = ("add", "sub", "mul", "truediv", "pow", "getitem")
_TORCH = (
    *("abs", "addcmul", "amax", "amin", "baddbmm", "cat", "chunk", "clamp", "cos", "einsum", "eq", "erf", "exp"),
    *("flatten", "flip", "ge", "gt", "le", "log", "logical_and", "logical_not", "logical_or", "lt", "matmul"),
    *("maximum", "mean", "minimum", "ne", "neg", "permute", "reciprocal", "roll", "rsqrt", "sin", "split", "sqrt"),
    *("square", "squeeze", "sum", "tril", "unflatten", "unsqueeze", "var", "where"),
)
_METHODS = ("detach", "expand", "new_ones", "new_zeros", "view_as")
_CONVOLUTIONS = tuple(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3))
_FUNCTIONAL = ("interpolate", "linear", "normalize", "pad", *_CONVOLUTIONS)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{name}": getattr(operator, name) for name in _OPERATORS},
    **{f"torch.{name}": getattr(torch, name) for name in _TORCH},
    "torch.linalg.vector_norm": torch.linalg.vector_norm,
    **{f"torch.nn.functional.{name}": getattr(nn.functional, name) for name in _FUNCTIONAL},
    **{f"torch.Tensor.{name}": getattr(torch.Tensor, name) for name in _METHODS},
}
"""All functions that a `Call` may name."""


AROUND: dict[str, Callable[..., Any]] = {
    "torch.nn.utils.weight_norm": nn.utils.weight_norm,
    "torch.nn.utils.parametrizations.weight_norm": nn.utils.parametrizations.weight_norm,
}
"""All functions that make another module of one, as `Op.around` names them."""


def made_around(module: nn.Module, around: Call | None) -> nn.Module:
    """A module as the call around it leaves it."""
    if around is None:
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the older of two ways, which the user has chosen
        with torch.no_grad():  # so that what a hook has computed can be copied with its module
            made: nn.Module = AROUND[around.target](module, **around.kwargs)
    return made


def module_class(target: str) -> type[nn.Module]:
    """The class that an op's `module` names: one of `torch.nn`, or one of our own."""
    home, _, name = target.rpartition(".")
    found = getattr(_HOMES[home], name)
    assert issubclass(found, nn.Module), target
    return found  # type: ignore[no-any-return] # issubclass narrows `Any` no further


NONE: Mapping[str, Callable[..., Any]] = {}


def evaluate(
    argument: Any,
    inputs: Sequence[Tensor],
    values: Mapping[str, Tensor],
    trusted: Mapping[str, Callable[..., Any]] = NONE,
) -> Any:
    """The value of a call's argument: calls are made, inputs and sizes put in, containers rebuilt.

    Args:
        argument: of a call, or the call itself.
        inputs: for `Input`.
        values: for `SizeOf`.
        trusted: functions beside those of the table, by name: what an opaque layer calls.

    """

    def inner(value: Any) -> Any:
        return evaluate(value, inputs, values, trusted)

    if isinstance(argument, Call):
        function = trusted[argument.target] if argument.target in trusted else FUNCTIONS[argument.target]
        return function(*map(inner, argument.args), **{key: inner(value) for key, value in argument.kwargs.items()})
    if isinstance(argument, Input):
        return inputs[argument.index]
    if isinstance(argument, SizeOf):
        return values[argument.value].shape[argument.axis]
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(inner, argument))
    if isinstance(argument, dict):
        return {key: inner(value) for key, value in argument.items()}
    if isinstance(argument, Form):
        return getattr(torch, argument.value)  # a dtype: other forms have been unfolded
    if isinstance(argument, slice):
        return slice(*map(inner, (argument.start, argument.stop, argument.step)))
    return argument
