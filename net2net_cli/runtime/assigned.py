"""Assignments to parts of tensors: `x[:, :4] = 0`, `y[:, 1:] = x[:, :-1]`, `scores[mask] = -1e9`.

What is there afterwards is laid together of what stays and what is put between.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from net2net_cli.architecture.ops.join import Cat, positive
from net2net_cli.architecture.ops.logic import Where
from net2net_cli.architecture.shapes import Batch, fixed
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.filled import filled, stretched
from net2net_cli.runtime.sections import BATCH, in_full, sliced
from net2net_cli.runtime.seen import seen_of
from net2net_cli.runtime.site import Site
from net2net_cli.runtime.views import unsqueezed

Part: TypeAlias = tuple[int, int, int]
"""An axis, and where on it a part begins and ends."""


def assigned(site: Site) -> Draft:
    """The tensor afterwards.

    Raises:
        ValueError: which elements are meant cannot be said, or depends on the batch size.
    """
    x, index, value = (site.read(argument) for argument in site.node.args)
    if isinstance(value, (bool, int, float)):
        value = torch.tensor(value).to(site.seen.first.dtype).item()  # as PyTorch does, which cuts 2.7 down to 2
    elif isinstance(value, Draft) and _dtype(site, 2) != site.seen.first.dtype:
        raise ValueError("what is assigned is of another type than its place")
    if isinstance(index, Draft):
        return _where(site, x, index, value)
    parts, single = _parts(x, index)
    region = list(x.shape)
    for axis, start, stop in parts:
        region[axis] = stop - start
    if isinstance(value, Draft):
        shape = tuple(dim for axis, dim in enumerate(region) if axis not in single)
        if len(value.shape) > len(shape):
            raise ValueError("what is assigned has more axes than its place")
        value = stretched(site, value, shape)
        for axis in single:
            value = unsqueezed(site, value, axis)
    elif isinstance(value, (bool, int, float)):
        value = filled(site, value, tuple(region))
    else:
        raise ValueError("what is assigned is no tensor and no number, or depends on the batch size")
    return _laid(site, x, parts, value)


def _where(site: Site, x: Draft, index: Draft, value: Any) -> Draft:
    """A number where a condition holds."""
    if _dtype(site, 1) != torch.bool or not isinstance(value, (bool, int, float)):
        raise ValueError("its index is a tensor; a condition is supported, where a number is assigned")
    missing = len(x.shape) - len(index.shape)
    for _ in range(missing):
        index = unsqueezed(site, index, len(index.shape))
    return site.emit(Where(input=value), (index, x), site.shape())


def _dtype(site: Site, argument: int) -> torch.dtype:
    node: Any = site.node.args[argument]
    found: torch.dtype = seen_of(node).first.dtype
    return found


def _parts(x: Draft, index: Any) -> tuple[list[Part], list[int]]:
    """The axes of which a part is meant, and those of which a single slice is."""
    items = index if isinstance(index, tuple) else (index,)
    if not all(item is ... or type(item) in (slice, int) for item in items):
        raise ValueError("an index is neither a number nor a slice")
    parts, single = [], []
    for axis, item in enumerate(in_full(items, len(x.shape))):
        size = x.shape[axis]
        if item in (slice(None), slice(None, size), slice(0, size)):
            continue
        if isinstance(size, Batch):
            raise ValueError(BATCH)
        if isinstance(item, int):
            start = positive(item, size)
            stop, step = start + 1, 1
            single.append(axis)
        elif any(isinstance(border, Batch) for border in (item.start, item.stop, item.step)):
            raise ValueError("the borders of a slice depend on the batch size")
        else:
            start, stop, step = item.indices(size)
        if step != 1 or stop <= start:
            raise ValueError("a slice has a step, or is empty")
        parts.append((axis, start, stop))
    return parts, single


def _laid(site: Site, x: Draft, parts: list[Part], value: Draft) -> Draft:
    """The value in the place of a part."""
    if not parts:
        return value
    (axis, start, stop), *rest = parts
    size = fixed(x.shape[axis])
    middle = _laid(site, sliced(site, x, axis, slice(start, stop)), rest, value) if rest else value
    pieces = [sliced(site, x, axis, slice(0, start))] if start else []
    pieces += [middle, *([sliced(site, x, axis, slice(stop, size))] if stop < size else [])]
    return site.emit(Cat(dim=axis), pieces) if len(pieces) > 1 else middle
