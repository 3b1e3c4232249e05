"""An `OSError` of the file system, told to a person."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from net2net_cli.errors import MachineError, Net2NetError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_PERMISSION = {errno.EACCES, errno.EPERM}
_GONE = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENXIO, errno.ENODEV}
"""What a file system answers that was unmounted, or whose server or device is gone."""


def explain_os_error(error: OSError, path: Path, action: str, *, needed: int | None = None) -> Net2NetError:
    """The project's error for `error`, to be raised from it.

    Args:
        error: as the system gave it.
        path: what the user knows; not a temporary file.
        action: `read` or `write`.
        needed: bytes that a write needs in all, when known.
    """
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(path.parent, needed, quota=code == errno.EDQUOT)
    if code == errno.ENAMETOOLONG:
        return UsageError(f"cannot {action} `{path}`: the name is too long for this file system", "use a shorter name")
    if code in (errno.ENOENT, errno.ENOTDIR):
        return UsageError(f"cannot {action} `{path}`: no such file or folder", "check the path")
    if code == errno.EISDIR:
        return UsageError(f"cannot {action} `{path}`: it is a folder", "name a file")
    if code == errno.ELOOP:
        return UsageError(f"cannot {action} `{path}`: its symbolic links go round in a circle", "check `ls -l`")
    if code in _PERMISSION:
        return MachineError(f"no permission to {action} `{path}`", f"check the permissions: `ls -ld '{path}'`")
    if code == errno.EROFS:
        return MachineError(f"cannot write `{path}`: the file system is read-only", "choose another folder with `-o`")
    if code == errno.EFBIG:
        return MachineError(
            f"cannot write `{path}`: the file system or a limit (`ulimit -f`) does not allow a file of {size(needed)}",
            "choose another folder with `-o`",
        )
    if code == errno.EIO:
        return MachineError(f"cannot {action} `{path}`: the disk reports an input/output error", "check the disk")
    reason = (os.strerror(code) if code is not None else str(error)).lower()
    if code in _GONE:
        hint = f"see whether its disk is still there: `df '{path.parent}'`"
        return MachineError(f"cannot {action} `{path}`: the file system is gone ({reason})", hint)
    return MachineError(f"cannot {action} `{path}`: {reason}", f"look at its folder: `ls -l '{path.parent}'`")


def disk_full(folder: Path, needed: int | None, *, quota: bool = False) -> MachineError:
    """The error for a disk, or a user's quota, on which a file of `needed` bytes finds no room."""
    hint = "free some space, or choose a folder on another disk with `-o`"
    if quota:  # of which the free space of the disk says nothing
        needs = "" if needed is None else f": the file needs {size(needed)}"
        return MachineError(f"disk quota exceeded in `{folder}`{needs}", hint)
    needs = "" if needed is None else f"the file needs {size(needed)}, "
    return MachineError(f"disk full: {needs}{size(free_bytes(folder))} free in `{folder}`", hint)


def free_bytes(folder: Path) -> int | None:
    """Bytes that this user may still write in `folder`; None where the system does not tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def size(count: int | None) -> str:
    """`count` bytes in decimal units, for people."""
    if count is None:
        return "an unknown number of bytes"
    for unit, factor in (("EB", 10**18), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
