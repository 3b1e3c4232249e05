"""Many inputs, each in a process of its own, in a few workers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path

from fuzz.judge import Finding, findings
from fuzz.kinds import prepare, sound
from fuzz.sandbox import Done, execute, make_folder, run_cases, without_gpu
from fuzz.seeds import Seed, make_seeds

BATCH = 40


@dataclass
class Tally:
    """What was tried, and what was found.

    Attributes:
        tried: inputs by kind and exit code.
        found: finding -> the numbers of the inputs that have it.
        said: finding -> how the first of these ended.
    """

    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: dict[Finding, list[int]] = field(default_factory=dict)
    said: dict[Finding, str] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take in what a worker has."""
        self.tried += other.tried
        for finding, numbers in other.found.items():
            self.found.setdefault(finding, []).extend(numbers)
            self.said.setdefault(finding, other.said[finding])

    def count(self, number: int, done: Done, broken: list[Finding]) -> None:
        """Take in one input."""
        self.tried[done.kind, "–" if done.code is None else str(done.code)] += 1
        for finding in broken:
            self.found.setdefault(finding, []).append(number)
            told = f"net2net {' '.join(done.arguments)}\n{done.err[-1500:]}{done.escaped[-1500:]}"
            self.said.setdefault(finding, f"{told}\n{done.memory >> 20} MiB, {done.seconds:.1f} s")


class Runner:
    """What every case needs: seeds, a folder, and what commands take by themselves."""

    def __init__(self, folder: Path, *, every: bool) -> None:
        self.folder = folder
        # Lightning sets it where another test has imported that, and torch then opens a library.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        (folder / "seeds").mkdir(parents=True)
        self.seeds: list[Seed] = make_seeds(folder / "seeds", every=every)
        for turn, (_, make) in enumerate(sound(self.seeds) * 2):  # what is imported late is imported here, once for all
            place = folder / f"warm-{turn}"
            make_folder(place)
            with chdir(place), without_gpu(), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
                code = execute(make().arguments)
            if code:
                raise AssertionError(said.getvalue())
        gc.collect()
        gc.freeze()  # a child that collects would copy all there is
        self.usual: dict[str, int] = {}
        self.keep: Path | None = None
        cases = dict(enumerate(make for _, make in sound(self.seeds)))
        for _, (done, broken) in run_cases(folder / "usual", cases, self._judged):
            if done.code != 0 or any(one.rule != "memory" for one in broken):
                raise AssertionError(f"a sound command ended so: {done}")
            self.usual[done.arguments[0]] = max(done.memory, self.usual.get(done.arguments[0], 0))

    def try_some(self, seed: int, numbers: Iterable[int]) -> Tally:
        """Run some inputs, one after the other; one that does not come back is tried again: the machine may be busy."""
        tally = Tally()
        for number, (done, broken) in self._tried(seed, numbers, "first"):
            if any(one.rule in ("slow", "hang") for one in broken):
                ((_, (done, broken)),) = self._tried(seed, [number], "again")
            tally.count(number, done, broken)
        return tally

    def _tried(self, seed: int, numbers: Iterable[int], turn: str) -> Iterator[tuple[int, tuple[Done, list[Finding]]]]:
        cases = {number: partial(prepare, self.seeds, seed, number) for number in numbers}
        return run_cases(self.folder / f"{os.getpid()}-{turn}", cases, self._judged)

    def _judged(self, done: Done, place: Path) -> tuple[Done, list[Finding]]:
        broken = findings(done, place, self.usual)
        if self.keep is not None:
            shutil.copytree(place, self.keep, ignore=shutil.ignore_patterns("pipe"))
        return done, broken


_runner: Runner | None = None


def _some(seed: int, numbers: range) -> Tally:
    assert _runner is not None
    return _runner.try_some(seed, numbers)


def campaign(
    runner: Runner, seed: int, *, inputs: int | None, until: float, workers: int, first: int = 0
) -> Generator[Tally]:
    """Run inputs until there were so many, or the time has come; yields what is known from time to time.

    Args:
        runner: what they need.
        seed: of all inputs; the same seed and number are the same input.
        inputs: how many; None for as many as the time allows.
        until: `time.monotonic()` at which to begin nothing new.
        workers: processes.
        first: the number of the first one.
    """
    global _runner  # workers are forked, and inherit it
    _runner = runner
    last = None if inputs is None else first + inputs
    starts = (start for start in (range(first, last, BATCH) if last is not None else count(first, BATCH)))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        running: set[Future[Tally]] = set()
        while True:
            while len(running) < workers and time.monotonic() < until and (start := next(starts, None)) is not None:
                end = start + BATCH if last is None else min(start + BATCH, last)
                running.add(pool.submit(_some, seed, range(start, end)))
            if not running:
                return
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()
