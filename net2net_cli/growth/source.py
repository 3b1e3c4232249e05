"""A tensor of the teacher, read in parts, so that it need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from net2net_cli.checkpoint.safetensors_header import TensorInfo

Array = npt.NDArray[Any]


class Tensors(Protocol):
    """Where a network's tensors are read from: a file, or a growth that is computed as it is read."""

    def info(self, name: str) -> TensorInfo:
        """Stored type and shape."""
        ...

    def read(self, name: str) -> Array:
        """The tensor; not to be written to."""
        ...


class TensorsInParts(Tensors, Protocol):
    """Tensors of which parts can be read, as those of files can."""

    def read_part(self, name: str, start: int, *outs: Array) -> None:
        """Fill `outs`, one after another, with the elements from `start` on, in C order.

        Args:
            name: of the tensor.
            start: the first element.
            outs: each one-dimensional, contiguous and of the tensor's type.
        """
        ...


def _have_parts(tensors: Tensors) -> TypeGuard[TensorsInParts]:
    return hasattr(tensors, "read_part")  # `isinstance` with a protocol takes longer than to read a small tensor


LEAST_ROW = 4 << 10
"""Bytes of a row from which on rows are read one by one to where they stand."""

Buffer = Callable[[tuple[int, ...], npt.DTypeLike], Array]
"""Gives memory to read into."""


class Source:
    """One tensor that a student's tensor is made of.

    Attributes:
        shape: as stored.
        dtype: as stored.
        row_bytes: of one slice along axis 0.
    """

    def __init__(self, tensors: Tensors, name: str, whole_from: int) -> None:
        """Nothing is read yet.

        Args:
            tensors: where it is.
            name: which it is.
            whole_from: bytes from which on rows that are asked for together have the whole tensor read, and kept: with
                an order that is not local, each block would need nearly all of it.
        """
        info = tensors.info(name)
        self.shape = info.shape
        self.dtype = np.dtype(info.numpy_dtype)
        self._row = prod(info.shape[1:])
        self.row_bytes = self._row * self.dtype.itemsize
        self._tensors, self._name, self._most = tensors, name, max(whole_from, self.row_bytes)
        self._parts = tensors if _have_parts(tensors) else None
        self._whole: Array | None = None

    def whole(self) -> Array:
        """All of it."""
        if self._whole is None:
            self._whole = self._tensors.read(self._name)
        return self._whole

    def rows(self, start: int, stop: int, buffer: Buffer) -> Array:
        """`(stop - start, …)`: rows of axis 0, in memory from `buffer` unless the whole tensor is there."""
        if self._is_read_whole(stop - start):
            return self.whole()[start:stop]
        return self._read(start * self._row, (stop - start, *self.shape[1:]), buffer)

    def _is_read_whole(self, rows: int) -> bool:
        return self._whole is not None or self._parts is None or rows * self.row_bytes > self._most

    def reads_in_place(self, rows: int) -> bool:
        """Whether `in_place` can read so many rows: they are not too short, and not taken from the whole tensor."""
        return self.row_bytes >= LEAST_ROW and not self._is_read_whole(rows)

    def in_place(self, position: Sequence[int], buffer: Buffer) -> Array:
        """`(width, …)`: rows of axis 0, in memory from `buffer`, each read to where it stands and then copied on.

        Args:
            position: which rows, from the lowest up, none left out, and each as often as there shall be copies.
            buffer: gives memory.
        """
        assert self._parts is not None
        row, width = self._row, len(position)
        out = buffer((width, *self.shape[1:]), self.dtype)
        flat = out.reshape(-1)
        copies = [i for i in range(1, width) if position[i] == position[i - 1]]
        starts, stops = [0, *(i + 1 for i in copies)], [*copies, width]
        runs = [flat[start * row : stop * row] for start, stop in zip(starts, stops, strict=True) if start < stop]
        self._parts.read_part(self._name, position[0] * row, *runs)
        for i in copies:
            out[i] = out[i - 1]
        return out

    def elements(self, start: int, stop: int, buffer: Buffer) -> Array:
        """`(stop - start,)`: elements in C order, likewise."""
        if self._is_read_whole(0):
            return self.whole().reshape(-1)[start:stop]
        return self._read(start, (stop - start,), buffer)

    def _read(self, start: int, shape: tuple[int, ...], buffer: Buffer) -> Array:
        assert self._parts is not None
        out = buffer(shape, self.dtype)
        self._parts.read_part(self._name, start, out.reshape(-1))
        return out
