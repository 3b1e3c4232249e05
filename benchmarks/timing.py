"""Interleaved timings, and what a row of the table holds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

Runs = Mapping[str, Callable[[], float]]
"""What is compared, by name; each runs once and returns its seconds."""

Command = Sequence[str | Path]
"""A program and its arguments."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `ours` against `reference`, both in `unit`.

    Attributes:
        target: the largest `ours / reference` that is good; None where the figure is only told.
    """

    what: str
    ours: float
    reference: float | None
    against: str
    target: float | None
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """How many times the reference."""
        return None if self.reference is None else self.ours / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None or self.ratio is None else self.ratio <= self.target


def medians(runs: Runs, rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turn, so that whatever else the machine does falls on all alike.

    The first round warms caches up and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            taken = run()
            if turn:
                seconds[name].append(taken)
    return {name: median(values) for name, values in seconds.items()}


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def environment() -> dict[str, str]:
    """This process's, but modules are compiled once, as where people install them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def process_seconds(command: Command, folder: Path) -> float:
    """Seconds from the start of a process to its end; its output goes nowhere."""
    return timed(lambda: subprocess.run(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, check=True))
