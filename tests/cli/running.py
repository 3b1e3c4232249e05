"""Running the command line: in this process, or as a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from net2net_cli.cli.main import app

BUG = "this is a bug in net2net"


@dataclass(frozen=True)
class Done:
    """What a command did, all of it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def run(*arguments: str | Path) -> Done:
    """In this process; quick."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="net2net")
    return Done(done.exit_code, done.stdout, done.stderr)


def spawn(*arguments: str | Path, poison: Path | None = None, **environment: str) -> Done:
    """As a process of its own; with `poison`, a folder that stands first on PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, "-m", "net2net_cli", *map(str, arguments)],
        env={**os.environ, **environment, **({"PYTHONPATH": str(poison)} if poison else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def expects(done: Done, code: int, message: str, hint: str) -> None:
    """The command failed as it should: nothing on stdout, one message, one hint, no traceback."""
    assert done.code == code, done
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    said, _, advice = done.err.partition("\n\nhint: ")
    assert message in said
    assert hint in advice
    assert "Traceback" not in done.err
    assert said.removeprefix("error: ")[0] in "`abcdefghijklmnopqrstuvwxyz"


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Files that do not belong to the teacher."""
    return sorted(f.name for f in folder.iterdir() if not f.name.startswith("teacher"))
