"""Unknown parts on the command line: imported with notes, and their code is run only if it is trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli.running import Done, expects, run, spawn

MODEL = """
import torch
from torch import nn

print("the user's code says something")

class Gate(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale = nn.Linear(size, size)

    def forward(self, x):
        if x.sum() > 0:
            return self.scale(x)
        return x

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.second = nn.Linear(6, 2 * width), nn.Linear(2 * width, width)
        self.gate = Gate(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x)))
        return self.head(torch.cumsum(self.gate(x), dim=1))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's file, in which the tool is run."""
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(*more: str) -> Done:
    return run("import", "model.py:Net", "--kwarg", "width=5", "--input", "6", "-o", "t.safetensors", *more)


@pytest.fixture
def teacher(folder: Path) -> Path:
    done = imported("--leaf", "gate")
    assert done.code == 0, done.err
    return folder / "t.safetensors"


@pytest.fixture
def hostile(teacher: Path) -> Path:
    """The same checkpoint, with a spec that names what would leave a trace."""
    trap = teacher.with_name("trap.py")
    trap.write_text("open('sprung', 'w').close()\ndef act(x, **kwargs): return x\n")
    text = teacher.with_suffix(".json").read_text()
    spec = teacher.with_name("hostile.json")
    spec.write_text(text.replace("torch:cumsum", "trap.py:act").replace("model.py:Net", "os:system"))
    return spec


def test_what_the_data_decide_is_told_with_the_line_and_what_can_be_done(folder: Path) -> None:
    done = imported()
    said, _, hint = done.err.removeprefix("the user's code says something\n").partition("\n\nhint: ")
    assert done.code == 3
    assert said.startswith("error: a tensor is used as a condition, so that what is computed would depend on the data")
    assert "model.py:13, in module `gate` of class `Gate`: `if x.sum() > 0:`" in said
    assert hint.startswith("`--leaf gate` keeps this module as it is, without growing it")
    assert "a SOURCE may return any part of the network" in hint
    assert not (folder / "t.safetensors").exists()


def test_a_leaf_is_imported_with_a_note_for_all_that_is_kept(folder: Path) -> None:
    done = imported("--leaf", "g*", "--json")
    assert done.code == 0, done.err
    assert "note: `gate` (model.Gate, model.py:26) is kept as asked, and what touches it cannot grow\n" in done.err
    assert "note: `torch.cumsum` (model.py:26) is not known: kept as it is, and what touches it cannot grow" in done.err
    assert done.json["code"] == {"model.py:Net": ["gate"], "torch:cumsum": ["cumsum"]}
    assert len(done.json["notes"]) == 2
    layers = json.loads((folder / "t.json").read_text())["layers"]
    gate = next(layer for layer in layers if layer["name"] == "gate")
    assert (gate["rebuild"], gate["made_with"], gate["submodule"]) == ("model.py:Net", {"width": 5}, "gate")


def test_an_unknown_leaf_names_the_nearest(folder: Path) -> None:
    done = imported("--leaf", "gat")
    assert done.code == 2
    assert "error: `gat` names no module of this network\n\nhint: did you mean `gate`?" in done.err


@pytest.mark.parametrize(
    "command",
    [
        ("widen", "t.safetensors", "first=2x", "-o", "s.safetensors"),
        ("deepen", "t.safetensors", "first", "-o", "s.safetensors"),
        ("verify", "t.safetensors", "t.safetensors"),
        ("export", "t.safetensors", "--to", "python", "-o", "s.py"),
        ("export", "t.safetensors", "--to", "torch", "-o", "s.pt"),
    ],
)
def test_what_runs_the_code_asks_for_trust(teacher: Path, command: tuple[str, ...]) -> None:
    done = run(*command)
    expects(
        done, 3, "to run `Net`, code that its spec names would be imported: `model.py:Net` (layer `gate`)", "--trust"
    )
    assert not list(teacher.parent.glob("s.*"))
    trusted = run(*command, "--trust-code", "--json")
    assert trusted.code == 0, trusted.err
    assert trusted.json
    assert "the user's code says something" not in trusted.out


def test_a_growing_command_says_how_to_do_without(teacher: Path) -> None:
    expects(run("widen", teacher, "first=2x", "-o", "s.safetensors"), 3, "code that its spec names", "`--no-verify`")


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "t.safetensors", "--spec", "hostile.json"),
        ("inspect", "hostile.json", "gate"),
        ("diff", "t.safetensors", "hostile.json"),
        ("widen", "t.safetensors", "first=2x", "--spec", "hostile.json", "--dry-run"),
        ("widen", "t.safetensors", "first=2x", "--spec", "hostile.json", "-o", "s.safetensors", "--no-verify"),
        ("deepen", "t.safetensors", "first", "--spec", "hostile.json", "-n"),
        ("random-pad", "t.safetensors", "first=2x", "--spec", "hostile.json", "-o", "s.safetensors"),
        ("grow", "t.safetensors", "--like", "hostile.json", "--spec", "hostile.json", "-n"),
    ],
)
def test_looking_and_growing_unverified_runs_nothing(hostile: Path, command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.code == 0, done.err
    assert "trap.py" in hostile.read_text()
    assert not hostile.with_name("sprung").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("widen", "t.safetensors", "first=2x", "--spec", "hostile.json", "-o", "s.safetensors"),
        ("verify", "t.safetensors", "t.safetensors", "--spec", "hostile.json"),
        ("export", "t.safetensors", "--to", "python", "--spec", "hostile.json", "-o", "s.py"),
        ("export", "t.safetensors", "--to", "torch", "--spec", "hostile.json", "-o", "s.pt"),
    ],
)
def test_a_hostile_spec_runs_nothing_without_trust(hostile: Path, command: tuple[str, ...]) -> None:
    done = run(*command)
    expects(done, 3, "`os:system` (layer `gate`), `trap.py:act` (layer `cumsum`)", "if you trust whoever made the file")
    assert not hostile.with_name("sprung").exists()
    assert not list(hostile.parent.glob("s.*"))


GROW = '[[operation]]\nname = "grow"\nlike = "{}"\n'


def test_a_recipe_that_names_code_asks_for_trust(teacher: Path) -> None:
    trap = teacher.with_name("trap.py")
    trap.write_text("open('sprung', 'w').close()\nfrom model import Net\n")
    recipe = teacher.with_name("r.toml")
    recipe.write_text(GROW.format("trap.py:Net"))
    command = ("apply", "t.safetensors", "r.toml", "-n")
    expects(
        run(*command), 3, "to follow `r.toml`, code that it names would be imported: `trap.py:Net`", "`--trust-code`"
    )
    assert not trap.with_name("sprung").exists()
    assert "code that it names" not in run(*command, "--trust-code").err
    assert trap.with_name("sprung").exists(), "the trap itself must work, or this test says nothing"


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "/dev/null", "folder"])
def test_a_recipe_cannot_make_the_tool_wait_for_a_pipe_or_device(teacher: Path, target: str) -> None:
    os.mkfifo(teacher.with_name("pipe"))
    teacher.with_name("folder").mkdir()
    teacher.with_name("r.toml").write_text(GROW.format(target))
    done = run("apply", "t.safetensors", "r.toml", "-n")
    expects(done, 2, f"`{target}`, which `r.toml` names, is no regular file", "name a spec")


def test_nothing_unverified_imports_torch(teacher: Path, poison: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    out = teacher.with_name("s.safetensors")
    done = spawn("widen", teacher, "first=2x", "-o", out, "--no-verify", "--json", poison=poison)
    assert done.code == 0, done.err


def test_code_that_has_gone_is_told_with_its_layer(teacher: Path) -> None:
    teacher.with_name("model.py").rename(teacher.with_name("other.py"))
    done = run("verify", teacher, teacher, "--trust-code")
    expects(done, 3, "layer `gate` cannot be rebuilt by `model.py:Net`: there is no file `model.py`", "present folder")


def test_inspect_shows_what_is_kept_and_why_it_stays(teacher: Path) -> None:
    done = run("inspect", teacher)
    assert "opaque  model.py:Net, torch:cumsum; to run this code takes `--trust-code`" in done.out
    assert "second  Linear      5" in done.out
    known = "a module of `model.py:Net` that net2net does not know"
    assert f"widen   no: `gate` is {known}, so that its channels must stay" in run("inspect", teacher, "second").out
    assert f"widen   no: it is {known}" in run("inspect", teacher, "gate").out


def test_what_touches_it_is_refused(teacher: Path) -> None:
    reason = "`second` cannot be widened: `gate` is a module of `model.py:Net` that net2net does not know"
    expects(run("widen", teacher, "second=2x", "-n"), 4, reason, "net2net inspect")
    expects(run("widen", teacher, "gate=2x", "-n"), 4, "`gate` cannot be widened: it is a module of", "net2net inspect")


def test_a_student_is_the_same_bytes_for_the_same_seed(teacher: Path) -> None:
    for name in ("a", "b"):
        assert run("widen", teacher, "first=+3", "-o", f"{name}.safetensors", "--trust-code").code == 0
    a, b = (teacher.with_name(f"{name}.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


def test_a_source_with_leaves_is_a_target_to_grow_into(teacher: Path) -> None:
    command = ("grow", teacher, "--like", "model.py:Net", "--kwarg", "width=5", "--leaf", "gate", "--dry-run")
    done = run(*command, "--json")
    assert done.code == 0, done.err
    assert done.json["layers"] == []
    expects(run("grow", teacher, "--like", "t.json", "--leaf", "gate", "-n"), 2, "`--leaf` is for a source", "leave it")
