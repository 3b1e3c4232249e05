"""Safetensors files: mapped in without a copy, streamed out in bounded memory."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from net2net_cli.checkpoint.background import Background
from net2net_cli.checkpoint.file_kinds import HEAD_BYTES, recognise
from net2net_cli.checkpoint.os_errors import disk_full, explain_os_error, free_bytes
from net2net_cli.checkpoint.safetensors_header import (
    MAX_HEADER_BYTES,
    METADATA,
    Header,
    TensorInfo,
    decode_header,
    encode_header,
    fail,
    storage_order,
)
from net2net_cli.checkpoint.writeback import STRIDE, start_writeback
from net2net_cli.errors import CheckpointError, Net2NetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

__all__ = ["MappedCheckpoint", "OutgoingTensor", "TensorInfo", "open_checkpoint", "write_checkpoint"]

_HASH_BLOCK = 1 << 20
_PIECE = 256 << 10
"""Bytes that are written by one call: for larger ones Linux looks for larger free pages, which can take far longer."""
_LARGE = 1 << 20
"""Bytes from which on a piece is worth a thread."""


class MappedCheckpoint:
    """A safetensors file mapped into memory, read-only; a context manager. Made by `open_checkpoint`.

    Attributes:
        path: as it was given.
        metadata: the strings under `__metadata__`.
        tensors: what is stored, by name.
        aliases: tied tensors; the name that is not stored -> the stored name that it shares.
    """

    def __init__(self, path: Path, file: FileIO, mapping: mmap.mmap, data_start: int, header: Header) -> None:
        self.path = path
        self.metadata = header.metadata
        self.tensors = header.tensors
        self.aliases = {
            dropped: kept
            for dropped, kept in header.metadata.items()
            if dropped not in header.tensors and kept in header.tensors
        }
        self._file = file
        self._mapping: mmap.mmap | None = mapping
        self._starts = {name: data_start + offset for name, offset in header.offsets.items()}
        self._hashing = threading.Lock()
        self._digest: str | None = None

    def info(self, name: str) -> TensorInfo:
        """Type and shape of `name`, which may be an alias; `CheckpointError` if there is no such tensor."""
        return self.tensors[self._stored(name)]

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`, which may be an alias, as a read-only view of the file; it may be unaligned.

        The view stays valid after `close`.
        """
        stored = self._stored(name)
        info = self.tensors[stored]
        if self._mapping is None:
            raise ValueError(f"{self.path} is closed")
        if info.nbytes == 0:
            array = np.empty(info.shape, info.numpy_dtype)
            array.flags.writeable = False
            return array
        flat = np.frombuffer(self._mapping, np.uint8, info.nbytes, self._starts[stored])
        return flat.view(info.numpy_dtype).reshape(info.shape)

    def sha256(self) -> str:
        """The SHA-256 of the whole file in hex, computed once; may run in a thread of its own."""
        with self._hashing:
            if self._digest is None:
                self._digest = self._hash()
            return self._digest

    def close(self) -> None:
        """Let go of the file; arrays that `read` returned keep their part of it mapped."""
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            with suppress(BufferError):  # arrays still look into it; it goes with the last of them
                mapping.close()
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
        try:
            self._file.seek(0)
            while count := self._file.readinto(block):
                digest.update(block[:count])
        except OSError as error:
            raise explain_os_error(error, self.path, "read") from error
        return digest.hexdigest()


def open_checkpoint(path: Path) -> MappedCheckpoint:
    """Map a safetensors file and check its header.

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
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        file.close()
        raise explain_os_error(error, path, "read") from error
    except BaseException:
        file.close()
        raise
    return MappedCheckpoint(path, file, mapping, data_start, header)


def open_regular_file(path: Path) -> FileIO:
    """Open `path` for reading, unbuffered; folders, pipes and devices, which cannot be mapped, are a `UsageError`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb", buffering=0)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"`{path}` is a folder, a checkpoint file is needed", f"see what is in it: `ls '{path}'`")
    raise UsageError(f"`{path}` is not a regular file, and cannot be mapped", "copy it to a file first")


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


@dataclass(frozen=True, slots=True)
class OutgoingTensor:
    """A tensor to be written.

    Attributes:
        name: as in the state dict.
        info: type and shape.
        blocks: called when the tensor's turn comes; its C-contiguous arrays of the tensor's dtype (or raw `uint8`) are
            together the tensor's bytes. A block may change once the next but one is asked for.
    """

    name: str
    info: TensorInfo
    blocks: Callable[[], Iterator[np.ndarray]]


def write_checkpoint(
    path: Path,
    tensors: Sequence[OutgoingTensor],
    metadata: Mapping[str, str],
    *,
    late: Mapping[str, Callable[[], str]] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Stream tensors into a safetensors file; the same input gives the same bytes as the safetensors library.

    Whatever goes wrong, the unfinished file is left to the caller (see `Publication`).

    Args:
        path: the file; overwritten.
        tensors: in any order; stored in the library's order.
        metadata: strings for `__metadata__`.
        late: metadata values that are known only when the tensors are written. The value in `metadata` holds the place
            and must be as long, in JSON, as the one that the function returns at the end.
        on_bytes: told the size of each block that was written.

    Raises:
        MachineError: no space, no permission and the like.
        UsageError: the file cannot be created under this name.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors) or METADATA in by_name:
        raise AssertionError("tensor names must be unique, and not `__metadata__`")
    infos = {tensor.name: tensor.info for tensor in tensors}
    infos = {name: infos[name] for name in storage_order(infos)}
    header = encode_header(infos, metadata)
    needed = len(header) + sum(info.nbytes for info in infos.values())
    _check_space(path, needed)
    with _Output(path, needed) as output:
        output.write(header)
        for name in infos:
            _write_tensor(output, by_name[name], on_bytes)
        if late:
            output.rewrite_start(_patched(infos, metadata, late, header))


class _Output:
    """A file that is written from its start to its end; errors name `path`.

    Large pieces are written in a thread, while the caller prepares the next one.
    """

    def __init__(self, path: Path, needed: int) -> None:
        self._path = path
        self._needed = needed
        self._writing: Background[None] | None = None
        self._since_writeback = 0

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            self._descriptor = os.open(self._path, flags, 0o666)
            # Not with O_TRUNC, which makes ext4 send all to the disk on closing, even where nothing was cut off.
            if os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise self._explained(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(quiet=error is not None)
        except BaseException as failed:
            error = failed
            raise
        finally:
            self._close(error)

    def _close(self, error: BaseException | None) -> None:
        try:
            os.close(self._descriptor)  # where network disks say that they are full
        except OSError as failed:
            if error is None:
                raise self._explained(failed) from failed

    def _explained(self, error: OSError) -> Net2NetError:
        return explain_os_error(error, self._path, "write", needed=self._needed)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`, which must not change until the next call returns; errors may be raised by that."""
        self._finish()
        if len(data) < _LARGE:
            self._write(data)
        else:
            self._writing = Background(lambda: self._write(data))

    def _finish(self, *, quiet: bool = False) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            writing = self._writing
            writing.wait()  # if this is interrupted, it is waited for again before the file is closed
            self._writing = None
            if not quiet:
                writing.result()

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)  # the system may take it in parts
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest[:_PIECE]) :]
            self._since_writeback += len(data)
            if self._since_writeback >= STRIDE:
                self._since_writeback = 0
                start_writeback(self._descriptor)
        except OSError as error:
            raise self._explained(error) from error

    def rewrite_start(self, data: bytes) -> None:
        """Overwrite the file's first bytes."""
        self._finish()
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        except OSError as error:
            raise self._explained(error) from error
        self.write(data)


def _check_space(path: Path, needed: int) -> None:
    free = free_bytes(path.parent)
    if free is not None and needed > free:
        raise disk_full(path.parent, needed)


def _write_tensor(output: _Output, tensor: OutgoingTensor, on_bytes: Callable[[int], None] | None) -> None:
    written = 0
    for block in tensor.blocks():
        if not block.flags.c_contiguous or block.dtype not in (tensor.info.numpy_dtype, np.uint8):
            raise AssertionError(f"a block of {tensor.name} is {block.dtype} {block.strides}, not {tensor.info}")
        if block.nbytes == 0:
            continue
        # by way of uint8, because bfloat16 and float8 have no buffer protocol
        output.write(block.reshape(-1).view(np.uint8).data)
        written += block.nbytes
        if on_bytes is not None:
            on_bytes(block.nbytes)
    if written != tensor.info.nbytes:
        raise AssertionError(f"the blocks of {tensor.name} have {written} bytes, {tensor.info.nbytes} were announced")


def _patched(
    infos: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
    late: Mapping[str, Callable[[], str]],
    header: bytes,
) -> bytes:
    """The header with the late values in their places, exactly as long as before."""
    if not late.keys() <= metadata.keys():
        raise AssertionError(f"late metadata without a placeholder: {sorted(late.keys() - metadata.keys())}")
    final = encode_header(infos, {**metadata, **{key: value() for key, value in late.items()}})
    if len(final) != len(header):
        raise AssertionError("late metadata must be exactly as long as its placeholder")
    return final
