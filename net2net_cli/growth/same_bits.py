"""Tensors compared bit by bit: what was written with what a growth computes, block by block and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from net2net_cli.checkpoint.background import Background
from net2net_cli.growth.apply import Array, Grown, ReusedMemory
from net2net_cli.growth.source import Source, Tensors

BLOCK_BYTES = 3 << 19
"""Small enough to be compared in the processor's cache, and large enough that Python is not felt."""

MOST_WORKERS = 4
"""Threads; more would wait for memory."""


@dataclass(frozen=True, slots=True)
class Element:
    """One number, and the bits that it is stored in: `0x3f800000`."""

    value: float
    bits: str


@dataclass(frozen=True, slots=True)
class BitDifference:
    """A tensor of which some elements have other bits.

    Attributes:
        name: of the tensor.
        index: of the first such element, in C order.
        expected: the element there.
        found: likewise.
        count: how many elements differ.
        elements: of how many.
    """

    name: str
    index: tuple[int, ...]
    expected: Element
    found: Element
    count: int
    elements: int


def different_tensors(
    names: Sequence[str], expected: Tensors, found: Tensors, *, on_bytes: Callable[[int], None] | None = None
) -> list[BitDifference]:
    """The tensors that are not the same bit by bit, in the order of `names`; NaN are compared as all others.

    Args:
        names: of tensors that have the same type and shape in both.
        expected: such as a growth, whose tensors are computed a block at a time.
        found: such as a file, which is read likewise.
        on_bytes: told the size of each block that was compared, by one thread at a time.
    """
    # Largest first, so that no thread is left with a large one at the end.
    shared = _Shared(sorted(names, key=lambda name: -expected.info(name).nbytes), on_bytes)
    differences: dict[str, BitDifference] = {}

    def work() -> None:
        memory, held = ReusedMemory(BLOCK_BYTES), _Held()
        try:
            for name in shared:
                difference = _difference(name, expected, found, memory, held, shared)
                if difference is not None:
                    differences[name] = difference
        except BaseException:
            shared.stopped = True
            raise

    others = [Background(work) for _ in range(_workers(expected, len(names)) - 1)]
    try:
        work()
    finally:
        for other in others:
            other.wait()
    for other in others:
        other.result()
    return [differences[name] for name in names if name in differences]


class _Shared:
    """What the threads have in common: the names that are left, and who is told of progress."""

    def __init__(self, names: Sequence[str], on_bytes: Callable[[int], None] | None) -> None:
        self._names = iter(names)
        self._on_bytes = on_bytes
        self._lock = Lock()
        self.stopped = False

    def __iter__(self) -> Iterator[str]:
        while not self.stopped:
            with self._lock:
                name = next(self._names, None)
            if name is None:
                return
            yield name

    def tell(self, size: int) -> None:
        """So many bytes more were compared."""
        if self._on_bytes is not None:
            with self._lock:
                self._on_bytes(size)


class _Held:
    """Where what was written is read to: a `bytearray`, which is compared twice as fast as an array."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._array: Array | None = None

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """The same memory each time, as long as the size is the same."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if len(self._bytes) != size:
            self._bytes = bytearray(size)
        self._array = np.ndarray(shape, dtype, self._bytes)
        return self._array

    def equals(self, flat: Array, wanted: Array) -> bool:
        """Whether an array that was read has the same bits as another one; one of tensors in memory is copied first."""
        there: Any = self._bytes if flat is self._array else flat.tobytes()
        return bool(there == _bytes(wanted).data)


def _workers(expected: Tensors, tensors: int) -> int:
    """How many threads; one where whole tensors are in memory at a time, as in the middle of several growths."""
    if isinstance(expected, Grown) and isinstance(expected.teacher, Grown):
        return 1
    return max(1, min(MOST_WORKERS, _processors(), tensors))


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _difference(
    name: str, expected: Tensors, found: Tensors, memory: ReusedMemory, held: _Held, shared: _Shared
) -> BitDifference | None:
    """Block by block; unfinished where another thread has failed."""
    written = Source(found, name, whole_from=0)
    size = prod(written.shape)
    first: tuple[int, Element, Element] | None = None
    at = count = 0
    for block in _blocks(expected, name, memory):
        wanted = np.ascontiguousarray(block).reshape(-1)
        there = written.elements(at, at + wanted.size, held.array)
        if not held.equals(there, wanted):
            places = np.flatnonzero((_bytes(wanted) != _bytes(there)).reshape(wanted.size, -1).any(axis=1))
            place = int(places[0])
            first = first or (at + place, _element(wanted, place), _element(there, place))
            count += places.size
        at += wanted.size
        if shared.stopped:
            return None
        shared.tell(block.nbytes)
    if at != size:
        raise AssertionError(f"the blocks of {name} have {at} elements, and the tensor has {size}")
    if first is None:
        return None
    index = tuple(int(i) for i in np.unravel_index(first[0], written.shape))
    return BitDifference(name, index, first[1], first[2], count, size)


def _blocks(tensors: Tensors, name: str, memory: ReusedMemory) -> Iterator[Array]:
    return tensors.blocks(name, memory) if isinstance(tensors, Grown) else iter([tensors.read(name)])


def _bytes(flat: Array) -> Array:
    return flat.view(np.uint8)


def _element(flat: Array, place: int) -> Element:
    number: Any = flat[place]
    bits = _bytes(flat[place : place + 1])[::-1].tobytes().hex()
    return Element(abs(number) if flat.dtype.kind == "c" else float(number), f"0x{bits}")
