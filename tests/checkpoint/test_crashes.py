"""Whatever call to the system is the last one, what is on the disk is one student, the older one, or none."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoint.faults import Counting, at_call, fails_with
from net2net_cli.checkpoint.lineage import SPEC_KEY
from net2net_cli.checkpoint.publish import Publication
from net2net_cli.checkpoint.safetensors_file import OutgoingTensor, TensorInfo, open_checkpoint, write_checkpoint
from net2net_cli.errors import Net2NetError

MOST_CALLS = 100
STATES = ["nothing", "an older spec", "an older student", "a student without its spec file", "a checkpoint of others"]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are counted, and what processes see does not depend on it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def spec(name: str) -> str:
    return json.dumps({"format": "net2net-spec", "name": name})


def write(path: Path, name: str, *, embed: bool = True) -> None:
    """A checkpoint of two pieces, the second large enough to be written in a thread."""
    pieces = [np.full(size, len(name), np.uint8) for size in (1000, 1 << 20)]
    tensor = OutgoingTensor("w", TensorInfo("U8", (1000 + (1 << 20),)), lambda: iter(pieces))
    late = {"x": lambda: name} if embed else None
    write_checkpoint(path, [tensor], {"x": "?" * len(name), **({SPEC_KEY: spec(name)} if embed else {})}, late=late)


def publish(out: Path, name: str, *, force: bool) -> None:
    with Publication(out, force=force) as publication:
        write(publication.part, name)
        publication.commit(spec(name))


def prepare(out: Path, state: str) -> None:
    if state in ("an older student", "a student without its spec file"):
        publish(out, "old", force=False)
    if state == "a student without its spec file":
        out.with_suffix(".json").unlink()
    if state == "a checkpoint of others":
        write(out, "other", embed=False)
    if state in ("an older spec", "a checkpoint of others"):
        out.with_suffix(".json").write_text(spec("old"))


def found(out: Path) -> tuple[str | None, str | None]:
    """The name inside the checkpoint, and that in the file beside it; a damaged file is an error."""
    checkpoint = sidecar = None
    if out.exists():
        with open_checkpoint(out) as opened:
            checkpoint = opened.metadata["x"] if SPEC_KEY in opened.metadata else "other"
            values = opened.read("w")
            assert values.min() == values.max() == len(checkpoint)
    if out.with_suffix(".json").exists():
        sidecar = json.loads(out.with_suffix(".json").read_text())["name"]
    return checkpoint, sidecar


def temporary(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def calls(run: Callable[[int], Counting]) -> Iterator[int]:
    """1, 2, … until there are no more calls to be met; each is given to `run`."""
    for number in range(1, MOST_CALLS):
        if run(number).met is None:
            assert number > 15  # something was tried
            return
        yield number
    raise AssertionError("it goes on for ever")


def error_of(work: Callable[[], object]) -> Net2NetError | None:
    try:
        work()
    except Net2NetError as error:
        return error
    return None


WHOLE: dict[str, set[tuple[str | None, str | None]]] = {
    "nothing": {(None, None), (None, "new"), ("new", "new")},
    "an older spec": {(None, "old"), (None, None), (None, "new"), ("new", "new")},
    "an older student": {("old", "old"), ("old", None), ("new", None), ("new", "new")},
    "a student without its spec file": {("old", None), ("new", None), ("new", "new")},
    # Others' checkpoints need the file beside them; the new one is complete without it.
    "a checkpoint of others": {("other", "old"), ("new", "old"), ("new", None), ("new", "new")},
}
"""What there may be when a run has been killed."""


@pytest.mark.parametrize("state", STATES)
def test_a_run_that_is_killed_at_any_call_leaves_one_whole_student_or_none(tmp_path: Path, state: str) -> None:
    seen = set()
    out = tmp_path / "s.safetensors"

    def killed(number: int) -> Counting:
        for path in tmp_path.iterdir():
            path.unlink()
        prepare(out, state)
        counting = Counting()
        child = os.fork()
        if child == 0:
            with at_call(number, lambda: os._exit(9)):
                publish(out, "new", force=True)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9:
            counting.met = ()
        return counting

    for _ in calls(killed):
        seen.add(found(out))
        assert seen <= WHOLE[state]
        publish(tmp_path / "next.safetensors", "next", force=True)
        assert temporary(tmp_path) == []
    assert found(out) == ("new", "new")
    assert seen == WHOLE[state]


@pytest.mark.parametrize(
    ("state", "code"),
    [*((state, errno.ENOSPC) for state in STATES), *((STATES[2], code) for code in (errno.EIO, errno.ESTALE))],
)
def test_a_call_that_fails_is_told_and_leaves_all_as_it_was(tmp_path: Path, state: str, code: int) -> None:
    out = tmp_path / "s.safetensors"
    prepare(out, state)
    before = found(out)
    told = []

    def failing(number: int) -> Counting:
        with at_call(number, fails_with(code)) as counting:
            error = error_of(lambda: publish(out, "new", force=True))
        assert found(out) == (before if error else ("new", "new")), counting.met
        if error:
            assert (error.exit_code, bool(error.hint)) == (5, True)
            told.append(counting.met)
        return counting

    for _ in calls(failing):
        publish(tmp_path / "next.safetensors", "next", force=True)
        assert temporary(tmp_path) == []
        for path in tmp_path.iterdir():
            path.unlink()
        prepare(out, state)
    assert {call[0] for call in told if call} >= {"open", "write", "fsync", "replace"}
