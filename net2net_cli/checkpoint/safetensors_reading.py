"""Safetensors files, read a part at a time."""

from __future__ import annotations

import hashlib
import math
import os
import stat
import threading
from typing import TYPE_CHECKING, Self

import numpy as np

from net2net_cli.checkpoint.file_kinds import HEAD_BYTES, recognise
from net2net_cli.checkpoint.os_errors import explain_os_error
from net2net_cli.checkpoint.safetensors_header import MAX_HEADER_BYTES, Header, TensorInfo, decode_header, fail
from net2net_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

_HASH_BLOCK = 1 << 20
_MOST_BUFFERS = 1024
"""That one call reads into: what Linux, macOS and POSIX's `IOV_MAX` allow."""


class OpenCheckpoint:
    """A safetensors file that is read from; a context manager. Made by `open_checkpoint`.

    It is not mapped into memory: of a mapped file that another program cuts short, or whose disk goes away, the system
    tells by a signal that ends the process; of a file that is read, by an error.

    Attributes:
        path: as it was given.
        metadata: the strings under `__metadata__`.
        tensors: what is stored, by name.
        aliases: tied tensors; the name that is not stored -> the stored name that it shares.
    """

    def __init__(self, path: Path, file: FileIO, data_start: int, header: Header) -> None:
        self.path = path
        self.metadata = header.metadata
        self.tensors = header.tensors
        self.aliases = {
            dropped: kept
            for dropped, kept in header.metadata.items()
            if dropped not in header.tensors and kept in header.tensors
        }
        self._file = file
        self._state = _state(file)
        self._starts = {name: data_start + offset for name, offset in header.offsets.items()}
        self._places: dict[str, tuple[int, np.dtype[np.generic], int]] = {}
        self._seeking = threading.Lock()
        self._hashing = threading.Lock()
        self._digest: str | None = None

    def info(self, name: str) -> TensorInfo:
        """Type and shape of `name`, which may be an alias; `CheckpointError` if there is no such tensor."""
        return self.tensors[self._stored(name)]

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`, which may be an alias, read-only, in memory of its own.

        Raises:
            CheckpointError: the file has been cut short since it was opened.
            MachineError: the disk fails.
        """
        info = self.info(name)
        flat = np.empty(math.prod(info.shape), info.numpy_dtype)
        self.read_part(name, 0, flat)
        flat.flags.writeable = False
        return flat.reshape(info.shape)

    def read_part(self, name: str, start: int, *outs: np.ndarray) -> None:
        """Fill arrays, one after another, with the tensor's elements from `start` on; errors as `read`.

        Args:
            name: of the tensor.
            start: the first element.
            outs: each one-dimensional, contiguous and of the tensor's type.
        """
        begin, dtype, count = self._places.get(name) or self._place(name)
        if self._file.closed:
            raise ValueError(f"{self.path} is closed")
        stop = start
        for out in outs:
            stop += out.size
            if out.dtype != dtype or stop > count:
                raise AssertionError(f"{out.size} elements of {out.dtype} up to {stop} of {name}: {count} of {dtype}")
        self._fill(begin + start * dtype.itemsize, [out.view(np.uint8).data for out in outs if out.size])

    def _place(self, name: str) -> tuple[int, np.dtype[np.generic], int]:
        """Where a tensor begins, its type, and how many elements it has; looked up once."""
        stored = self._stored(name)
        info = self.tensors[stored]
        place = self._places[name] = self._starts[stored], info.numpy_dtype, math.prod(info.shape)
        return place

    def _fill(self, offset: int, buffers: list[memoryview]) -> None:
        try:
            while buffers:
                count = self._read_at(offset, buffers[:_MOST_BUFFERS])
                if not count:
                    raise _changed(self.path, "was cut short")
                offset, buffers = offset + count, _unfilled(buffers, count)
        except OSError as error:
            raise explain_os_error(error, self.path, "read") from error

    def _read_at(self, offset: int, buffers: list[memoryview]) -> int:
        """Read into buffers, one after another; returns how many bytes, which may be fewer than they take."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), buffers, offset)
        with self._seeking:
            self._file.seek(offset)
            return self._file.readinto(buffers[0]) or 0

    def sha256(self) -> str:
        """The SHA-256 of the whole file in hex, computed once; may run in a thread of its own.

        Raises:
            CheckpointError: the file has changed since it was opened; this is looked at each time.
            MachineError: the disk fails.
        """
        with self._hashing:
            if self._digest is None:
                self._digest = self._hash()
        self.check_unchanged()
        return self._digest

    def check_unchanged(self) -> None:
        """See whether the file is the one that was opened, by its size and the time of its last change.

        Raises:
            CheckpointError: it has changed, so that what was read may belong to two files.
        """
        if not self._file.closed and _state(self._file) != self._state:
            raise _changed(self.path, "was changed")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stored(self, name: str) -> str:
        stored = self.aliases.get(name, name)
        if stored not in self.tensors:
            raise CheckpointError(
                f"`{self.path}` has no tensor `{name}`", "check that checkpoint and spec fit together"
            )
        return stored

    def _hash(self) -> str:
        digest = hashlib.sha256()
        block = memoryview(bytearray(_HASH_BLOCK))
        offset = 0
        try:
            while count := self._read_at(offset, [block]):
                digest.update(block[:count])
                offset += count
        except OSError as error:
            raise explain_os_error(error, self.path, "read") from error
        return digest.hexdigest()


def _unfilled(buffers: list[memoryview], count: int) -> list[memoryview]:
    """What is left of buffers, once `count` bytes have gone into them."""
    for number, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[number + 1 :]]
        count -= len(buffer)
    return []


def _state(file: FileIO) -> tuple[int, int]:
    """What changes whenever a file is written to; renaming or unlinking it does no harm to who has it open."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _changed(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"`{path}` {how} by another program while it was read", "run this again once nothing writes to it any more"
    )


def open_checkpoint(path: Path) -> OpenCheckpoint:
    """Open a safetensors file and check its header.

    Raises:
        UsageError: there is no such file, or it is not a regular file.
        CheckpointError: it is not a sound safetensors file.
        MachineError: it may not be read.
    """
    file = open_regular_file(path)
    try:
        size = os.fstat(file.fileno()).st_size
        text = _read_header(path, file, size)
        data_start = 8 + len(text)
        header = decode_header(path, text, size - data_start)
        return OpenCheckpoint(path, file, data_start, header)
    except OSError as error:
        file.close()
        raise explain_os_error(error, path, "read") from error
    except BaseException:
        file.close()
        raise


def open_regular_file(path: Path) -> FileIO:
    """Open `path` for reading, unbuffered; a folder, pipe or device is a `UsageError`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb", buffering=0)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"`{path}` is a folder, a checkpoint file is needed", f"see what is in it: `ls '{path}'`")
    raise UsageError(f"`{path}` is not a regular file, whose parts could be read", "copy it to a file first")


def _read_header(path: Path, file: FileIO, size: int) -> bytes:
    """The header's text; `CheckpointError` if the file is something else or cut short."""
    head = file.read(HEAD_BYTES)
    if kind := recognise(head):
        fail(path, f"it is {kind.what}", kind.hint)
    if size < 8:
        fail(path, f"it has {size} bytes, at least 8 are needed")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER_BYTES:
        fail(path, f"its header claims {length} bytes, at most {MAX_HEADER_BYTES} are allowed")
    if length > size - 8:
        fail(path, f"it is cut short: its header has {length} bytes, {size - 8} are there")
    file.seek(8)
    text = b""
    while len(text) < length and (more := file.read(length - len(text))):
        text += more
    return text
