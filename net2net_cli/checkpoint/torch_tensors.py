"""From the records of a PyTorch file to arrays on its mapped bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from net2net_cli.checkpoint.torch_records import item_size
from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from net2net_cli.checkpoint.torch_archive import Archive
    from net2net_cli.checkpoint.torch_records import TensorRecord

_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name, None) or getattr(np, name, None) or np.bool_)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
        *(
            "float8_e5m2fnuz",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint64",
            "uint32",
            "uint16",
            "uint8",
            "bool",
            "complex64",
        ),
    )
}
SPREAD_BYTES = 1 << 20
"""Copies may take so many bytes and the size of the file: tensors that repeat what is stored could be of any size."""


class DenseTensors:
    """Arrays of a file's tensors; views of the file where they lie in it in order, else copies."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self._path = path
        self._storages = archive.storages
        self._left = archive.size + SPREAD_BYTES

    def array(self, name: str, record: TensorRecord) -> np.ndarray:
        """The tensor, read-only.

        Raises:
            CheckpointError: it is not dense, of a type that safetensors does not have, or not in the file.
        """
        where = f"tensor `{name}` of `{self._path}`"
        if record.storage is None:
            raise CheckpointError(
                f"{where} is {record.kind}, a dense tensor is needed",
                "make it dense in Python, as with `to_dense()` or `dequantize()`, and save it again",
            )
        dtype = _DTYPES.get(record.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{where} has the dtype torch.{record.dtype}, which safetensors cannot store",
                "convert it in Python, as with `float()`, and save it again",
            )
        found = self._placed(where, record, dtype)
        found.flags.writeable = False
        return found

    def _placed(self, where: str, record: TensorRecord, dtype: np.dtype[Any]) -> np.ndarray:
        assert record.storage is not None
        count = math.prod(record.shape)
        if count == 0:
            if math.prod(max(1, size) for size in record.shape) * dtype.itemsize >= 2**63:
                raise CheckpointError(f"{where} has a shape that no memory holds", "copy, download or save it again")
            return np.empty(record.shape, dtype)
        stored = self._storages.get(record.storage.key)
        start = record.storage.shift * item_size(record.storage.dtype) + record.offset * dtype.itemsize
        reach = 1 + sum((size - 1) * stride for size, stride in zip(record.shape, record.strides, strict=True))
        if stored is None or start + reach * dtype.itemsize > stored.size:
            raise CheckpointError(
                f"{where} ends behind the numbers that are stored for it", "copy, download or save it again"
            )
        flat = stored[start : start + reach * dtype.itemsize].view(dtype)
        if _in_order(record) and not record.conjugate and not record.negative:
            return flat.reshape(record.shape)
        return self._copied(where, record, flat, count)

    def _copied(self, where: str, record: TensorRecord, flat: np.ndarray, count: int) -> np.ndarray:
        self._left -= count * flat.itemsize
        if self._left < 0:
            raise CheckpointError(
                f"{where} is much larger than what is stored for it, and repeats that",
                "save it after `contiguous()`, or fetch the file again",
            )
        strides = [stride * flat.itemsize for stride in record.strides]
        array = np.array(np.lib.stride_tricks.as_strided(flat, record.shape, strides, writeable=False))
        if record.conjugate:
            array = array.conj()
        return np.ascontiguousarray(-array if record.negative else array)


def _in_order(record: TensorRecord) -> bool:
    """Whether elements follow each other, the last axis fastest; strides of axes of one element do not matter."""
    step = 1
    for size, stride in zip(reversed(record.shape), reversed(record.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
