"""The only place where tensor values change: a plan and the teacher's tensors in, the student's tensors out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from net2net_cli.channels.unions import Ints
from net2net_cli.checkpoint.safetensors_header import TensorInfo
from net2net_cli.growth.lengths import followed
from net2net_cli.growth.plan import MEAN, AxisMap, Fill, Plan, TensorPlan
from net2net_cli.growth.shares import Deal, generator, share_rows
from net2net_cli.growth.sharing import share_out
from net2net_cli.growth.source import Source, Tensors

Array = npt.NDArray[Any]

BLOCK_BYTES = 8 << 20
"""About how much of a tensor is in memory at a time."""


class Memory:
    """Where blocks are put: into new memory each.

    Args:
        block_bytes: about how large blocks are; `BLOCK_BYTES`, if not given.
    """

    def __init__(self, block_bytes: int | None = None) -> None:
        self.block_bytes = block_bytes or BLOCK_BYTES

    def array(self, use: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array that is not needed any more when the next one is asked for, for the same use."""
        return np.empty(shape, dtype)

    def block(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array to be handed out."""
        return np.empty(shape, dtype)


class ReusedMemory(Memory):
    """The same memory again and again, since fresh pages cost more than what is put there.

    A block stays as it is until the next but one is asked for: one can be written while another is gathered.
    """

    def __init__(self, block_bytes: int | None = None) -> None:
        super().__init__(block_bytes)
        self._held: dict[str, Array] = {}
        self._turn = 0

    def array(self, use: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(use)
        if held is None or held.size < size:
            held = self._held[use] = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)

    def block(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        self._turn ^= 1
        return self.array(f"block {self._turn}", shape, dtype)


class Grown:
    """The student of a plan as a source of tensors, each computed when it is read."""

    def __init__(self, plan: Plan, teacher: Tensors) -> None:
        self.plan = plan
        self.teacher = teacher

    def info(self, name: str) -> TensorInfo:
        """Stored type and shape."""
        return student_info(self.plan.tensors[name], self.teacher, self.plan)

    def read(self, name: str) -> Array:
        """The whole tensor."""
        tensor = self.plan.tensors[name]
        if tensor.source is not None and not tensor.axes and tensor.fill is None and tensor.lengths is None:
            return self.teacher.read(tensor.source)
        pieces = [piece.ravel() for piece in self.blocks(name)]
        flat = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return flat.reshape(tensor.shape)

    def blocks(self, name: str, memory: Memory | None = None) -> Iterator[Array]:
        """The tensor in order, a block of rows at a time; how long each stays as it is, `memory` says."""
        seed = self.plan.operation.seed or 0
        tensor = self._with_lengths(self.plan.tensors[name])
        return tensor_blocks(tensor, self.teacher, self.info(name), seed, memory or Memory())

    def _with_lengths(self, tensor: TensorPlan) -> TensorPlan:
        """What the lengths of directions are multiplied by, as a factor."""
        of = self.plan.tensors[tensor.lengths.of] if tensor.lengths else None
        if of is None or of.source is None:
            return tensor
        return followed(tensor, self.teacher.read(of.source), self.blocks(of.name))


def student_info(tensor: TensorPlan, teacher: Tensors, plan: Plan) -> TensorInfo:
    """Stored type and shape of a student tensor; a new one takes the type that most of the teacher's weights have."""
    if tensor.dtype is not None:
        return TensorInfo(tensor.dtype, tensor.shape)
    if tensor.source is not None:
        return TensorInfo(teacher.info(tensor.source).dtype, tensor.shape)
    return TensorInfo(stored_dtype(plan, teacher), tensor.shape)


def stored_dtype(plan: Plan, teacher: Tensors) -> str:
    """The floating type that most of the teacher's parameters are stored in."""
    sizes: dict[str, int] = {}
    for name, _, _, slot in plan.teacher.tensors():
        if not slot.integer:
            info = teacher.info(name)
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
    return max(sizes, key=lambda dtype: sizes[dtype], default="F32")


def tensor_blocks(tensor: TensorPlan, teacher: Tensors, info: TensorInfo, seed: int, memory: Memory) -> Iterator[Array]:
    """A student tensor in C order, some rows at a time.

    Args:
        tensor: the plan of it.
        teacher: where its source is read.
        info: stored type and shape of the result.
        seed: of the draws.
        memory: for blocks.

    Yields:
        C-contiguous arrays whose bytes, one after the other, are the tensor's.
    """
    if tensor.source is None:
        assert tensor.fill is not None
        yield from _new(tensor, info, generator(seed, tensor.name, "fill"), memory.block_bytes)
    elif not tensor.axes and tensor.fill is None:
        yield from _copied(_source(teacher, tensor.source), memory)
    else:
        yield from _gathered(tensor, _source(teacher, tensor.source), seed, memory)


def _source(teacher: Tensors, name: str) -> Source:
    return Source(teacher, name, whole_from=2 * BLOCK_BYTES)


def _copied(source: Source, memory: Memory) -> Iterator[Array]:
    size = prod(source.shape)
    step = max(1, memory.block_bytes // source.dtype.itemsize)
    for start in range(0, size, step):
        yield source.elements(start, min(size, start + step), memory.block)
    if not size:
        yield np.empty(0, source.dtype)


def _new(tensor: TensorPlan, info: TensorInfo, rng: np.random.Generator, size: int) -> Iterator[Array]:
    fill = tensor.fill
    assert fill is not None
    rows = info.shape[0] if info.shape else 1
    row = int(np.prod(info.shape[1:]))
    step = max(1, size // max(8, 8 * row))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        values = fill_rows(fill, info.shape or (1,), start, stop, rng)
        yield np.ascontiguousarray(values.astype(info.numpy_dtype))


def fill_rows(fill: Fill, shape: tuple[int, ...], start: int, stop: int, rng: np.random.Generator) -> Array:
    """Rows start … stop of a tensor that a constructor makes, in float64."""
    block = (stop - start, *shape[1:])
    if fill.kind == "uniform":
        return rng.uniform(-fill.value, fill.value, block)
    if fill.kind == "normal":
        drawn = rng.normal(0.0, fill.value, block)
        if fill.zero_row is not None and start <= fill.zero_row < stop:
            drawn[fill.zero_row - start] = 0.0
        return drawn
    if fill.kind == "vector":
        assert fill.vector is not None
        return np.asarray(fill.vector[start:stop], dtype=np.float64)
    values = np.full(block, fill.value if fill.kind == "constant" else 0.0)
    if fill.kind != "constant":
        rows = np.arange(start, stop)
        middle = values.reshape(*block[:2], -1)
        centre = middle[:, :, middle.shape[2] // 2]  # the middle of odd kernels, flattened
        if fill.kind == "join_pair":
            centre[rows - start, rows] = fill.value
            centre[rows - start, rows + shape[0]] = -fill.value
        else:
            negative = (fill.kind == "split_pair") & (rows >= shape[0] // 2)
            centre[rows - start, rows % shape[1]] = np.where(negative, -fill.value, fill.value)
    return values


def _gathered(tensor: TensorPlan, source: Source, seed: int, memory: Memory) -> Iterator[Array]:
    """Rows are gathered along axis 0, then every other axis within the block, then factors are applied."""
    maps = {m.axis: m for m in tensor.axes}
    sections = maps[1].position.shape[0] if 1 in maps else 1
    row_bytes = source.dtype.itemsize * int(np.prod(tensor.shape[1:]))
    per_section = tensor.shape[0] // sections
    wide = any(m.factor is not None or m.position.min(initial=0) < 0 for m in tensor.axes)
    # Means are summed up in an order that the shape of a block decides.
    size = BLOCK_BYTES if wide else memory.block_bytes
    step = max(1, min(per_section, size // max(1, row_bytes)))
    touch = _Touch(tensor, maps, source, seed, step, memory)
    mean_row = _mean_row(source.whole()) if 0 in maps and maps[0].position.min(initial=0) < 0 else None
    in_order = _in_order(maps[0].position[0]) if 0 in maps and not wide else None
    for section in range(sections):
        places = {m.axis: m.position[section if m.axis == 1 else 0] for m in tensor.axes}
        for start in range(section * per_section, (section + 1) * per_section, step):
            stop = min(start + step, (section + 1) * per_section)
            block = (
                _gather_wide(source.whole(), start, stop, places, mean_row)
                if wide
                else _gather(source, start, stop, places, in_order, memory)
            )
            yield np.ascontiguousarray(touch(block, section, start, stop).astype(source.dtype, copy=False))


def _in_order(position: Ints) -> list[int] | None:
    """Positions from the lowest up, of which none is left out; None where they stand otherwise."""
    steps = np.diff(position)
    return position.tolist() if ((steps == 0) | (steps == 1)).all() else None


def _gather(
    source: Source, start: int, stop: int, places: Mapping[int, Ints], in_order: list[int] | None, memory: Memory
) -> Array:
    """Rows start … stop of the student, gathered along each axis; `in_order` as `_in_order` finds it for axis 0."""
    further = {axis: place for axis, place in places.items() if axis}
    if 0 not in places:
        rows = source.rows(start, stop, partial(memory.array, "source") if further else memory.block)
    elif in_order is not None and source.reads_in_place(in_order[stop - 1] - in_order[start] + 1):
        rows = source.in_place(in_order[start:stop], partial(memory.array, "source") if further else memory.block)
    else:
        at = places[0][start:stop]
        low, high = int(at.min()), int(at.max()) + 1
        rows, further = source.rows(low, high, partial(memory.array, "source")), {0: at - low, **further}
    bits = rows.view(_BITS[source.dtype.itemsize])  # which numpy moves faster than bfloat16 and its like
    for number, axis in enumerate(sorted(further), start=1):
        shape = (*bits.shape[:axis], further[axis].size, *bits.shape[axis + 1 :])
        last = number == len(further)
        out = memory.block(shape, bits.dtype) if last else memory.array(f"axis {axis}", shape, bits.dtype)
        # Positions are in range, as the proof has found; with another mode, numpy would gather into memory of its own.
        bits = bits.take(further[axis], axis=axis, out=out, mode="clip")
    return bits.view(source.dtype)


def _mean_row(source: Array) -> npt.NDArray[np.float64]:
    """`(…)`: the mean of all rows, summed up one by one, since a copy of all in float64 might not fit in memory."""
    total = np.zeros(source.shape[1:])
    for row in source:
        total += row
    return total / len(source)


def _gather_wide(
    source: Array, start: int, stop: int, places: Mapping[int, Ints], mean_row: Array | None
) -> npt.NDArray[np.float64]:
    """As `_gather`, in float64 and with means where positions say so, to be rounded once all factors are on."""
    if 0 in places:
        at = places[0][start:stop]
        block = source[np.maximum(at, 0)].astype(np.float64)
        if mean_row is not None:
            block[at == MEAN] = mean_row
    else:
        block = source[start:stop].astype(np.float64)
    for axis in sorted(places.keys() - {0}):
        with_mean = np.concatenate([block, block.mean(axis=axis, keepdims=True)], axis=axis)
        block = np.take(with_mean, np.where(places[axis] == MEAN, block.shape[axis], places[axis]), axis=axis)
    return block


class _Touch:
    """Shares, factors, redraws and noise on gathered blocks; blocks come in order."""

    def __init__(
        self, tensor: TensorPlan, maps: Mapping[int, AxisMap], source: Source, seed: int, step: int, memory: Memory
    ) -> None:
        self.tensor, self.maps, self.step = tensor, maps, step
        self.rng = generator(seed, tensor.name, "shares")
        self.redraw = generator(seed, tensor.name, "fill")
        self.noise = generator(seed, tensor.name, "noise")
        self.reading = next((m for m in maps.values() if m.shares), None)
        self.iterator: Iterator[Array] = iter(())
        self.deal: Deal | None = None
        self.section = -1
        self.scale = _rms(source.whole()) * tensor.noise if tensor.noise else 0.0
        if self.reading is not None and self.reading.axis == 0:
            self.whole = self._transposed(self.reading)

    def _transposed(self, reading: AxisMap) -> Array:
        """Shares `(rows, width)` of a tensor whose axis 0 is the one that reads (transposed convolution)."""
        shares, rows = reading.shares, self.tensor.shape[1]
        assert shares is not None
        return np.concatenate(list(share_rows(shares.split, reading.sharing[0], rows, rows, self.rng)))

    def _shared(self, block: Array, reading: AxisMap, section: int, start: int, stop: int) -> Array:
        """The block with shares on; where they are 0 and 1 on axis 1, its bits are cleared or kept in place."""
        assert reading.shares is not None
        if reading.axis == 0:
            return self._shared_rows(block, reading, start)
        if reading.shares.split == "fresh":
            return _kept(block, self._shares(reading, section))
        if reading.shares.split != "ownership":
            return share_out(block, self._shares(reading, section), reading.sharing[section])
        rows = self.tensor.shape[0] // reading.position.shape[0]
        if self.deal is None or section != self.section:
            self.section, self.deal = section, Deal(reading.sharing[section], rows, self.rng)
        first = section * rows
        slices = _slices(block)
        for places in self.deal.left_out(start - first, stop - first):
            _clear(slices, places)
        return block

    def _shared_rows(self, block: Array, reading: AxisMap, start: int) -> Array:
        """Where axis 0 is the one that reads, copies of a channel may stand in several blocks."""
        assert reading.shares is not None
        if self.whole.dtype == bool:
            return _kept(block, self.whole[:, start : start + len(block)].T)
        return share_out(block.swapaxes(0, 1), self.whole, reading.sharing[0], start).swapaxes(0, 1)

    def _shares(self, reading: AxisMap, section: int) -> Array:
        if section != self.section:
            self.section = section
            shares = reading.shares
            assert shares is not None
            rows = self.tensor.shape[0] // reading.position.shape[0]
            self.iterator = share_rows(shares.split, reading.sharing[section], rows, self.step, self.rng)
        return next(self.iterator)

    def __call__(self, block: Array, section: int, start: int, stop: int) -> Array:
        if self.reading is not None:
            block = self._shared(block, self.reading, section, start, stop)
        for axis, axis_map in self.maps.items():
            if axis_map.factor is not None:
                shape = [1] * block.ndim
                shape[axis] = -1
                factor = axis_map.factor[start:stop] if axis == 0 else axis_map.factor
                block = (block.astype(np.float64) * factor.reshape(shape)).astype(block.dtype)
        if self.tensor.fill is not None or self.tensor.noise:
            block = self._with_new(block, self._later_copies(block.shape, section, start, stop), start, stop)
        return block

    def _later_copies(self, shape: tuple[int, ...], section: int, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Entries that stand at the second or a later copy of a slice, on any axis; of those with shares for noise."""
        later = np.zeros(shape, dtype=bool)
        for axis, axis_map in self.maps.items():
            if (self.tensor.fill is not None and axis_map.shares is not None) or axis_map.pads:
                continue
            second = axis_map.later[section if axis == 1 else 0]
            if axis_map.free is not None:
                second |= axis_map.free
            along = [1] * len(shape)
            along[axis] = -1
            later |= (second[start:stop] if axis == 0 else second).reshape(along)
        return later

    def _with_new(self, block: Array, later: npt.NDArray[np.bool_], start: int, stop: int) -> Array:
        if self.tensor.fill is not None:
            drawn = fill_rows(self.tensor.fill, (self.tensor.shape[0], *block.shape[1:]), start, stop, self.redraw)
        else:
            drawn = block.astype(np.float64) + self.noise.normal(0.0, self.scale, block.shape)
        return np.where(later, drawn.astype(block.dtype), block)


def _rms(source: Array) -> float:
    values = source.astype(np.float64)
    return float(np.sqrt(np.mean(values * values))) if values.size else 0.0


_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _slices(block: Array) -> Array:
    """A block `(rows, width, …)` as `(rows · width,)` items that each hold a slice; the same memory."""
    assert block.flags.c_contiguous
    size = prod(block.shape[2:]) * block.itemsize
    return block.reshape(-1).view(_BITS.get(size, f"V{size}"))


def _clear(items: Array, places: Ints) -> None:
    """Clear the bits of some."""
    if items.dtype.kind == "V":
        np.put(items, places, np.zeros(1, items.dtype), mode="clip")  # faster for these, and slower for numbers
    else:
        items[places] = 0


def _kept(block: Array, kept: Array) -> Array:
    """A block whose bits are cleared where `kept`, of the shape of its first two axes, is false."""
    bits = block.view(_BITS[block.itemsize])
    mask = np.where(kept, ~bits.dtype.type(0), bits.dtype.type(0))
    bits &= mask.reshape(mask.shape + (1,) * (block.ndim - 2))
    return block


assert ml_dtypes.bfloat16 is not None  # importing it teaches numpy the type
