"""Examples: what is typed, on which files, and what comes of it."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

from cli.conftest import residual, weights
from typer.main import get_command

from messages.births import GAP, Birth
from messages.recording import as_printed, recording
from net2net_cli import Net2Net
from net2net_cli.cli.main import app
from net2net_cli.errors import Net2NetError


@dataclass(frozen=True)
class Example:
    """A command that ends with a message.

    Attributes:
        command: as it is typed, or lines of Python where `python` is set.
        files: text files that stand in the folder, and are shown; names that begin with a dot are not shown.
        given: in words, what else is needed to see this message.
        before: makes what `given` tells, in the folder.
        fault: what the machine does meanwhile.
        row: in a table, what leads to the message; without it, the example is shown in full.
        vague: matches what another release of Python, PyTorch or the system may say differently.
    """

    command: str
    files: Mapping[str, str] = field(default_factory=dict)
    given: str = ""
    before: Callable[[Path], Any] | None = None
    fault: Callable[[], AbstractContextManager[Any]] = nullcontext
    row: str | None = None
    vague: str | None = None
    python: bool = False

    def run(self) -> Outcome:
        """Run it in a folder of its own."""
        with tempfile.TemporaryDirectory() as name, chdir(name), _imports_forgotten():
            folder = Path(name).resolve()
            if "teacher" in self.command:
                for file, content in _teacher_files().items():
                    (folder / file).write_bytes(content)
            for file, text in self.files.items():
                (folder / file.removeprefix(".")).write_text(text, encoding="utf-8")
            if self.before is not None:
                self.before(folder)
            with recording() as found, self.fault():
                code, out, said = _of_python(self.command) if self.python else _of_command(self.command)
            told = found.told(said)
            births = [] if told is None else found.births(told)
            return Outcome(self, code, out, said, told, births, self._without_place(told, folder))

    def _without_place(self, told: Net2NetError | None, folder: Path) -> str:
        if told is None:
            return ""
        text = as_printed(told).replace(f"{folder}{os.sep}", "").replace(str(folder), "here").rstrip()
        return re.sub(self.vague, GAP, text) if self.vague else text


@dataclass(frozen=True)
class Outcome:
    """What an example did."""

    example: Example
    code: int
    out: str
    said: str
    told: Net2NetError | None
    births: list[Birth]
    text: str


@dataclass(frozen=True)
class Area:
    """Messages that belong together, all with one exit code.

    Attributes:
        rows: what the second column of its table holds, where it is a table.
    """

    name: str
    title: str
    code: int
    intro: str
    examples: tuple[Example, ...]
    rows: str = ""


@cache
def _net2net() -> Any:
    """The command line, made once: that takes longer than most examples."""
    return get_command(app)


@contextmanager
def _imports_forgotten() -> Iterator[None]:
    """Modules that examples bring along are called `net` all."""
    path, before = sys.path[:], sys.modules.pop("net", None)
    sys.path_importer_cache.pop(".", None)  # it keeps to the folder that was the present one when it was made
    try:
        yield
    finally:
        sys.path[:] = path
        sys.modules.pop("net", None)
        if before is not None:
            sys.modules["net"] = before


def _of_command(text: str) -> tuple[int, str, str]:
    out, said = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = _net2net().main(shlex.split(text.partition(" > ")[0])[1:], prog_name="net2net", standalone_mode=False)
    return code, out.getvalue(), said.getvalue()


def _of_python(text: str) -> tuple[int, str, str]:
    out, said = StringIO(), StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(said):
        try:
            exec(text, {"__name__": "example"})
        except Net2NetError as error:
            code = int(error.exit_code)
            said.write(as_printed(error))
        except Exception:  # noqa: BLE001 # an example that fails otherwise is told by the test
            code = 70
            said.write(traceback.format_exc())
    return code, out.getvalue(), said.getvalue()


def python(text: str, **more: Any) -> Example:
    """What only the Python API can be asked for."""
    return Example(text, python=True, **more)


def api(call: str, **more: Any) -> Example:
    """A call on the sample."""
    load = 'from net2net_cli import Net2Net\n\nteacher = Net2Net.load("teacher.safetensors")\n'
    return python(load + call, **more)


def teacher_of(make: Callable[[], Any], name: str = "teacher.safetensors") -> Callable[[Path], None]:
    """Saves a network with random weights."""
    return partial(_save, make=make, name=name)


def _save(folder: Path, *, make: Callable[[], Any], name: str) -> None:
    graph = make()
    Net2Net.from_tensors(graph, weights(graph)).save(folder / name)


@cache
def _teacher_files() -> dict[str, bytes]:
    """The small network that most examples are about."""
    with tempfile.TemporaryDirectory() as name:
        teacher_of(residual)(Path(name))
        return {f.name: f.read_bytes() for f in Path(name).iterdir()}


def both(*steps: Callable[[Path], Any]) -> Callable[[Path], None]:
    """One after the other."""

    def run_all(folder: Path) -> None:
        for step in steps:
            step(folder)

    return run_all
