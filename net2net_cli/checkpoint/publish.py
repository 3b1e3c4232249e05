"""A student becomes visible under its name only when it is complete and verified."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from net2net_cli.checkpoint.lineage import SPEC_KEY
from net2net_cli.checkpoint.os_errors import explain_os_error
from net2net_cli.checkpoint.parts import LockedFolder, Part, locked, remove, sweep, temporary
from net2net_cli.checkpoint.safetensors_file import open_checkpoint
from net2net_cli.errors import MachineError, Net2NetError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

SUFFIX = ".safetensors"
_OTHER_SUFFIXES = {".safetensor", ".pt", ".pth", ".bin", ".ckpt", ".json"}
_SPEC_FORMAT = "net2net-spec"
_MOST_SPEC_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Companion:
    """A file that appears with the student.

    Attributes:
        path: its final place.
        write: told where to write it.
    """

    path: Path
    write: Callable[[Path], object]


class Publication:
    """A student on its way: written beside its final place under a temporary name, renamed only when it was verified.

    A context manager; on leaving it, by whatever exception, no temporary file remains. A symbolic link under the final
    name is replaced (with `force`), not followed.

    Attributes:
        part: the temporary file to write, empty at first; exists inside the `with` block.
    """

    def __init__(
        self,
        out: Path,
        *,
        force: bool,
        teacher: Path | None = None,
        spec: Path | None = None,
        companions: Sequence[Companion] = (),
    ) -> None:
        """Check all that can be checked before any work.

        Args:
            out: the student's final place.
            force: whether existing files may be replaced; never the teacher or its spec.
            teacher: the checkpoint being grown.
            spec: the file from which its spec was read, if it was one of its own.
            companions: files that are written when the student is, and appear after it.

        Raises:
            UsageError: `out` is no possible name, exists without `force`, or is one of the inputs.
            MachineError: the folder cannot be written.
        """
        self._out, self._force, self._teacher, self._spec = out, force, teacher, spec
        self._companions = tuple(companions)
        with _explained(out):
            _check_name(out)
            self._sidecar = out.with_suffix(".json")
            _check_folder(out.parent)
            self._check_place()
        self._part = Part(out.parent)

    def _check_place(self) -> None:
        _check_not_input(self._out, self._teacher, "the teacher")
        _check_not_input(self._sidecar, self._spec, "the teacher's spec")
        _check_free_place(self._out, force=self._force)
        _check_sidecar(self._sidecar, force=self._force)
        for companion in self._companions:
            _check_free_place(companion.path, force=self._force)

    @property
    def part(self) -> Path:
        return self._part.path

    def __enter__(self) -> Self:
        with _explained(self._out):
            with locked(self._out.parent):
                sweep(self._out.parent)
            self._part.__enter__()
        return self

    def commit(self, spec_text: str) -> None:
        """Publish the checkpoint, and its spec as `NAME.json`.

        Both have reached the disk before either has its name, so that not even a loss of power leaves half a file. Each
        appears complete or not at all, and at every moment what is there fits together: see `_Placing`. Whatever goes
        wrong, all is as it was before.

        Raises:
            UsageError: something has come to the student's place since it was checked.
            MachineError: the files cannot be written or renamed.
        """
        folder = self._out.parent
        with _explained(self._out), Part(folder) as spec, ExitStack() as stack:
            spec.write(spec_text.encode())
            spec.sync()
            self._part.sync()
            beside = [(self._written(companion, stack), companion.path) for companion in self._companions]
            with locked(folder) as lock:
                self._check_place()
                _Placing(self._out, self._sidecar, lock).place(self.part, spec.path, beside)

    def _written(self, companion: Companion, stack: ExitStack) -> Path:
        part = stack.enter_context(Part(companion.path.parent))
        companion.write(part.path)
        part.sync()
        return part.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.__exit__(kind, error, trace)


class _Placing:
    """Two files take their names, one after the other, so that whoever looks in between finds nothing that is wrong.

    In a new place the spec comes first: its checkpoint is what others wait for (a Makefile does), and never without it.
    In the place of an older student the order is: the old spec goes, the checkpoint is replaced, the new spec comes. A
    checkpoint holds its own spec and is complete without `NAME.json`, so no moment pairs one student's checkpoint with
    the other's spec. Only a checkpoint that is not of our making, without a spec inside, keeps its `NAME.json` until it
    is replaced. The folder is synced after each step, and so a loss of power leaves one of these states as well.

    Companions of an older student go before all else, and the new ones come last.

    What is undone after a failure needs what stood there before; it is kept under temporary names until the end.
    """

    def __init__(self, out: Path, sidecar: Path, lock: LockedFolder) -> None:
        self._out, self._sidecar, self._lock = out, sidecar, lock
        self._undo: list[Callable[[], object]] = []
        self._kept: list[Path] = []

    def place(self, checkpoint: Path, spec: Path, beside: Sequence[tuple[Path, Path]] = ()) -> None:
        """Give both their names, or neither; and the files beside them, each with its place."""
        try:
            for _, path in beside:
                self._set_aside(path)
            if os.path.lexists(self._out):
                self._replace(checkpoint, spec)
            else:
                self._set_aside(self._sidecar)
                self._put(spec, self._sidecar)
                self._put_new(checkpoint)
            for part, path in beside:
                self._put(part, path)
        except BaseException:
            for step in reversed(self._undo):
                with suppress(OSError):
                    step()
            raise
        finally:
            for path in self._kept:
                remove(path)

    def _replace(self, checkpoint: Path, spec: Path) -> None:
        complete = _holds_its_spec(self._out)
        if complete:
            self._set_aside(self._sidecar)
        kept = self._keep()
        with suppress(OSError):  # no hard links on this file system: what is replaced cannot be brought back
            os.link(self._out, kept, follow_symlinks=False)
            self._undo.append(lambda: kept.replace(self._out))
        checkpoint.replace(self._out)
        self._lock.sync()
        if not complete:
            self._set_aside(self._sidecar)
        self._put(spec, self._sidecar)

    def _keep(self) -> Path:
        self._kept.append(temporary(self._out.parent))
        return self._kept[-1]

    def _set_aside(self, path: Path) -> None:
        if os.path.lexists(path):
            kept = self._keep()
            self._undo.append(lambda: kept.replace(path))
            path.replace(kept)
            self._lock.sync()

    def _put(self, part: Path, path: Path) -> None:
        self._undo.append(lambda: path.unlink(missing_ok=True))
        part.replace(path)
        self._lock.sync()

    def _put_new(self, checkpoint: Path) -> None:
        """A link fails where a rename would silently replace what somebody else has just put there."""
        try:
            os.link(checkpoint, self._out)
        except FileExistsError as error:
            raise _exists(self._out) from error
        except OSError:  # no hard links on this file system; the place was free a moment ago
            checkpoint.replace(self._out)
        self._undo.append(lambda: self._out.unlink(missing_ok=True))
        self._lock.sync()


def _holds_its_spec(path: Path) -> bool:
    """Whether the file is a checkpoint with a spec inside, which needs none beside it."""
    try:
        with open_checkpoint(path) as checkpoint:
            return SPEC_KEY in checkpoint.metadata
    except Net2NetError:
        return False


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, out, "write") from error


def _check_name(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder, a file is needed", f"use `-o {out / ('student' + SUFFIX)}`")
    if out.suffix != SUFFIX:
        stem = out.with_suffix("") if out.suffix.lower() in {*_OTHER_SUFFIXES, SUFFIX} else out
        better = stem.with_name("student" + SUFFIX) if out.name == SUFFIX else Path(f"{stem}{SUFFIX}")
        raise UsageError(f"`{out}` must end in `{SUFFIX}`", f"use `-o {better}`")


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`{folder}` is a file, a folder is needed", "choose another folder with `-o`")
    if not folder.exists():
        raise UsageError(f"there is no folder `{folder}`", f"make it: `mkdir -p '{folder}'`")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MachineError(f"no permission to write in the folder `{folder}`", "choose another folder with `-o`")


def _check_not_input(target: Path, source: Path | None, what: str) -> None:
    """Neither the same name nor another name, by a link, for the same file; not even with `--force`."""
    if source is None:
        return
    with suppress(FileNotFoundError):
        if target.samefile(source):
            raise UsageError(
                f"`{target}` is {what} itself, which is never overwritten", "give the student another name with `-o`"
            )


def _check_free_place(out: Path, *, force: bool) -> None:
    try:
        out.lstat()  # a dangling link is in the way as well
    except FileNotFoundError:
        return
    if not force:
        raise _exists(out)


def _exists(out: Path) -> UsageError:
    return UsageError(f"`{out}` exists", "replace it with `--force`, or give another name with `-o`")


def _check_sidecar(sidecar: Path, *, force: bool) -> None:
    if sidecar.is_dir():
        raise UsageError(f"`{sidecar}` is a folder; the spec is to be written there", "use another name with `-o`")
    if os.path.lexists(sidecar) and not force and not _is_spec(sidecar):
        raise UsageError(
            f"`{sidecar}`, where the spec is to be written, exists and is not a spec of net2net",
            "replace it with `--force`, or give another name with `-o`",
        )


def _is_spec(path: Path) -> bool:
    """Whether the file is a spec of this project, which the next one may replace."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_SPEC_BYTES:
            return False
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == _SPEC_FORMAT
