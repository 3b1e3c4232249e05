"""A student becomes visible under its name only when it is complete and verified."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from net2net_cli.checkpoint.os_errors import explain_os_error
from net2net_cli.errors import MachineError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

SUFFIX = ".safetensors"
_OTHER_SUFFIXES = {".safetensor", ".pt", ".pth", ".bin", ".ckpt", ".json"}
_SPEC_FORMAT = "net2net-spec"
_MOST_SPEC_BYTES = 1 << 28


class Publication:
    """A student on its way: written beside its final place under a temporary name, renamed only when it was verified.

    A context manager; on leaving it, by whatever exception, no temporary file remains. A symbolic link under the final
    name is replaced (with `force`), not followed.

    Attributes:
        part: the temporary file to write, empty at first; exists inside the `with` block.
    """

    def __init__(self, out: Path, *, force: bool, teacher: Path | None = None, spec: Path | None = None) -> None:
        """Check all that can be checked before any work.

        Args:
            out: the student's final place.
            force: whether existing files may be replaced; never the teacher or its spec.
            teacher: the checkpoint being grown.
            spec: the file from which its spec was read, if it was one of its own.

        Raises:
            UsageError: `out` is no possible name, exists without `force`, or is one of the inputs.
            MachineError: the folder cannot be written.
        """
        try:
            _check_name(out)
            self._out, self._sidecar = out, out.with_suffix(".json")
            _check_folder(out.parent)
            _check_not_input(out, teacher, "the teacher")
            _check_not_input(self._sidecar, spec, "the teacher's spec")
            _check_free_place(out, force=force)
            _check_sidecar(self._sidecar, force=force)
        except OSError as error:
            raise explain_os_error(error, out, "write") from error
        self.part = _temporary(out.parent)

    def __enter__(self) -> Self:
        _sweep(self._out.parent)
        _create(self.part, for_whom=self._out)
        return self

    def commit(self, spec_text: str) -> None:
        """Publish: first the spec as `NAME.json`, then the checkpoint; each appears complete or not at all.

        Raises:
            MachineError: the files cannot be written or renamed.
        """
        spec_part = _temporary(self._out.parent)
        try:
            _create(spec_part, for_whom=self._sidecar)
            spec_part.write_bytes(spec_text.encode())
            spec_part.replace(self._sidecar)
            self.part.replace(self._out)
        except OSError as error:
            raise explain_os_error(error, self._out, "write") from error
        finally:
            _remove(spec_part)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove(self.part)


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
        raise UsageError(f"`{out}` exists", "replace it with `--force`, or give another name with `-o`")


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


def _machine() -> str:
    """Eight hex digits for this machine: on a shared disk, one cannot ask whether another machine's process lives."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _temporary(folder: Path) -> Path:
    """A new short hidden name; long student names leave no room for anything derived from them."""
    return folder / f".net2net-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def _create(path: Path, for_whom: Path) -> None:
    """An empty file with the mode of any new file; `tempfile` would keep it from the user's group."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise explain_os_error(error, for_whom, "write") from error  # the user knows no temporary file


def _remove(path: Path) -> None:
    with suppress(OSError):  # must not hide the exception that led here
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed on this machine left in the folder."""
    pattern = re.compile(rf"\.net2net-{_machine()}-([1-9][0-9]{{0,9}})-[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        for path in folder.iterdir():
            found = pattern.fullmatch(path.name)
            if found and not _is_alive(int(found[1])):
                _remove(path)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except OverflowError:
        return False
    except OSError as error:
        return error.errno != errno.ESRCH  # not permitted: somebody else's, and alive
    return True
