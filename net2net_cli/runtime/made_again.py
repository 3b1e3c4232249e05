"""How the modules of opaque layers are to be made again, found out and tried when a network is imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Layer
from net2net_cli.architecture.ops.opaque import Code, Opaque
from net2net_cli.errors import Net2NetError
from net2net_cli.runtime import adapters
from net2net_cli.runtime.opaque import Workshop, argument, own_tensors


class NotMadeAgainError(ValueError):
    """There is no way to make a module again."""


Attributes = dict[str, Any]
"""Of an `Opaque` op: those that say how its module is made."""


@dataclass(frozen=True)
class Source:
    """How `import` got the network.

    Attributes:
        text: `package.module:callable` or `file.py:callable`; empty where nobody said it.
        kwargs: arguments for it.
    """

    text: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Remaking:
    """How each module of a network is made again; what several are taken from is made once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._workshop = Workshop()
        self._known: dict[nn.Module, Attributes] = {}

    def of(self, module: nn.Module, path: str) -> Attributes:
        """The attributes of an opaque layer that say how its module is made again.

        It is by the module's own class, where all that its constructor takes can be read off the module and a module
        made so is the same; otherwise by the network's source.

        Raises:
            NotMadeAgainError: by neither.
        """
        if module not in self._known:
            self._known[module] = self._found(module, path)
        return self._known[module]

    def _found(self, module: nn.Module, path: str) -> Attributes:
        tensors = _tensors(module)
        reasons = []
        ways: tuple[Callable[[], Attributes], ...] = (
            lambda: _by_class(module, self._source),
            lambda: _by_source(path, self._source),
        )
        for describe in ways:
            try:
                found = describe() | tensors
                self._check(module, path, found)
            except (ValueError, Net2NetError) as wrong:
                reasons.append(wrong.message if isinstance(wrong, Net2NetError) else str(wrong))
            else:
                return found
        raise NotMadeAgainError(", and ".join(reasons))

    def _check(self, module: nn.Module, path: str, found: Attributes) -> None:
        """Raise ValueError where the described module is another one."""
        op = Opaque(kind="module", output_shape=(), args=(), **found)
        op.check()
        different = difference(module, self._workshop.module(Layer(path, op, ())))
        if different:
            raise ValueError(f"`{op.spoken}` makes another module ({different})")


def _tensors(module: nn.Module) -> Attributes:
    state = own_tensors(module)
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(f"its state dict holds `{strange[0]}`, which is no tensor")
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    trained = {name for name, value in state.items() if isinstance(value, nn.Parameter)}
    return {
        "parameters": {name: shape for name, shape in shapes.items() if name in trained},
        "buffers": {name: shape for name, shape in shapes.items() if name not in trained},
    }


def _by_class(module: nn.Module, source: Source) -> Attributes:
    cls = type(module)
    place = _place_of(cls, source)
    kwargs: dict[str, Any] = {}
    own = cls.__init__ is not nn.Module.__init__
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:] if own else ():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ValueError(f"`{cls.__qualname__}` is made with any number of arguments")
        if parameter.kind is parameter.VAR_KEYWORD or parameter.name in ("device", "dtype"):
            continue
        value = getattr(module, parameter.name, parameter.default)
        if parameter.name == "bias" and (value is None or isinstance(value, Tensor)):
            value = value is not None
        try:
            kwargs[parameter.name] = argument(value)
        except ValueError:
            if parameter.default is parameter.empty:
                raise ValueError(f"the `{parameter.name}` that it was made with is not known") from None
    return {"rebuild": f"{place}:{cls.__qualname__}", "made_with": kwargs}


def _place_of(cls: type, source: Source) -> str:
    """The module or file in which a class can be found again."""
    if "<" in cls.__qualname__ or adapters.loaded(adapters.dotted(cls)) is not cls:
        raise ValueError(f"the class `{cls.__qualname__}` cannot be imported by its name")
    if getattr(nn, cls.__name__, None) is cls:
        return "torch.nn"
    file = Code.of(source.text)
    return file.place if file.is_file and Path(file.place).stem == cls.__module__ else cls.__module__


def _by_source(path: str, source: Source) -> Attributes:
    if not source.text:
        raise ValueError("where the network comes from was not said")
    kwargs = {key: argument(value) for key, value in source.kwargs.items()}
    return {"rebuild": source.text, "made_with": kwargs, "submodule": path}


_UNCOMPARED = {
    *("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"),
    *adapters.FLAT_WEIGHTS,  # parameters under another name, whose values the state dict has
}


def difference(ours: nn.Module, again: nn.Module) -> str | None:
    """What tells two modules apart beside the values in their state dicts; None where nothing does."""
    mine, others = dict(ours.named_modules()), dict(again.named_modules())
    if mine.keys() != others.keys():
        return f"its submodule `{min(mine.keys() ^ others.keys())}` is in one of both alone"
    for path, module in mine.items():
        other = others[path]
        where = f" of `{path}`" if path else ""
        if adapters.dotted(type(module)) != adapters.dotted(type(other)):
            return f"`{path}` is of another class"
        for name in sorted({*_plain(module), *_plain(other)}):
            if not _same(_plain(module).get(name), _plain(other).get(name)):
                return f"its attribute `{name}`{where} differs"
        for name in sorted(adapters.unsaved_buffers(module)):
            if not _same(module._buffers.get(name), other._buffers.get(name)):
                return f"its buffer `{name}`{where} is not in the state dict, and differs"
    return None


def _plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _UNCOMPARED and "hooks" not in name}


def _same(a: Any, b: Any, depth: int = 4) -> bool:
    """Whether two attributes are equal; of what compares by identity alone, the contents count."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return type(a) is type(b) and a.shape == b.shape and bool(torch.equal(a.to(b), b))
    if type(a) is not type(b):
        return adapters.dotted(type(a)) == adapters.dotted(type(b)) and _same_inside(a, b, depth)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y, depth - 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key], depth - 1) for key in a)
    if isinstance(a, nn.Module):
        return True  # a submodule's turn comes by its own name
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b) or (
        "__eq__" not in {name for c in type(a).__mro__[:-1] for name in vars(c)} and _same_inside(a, b, depth)
    )


def _same_inside(a: Any, b: Any, depth: int) -> bool:
    if inspect.isroutine(a) or inspect.isclass(a):
        named = getattr(a, "__qualname__", None) == getattr(b, "__qualname__", None)
        return named and _same(_held(a), _held(b), depth - 1)
    if isinstance(a, partial):
        return _same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), depth - 1)
    return depth <= 0 or not hasattr(a, "__dict__") or _same(vars(a), vars(b), depth - 1)


def _held(function: Any) -> list[Any]:
    """What makes a function of Python what it is: its code, the variables around it, and defaults."""
    if not inspect.isfunction(function):
        return []
    around = dict(inspect.getclosurevars(function).nonlocals)
    return [function.__code__, around, function.__defaults__, function.__kwdefaults__]
