"""Tensors that a network fills with one number, and whose size follows the batch, as `torch.zeros(len(x), 8)`.

Those whose size does not are constants like all others. Other tensors are stretched in the same way.
"""

from __future__ import annotations

from math import prod

import torch

from net2net_cli.architecture.ops.base import SizeOf
from net2net_cli.architecture.ops.constant import LARGEST
from net2net_cli.architecture.ops.join import Expand
from net2net_cli.architecture.shapes import Batch, Shape
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.sections import input_of_size
from net2net_cli.runtime.site import Handler, Site

_NUMBERS = {
    **dict.fromkeys(("torch.zeros", "torch.zeros_like", "Tensor.new_zeros"), 0),
    **dict.fromkeys(("torch.ones", "torch.ones_like", "Tensor.new_ones"), 1),
}
"""Functions that fill tensors, and with what."""

_GIVEN = {
    "torch.full": "size fill_value *",
    "torch.full_like": "input fill_value *",
    "Tensor.new_full": "input size fill_value *",
}
"""Functions that are given the number, and the names of their arguments."""


def _with(number: int) -> Handler:
    return lambda site: filled(site, number)


def _with_argument(signature: str) -> Handler:
    def fill(site: Site) -> Draft:
        number = site.read(site.nodes(signature).get("fill_value"))
        if not isinstance(number, (bool, int, float)):
            raise ValueError("what it is filled with is no number, or depends on the batch size")
        return filled(site, number)

    return fill


def filled(site: Site, number: bool | int | float, shape: Shape | None = None) -> Draft:
    """A tensor of one number: a constant that has one slice along batch axes, and is stretched there.

    Args:
        site: the call; its result tells the type, and the shape if none is given.
        number: what it holds everywhere.
        shape: of the tensor.

    Raises:
        ValueError: an axis is of a size that no input has.
    """
    shape, like = site.shape() if shape is None else shape, site.seen.first
    size = tuple(1 if isinstance(dim, Batch) else dim for dim in shape)
    if prod(size) * like.element_size() > LARGEST:
        raise ValueError(f"it needs more than {LARGEST:,} bytes for each sample")
    made = site.home.constant(site, torch.full(size, number, dtype=like.dtype))
    if made is None:
        raise ValueError(f"its type, {like.dtype}, is none of the network's own")
    return stretched(site, made, shape)


def stretched(site: Site, x: Draft, shape: Shape) -> Draft:
    """A tensor in another shape, to which it can be stretched by PyTorch's rule: aligned at the last axis.

    Raises:
        ValueError: an axis is of a size that no input has.
    """
    new = len(shape) - len(x.shape)
    batches: list[Batch] = []
    wanted: list[int | SizeOf] = []
    for dim, have in zip(shape, (None,) * new + x.shape, strict=True):
        if have == dim:
            wanted.append(-1)
        elif isinstance(dim, Batch):
            batches += [dim] if dim not in batches else []
            wanted.append(SizeOf(str(batches.index(dim)), 0))
        else:
            wanted.append(dim)
    if all(size == -1 for size in wanted):
        return x
    inputs = []
    for dim in batches:
        found = input_of_size(site, dim)
        if found is None:
            raise ValueError(f"it has an axis of size {dim}, which is no input's own batch size")
        inputs.append(found)
    return site.emit(Expand(size=tuple(wanted)), (x,), shape, function="expand", sizes_of=inputs)


def _broadcast(site: Site) -> tuple[Draft, ...]:
    """`torch.broadcast_tensors(x, y)`."""
    given = site.read(site.node.args)
    return tuple(stretched(site, x, site.shape(i)) for i, x in enumerate(given))


HANDLERS: dict[str, Handler] = {
    "torch.broadcast_tensors": _broadcast,
    **{name: _with(number) for name, number in _NUMBERS.items()},
    **{name: _with_argument(signature) for name, signature in _GIVEN.items()},
}
"""By dotted name; `Tensor.new_zeros` for methods."""
