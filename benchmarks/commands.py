"""Whole processes: `net2net --help` beside an empty Typer app, and `net2net widen` beside `import torch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Command, Row, medians, process_seconds

EMPTY_APP = '''\
import typer

app = typer.Typer()


@app.command()
def first() -> None:
    """Does nothing."""


@app.command()
def second() -> None:
    """Does nothing either."""
'''
LAUNCHER = """\
import sys

from empty_app import app

if __name__ == "__main__":
    sys.exit(app())
"""
NET2NET = Path(sys.executable).with_name("net2net")


def measure_help(folder: Path, rounds: int) -> Iterator[Row]:
    """Our `--help`, and that of a Typer app which has two empty commands; both started by a script of five lines."""
    (folder / "empty_app.py").write_text(EMPTY_APP)
    (folder / "launch.py").write_text(LAUNCHER)
    runs = {
        "net2net": lambda: process_seconds([NET2NET, "--help"], folder),
        "empty": lambda: process_seconds([sys.executable, "launch.py", "--help"], folder),
    }
    seconds = medians(runs, rounds)
    yield Row("net2net --help", seconds["net2net"], seconds["empty"], "empty Typer app", 1.2)


def measure_widen(teacher: Path, folder: Path, rounds: int) -> Iterator[Row]:
    """A stage of ResNet-50 made wider, from the shell and back, beside the time that importing torch takes."""
    student = folder / "student.safetensors"
    command: Command = [NET2NET, "widen", teacher, "layer3.*.conv1=2x", "--no-verify", "--quiet", "-o", student]

    def widen() -> float:
        for path in (student, student.with_suffix(".json")):
            path.unlink(missing_ok=True)
        return process_seconds(command, folder)

    seconds = medians({"net2net": widen, "torch": lambda: import_torch(folder)}, rounds)
    yield Row("widen a stage of ResNet-50", seconds["net2net"], seconds["torch"], "import torch", 0.3)


def import_torch(folder: Path) -> float:
    """Seconds until a Python process has torch."""
    return process_seconds([sys.executable, "-c", "import torch"], folder)
