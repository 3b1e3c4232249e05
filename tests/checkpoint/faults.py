"""Faults at every call to the system in turn, as SQLite is tested (https://sqlite.org/testing.html, section 3)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = ("open", "write", "fsync", "ftruncate", "lseek", "replace", "link", "unlink", "close")
"""All by which files are changed; `pathlib` goes through them too."""


class Counting:
    """How many calls there were, and which was met.

    Attributes:
        met: the call's name and arguments; None if there were fewer.
    """

    def __init__(self) -> None:
        self.count = 0
        self.met: tuple[Any, ...] | None = None


@contextmanager
def at_call(number: int, act: Callable[[], None]) -> Iterator[Counting]:
    """Let `act` happen in place of the `number`th call, in whatever thread; a call to `close` closes all the same."""
    counting, lock = Counting(), threading.Lock()
    real = {name: getattr(os, name) for name in CALLS}

    def faulty(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            with lock:
                counting.count += 1
                now = counting.count == number
            if now:
                counting.met = (name, *arguments)
                if name == "close":
                    real["close"](*arguments)
                act()
            return real[name](*arguments, **keywords)

        return call

    try:
        for name in CALLS:
            setattr(os, name, faulty(name))
        yield counting
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def fails_with(code: int) -> Callable[[], None]:
    """The call fails."""

    def act() -> None:
        raise OSError(code, os.strerror(code))

    return act
