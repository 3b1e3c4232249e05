"""Places, names, disks and neighbours as they are met outside: a student is whole or not there, and never mixed."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crash.killing import kill_often
from benchmarks.crash.scenarios import Scenario
from cli.running import expects, leftovers, run, sha256, spawn
from net2net_cli import Net2Net
from net2net_cli.checkpoint import safetensors_file
from net2net_cli.checkpoint.lineage import SPEC_KEY
from net2net_cli.checkpoint.safetensors_file import open_checkpoint

WIDEN = ("conv1=2x", "block.conv2=+3", "--split", "random")


def widen(teacher: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("widen", teacher, *WIDEN, "-o", out, "--no-verify", "--quiet", *more)


def matched(out: Path) -> bool:
    """Whether a checkpoint and the spec beside it are a pair."""
    with open_checkpoint(out) as checkpoint:
        return checkpoint.metadata[SPEC_KEY] == out.with_suffix(".json").read_text()


@pytest.fixture
def expected(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the student that `widen` makes."""
    out = tmp_path_factory.mktemp("expected") / "s.safetensors"
    assert run(*widen(teacher, out)).code == 0
    return sha256(out)


@pytest.mark.parametrize(
    "name",
    [
        "with a space",
        " ",
        "-o",
        "résumé 模型 🧠",
        "line\nbreak",
        "*?[x]'\"$(touch x)",
        "v1.final",
        "é" * ((255 - len(".safetensors")) // 2),
        os.fsdecode(b"\xff\xfe latin-1 \xe9"),
    ],
)
def test_any_name_that_the_file_system_takes_works(teacher: Path, name: str, expected: str) -> None:
    folder = teacher.parent / name
    folder.mkdir()
    moved = Path(shutil.copy(teacher, folder / f"{name}.safetensors"))
    out = folder / f"s{name[1:]}.safetensors"
    assert run(*widen(moved, out)).code == 0
    assert sha256(out) == expected
    assert matched(out)
    assert len(os.listdir(folder)) == 3  # noqa: PTH208  # names are counted
    expects(run(*widen(moved, out)), 2, "exists", "--force")


def test_a_name_that_is_too_long_is_told_before_any_work(teacher: Path) -> None:
    expects(run(*widen(teacher, teacher.with_name("s" * 256 + ".safetensors"))), 2, "too long", "shorter")
    assert leftovers(teacher.parent) == []


def test_teachers_and_folders_are_reached_through_links_and_a_link_in_the_way_is_replaced(
    teacher: Path, expected: str
) -> None:
    base = teacher.parent
    (base / "real").mkdir()
    (base / "link").symlink_to("real")
    (base / "t.safetensors").symlink_to(teacher)
    (base / "real" / "s.safetensors").symlink_to(teacher.name)
    out = base / "link" / "s.safetensors"
    expects(run(*widen(base / "t.safetensors", out)), 2, "exists", "--force")
    before = sha256(teacher)
    assert run(*widen(base / "t.safetensors", out, "--force")).code == 0
    assert not (base / "real" / "s.safetensors").is_symlink()
    assert (sha256(out), sha256(teacher)) == (expected, before)


def while_writing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, when the first tensor has been written."""
    real = safetensors_file._write_tensor
    todo = [act]

    def write(*arguments: Any) -> None:
        real(*arguments)
        if todo:
            todo.pop()()

    monkeypatch.setattr(safetensors_file, "_write_tensor", write)


@pytest.mark.parametrize("check", ["--no-verify", "--verify"])
def test_a_teacher_that_is_cut_short_while_it_is_read_is_told(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    while_writing(monkeypatch, lambda: os.truncate(teacher, 2000))
    done = run(*widen(teacher, teacher.with_name("s.safetensors"), check))
    expects(done, 3, f"`{teacher}` was cut short by another program while it was read", "run this again")
    assert leftovers(teacher.parent) == []


def test_no_student_is_published_of_a_teacher_that_changes_while_it_is_read(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        with teacher.open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(bytes(8))
        os.utime(teacher)

    os.utime(teacher, (0, 0))
    while_writing(monkeypatch, change)
    done = run(*widen(teacher, teacher.with_name("s.safetensors")))
    expects(done, 3, f"`{teacher}` was changed by another program while it was read", "run this again")
    assert leftovers(teacher.parent) == []


def test_a_teacher_that_changes_while_outputs_are_compared_is_not_called_a_difference(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Net2Net.verify

    def changing(self: Net2Net, *arguments: Any, **keywords: Any) -> Any:
        teacher.write_bytes(teacher.read_bytes()[:-8] + b"\0\0\0\x40" * 2)
        return verify(self, *arguments, **keywords)

    os.utime(teacher, (0, 0))
    monkeypatch.setattr(Net2Net, "verify", changing)
    done = run(*widen(teacher, teacher.with_name("s.safetensors"), "--verify"))
    expects(done, 3, "was changed by another program", "run this again")
    assert leftovers(teacher.parent) == []


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (errno.ENOSPC, "disk full", "free some space"),
        (errno.EDQUOT, "disk quota exceeded", "free some space"),
        (errno.EIO, "input/output error", "check the disk"),
        (errno.EROFS, "read-only", "another folder"),
        (errno.ESTALE, "the file system is gone", "df "),
        (errno.EFBIG, "ulimit -f", "another folder"),
        (errno.EACCES, "no permission", "ls -ld"),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_what_the_disk_says_is_told_and_the_older_student_stays(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, message: str, hint: str
) -> None:
    out = teacher.with_name("s.safetensors")
    shutil.copy(teacher, out)
    shutil.copy(teacher.with_suffix(".json"), out.with_suffix(".json"))
    before = sha256(out)

    def failing(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        done = run(*widen(teacher, out, "--force"))
    expects(done, 5, message, hint)
    assert leftovers(teacher.parent) == ["s.json", "s.safetensors"]
    assert sha256(out) == before
    assert matched(out)


def test_a_limit_on_the_size_of_files_is_told(teacher: Path) -> None:
    words = map(str, (sys.executable, "-m", "net2net_cli", *widen(teacher, Path("s.safetensors"))))
    command = f"ulimit -f 1; exec {shlex.join(words)}"
    done = subprocess.run(["bash", "-c", command], cwd=teacher.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done
    assert "does not allow a file of" in done.stderr
    assert leftovers(teacher.parent) == []


FULL_DISK = """
set -e
mkdir disk
mount -t tmpfs -o size=%s tmpfs disk
cd disk
set +e
"$@"
code=$?
ls -A
exit $code
"""


@pytest.mark.parametrize(("size", "code", "left"), [("4k", 5, ""), ("1m", 0, "s.json\ns.safetensors\n")])
def test_a_disk_that_is_really_full_is_told_and_left_empty(teacher: Path, size: str, code: int, left: str) -> None:
    as_root = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    if not shutil.which("unshare") or subprocess.run([*as_root, "mount -t tmpfs tmpfs /mnt"], check=False).returncode:
        pytest.skip("no user namespaces with mounts here")
    arguments = [*as_root, FULL_DISK % size, "bash", sys.executable, "-m", "net2net_cli"]
    done = subprocess.run(
        [*arguments, *map(str, widen(teacher, Path("s.safetensors")))],
        cwd=teacher.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, left), done
    assert ("disk full" in done.stderr) == bool(code)


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "net2net_cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_runs_to_the_same_place_one_wins_and_the_others_are_refused(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    runs = [started(*widen(teacher, out, "--seed", str(seed))) for seed in range(3)]
    told = [process.communicate(timeout=120)[1] for process in runs]
    codes = [process.returncode for process in runs]
    assert sorted(codes) == [0, 2, 2], told
    assert all(("exists" in said) == (code == 2) for code, said in zip(codes, told, strict=True))
    with open_checkpoint(out) as checkpoint:
        (step,) = json.loads(checkpoint.metadata["net2net.lineage"])
    assert step["seed"] == codes.index(0)
    assert matched(out)
    assert leftovers(teacher.parent) == ["s.json", "s.safetensors"]


def test_runs_beside_each_other_make_the_bytes_that_each_makes_alone(teacher: Path, expected: str) -> None:
    outs = [teacher.with_name(f"s{i}.safetensors") for i in range(4)]
    for process in [started(*widen(teacher, out)) for out in outs]:
        assert process.communicate(timeout=120)[1] == ""
    assert {sha256(out) for out in outs} == {expected}
    assert leftovers(teacher.parent) == sorted(f"s{i}.{suffix}" for i in range(4) for suffix in ("json", "safetensors"))


@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
        {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX", "PYTHONUTF8": "0", "COLUMNS": "20"},
    ],
)
def test_the_same_command_makes_the_same_bytes_in_any_surroundings(
    teacher: Path, expected: str, environment: dict[str, str]
) -> None:
    out = teacher.with_name("s.safetensors")
    done = spawn(*widen(teacher, out), poison=None, **environment)
    assert done.code == 0, done.err
    assert sha256(out) == expected


@pytest.mark.parametrize("replaces", [False, True])
def test_a_run_that_is_killed_at_random_moments_leaves_a_whole_student_or_none(
    teacher: Path, tmp_path: Path, replaces: bool
) -> None:
    """A few of the kills that `make crash` makes."""
    older: list[str | Path] = ["widen", teacher, "conv1=2x", "--no-verify"]
    scenario = Scenario("widen", ["widen", teacher, *WIDEN, "--no-verify"], older if replaces else None)
    tally = kill_often(scenario, 4, tmp_path / "crash", random.Random(0), jobs=2, proof=False)
    assert tally.wrong == []
    assert tally.running > 0
