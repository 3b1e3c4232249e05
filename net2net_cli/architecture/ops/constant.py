"""Tensors that a network's class makes by itself: tables of positions, indices, masks."""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import lru_cache
from math import prod
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.flow import Axes, Channels, Flow
from net2net_cli.architecture.ops.base import Op, op
from net2net_cli.architecture.shapes import Shape

LARGEST = 2**24
"""Most bytes of a constant."""


@op("constant", module="net2net_cli.runtime.modules.Constant")
class Constant(Op):
    """A tensor that is neither trained nor kept in the state dict: its values stand in the spec. It has no batch axis.

    The class that the network comes from makes it anew. Along an axis along which it holds the same everywhere, as
    zeros do, it is made as wide as what it meets; along others as wide as before, so that what meets it must stay.

    Attributes:
        size: the tensor's shape.
        dtype: of its elements. Real numbers take the type of the network's tensors when it is rebuilt.
        data: the elements in C order, little-endian, compressed by zlib, in base64.
    """

    reads_modules: ClassVar[tuple[str, ...]] = ()
    arity = 0

    size: tuple[int, ...]
    dtype: Literal["float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool"]
    data: str

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> Self:
        """The constant of an array of one of the types, of at most `LARGEST` bytes."""
        raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
        data = base64.b64encode(zlib.compress(raw)).decode("ascii")
        return cls(values.shape, values.dtype.name, data)  # type: ignore[arg-type] # the caller gives no other type

    def values(self) -> npt.NDArray[np.generic]:
        """The array.

        Raises:
            ValueError: `data` does not hold it.
        """
        dtype = np.dtype(self.dtype)
        needed = prod(self.size) * dtype.itemsize
        if min(self.size, default=0) < 0 or needed > LARGEST:
            raise ValueError(f"`size` is negative, or needs more than {LARGEST:,} bytes")
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(base64.b64decode(self.data, validate=True), needed + 1)
        except (binascii.Error, ValueError, zlib.error):
            raw = b""
        values = np.frombuffer(raw, np.uint8)
        if len(raw) != needed or (needed and not inflate.eof) or (self.dtype == "bool" and (values > 1).any()):
            raise ValueError(
                f"`data` is no zlib stream, in base64, of the {needed:,} bytes that `size` and `dtype` need"
            )
        return values.view(dtype.newbyteorder("<")).reshape(self.size)

    @property
    def same_along(self) -> tuple[bool, ...]:
        """Along which axes, of more than one slice, all slices have the same bits."""
        return _same_along(self)

    def differs_in_width_alone(self, other: Constant) -> bool:
        """Whether they differ in nothing but sizes along which each holds the same everywhere."""
        sizes = zip(self.size, other.size, strict=False)
        first = tuple(slice(1) if ours != theirs else slice(None) for ours, theirs in sizes)
        if len(self.size) != len(other.size) or self.dtype != other.dtype:
            return False
        for one in (self, other):
            same = zip(one.same_along, one.size, first, strict=True)
            if not all(s or size == 1 or part == slice(None) for s, size, part in same):
                return False
        return self.values()[first].tobytes() == other.values()[first].tobytes()

    def check(self) -> None:
        self.values()

    def shape(self, *inputs: Shape) -> Shape:
        return self.size

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        same = self.same_along
        if not any(same):
            return (None,) * len(self.size)
        axes = tuple(f.fill("data", i, size) if same[i] else None for i, size in enumerate(self.size))
        widths = tuple(f.width(axis, size) for axis, size in zip(axes, self.size, strict=True))
        if widths != self.size:
            first = self.values()[tuple(slice(1) if one else slice(None) for one in same)]
            wider = type(self).of(np.broadcast_to(first, widths))
            f.set(size=wider.size, data=wider.data)
        return axes


@lru_cache(maxsize=4096)
def _same_along(constant: Constant) -> tuple[bool, ...]:
    bits = np.ascontiguousarray(constant.values()).view(f"u{np.dtype(constant.dtype).itemsize}")
    return tuple(size > 1 and bool((bits == bits.take([0], i)).all()) for i, size in enumerate(constant.size))
