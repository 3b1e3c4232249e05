"""A tensor of the teacher, read in parts, so that it need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class TensorsInParts(Tensors, Protocol):
    """Tensors of which parts can be read, as those of files can."""

    def read_part(self, name: str, start: int, out: Array) -> None:
        """Fill `out`, one-dimensional and of the tensor's type, with the elements from `start` on, in C order."""
        ...


Buffer = Callable[[tuple[int, ...], npt.DTypeLike], Array]
"""Gives memory to read into."""


class Source:
    """One tensor that a student's tensor is made of.

    Attributes:
        shape: as stored.
        dtype: as stored.
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
        self._tensors, self._name, self._most = tensors, name, whole_from
        self._whole: Array | None = None

    @property
    def row_bytes(self) -> int:
        """Of one slice along axis 0."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def whole(self) -> Array:
        """All of it."""
        if self._whole is None:
            self._whole = self._tensors.read(self._name)
        return self._whole

    def rows(self, start: int, stop: int, buffer: Buffer) -> Array:
        """`(stop - start, …)`: rows of axis 0, in memory from `buffer` unless the whole tensor is there."""
        many = (stop - start) * self.row_bytes > max(self._most, self.row_bytes)
        if self._whole is not None or many or not isinstance(self._tensors, TensorsInParts):
            return self.whole()[start:stop]
        row = prod(self.shape[1:])
        return self._read(start * row, (stop - start, *self.shape[1:]), buffer)

    def elements(self, start: int, stop: int, buffer: Buffer) -> Array:
        """`(stop - start,)`: elements in C order, likewise."""
        if self._whole is not None or not isinstance(self._tensors, TensorsInParts):
            return self.whole().reshape(-1)[start:stop]
        return self._read(start, (stop - start,), buffer)

    def _read(self, start: int, shape: tuple[int, ...], buffer: Buffer) -> Array:
        assert isinstance(self._tensors, TensorsInParts)
        out = buffer(shape, self.dtype)
        self._tensors.read_part(self._name, start, out.reshape(-1))
        return out
