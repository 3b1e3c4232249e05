"""Temporary files beside the files that they become, and what keeps several runs in one folder apart.

A run is told to be dead by its lock (`flock`), which ends with its process whatever ends that, not by its number, which
is given again, and which says nothing outside of its container. Where a disk knows no locks, the number has to do.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from net2net_cli.checkpoint.background import Background
from net2net_cli.errors import MachineError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE = 30.0
"""Seconds to wait for whoever has locked the folder; another run of ours needs milliseconds."""
_STEP = 0.01


class Part:
    """A temporary file in `folder`: empty at first, locked while it is written, gone at the end if it was not renamed.

    A context manager. It has the mode of any new file; `tempfile` would keep it from the user's group.

    Attributes:
        path: its short hidden name; long student names leave no room for anything derived from them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self.path = temporary(folder)

    def __enter__(self) -> Self:
        while not self._made():
            self.path = temporary(self._folder)
        return self

    def _made(self) -> bool:
        """Whether the file is there and ours: between its creation and the lock, another run may sweep it away."""
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if fcntl is None:
            self._close()  # Windows does not rename what is open
            return True
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        if os.path.lexists(self.path):
            return True
        self._close()
        return False

    def write(self, data: bytes) -> None:
        """Append to the file."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        try:
            rest = memoryview(data)  # the system may take it in parts
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Wait until what was written to the file, by whomever, has reached the disk; an `OSError` if it has not.

        In a thread, so that a signal is heard in the meantime.
        """
        if self._descriptor is not None:
            descriptor = self._descriptor
            Background(lambda: os.fsync(descriptor)).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        remove(self.path)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        _close(descriptor)


def _close(descriptor: int | None) -> None:
    """Close what nothing was written through, or what was synced: it no longer matters whether that fails."""
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)


def temporary(folder: Path) -> Path:
    """A new name for a temporary file."""
    return folder / f".net2net-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def remove(path: Path) -> None:
    """Remove a file if it is there and can be removed; an exception that led here must not be hidden by another."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed on this machine left in the folder, which is to be locked."""
    pattern = re.compile(rf"\.net2net-{_machine()}-([1-9][0-9]{{0,9}})-[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        for path in folder.iterdir():
            if found := pattern.fullmatch(path.name):
                _remove_if_abandoned(path, int(found[1]))


def _remove_if_abandoned(path: Path, pid: int) -> None:
    if fcntl is None:
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # a link, or not to be written: something older that was kept (see `publish`)
        descriptor = None
    try:
        if _is_free(descriptor, pid):
            remove(path)  # with the lock held
    finally:
        _close(descriptor)


def _is_free(descriptor: int | None, pid: int) -> bool:
    """Whether nobody writes the file any more."""
    if descriptor is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks here
            pass
        else:
            return True
    return not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OverflowError:
        return False
    except OSError as error:
        return error.errno != errno.ESRCH  # not permitted: somebody else's, and alive
    return True


def _machine() -> str:
    """Eight hex digits for this machine: some shared disks keep each machine's locks from the others."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


class LockedFolder:
    """A folder in which no other run renames files meanwhile; a context manager, as made by `locked`."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def sync(self) -> None:
        """Wait until all renames so far have reached the disk, so that none that follows can overtake them."""
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _NOT_FOR_FOLDERS:
                raise


_NOT_FOR_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS}
"""How file systems say that folders are not synced, or not locked."""


@contextmanager
def locked(folder: Path) -> Iterator[LockedFolder]:
    """Lock a folder against other runs of ours; where it cannot be locked (NFS), do without.

    Raises:
        MachineError: something has held the lock for `PATIENCE`.
    """
    try:
        descriptor = None if fcntl is None else os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that may be written, but not read
        descriptor = None
    try:
        if descriptor is not None:
            _wait_for_lock(descriptor, folder)
        yield LockedFolder(descriptor)
    finally:
        _close(descriptor)


def _wait_for_lock(descriptor: int, folder: Path) -> None:
    def try_it() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    if not _within(PATIENCE, try_it):
        raise MachineError(
            f"another program has had the folder `{folder}` locked for {PATIENCE:g} seconds",
            f"see which: `fuser -v '{folder}'`; or choose another folder with `-o`",
        )


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_STEP)
    return True
