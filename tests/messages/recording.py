"""Which of the places where messages are born had a part in a message that was told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from messages.births import FAILS, PACKAGE, REASONS, Birth, all_births
from net2net_cli.errors import Net2NetError

_ROOT = f"{PACKAGE}/"
_TELLING = 15
"""How many letters a clause must have, to be known by its text alone."""


@dataclass
class Made:
    """An error that was made, and the lines of the package that led to it: callers, and exceptions in flight."""

    error: Net2NetError
    lines: list[tuple[str, int]]


@dataclass
class Recording:
    """All errors that were made, in order; most are caught again inside of the package."""

    made: list[Made] = field(default_factory=list)

    def told(self, said: str) -> Net2NetError | None:
        """The error that stderr ends with."""
        return next((m.error for m in reversed(self.made) if said.endswith(as_printed(m.error))), None)

    def births(self, told: Net2NetError) -> list[Birth]:
        """Where the words of an error come from, the whole message first."""
        parts = [m for m in self.made if _part_of(m.error, told)]
        exact = [b for b in all_births() if any(b.said_in(m.error.message) and _on(b, set(m.lines)) for m in parts)]
        sure = any(b.error in FAILS for b in exact)
        said = [b for b in all_births() if b.said_in(told.message) and b not in exact and _known_by_text(b)]
        return exact + [b for b in said if not (sure and b.error in FAILS)]


def as_printed(error: Net2NetError) -> str:
    """What the command line prints of it."""
    return f"error: {error.message}\n" + (f"\nhint: {error.hint}\n" if error.hint else "")


def _part_of(error: Net2NetError, told: Net2NetError) -> bool:
    clause = error.message.partition("` ")[2] or error.message
    return error is told or error.message in told.message or clause in told.message


def _known_by_text(birth: Birth) -> bool:
    """Reasons are kept, and said later; so are some clauses, which are known by their length."""
    if birth.whole:
        return False
    return birth.error in REASONS or (birth.error in FAILS and birth.letters >= _TELLING)


def _on(birth: Birth, lines: set[tuple[str, int]]) -> bool:
    return any((birth.file, line) in lines for line in range(birth.first, birth.last + 1))


@contextmanager
def recording() -> Iterator[Recording]:
    """Note every error that is made meanwhile."""
    found = Recording()
    make: Any = Net2NetError.__init__

    def note(self: Net2NetError, message: str, hint: str | None = None) -> None:
        make(self, message, hint)
        found.made.append(Made(self, list(_lines())))

    Net2NetError.__init__ = note  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Net2NetError.__init__ = make  # type: ignore[method-assign]


def _lines() -> Iterator[tuple[str, int]]:
    frame = sys._getframe(2)
    while frame is not None:
        yield from _of_package(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    wrong = sys.exception()
    while wrong is not None:
        trace: TracebackType | None = wrong.__traceback__
        while trace is not None:
            yield from _of_package(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
        wrong = wrong.__cause__ or wrong.__context__


def _of_package(file: str, line: int) -> Iterator[tuple[str, int]]:
    if file.startswith(_ROOT):
        yield file.removeprefix(_ROOT), line
