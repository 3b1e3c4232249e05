"""Weight norm in plans: lengths that follow what growing makes of directions, so that the weights stay what they were.

A layer's weights are g · v / ‖v‖, the norm being that of each slice of v along one axis. Gathered slices are as long as
they were. Where their entries are shared out, copied or multiplied, ‖v‖ becomes another, and g is multiplied by what it
is divided by less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops.weight_norm import WeightNorm
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.plan import AxisMap, Lengths, Split, TensorPlan, times

Array = npt.NDArray[Any]


def with_lengths(student: Graph, tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    """The tensors of a student, with what those with weight norm need besides.

    Args:
        student: the grown network.
        tensors: the plan of each, as if directions were weights.

    Raises:
        GrowthRefusedError: a slice would have no direction.
    """
    found = dict(tensors)
    for layer in student.layers:
        if isinstance(layer.op, WeightNorm) and layer.weights_of is None:
            axis = layer.op.norm_dim
            directions, lengths = (layer.tensor_name(key) for key in (layer.op.weight_key, layer.op.length_key))
            if found[directions].source is None:
                continue
            axes = tuple(_by_itself(layer, m) if m.axis == axis else m for m in found[directions].axes)
            found[directions] = replace(found[directions], axes=axes, directions=axis)
            if not all(_keeps_lengths(m, axis) for m in axes) and found[lengths].source is not None:
                _check_alone(student, layer, lengths)
                found[lengths] = replace(found[lengths], lengths=Lengths(directions, axis))
    return found


def notes_on(tensors: Mapping[str, TensorPlan], split: Split) -> list[str]:
    """What is said of layers whose shares are others than were asked for."""
    other = [t.name for t in tensors.values() for m in t.axes if m.shares is not None and m.shares.split != split]
    if not other:
        return []
    more = f" and {len(other) - 1} more" if len(other) > 1 else ""
    return [f"`{other[0]}`{more}: random shares, since a copy that owns nothing would have no direction"]


def _check_alone(student: Graph, layer: Layer, lengths: str) -> None:
    """Raise `GrowthRefusedError` where somebody else has the lengths too, and needs them as they are."""
    for other in student.layers:
        if other.owner != layer.name and lengths in map(other.tensor_name, other.op.tensors()):
            raise GrowthRefusedError(
                f"`{lengths}` would have to follow what becomes of `{layer.name}`, and `{other.name}` has it too",
                "untie the two, or widen layers that it does not read",
                layer=layer.name,
            )


def _by_itself(layer: Layer, axis: AxisMap) -> AxisMap:
    """The axis of the slices themselves, of which none may be left without entries."""
    assert axis.factor is None, "streams with a scale end at weight norm"
    if axis.shares is None:
        return axis
    if axis.shares.split == "fresh":
        raise GrowthRefusedError(
            f"`{layer.name}` normalises what it reads of each channel, and of new channels it reads nothing",
            "copy channels instead: `--split ownership`",
            layer=layer.name,
        )
    # A copy that owns nothing would be divided by a norm of 0.
    split = "random" if axis.shares.split == "ownership" else axis.shares.split
    return replace(axis, shares=replace(axis.shares, split=split))


def _keeps_lengths(axis: AxisMap, own: int) -> bool:
    """Whether slices along the axis `own` are as long as they were, when this axis has grown."""
    if axis.shares is not None:
        whole = axis.shares.split in ("ownership", "fresh") and axis.shares.rows == own
        return whole and axis.factor is None and axis.free is None
    if axis.axis == own:
        return True
    factor = np.ones(axis.width) if axis.factor is None else np.asarray(axis.factor)
    kept = axis.position[0][factor != 0]
    # Zeros around a kernel.
    return bool((np.abs(factor[factor != 0]) == 1).all() and np.unique(kept).size == kept.size)


def followed(lengths: TensorPlan, before: Array, now: Iterable[Array]) -> TensorPlan:
    """The plan of lengths with what the directions make of them as a factor.

    Args:
        lengths: a plan with `lengths`.
        before: the teacher's directions.
        now: the student's, some rows at a time.
    """
    assert lengths.lengths is not None
    axis = lengths.lengths.axis
    old, new = slice_norms([before], axis), slice_norms(now, axis)
    copied = next((m.position[0] for m in lengths.axes if m.axis == axis), np.arange(new.size))
    ratio = np.divide(new, old[copied], out=np.ones(new.size), where=old[copied] > 0)
    return replace(lengths, axes=times(lengths.axes, axis, ratio), lengths=None)


def slice_norms(blocks: Iterable[Array], axis: int) -> npt.NDArray[np.float64]:
    """`(width,)`: the Euclidean norm of each slice of a tensor along an axis.

    Args:
        blocks: the tensor, some rows at a time; how many does not change a bit of the result.
        axis: of the slices, 0 or 1.
    """
    squares = (np.square(row.astype(np.float64)) for block in blocks for row in block)
    if axis == 0:
        return np.sqrt(np.array([row.sum() for row in squares], dtype=np.float64))
    total = np.zeros(())
    for row in squares:
        total = total + row.reshape(len(row), -1).sum(axis=1)
    return np.sqrt(total)
