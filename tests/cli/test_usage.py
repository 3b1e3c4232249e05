from __future__ import annotations

import subprocess
import sys

import pytest

from cli.running import expects, run, spawn
from net2net_cli.version import __version__

COMMANDS = (
    *("import", "inspect", "widen", "deepen", "grow", "apply"),
    *("random-pad", "verify", "diff", "export", "schema", "env"),
)


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    done = run("--help")
    assert done.code == 0
    listed = [line for line in done.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command: str) -> None:
    done = run(command, "-h")
    assert done.code == 0
    assert f"net2net {command}" in done.out.partition("Examples:")[2]


def test_no_command_shows_the_help_on_stderr() -> None:
    done = run()
    assert done.code == 2
    assert done.out == ""
    assert "Commands:" in done.err


def test_version() -> None:
    assert run("--version").out == f"net2net {__version__}\n"


def test_an_unknown_command_names_the_nearest() -> None:
    expects(run("widn", "x"), 2, "there is no command `widn`", "did you mean `widen`?")
    expects(run("shrink", "x"), 2, "there is no command `shrink`", "the commands are `import`")


def test_an_unknown_option_names_the_nearest() -> None:
    expects(run("widen", "x", "--forse"), 2, "there is no option `--forse`", "did you mean `--force`?")
    expects(run("widen", "x", "-Z"), 2, "there is no option `-Z`", "net2net widen --help")


def test_a_missing_argument_shows_an_example() -> None:
    expects(run("widen"), 2, "`net2net widen` needs TEACHER", "net2net widen teacher.safetensors")


def test_values_of_the_wrong_kind() -> None:
    expects(run("widen", "x", "a=2x", "--seed", "abc"), 2, "invalid value for `--seed`", "net2net widen --help")
    expects(run("widen", "x", "a=2x", "--split", "half"), 2, "`half` is not one of", "net2net widen --help")
    expects(run("verify", "x", "y", "--batch", "0"), 2, "invalid value for `--batch`", "net2net verify --help")


def test_onnx_is_not_available_yet() -> None:
    expects(
        run("export", "x", "--to", "onnx", "-o", "y"), 2, "`--to onnx` is not available yet", "`python` and `torch`"
    )
    expects(run("export", "x", "--to", "keras", "-o", "y"), 2, "`--to keras` is not available", "`python` and `torch`")


def test_help_and_schema_import_no_torch(poison: object) -> None:
    from pathlib import Path

    assert isinstance(poison, Path)
    assert spawn("--help", poison=poison).code == 0
    assert spawn("schema", poison=poison).code == 0


def test_a_command_is_made_only_where_it_is_asked_for() -> None:
    """Which is felt in the time of each of them."""
    code = (
        "import sys, typer; from net2net_cli.cli.main import app\n"
        "typer.main.get_command(app).main(['schema'], standalone_mode=False)\n"
        "print(sorted(m for m in sys.modules if m.startswith('net2net_cli.cli.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "net2net_cli.cli.schema" in done.stderr
    assert "net2net_cli.cli.widen" not in done.stderr


def test_schema_is_one_json_document() -> None:
    done = run("schema")
    assert done.code == 0
    assert done.json["$schema"].startswith("https://json-schema.org/")


def test_help_imports_neither_numpy_nor_rich() -> None:
    code = "import sys; from net2net_cli.cli.main import app; print([m for m in ('numpy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_choices_are_those_of_the_library() -> None:
    from typing import get_args

    from net2net_cli import checking
    from net2net_cli.cli import options
    from net2net_cli.growth.batch_norm import BatchNormStart
    from net2net_cli.growth.plan import SPLITS

    assert get_args(options.SplitChoice) == SPLITS
    assert get_args(options.StartChoice) == get_args(BatchNormStart)
    assert get_args(options.Device) == get_args(checking.Device)
