"""A sample of hostile files, those that broke something once, and whether the guards would see it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fuzz import sandbox
from fuzz.driver import Runner
from fuzz.judge import findings
from fuzz.past import PAST, command
from fuzz.sandbox import Done, run_cases
from net2net_cli.cli import inspect_report

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the guards read Linux's accounts of processes"),
    pytest.mark.skipif(
        torch.cuda.is_available(),
        reason="commands are forked, and with a GPU torch's gradients start threads; CUDA_VISIBLE_DEVICES= hides it",
    ),
]

SAMPLE = 112


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("fuzz") / "runner", every=False)


@pytest.fixture
def only(runner: Runner, tmp_path: Path) -> Callable[..., tuple[Done, list[str]]]:
    """Runs one case and tells the rules that it broke."""

    def run(make: Callable[[], sandbox.Case]) -> tuple[Done, list[str]]:
        def judge(done: Done, place: Path) -> tuple[Done, list[str]]:
            return done, [str(one) for one in findings(done, place, runner.usual)]

        ((_, found),) = run_cases(tmp_path, {0: make}, judge)
        judged: tuple[Done, list[str]] = found
        return judged

    return run


def test_a_sample_of_hostile_files_breaks_no_rule(runner: Runner) -> None:
    tally = runner.try_some(0, range(SAMPLE))
    assert not tally.found, "\n".join(tally.said.values())
    assert sum(tally.tried.values()) == SAMPLE
    assert len({kind for kind, _ in tally.tried}) >= 8


@pytest.mark.parametrize("what", PAST)
def test_what_broke_a_rule_once_breaks_none_now(
    what: str, runner: Runner, only: Callable[..., tuple[Done, list[str]]]
) -> None:
    code, make = PAST[what]
    done, broken = only(partial(make, runner.seeds))
    assert broken == [], done
    assert done.code == code, done


def _outside() -> None:
    Path("in/new").write_text("x", encoding="utf-8")


def _deleted() -> None:
    Path("in/t.safetensors").unlink()


def _linked() -> None:
    Path("out/link").symlink_to("../in")
    Path("out/link/new").write_text("x", encoding="utf-8")


def _shell() -> None:
    os.system("true")


def _process() -> None:
    subprocess.run(["true"], check=True)


def _code() -> None:
    exec("a = 1")


def _imported() -> None:
    import this  # noqa: F401


def _greedy() -> None:
    assert np.ones(100 << 20, np.uint8).all()


def _failing() -> None:
    raise ValueError("nobody foresaw it")


def _painting() -> None:
    sys.stderr.write("\x1b[31mred")


def _turning() -> None:
    sys.stdout.write("\u202eabc")


def _dying() -> None:
    os._exit(3)


def _endless() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("misdeed", "rule"),
    [
        (_outside, "watched: opened for writing: 'in/new'"),
        (_outside, "changed outside of the output folder: in/new"),
        (_deleted, "watched: os.remove"),
        (_linked, "watched: opened for writing: 'out/link/new'"),
        (_shell, "watched: os.system"),
        (_process, "watched: subprocess.Popen"),
        (_code, "watched: exec of `<string>`"),
        (_imported, "watched: imported `this`"),
        (_greedy, "memory: inspect"),
        (_failing, "exit code 70: cli/inspect.py"),
        (_painting, r"raw control character: inspect past '\x1b'"),
        (_turning, r"raw control character: inspect past '\u202e'"),
        (_dying, "escaped: inspect died"),
        (_endless, "hang: inspect hang"),
    ],
)
def test_the_guards_see_it(
    misdeed: Callable[[], None],
    rule: str,
    runner: Runner,
    only: Callable[..., tuple[Done, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = inspect_report.inspect_text

    def misbehaving(*args: object, **options: object) -> str:
        misdeed()
        return usual(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inspect_report, "inspect_text", misbehaving)
    if misdeed is _endless:
        monkeypatch.setattr(sandbox, "PATIENCE", 1.0)
    done, broken = only(partial(command, runner.seeds, "inspect", "in/t.safetensors"))
    assert any(one.startswith(rule) for one in broken), (broken, done)


def test_a_sound_command_breaks_no_rule(runner: Runner, only: Callable[..., tuple[Done, list[str]]]) -> None:
    done, broken = only(partial(command, runner.seeds, "inspect", "in/t.safetensors"))
    assert (done.code, broken) == (0, [])
    assert "conv1" in done.out


def test_the_same_number_is_the_same_input(runner: Runner) -> None:
    first, second = (runner.try_some(5, range(16)) for _ in range(2))
    assert first.tried == second.tried
