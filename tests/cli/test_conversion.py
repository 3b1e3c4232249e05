"""Arguments that are plainly right become what typer makes of them, and the rest goes typer's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.running import expects, run, spawn
from net2net_cli.cli.main import app

VALUES = ("0", "1", "12", "1.5", "1e-3", "007", "-1", "1_0", " 1", "٣", "", "a=2x", "a b", "equal", "EQUAL", "é")
"""As a shell hands them over."""

GIVEN = (None, True, False, 0, 1, 0.0, 0.5, Path("x"), ("a", "b"), ["a"], (), *VALUES, *((value,) for value in VALUES))
"""Those, and what stands there where nothing was given."""


def parameters() -> list[Any]:
    """Of every command, and of what stands in front of it; but not `--help` and the like, which end the process."""
    group: Any = typer.main.get_command(app)
    commands = [group, *(group.get_command(context(group), name) for name in group.list_commands(context(group)))]
    found = [(command, p) for command in commands for p in command.get_params(context(command))]
    return [pytest.param(c, p, id=f"{c.name}-{p.name}") for c, p in found if p.callback is None]


def context(command: Any) -> Any:
    return command.context_class(command, info_name=command.name)


@pytest.mark.parametrize(("command", "parameter"), parameters())
def test_a_value_is_the_one_that_typer_gives(command: Any, parameter: Any) -> None:
    """On itself, without what was put in front of it."""
    for value in GIVEN:
        ours, typers = (
            outcome(process, context(command), value)
            for process in (parameter.process_value, type(parameter).process_value.__get__(parameter))
        )
        assert ours == typers, value


def outcome(process: Callable[[Any, Any], Any], where: Any, value: Any) -> tuple[type, Any]:
    """What comes out, or what is said."""
    try:
        found = process(where, value)
    except Exception as error:  # noqa: BLE001 # typer's, pydantic's and Python's, which have no base in common
        return type(error), str(error)
    return type(found), found


def test_commands_that_are_plainly_right_load_no_validators(teacher: Path, poison: Path) -> None:
    (poison / "pydantic.py").write_text("raise AssertionError('it is loaded')")
    out = teacher.with_name("student.safetensors")
    widened = spawn(
        *("widen", teacher, "conv1=+2", "-o", out, "--seed", "7", "--split", "random", "--noise", "0.0", "--no-verify"),
        poison=poison,
    )
    assert widened.code == 0, widened.err
    assert spawn("verify", teacher, out, "--level", "proof", poison=poison).code == 0
    assert spawn("diff", teacher, out, poison=poison).code == 0
    assert spawn("inspect", teacher, "conv1", poison=poison).code == 0


def test_a_number_out_of_range_is_told_by_typer() -> None:
    expects(run("widen", "x", "a=2x", "--seed", "-1"), 2, "invalid value for `--seed`", "net2net widen --help")
    expects(run("widen", "x", "a=2x", "--noise", "much"), 2, "invalid value for `--noise`", "net2net widen --help")
    expects(run("widen", "x", "a=2x", "--round-to", "0"), 2, "invalid value for `--round-to`", "net2net widen --help")
