from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.running import BUG, leftovers, run, spawn
from net2net_cli import Net2Net
from net2net_cli.cli.boundary import exit_code_of
from net2net_cli.errors import ExitCode, MachineError


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MachineError("no room"), 5, "error: no room"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 5, "error: disk full"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 5, "error: no permission"),
        (OSError(errno.ENOSPC, "No space left on device"), 5, "error: cannot write the output: no space left"),
        (MemoryError(), 5, "error: out of memory"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
    ],
)
def test_what_each_exception_becomes(
    error: BaseException, code: int, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("net2net_cli.cli.boundary.close_stdout", lambda: None)  # the test's own stdout
    assert exit_code_of(raising(error)) == code
    told = capfd.readouterr().err
    assert told.startswith(said)
    assert "Traceback" not in told


def test_what_nobody_foresaw_is_a_bug_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(ZeroDivisionError("division by zero"))) == ExitCode.BUG
    told = capfd.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: division by zero" in told
    assert BUG in told


def test_the_exit_code_is_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(lambda: 1) == 1
    assert exit_code_of(lambda: None) == 0


def test_a_reader_that_leaves_early_is_no_error(teacher: Path) -> None:
    command = f"{sys.executable} -m net2net_cli inspect {teacher} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"
    assert done.stderr == ""


def test_stdout_closed_before_the_first_byte_is_silent(teacher: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    for command in (["--help"], ["schema"], ["inspect", str(teacher)]):
        done = subprocess.run(
            [sys.executable, "-m", "net2net_cli", *command],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    os.close(write)


def test_a_closed_pipe_does_not_turn_no_into_yes(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net2Net.load(teacher)
    tensors = {name: model.tensor(name) * 2 for name, *_ in model.graph.tensors()}
    other = teacher.with_name("other.safetensors")
    Net2Net.from_tensors(model.graph, tensors).save(other)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "net2net_cli", "verify", str(teacher), str(other), "--device", "cpu"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == ExitCode.DIFFERENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told(teacher: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 # a device
        done = subprocess.run(
            [sys.executable, "-m", "net2net_cli", "inspect", str(teacher)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == ExitCode.MACHINE
    assert done.stderr.startswith("error: cannot write the output: no space left on device")


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as on a terminal; shells have it ignored in the background
from net2net_cli.checkpoint import safetensors_file
write = safetensors_file._write_tensor
def slow(*args):
    write(*args)
    print("writing", flush=True)
    for _ in range(3000):  # Python may meet a signal that comes just before a sleep only behind it
        time.sleep(0.01)
safetensors_file._write_tensor = slow
from net2net_cli.cli.main import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_writing_leaves_nothing_behind(
    teacher: Path, number: signal.Signals, code: int
) -> None:
    out = teacher.with_name("s.safetensors")
    arguments = ["widen", str(teacher), "conv1=2x", "-o", str(out), "--no-verify"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert any(name.endswith(".part") for name in leftovers(teacher.parent))
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in told
    assert leftovers(teacher.parent) == []


@pytest.mark.parametrize(
    ("module", "line"), [("typer", "raise KeyboardInterrupt"), ("numpy", "exec('raise KeyboardInterrupt')")]
)
def test_an_interrupt_while_something_is_loaded_is_no_traceback(
    teacher: Path, poison: Path, module: str, line: str
) -> None:
    (poison / f"{module}.py").write_text(line)
    path = os.pathsep.join([str(poison), os.environ.get("PYTHONPATH", "")])
    done = spawn("widen", teacher, "conv1=2x", "-n", PYTHONPATH=path)
    assert (done.code, done.out, done.err) == (130, "", "")


@pytest.mark.parametrize("code", [0, 2])
def test_all_that_is_said_arrives_before_the_process_ends(code: int) -> None:
    """A pipe holds less than the schema."""
    arguments = ("schema",) if code == 0 else ("schema", "--no-such-option")
    there, here = spawn(*arguments), run(*arguments)
    assert there == here
    assert there.code == code
    assert len(there.out + there.err) > (1 << 16 if code == 0 else 0)


def test_piped_output_has_no_colours_and_no_line_breaks_of_its_own(teacher: Path) -> None:
    done = spawn("inspect", teacher, "fc", COLUMNS="20", TERM="xterm-256color")
    assert "\x1b" not in done.out + done.err
    assert "no: it is the network's output `out`" in done.out


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal of 80 columns receives."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "net2net_cli", *arguments],
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm", **environment},
    )
    os.close(slave)
    received = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            more = os.read(master, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not more:
            break
        received += more
    process.wait()
    os.close(master)
    return received.decode()


def test_a_terminal_gets_colours_unless_no_color_is_set(teacher: Path) -> None:
    assert "\x1b[1m" in on_a_terminal("inspect", str(teacher))
    assert "\x1b" not in on_a_terminal("inspect", str(teacher), NO_COLOR="1")
    assert "\x1b[1;31merror:" in on_a_terminal("inspect", "nothing.safetensors")


def test_brackets_in_names_are_printed_as_they_are(tmp_path: Path) -> None:
    done = run("inspect", tmp_path / "[layer1].safetensors")
    assert "[layer1].safetensors" in done.err


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    done = run("inspect", tmp_path / "a\x1b[2J\u202eb\u2028c\t\x9b.safetensors")
    assert done.err.replace("\n", "").isprintable()
    assert "a\\x1b[2J\\u202eb\\u2028c\\t\\x9b.safetensors" in done.err
