"""A student appears whole or not at all, and nothing else is harmed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from net2net_cli.checkpoint import parts
from net2net_cli.checkpoint.parts import locked
from net2net_cli.checkpoint.publish import Publication
from net2net_cli.errors import MachineError, Net2NetError, UsageError

SPEC = json.dumps({"format": "net2net-spec", "version": 1})


def publish_to(out: Path, content: bytes = b"student", **options: object) -> None:
    with Publication(out, **{"force": False, **options}) as publication:  # type: ignore[arg-type]
        publication.part.write_bytes(content)
        publication.commit(SPEC)


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))  # noqa: PTH208  # names are compared, not paths


def test_checkpoint_and_spec_appear_and_nothing_else(tmp_path: Path) -> None:
    publish_to(tmp_path / "s.v1.safetensors")
    assert names(tmp_path) == {"s.v1.safetensors", "s.v1.json"}
    assert (tmp_path / "s.v1.safetensors").read_bytes() == b"student"
    assert (tmp_path / "s.v1.json").read_text() == SPEC


def test_until_it_is_committed_nothing_is_visible(tmp_path: Path) -> None:
    with Publication(tmp_path / "s.safetensors", force=False) as publication:
        assert publication.part.parent == tmp_path
        assert all(name.startswith(".") and name.endswith(".part") for name in names(tmp_path))
    assert names(tmp_path) == set()


@pytest.mark.parametrize("reason", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_nothing_remains_and_the_old_student_stays(
    tmp_path: Path, reason: type[BaseException]
) -> None:
    publish_to(tmp_path / "s.safetensors", b"old")

    def interrupted() -> None:
        with Publication(tmp_path / "s.safetensors", force=True) as publication:
            publication.part.write_bytes(b"half")
            raise reason

    with pytest.raises(reason):
        interrupted()
    assert names(tmp_path) == {"s.safetensors", "s.json"}
    assert (tmp_path / "s.safetensors").read_bytes() == b"old"


def test_the_spec_is_there_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, seen = os.link, []

    def watched(source: Path, target: Path) -> None:
        seen.append((target.name, names(target.parent) & {"s.safetensors", "s.json"}))
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    publish_to(tmp_path / "s.safetensors")
    assert seen == [("s.safetensors", {"s.json"})]


def test_a_failing_commit_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Publication(tmp_path / "s.safetensors", force=False) as publication:
        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(MachineError, match="disk full"):
            publication.commit(SPEC)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        publish_to(tmp_path / "s.safetensors")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


def test_a_name_as_long_as_the_file_system_allows_works(tmp_path: Path) -> None:
    name = "s" * (255 - len(".safetensors")) + ".safetensors"
    publish_to(tmp_path / name)
    assert name in names(tmp_path)


@pytest.mark.parametrize(
    ("out", "message", "hint"),
    [
        ("student", "must end in", "student.safetensors`"),
        ("student.pt", "must end in", "student.safetensors`"),
        ("student.v2", "must end in", "student.v2.safetensors`"),
        ("student.SafeTensors", "must end in", "student.safetensors`"),
        (".safetensors", "must end in", "student.safetensors`"),
        ("", "is a folder", "student.safetensors`"),
        ("none/s.safetensors", "no folder", "mkdir -p"),
        ("file/s.safetensors", "is a file", "another folder"),
        ("s" * 260 + ".safetensors", "too long", "shorter"),
        ("taken.safetensors", "exists", "--force"),
        ("link.safetensors", "exists", "--force"),
        ("notes.safetensors", "not a spec", "--force"),
        ("list.safetensors", "not a spec", "--force"),
        ("sub.safetensors", "is a folder", "another name"),
    ],
)
def test_an_impossible_place_is_refused_before_any_work(tmp_path: Path, out: str, message: str, hint: str) -> None:
    for name, content in {"file": "", "taken.safetensors": "", "notes.json": '{"a": 1}', "list.json": "[1"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "sub.json").mkdir()
    before = names(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        Publication(tmp_path / out, force=False)
    assert hint in (caught.value.hint or "")
    assert names(tmp_path) == before


def test_force_replaces_a_student_a_foreign_json_and_a_link_but_not_what_the_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "s.safetensors").symlink_to("precious")
    (tmp_path / "s.json").write_text("{}")
    publish_to(tmp_path / "s.safetensors", force=True)
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "s.safetensors").read_bytes() == b"student"
    assert (tmp_path / "s.json").read_text() == SPEC


def test_a_spec_of_ours_without_its_checkpoint_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"format": "net2net-spec", "name": "older"}')
    publish_to(tmp_path / "s.safetensors")
    assert (tmp_path / "s.json").read_text() == SPEC


@pytest.mark.parametrize("way", ["same name", "symbolic link", "hard link", "by another folder"])
@pytest.mark.parametrize("force", [False, True])
def test_the_teacher_is_never_overwritten(tmp_path: Path, way: str, force: bool) -> None:
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(b"teacher")
    out = tmp_path / "out.safetensors"
    if way == "same name":
        out = teacher
    elif way == "symbolic link":
        out.symlink_to(teacher)
    elif way == "hard link":
        out.hardlink_to(teacher)
    else:
        (tmp_path / "sub").symlink_to(tmp_path)
        out = tmp_path / "sub" / teacher.name
    with pytest.raises(UsageError, match="is the teacher itself"):
        Publication(out, force=force, teacher=teacher)


def test_a_spec_that_is_being_read_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(SPEC)
    with pytest.raises(UsageError, match="the teacher's spec itself"):
        Publication(tmp_path / "s.safetensors", force=True, spec=tmp_path / "s.json")


def test_a_folder_that_may_not_be_written_is_a_machine_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="no permission to write in the folder"):
        Publication(tmp_path / "s.safetensors", force=False)


def leaving_of_a_killed_run(folder: Path) -> str:
    code = f"""
import os, signal, pathlib
from net2net_cli.checkpoint.publish import Publication
with Publication(pathlib.Path({str(folder / "s.safetensors")!r}), force=False):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (leaving,) = names(folder)
    return leaving


def test_leavings_of_a_killed_run_are_swept_and_nothing_else(tmp_path: Path) -> None:
    leaving = leaving_of_a_killed_run(tmp_path)
    machine, pid = leaving.split("-")[1:3]
    others = {
        leaving.replace(machine, "00000000"),  # another machine's, whose locks may not be seen here
        f".net2net-{pid}.part",
        f"x{leaving}",
        f"{leaving}.bak",
    }
    for name in others:
        (tmp_path / name).touch()
    publish_to(tmp_path / "s.safetensors")
    assert names(tmp_path) == others | {"s.safetensors", "s.json"}


def test_what_a_dead_run_left_is_swept_though_its_number_lives_again(tmp_path: Path) -> None:
    leaving = leaving_of_a_killed_run(tmp_path)
    pid = leaving.split("-")[2]
    (tmp_path / leaving).rename(tmp_path / leaving.replace(f"-{pid}-", f"-{os.getpid()}-"))
    publish_to(tmp_path / "s.safetensors")
    assert names(tmp_path) == {"s.safetensors", "s.json"}


def test_what_a_living_run_writes_is_not_swept_though_its_number_seems_dead(tmp_path: Path) -> None:
    """As seen from another container, which has numbers of its own."""
    with Publication(tmp_path / "a.safetensors", force=False) as living:
        seen_as = living.part.with_name(living.part.name.replace(f"-{os.getpid()}-", "-4194305-"))  # above any number
        living.part.rename(seen_as)
        publish_to(tmp_path / "b.safetensors")
        assert seen_as.exists()


def unsupported(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "")


@pytest.mark.parametrize("links", [True, False])
def test_where_a_disk_knows_no_locks_or_links_publishing_works_and_the_number_tells_who_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    leaving_of_a_killed_run(tmp_path)
    monkeypatch.setattr("net2net_cli.checkpoint.parts.fcntl.flock", unsupported)
    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    with Publication(tmp_path / "a.safetensors", force=False) as living:
        publish_to(tmp_path / "b.safetensors")
        publish_to(tmp_path / "b.safetensors", force=True)
        assert names(tmp_path) == {living.part.name, "b.safetensors", "b.json"}


def test_a_folder_that_is_locked_by_somebody_else_for_ever_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("net2net_cli.checkpoint.parts.PATIENCE", 0.0)
    with (
        locked(tmp_path),
        pytest.raises(MachineError, match="another program has had the folder"),
        Publication(tmp_path / "s.safetensors", force=False),
    ):
        pass


def test_of_two_runs_to_the_same_place_the_later_one_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with Publication(tmp_path / "s.safetensors", force=False) as late:
        late.part.write_bytes(b"late")
        publish_to(tmp_path / "s.safetensors", b"early")
        with pytest.raises(UsageError, match="exists"):
            late.commit('{"format": "net2net-spec", "name": "late"}')
    assert names(tmp_path) == {"s.safetensors", "s.json"}
    assert (tmp_path / "s.safetensors").read_bytes() == b"early"
    assert (tmp_path / "s.json").read_text() == SPEC


def test_what_appears_in_the_very_moment_of_publishing_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another program, which does not ask for our lock."""
    replace, out = Path.replace, tmp_path / "s.safetensors"

    def meanwhile(self: Path, target: Path) -> Path:
        out.write_bytes(b"theirs")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    with pytest.raises(UsageError, match="exists"):
        publish_to(out)
    assert out.read_bytes() == b"theirs"
    assert names(tmp_path) == {"s.safetensors"}


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with Publication(tmp_path / "a.safetensors", force=False) as first:
        with Publication(tmp_path / "b.safetensors", force=False) as second:
            assert first.part != second.part
            second.commit(SPEC)
        first.commit(SPEC)
    assert names(tmp_path) == {"a.safetensors", "a.json", "b.safetensors", "b.json"}


def test_a_process_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError(errno.EPERM, "")

    monkeypatch.setattr(os, "kill", forbidden)
    assert parts._is_alive(1)


def test_errors_are_the_projects_own(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(Net2NetError):
        Publication(loop / "s.safetensors", force=False)
