"""A command in a process of its own, in a folder of its own, with an end to its time and memory."""

from __future__ import annotations

import gc
import json
import os
import pickle
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from fuzz.guards import Watch, measured, status

SECONDS = 10.0
"""Of the processor's time, which a command may take: how long it has to wait for it is the machine's business."""

PATIENCE = 60.0
"""Seconds after which a command that has not come back is ended."""

MOST_MEMORY = 3 << 30
"""Bytes above what the process has at its start; more is refused by the kernel."""

TRAP = "open('PWNED', 'w').close()\n\ndef PWNED(*args, **kwargs):\n    open('PWNED', 'w').close()\n"


@dataclass(frozen=True)
class Case:
    """A command and its files.

    Attributes:
        kind: of input, for the account.
        arguments: of `net2net`; relative to the folder in which it runs. Output goes to `out/`.
        hostile: bytes of the files that are hostile.
        channels: that a hostile spec makes, where it can be read at all; a network is kept in memory by its channels.
        runs_network: whether the network is run, so that its activations take memory too.
        trusted: Python files that the command line itself names.
        unread: files that must not even be opened.
    """

    kind: str
    arguments: tuple[str, ...]
    hostile: int
    channels: int = 0
    runs_network: bool = False
    trusted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


Prepare = Callable[[], Case]


@dataclass
class Done:
    """What came of a case."""

    kind: str = ""
    arguments: list[str] = field(default_factory=list)
    code: int | None = None
    out: str = ""
    err: str = ""
    seen: list[str] = field(default_factory=list)
    memory: int = 0
    hostile: int = 0
    channels: int = 0
    runs_network: bool = False
    seconds: float = 0.0
    escaped: str = ""
    left: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def run_cases(
    folder: Path, cases: Mapping[int, Prepare], judge: Callable[[Done, Path], Any]
) -> Iterator[tuple[int, Any]]:
    """Run cases one after the other in a child, and in another one where a case ends it.

    Args:
        folder: where each case gets a folder of its own for as long as it runs.
        cases: number -> what makes its files in the present folder and returns it.
        judge: told what came of a case and where its files are; what it returns is handed on.
    """
    left = dict(cases)
    while left:
        for number, found in _one_child(folder, left, judge):
            yield number, found
            del left[number]


def _one_child(
    folder: Path, cases: Mapping[int, Prepare], judge: Callable[[Done, Path], Any]
) -> Iterator[tuple[int, Any]]:
    """Until all cases are done or one does not come back."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(folder, cases, judge, writing)
    os.close(writing)
    waiting = list(cases)
    try:
        with os.fdopen(reading, "rb") as pipe:
            while waiting:
                ready, _, _ = select.select([pipe], [], [], PATIENCE)
                data = pipe.read(8) if ready else b""
                if not data:
                    place = folder / str(waiting[0])
                    lost = Done(escaped="died" if ready else "hang", err=_text(place / "stderr"), seconds=PATIENCE)
                    with suppress(OSError, ValueError):
                        known = json.loads((place / "case.json").read_bytes())
                        lost.kind, lost.arguments = known["kind"], known["arguments"]
                    yield waiting[0], judge(lost, place)
                    return
                yield waiting.pop(0), pickle.loads(pipe.read(int.from_bytes(data, "little")))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for number in cases:
            clear(folder / str(number))


def without_gpu() -> Any:
    """A patch: CUDA takes more memory than a command may, and a process that was forked cannot use it."""
    return patch("torch.cuda.is_available", lambda: False)


def _in_child(folder: Path, cases: Mapping[int, Prepare], judge: Callable[[Done, Path], Any], answer: int) -> NoReturn:
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + MOST_MEMORY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        without_gpu().start()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        watch = Watch()
        for number, prepare in cases.items():
            place = folder / str(number)
            found = pickle.dumps(judge(_one_case(place, prepare, watch), place))
            os.chdir(folder)
            clear(place)
            with open(answer, "wb", closefd=False) as pipe:
                pipe.write(len(found).to_bytes(8, "little") + found)
    finally:
        os._exit(0)


def _one_case(folder: Path, prepare: Prepare, watch: Watch) -> Done:
    done = Done()
    try:
        make_folder(folder)
        os.chdir(folder)
        _say_into(folder)
        case = prepare()
        done.kind, done.arguments = case.kind, list(case.arguments)
        done.hostile, done.channels, done.runs_network = case.hostile, case.channels, case.runs_network
        (folder / "case.json").write_text(
            json.dumps({"kind": done.kind, "arguments": done.arguments}), encoding="utf-8"
        )
        _run(folder, case, done, watch)
    except BaseException:  # noqa: BLE001 # whatever it is, it is told
        done.escaped = traceback.format_exc()
    done.out, done.err = (_text(folder / name) for name in ("stdout", "stderr"))
    return done


def make_folder(folder: Path) -> None:
    """A place for a case: what it reads, what it may write, and what must not be touched."""
    for name in ("in", "out"):
        (folder / name).mkdir(parents=True)
    for name in ("trap.py", "in/trap.py"):
        (folder / name).write_text(TRAP, encoding="utf-8")
    os.mkfifo(folder / "in" / "pipe")


def _say_into(folder: Path) -> None:
    """What is said goes to files, also what C says."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _text(path: Path) -> str:
    return path.read_bytes()[: 1 << 20].decode("utf-8", "surrogateescape") if path.exists() else ""


def _run(folder: Path, case: Case, done: Done, watch: Watch) -> None:
    before = _snapshot(folder)
    gc.collect()
    began = time.process_time()

    def command() -> None:
        with watch.watching(os.path.realpath(folder / "out"), case.trusted, case.unread):
            done.code = execute(case.arguments)

    done.memory = measured(command)
    done.seconds = time.process_time() - began
    done.seen = list(watch.seen)
    after = _snapshot(folder)
    done.changed = sorted(str(p) for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    done.left = sorted(p.name for p in (folder / "out").iterdir())


@cache
def _command() -> Any:
    import typer

    from net2net_cli.cli.main import app

    return typer.main.get_command(app)


def execute(arguments: tuple[str, ...]) -> int:
    """The exit code of the real command line."""
    try:
        _command().main(args=list(arguments), prog_name="net2net")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0


def _snapshot(folder: Path) -> dict[Path, Any]:
    """Everything but the output: name -> what would show a change."""
    ours = {folder / name for name in ("stdout", "stderr", "case.json")}
    found = {}
    for path in folder.rglob("*"):
        if path not in ours and folder / "out" not in path.parents:
            stat = path.lstat()
            found[path.relative_to(folder)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return {p: s for p, s in found.items() if not (folder / p).is_dir()}


def clear(folder: Path) -> None:
    """Remove a case's folder."""
    shutil.rmtree(folder, ignore_errors=True)
