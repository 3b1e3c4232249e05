"""Kill a command at a moment, and say what is in its folder then."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.crash.scenarios import PYTHON, Scenario

NAME = "student"
FOUND = ("nothing", "spec alone", "old", "old, bare", "new, bare", "new")
"""What may be there. A bare checkpoint has no spec file beside it; it holds its spec, and is whole without it."""


@dataclass
class Tally:
    """What came of the kills of one scenario.

    Attributes:
        seconds: of the undisturbed runs by which moments are chosen, which are uniform from 0 to these.
        running: kills that met a running process.
        found: how often each of `FOUND` was there.
        part_files: kills that left temporary files behind.
        wrong: what should not have been, in words.
    """

    scenario: str
    seconds: list[float] = field(default_factory=list)
    kills: int = 0
    running: int = 0
    found: Counter[str] = field(default_factory=Counter)
    part_files: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """Digests of a checkpoint and the spec beside it; None for what is not there."""

    checkpoint: str | None
    spec: str | None


def look(folder: Path) -> Pair:
    """The student in a folder."""
    return Pair(_digest(folder / f"{NAME}.safetensors"), _digest(folder / f"{NAME}.json"))


def name_of(found: Pair, new: Pair, old: Pair | None) -> str | None:
    """Which of `FOUND` it is; None if it is none of them."""
    before = old or Pair(None, None)
    states = {
        before: "old" if old else "nothing",
        Pair(None, new.spec): None if old else "spec alone",
        Pair(before.checkpoint, None): "old, bare" if old else "nothing",
        Pair(new.checkpoint, None): "new, bare" if old else None,
        new: "new",
    }
    return states.get(found)


def kill_often(
    scenario: Scenario, kills: int, folder: Path, rng: random.Random, *, jobs: int, proof: bool, between: int = 20
) -> Tally:
    """Kill a scenario's command at moments that are uniform over its run time, and check what is there each time.

    Args:
        scenario: what is killed.
        kills: how often.
        folder: for its files.
        rng: for the moments.
        jobs: how many run at a time.
        proof: whether the student that the others are compared with is proved.
        between: kills after which the run time is measured again, since machines have other work too.
    """
    tally = Tally(scenario.name)
    with _Stage(scenario, folder, jobs) as stage, ThreadPoolExecutor(jobs) as pool:
        stage.first()
        if proof:
            stage.prove(tally)
        for start in range(0, kills, between):
            longest = max(pool.map(lambda _: stage.undisturbed(), range(jobs)))
            tally.seconds.append(longest)
            moments = [rng.uniform(0.0, longest) for _ in range(min(between, kills - start))]
            list(pool.map(lambda moment: stage.kill(moment, tally), moments))
    return tally


class _Stage:
    """Folders in which one scenario is run, with the students that it makes when nobody kills it."""

    def __init__(self, scenario: Scenario, folder: Path, jobs: int) -> None:
        self.scenario, self.folder = scenario, folder / "stage"
        self.free = [self.folder / str(i) for i in range(jobs)]

    def __enter__(self) -> _Stage:
        for path in (*self.free, self.folder / "old"):
            path.mkdir(parents=True)
        older = self.scenario.run_older(self.folder / "old" / f"{NAME}.safetensors")
        self.old = None
        if older is not None:
            _finish(older)
            self.old = look(self.folder / "old")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def first(self) -> None:
        """A run that nobody kills, with whose student others are compared; it also finds the caches cold."""
        with self._place() as place:
            _finish(self.scenario.run(place / f"{NAME}.safetensors"))
            self.new = look(place)
            shutil.copytree(place, self.folder / "new")

    def undisturbed(self) -> float:
        """Seconds of a run that nobody kills."""
        with self._place() as place:
            start = time.perf_counter()
            _finish(self.scenario.run(place / f"{NAME}.safetensors"))
            seconds = time.perf_counter() - start
            if look(place) != self.new:
                raise AssertionError(f"{self.scenario.name}: the same command made other bytes")
        return seconds

    def prove(self, tally: Tally) -> None:
        """Prove the student that all others are compared with, byte by byte; imports have no teacher."""
        teacher = self.scenario.command[1]
        if isinstance(teacher, Path):
            command = [*PYTHON, "verify", teacher, self.folder / "new" / f"{NAME}.safetensors", "--level", "proof"]
            done = subprocess.run([*map(str, command), "--quiet"], capture_output=True, text=True, check=False)
            if done.returncode:
                tally.wrong.append(f"the undisturbed student is not proved: {done.stderr.strip()}")

    def kill(self, moment: float, tally: Tally) -> None:
        """One kill, what it left, and, where it left temporary files, the run after it."""
        with self._place() as place:
            was_running = _killed(self.scenario.run(place / f"{NAME}.safetensors"), moment)
            found, parts = look(place), _parts(place)
            state = name_of(found, self.new, self.old)
            tally.kills += 1
            tally.running += was_running
            tally.part_files += bool(parts)
            tally.found[state or "wrong"] += 1
            if state is None:
                tally.wrong.append(f"killed after {moment:.4f} s: {sorted(p.name for p in place.iterdir())}, {found}")
            if parts:
                self._run_after(place, tally)

    def _run_after(self, place: Path, tally: Tally) -> None:
        _finish([*self.scenario.run(place / f"{NAME}.safetensors"), "--force"])
        if look(place) != self.new or len(list(place.iterdir())) != 2:
            tally.wrong.append(f"after the next run: {sorted(p.name for p in place.iterdir())}")

    def _place(self) -> _Place:
        return _Place(self)


class _Place:
    """A folder of its own for one run, with the older student in it."""

    def __init__(self, stage: _Stage) -> None:
        self.stage = stage

    def __enter__(self) -> Path:
        self.path = self.stage.free.pop()
        for file in self.path.iterdir():
            file.unlink()
        for file in (self.stage.folder / "old").iterdir():
            shutil.copy(file, self.path)
        return self.path

    def __exit__(self, *_: object) -> None:
        self.stage.free.append(self.path)


def _finish(command: list[str]) -> None:
    subprocess.run(command, env=_environment(), check=True, stdout=subprocess.DEVNULL)


def _killed(command: list[str], moment: float) -> bool:
    """Start, kill with all its children after `moment` seconds, and say whether it was still running."""
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def _environment() -> Mapping[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".net2net-")]


def _digest(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
