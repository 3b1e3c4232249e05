"""A line that shows how far long work is: on stderr, only on a terminal, and only after about a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from net2net_cli.cli.printing import Printer, is_terminal
from net2net_cli.cli.tables import brief

PATIENCE = 1.0
INTERVAL = 0.1
BAR = 24


class Progress:
    """What is being done, and how much of it is done; a context manager that leaves no trace."""

    def __init__(self, printer: Printer, total: int = 0, unit: str = "B") -> None:
        self._watched = is_terminal(sys.stderr) and not printer.quiet
        self._printer = printer
        self._total, self._unit = total, unit
        self._done = 0
        self._stage = ""
        self._started = self._drawn = time.monotonic()
        self._visible = False

    def stage(self, text: str) -> None:
        """The next thing that is done."""
        self._stage, self._done = text, 0
        self._printer.detail(text)
        self._draw()

    def advance(self, amount: int) -> None:
        """So much more of it is done."""
        self._done += amount
        self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._watched or now - self._started < PATIENCE or now - self._drawn < INTERVAL:
            return
        self._drawn, self._visible = now, True
        sys.stderr.write(f"\r\x1b[K{self._stage} {self._bar()}")
        sys.stderr.flush()

    def _bar(self) -> str:
        if not self._total or not self._done:
            return "…"
        share = min(1.0, self._done / self._total)
        filled = round(share * BAR)
        amounts = f"{brief(self._done)}{self._unit} of {brief(self._total)}{self._unit}"
        return f"[{'#' * filled}{' ' * (BAR - filled)}] {share:4.0%}  {amounts}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
