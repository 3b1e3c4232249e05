"""Pickles of state dicts, read without running anything.

A pickle is a program: it names functions and calls them. Here it is read as data. The names that state dicts use are
known, and stand for records of ours; any other name ends the reading. Nothing is imported and nothing called, keys are
compared only where that is cheap, and what is built stays in proportion to what was read.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from net2net_cli.checkpoint.torch_records import (
    DamagedPickleError,
    Inert,
    Named,
    PickleRefusedError,
    Storage,
    called,
    is_known,
    storage_of,
)

MOST_CONTAINERS = 10_000
"""Lists, tuples and dictionaries that any pickle may make; beyond them, one for each `BYTES_FOR_CONTAINER`."""

BYTES_FOR_CONTAINER = 8


class _Key:
    """Stands for a key that is no plain value; hashing that could take for ever."""


def read_pickle(file: IO[bytes], length: int, storages: dict[str, Storage] | None = None) -> Any:
    """The value of the pickle that starts here, of at most `length` bytes; the file stands behind it then.

    Plain values, lists, tuples and dictionaries are themselves; tensors are `TensorRecord`, the rest `Inert`. Storages
    that it refers to are put into `storages` by their keys.

    Raises:
        PickleRefusedError: it names something else.
        DamagedPickleError: it is no whole pickle.
    """
    return _Machine(MOST_CONTAINERS + length // BYTES_FOR_CONTAINER, {} if storages is None else storages).run(file)


class _Machine:
    """The stack, the memo, and an opcode after the other."""

    def __init__(self, containers: int, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left = containers

    def run(self, file: IO[bytes]) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
            raise DamagedPickleError(str(error)) from error
        raise DamagedPickleError("it has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _IGNORED:
            raise PickleRefusedError(None)

    def make(self, value: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise DamagedPickleError("it makes more of little than a checkpoint does")
        self.stack.append(value)

    def marked(self) -> list[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def take(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise DamagedPickleError("its stack is empty")
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return found

    def named(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if not is_known(full):
            raise PickleRefusedError(full)
        self.stack.append(Named(full))

    def stack_global(self, _: Any) -> None:
        module, name = self.take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedPickleError("a name is no text")
        self.named(module, name)

    def set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise DamagedPickleError("a key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, dict):
                target[key if isinstance(key, (str, int, float, bytes, type(None))) else _Key()] = value

    def dictionary(self, _: Any) -> None:
        items = self.marked()
        self.make({})
        self.set_items(items)

    def frozen_set(self, _: Any) -> None:
        self.marked()
        self.make(Inert("frozenset"))

    def append(self, items: list[Any] | tuple[Any, ...]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def call(self, _: Any) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise PickleRefusedError(None)
        self.make(called(function.name, arguments))

    def persistent(self, _: Any) -> None:
        (reference,) = self.take(1)
        storage = storage_of(reference)
        self.storages.setdefault(storage.key, storage)
        self.stack.append(storage)

    def memorise(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, place: Any) -> None:
        self.memo[int(place)] = self.stack[-1]

    def get(self, place: Any) -> None:
        self.stack.append(self.memo[int(place)])


_PLAIN = {
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_IGNORED = ("PROTO", "FRAME")


def _global(machine: _Machine, argument: Any) -> None:
    machine.named(*argument.split(" ", 1))


def _build(machine: _Machine, _: Any) -> None:
    """An object's attributes, such as the versions of modules that a state dict bears; not looked into."""
    machine.take(1)


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.take(1),
    "POP_MARK": lambda m, _: m.marked(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.make(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.make(m.take(1)),
    "TUPLE2": lambda m, _: m.make(m.take(2)),
    "TUPLE3": lambda m, _: m.make(m.take(3)),
    "EMPTY_LIST": lambda m, _: m.make([]),
    "LIST": lambda m, _: m.make(m.marked()),
    "EMPTY_DICT": lambda m, _: m.make({}),
    "EMPTY_SET": lambda m, _: m.make(Inert("set")),
    "FROZENSET": _Machine.frozen_set,
    "ADDITEMS": lambda m, _: m.marked(),
    "DICT": _Machine.dictionary,
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.marked()),
    "APPEND": lambda m, _: m.append(m.take(1)),
    "APPENDS": lambda m, _: m.append(m.marked()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _build,
    "BINPERSID": _Machine.persistent,
    "MEMOIZE": _Machine.memorise,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
}
