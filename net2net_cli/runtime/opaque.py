"""Opaque layers at work: the code that they name is found, and their modules are made of it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Layer
from net2net_cli.architecture.ops import Input
from net2net_cli.architecture.ops.arguments import DTYPES, NOT_FINITE, Argument, Form, unfolded
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.errors import InputError, Net2NetError
from net2net_cli.runtime.calls import evaluate
from net2net_cli.runtime.sources import find_callable, make_module

HINT = "the code must be there as it was when the network was imported; a file's path is read from the present folder"


Found = TypeVar("Found")


def argument(value: Any, input_of: Callable[[Any], int] | None = None) -> Argument:
    """A Python value as an argument that a spec can hold.

    Args:
        value: of a call.
        input_of: the number of the input that a value is; negative where it is none.

    Raises:
        ValueError: a spec has no notation for it.
    """
    place = input_of(value) if input_of else -1
    if place >= 0:
        return Input(place)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return Form("float", str(value)) if str(value) in NOT_FINITE else value
    if isinstance(value, tuple):
        return Form("tuple", tuple(argument(item, input_of) for item in value))
    if isinstance(value, list):
        return tuple(argument(item, input_of) for item in value)
    if isinstance(value, Mapping) and all(isinstance(key, (str, int)) for key in value):
        return Form("dict", tuple((key, argument(v, input_of)) for key, v in value.items()))
    if isinstance(value, slice) and all(type(i) in (int, type(None)) for i in (value.start, value.stop, value.step)):
        return Form("slice", (value.start, value.stop, value.step))
    if isinstance(value, torch.dtype) and str(value).removeprefix("torch.") in DTYPES:
        return Form("dtype", str(value).removeprefix("torch."))
    raise ValueError(f"an argument of type `{type(value).__name__}` cannot be written")


def find_code(layer: Layer) -> Callable[..., Any]:
    """Import what an opaque layer names.

    Raises:
        InputError: it is not there, or importing it fails.
    """
    return _explained(layer, lambda: find_callable(_rebuild(layer)))


def _rebuild(layer: Layer) -> str:
    assert isinstance(layer.op, Opaque)
    return layer.op.rebuild


def _explained(layer: Layer, run: Callable[[], Found]) -> Found:
    """Run the user's code: what it prints goes to stderr, and errors name the layer."""
    try:
        with redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]):
            return run()
    except Net2NetError as wrong:
        message = f"layer `{layer.name}` cannot be rebuilt by `{_rebuild(layer)}`: {wrong.message}"
        raise InputError(message, HINT) from wrong


@contextmanager
def told(layer: Layer) -> Iterator[None]:
    """What goes wrong in code that a spec names is the user's to see, with the layer."""
    try:
        yield
    except (Net2NetError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as wrong:  # it may raise anything
        said = str(wrong).partition("\n")[0]
        message = f"layer `{layer.name}` failed when `{_rebuild(layer)}` was run: {type(wrong).__name__}: {said}"
        raise InputError(message, HINT) from wrong


def check_result(layer: Layer, made: Any) -> None:
    """Whether an opaque layer returned what its spec says.

    Raises:
        InputError: it did not.
    """
    assert isinstance(layer.op, Opaque)
    needed = layer.op.output_shape
    pairs = zip(needed, made.shape if isinstance(made, Tensor) else (), strict=False)
    fits = all(isinstance(size, str) or size == found for size, found in pairs)
    if isinstance(made, Tensor) and made.ndim == len(needed) and fits:
        return
    found = f"a tensor of shape {list(made.shape)}" if isinstance(made, Tensor) else f"a `{type(made).__name__}`"
    shape = "×".join(map(str, needed))
    raise InputError(f"layer `{layer.name}` returned {found}; its spec says {shape} of `{_rebuild(layer)}`", HINT)


def own_tensors(module: nn.Module) -> dict[str, Any]:
    """What a module's state dict holds; tensors that are tied within it once, by their first name."""
    state = module.state_dict(keep_vars=True)
    first = {id(value): name for name, value in reversed(state.items())}
    return {name: value for name, value in state.items() if first[id(value)] == name}


@dataclass(slots=True)
class Workshop:
    """Makes the modules of opaque layers; what several layers are taken from is made once."""

    _made: dict[tuple[Any, ...], nn.Module] = field(default_factory=dict)

    def module(self, layer: Layer) -> nn.Module:
        """The module of a layer, with whatever weights its code gives it.

        Raises:
            InputError: its code is not there, fails, or makes another module.
        """
        op = layer.op
        assert isinstance(op, Opaque)
        key = (op.rebuild, tuple(sorted(op.made_with.items(), key=lambda item: item[0])))
        if key not in self._made:
            self._made[key] = _explained(layer, lambda: self._make(op))
        found = _explained(layer, lambda: _part(self._made[key], op))
        return copy.deepcopy(found)  # two layers may be the same part, each with tensors of its own

    @staticmethod
    def _make(op: Opaque) -> nn.Module:
        kwargs = {key: evaluate(unfolded(value), (), {}) for key, value in op.made_with.items()}
        return make_module(find_callable(op.rebuild), op.rebuild, kwargs, has_weights=True)


def _part(whole: nn.Module, op: Opaque) -> nn.Module:
    """The submodule, which must have the tensors that the spec says."""
    try:
        found = whole.get_submodule(op.submodule or "")
    except AttributeError:
        raise InputError(f"what it makes has no submodule `{op.submodule}`") from None
    shapes = {name: tuple(t.shape) for name, t in own_tensors(found).items()}
    needed = {name: slot.shape for name, slot in op.tensors().items()}
    for name in sorted(shapes.keys() | needed.keys()):
        if shapes.get(name) != needed.get(name):
            there, here = (f"has the shape {list(s[name])}" if name in s else "is not" for s in (shapes, needed))
            raise InputError(f"its tensor `{name}` {there} in what it makes, and {here} in the spec")
    return found
