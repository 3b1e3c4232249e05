"""The progress bar of a sweep, with an estimate of what is left."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.coverage.records import Attempt, Network, Record

USUAL = 150
"""Students of a network, as long as none was seen."""

OVERHEAD = 10.0
"""What a student takes beside what its size takes, in millions of parameters."""


class Estimate:
    """Seconds that are left: students left, each by the size of its network, at the speed of those that were made.

    Args:
        sizes: millions of parameters of each network that is to be swept.
        workers: how many are swept at once.
    """

    def __init__(self, sizes: Mapping[str, float], workers: int) -> None:
        self.sizes, self.workers = sizes, workers
        self.left: dict[str, int] = {}
        self.begun: dict[str, int] = {}
        self.gone: set[str] = set()

    def students(self, network: str, left: int) -> None:
        """So many students are left of a network."""
        self.begun.setdefault(network, left)
        self.left[network] = left

    def finished(self, network: str) -> None:
        """A network has no more to give."""
        self.gone.add(network)
        if network in self.left:
            self.left[network] = 0

    def seconds(self, elapsed: float) -> float | None:
        """What is left after so many seconds; None while nothing can be said."""
        done = sum(self._cost(name) * (self.begun[name] - left) for name, left in self.left.items())
        if not done:
            return None
        usual = sum(self.begun.values()) / len(self.begun)
        left = sum(self._cost(n) * (0 if n in self.gone else self.left.get(n, usual)) for n in self.sizes)
        return elapsed * left / done

    def _cost(self, network: str) -> float:
        return self.sizes[network] + OVERHEAD


class Bar:
    """Networks done, the attempts' outcomes so far, and the time left; on stderr."""

    def __init__(self, sizes: Mapping[str, float], workers: int) -> None:
        self.estimate = Estimate(sizes, workers)
        self.counts: dict[str, int] = {}
        self.started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self.progress = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
        self.task = self.progress.add_task("networks", total=len(sizes), now="")

    def students(self, network: str, left: int) -> None:
        """So many students are left of a network."""
        self.estimate.students(network, left)
        self._draw(network)

    def record(self, record: Record) -> None:
        """One more result."""
        if isinstance(record, Attempt):
            self.counts[record.outcome] = self.counts.get(record.outcome, 0) + 1
        elif isinstance(record, Network) and record.failed:
            self.counts["failed"] = self.counts.get("failed", 0) + 1
        self._draw(record.network)

    def finished(self, network: str) -> None:
        """A network has no more to give."""
        self.estimate.finished(network)
        self.progress.update(self.task, completed=len(self.estimate.gone))

    def _draw(self, network: str) -> None:
        left = self.estimate.seconds(time.monotonic() - self.started)
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        students = self.estimate.left.get(network)
        now = f"{network}: {students} students left" if students is not None else network
        self.progress.update(self.task, now=f"{told} · {now}" + (f" · {brief(left)} left" if left is not None else ""))


def brief(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
