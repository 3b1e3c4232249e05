"""Safetensors files: read in parts, streamed out, both in bounded memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from net2net_cli.checkpoint.background import Background
from net2net_cli.checkpoint.os_errors import disk_full, explain_os_error, free_bytes
from net2net_cli.checkpoint.safetensors_header import METADATA, TensorInfo, encode_header, storage_order
from net2net_cli.checkpoint.safetensors_reading import OpenCheckpoint, open_checkpoint, open_regular_file
from net2net_cli.checkpoint.writeback import STRIDE, start_writeback
from net2net_cli.errors import Net2NetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["OpenCheckpoint", "OutgoingTensor", "TensorInfo", "open_checkpoint", "open_regular_file", "write_checkpoint"]

_PIECE = 256 << 10
"""Bytes that are written by one call: for larger ones Linux looks for larger free pages, which can take far longer."""
_LARGE = 1 << 20
"""Bytes from which on a piece is worth a thread."""


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
