"""Calls that take parts of tensors, or lay tensors together, and calls that stretch axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.fx.node import Node

from net2net_cli.architecture.ops import SizeOf
from net2net_cli.architecture.ops.activation import Sigmoid
from net2net_cli.architecture.ops.arithmetic import Maximum, Minimum, Mul
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.architecture.ops.join import Cat, Chunk, Expand, IndexSelect, Select, Slice, Split, positive
from net2net_cli.architecture.ops.reduce import AMax, AMin
from net2net_cli.architecture.ops.reorder import Flip
from net2net_cli.architecture.shapes import Batch, fixed
from net2net_cli.runtime import recurrent
from net2net_cli.runtime.arrangement import reshaped
from net2net_cli.runtime.drafts import Draft, FinalStates
from net2net_cli.runtime.keeping import keep_call
from net2net_cli.runtime.seen import seen_of, tensors_in
from net2net_cli.runtime.site import Handler, Site, Value
from net2net_cli.runtime.views import source, unsqueezed

BATCH = "it takes a part of the batch"


def getitem(site: Site) -> Value:
    """`x[:, 0, None, ::2]`, or one of several results of a call."""
    source = site.node.args[0]
    held = site.home.value_of(source) if isinstance(source, Node) else site.read(source)
    index = site.read(site.node.args[1])
    if isinstance(held, tuple) and not isinstance(held, FinalStates):
        found: Value = (
            held[index] if isinstance(index, (int, slice)) else held[0]
        )  # of a dict, which is trouble already
        return found
    items = index if isinstance(index, tuple) else (index,)
    if isinstance(held, FinalStates):
        held, items = recurrent.item(site, held, index)
    plain = [i for i in items if i is None or i is ... or type(i) in (slice, int)]
    lists = [i for i in items if _is_list_of_indices(i)]
    # A list beside a number, or another list, is paired with it and not taken by itself.
    alone = len(lists) == 1 and not any(type(i) is int for i in items)
    if len(plain) + alone != len(items):
        raise ValueError("an index is a tensor, a list or a condition; numbers and slices are supported")
    return _indexed(site, held, in_full(items, len(held.shape)))


def in_full(items: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """An index with a slice for each axis that `...` stands for."""
    if ... not in items:
        return items
    at, consumed = items.index(...), sum(i is not None and i is not ... for i in items)
    return (*items[:at], *(slice(None),) * (rank - consumed), *items[at + 1 :])


def _indexed(site: Site, x: Draft, items: tuple[Any, ...]) -> Draft:
    axis = 0
    for item in items:
        if item is None:
            x = unsqueezed(site, x, axis)
        elif isinstance(item, slice):
            x = sliced(site, x, axis, item)
        elif _is_list_of_indices(item):
            x = picked(site, x, axis, item)
            axis += len(item.shape) - 1
        else:
            x = selected(site, x, axis, item)
        axis += not isinstance(item, int)
    return x


def sliced(site: Site, x: Draft, dim: int, item: slice) -> Draft:
    """A part of an axis; all of it is no layer."""
    size = x.shape[dim]
    if isinstance(size, Batch):
        if item.start in (None, 0) and item.stop in (None, size) and item.step in (None, 1):
            return x
        raise ValueError(BATCH)
    if any(isinstance(i, Batch) for i in (item.start, item.stop, item.step)):
        raise ValueError("the borders of a slice depend on the batch size")
    start, stop, step = item.indices(size)
    stop = max(start, stop)
    if (start, stop, step) == (0, size, 1):
        return x
    return site.emit(Slice(dim=dim, start=start, stop=stop, step=step), (x,))


def selected(site: Site, x: Draft, dim: int, index: int) -> Draft:
    """One slice of an axis, without the axis."""
    if isinstance(x.shape[dim], Batch):
        raise ValueError(BATCH)
    return site.emit(Select(dim=dim, index=positive(index, fixed(x.shape[dim]))), (x,))


def _is_list_of_indices(item: Any) -> bool:
    """Whether it is a constant of whole numbers, of any shape."""
    return isinstance(item, Draft) and isinstance(item.op, Constant) and item.op.dtype in ("int64", "int32")


def picked(site: Site, x: Draft, dim: int, item: Draft) -> Draft:
    """Slices of an axis in a given order, laid out as the indices are."""
    if isinstance(x.shape[dim], Batch):
        raise ValueError(BATCH)
    assert isinstance(item.op, Constant)
    size, places = fixed(x.shape[dim]), item.op.values().astype(np.int64)
    order = np.where(places < 0, places + size, places).ravel().tolist()
    x = site.emit(IndexSelect(dim=dim, index=tuple(order)), (x,), function="index_select")
    after = (*x.shape[:dim], *places.shape, *x.shape[dim + 1 :])
    return site.emit(reshaped(x.shape, after, flatten=False), (x,), function="view")


def index_select(site: Site) -> Value:
    """`torch.index_select`; as it is, where its indices are computed."""
    found = site.arguments("input dim index")
    item = found.named["index"]
    if not _is_list_of_indices(item):
        return keep_call(site)
    x = found.tensors[0]
    return picked(site, x, positive(found.plain["dim"], len(x.shape)), item)


def flip(site: Site) -> Draft:
    """`flip((1, 2))`, `flip(1, 2)` and `torch.flip(x, [1, 2])`."""
    x = source(site)
    given = [*site.node.args[1:], *(v for key, v in site.node.kwargs.items() if key == "dims")]
    dims = site.read(given[0] if len(given) == 1 else tuple(given))
    places = [positive(dim, len(x.shape)) for dim in (dims if isinstance(dims, tuple) else (dims,))]
    return site.emit(Flip(dims=tuple(sorted(places))), (x,)) if places else x


def narrow(site: Site) -> Draft:
    """`torch.narrow`."""
    x, given = source(site), site.arguments("input dim start length").plain
    dim, start = positive(given["dim"], len(x.shape)), given["start"]
    start = start if isinstance(start, Batch) or start >= 0 else start + fixed(x.shape[dim])
    if isinstance(x.shape[dim], Batch) or isinstance(start, Batch):
        raise ValueError(BATCH)
    return sliced(site, x, dim, slice(start, start + given["length"]))


def select(site: Site) -> Draft:
    """`torch.select`."""
    x, given = source(site), site.arguments("input dim index").plain
    return selected(site, x, positive(given["dim"], len(x.shape)), given["index"])


def _dim(site: Site, x: Draft, signature: str) -> int:
    return positive(site.arguments(signature).plain.get("dim", 0), len(x.shape))


def chunk(site: Site) -> Value:
    """Sections of equal size."""
    x, given = source(site), site.arguments("input chunks dim").plain
    dim = positive(given.get("dim", 0), len(x.shape))
    fixed(x.shape[dim])
    count = len(site.seen.first)
    return tuple(site.emit(Chunk(chunks=given["chunks"], dim=dim, index=i), (x,), site.shape(i)) for i in range(count))


def split(site: Site) -> Value:
    """Sections of sizes that were seen."""
    x = source(site)
    dim = _dim(site, x, "input sizes dim *")
    sizes = tuple(fixed(site.shape(i)[dim]) for i in range(len(site.seen.first)))
    fixed(x.shape[dim])
    if len(sizes) == 1:
        return (x,)
    return tuple(site.emit(Split(sizes=sizes, dim=dim, index=i), (x,)) for i in range(len(sizes)))


def unbind(site: Site) -> Value:
    """Every slice of an axis."""
    x = source(site)
    dim = _dim(site, x, "input dim")
    return tuple(selected(site, x, dim, i) for i in range(fixed(x.shape[dim])))


def stack(site: Site) -> Draft:
    """A new axis for each tensor, and all laid together along it."""
    found = site.arguments("tensors dim")
    dim = positive(found.plain.get("dim", 0), len(found.tensors[0].shape) + 1)
    parts = [unsqueezed(site, x, dim) for x in found.tensors]
    return site.emit(Cat(dim=dim), parts) if len(parts) > 1 else parts[0]


def extreme(site: Site) -> Value:
    """`max` and `min`: of two tensors, or along an axis with its places, which no layer gives."""
    found = site.arguments("input dim keepdim")
    least = "min" in str(getattr(site.node.target, "__name__", site.node.target))
    if len(found.tensors) == 2:
        return site.emit((Minimum if least else Maximum)(), found.tensors)
    op = (AMin if least else AMax).from_call(found.plain, found.shapes)
    trouble = site.error("the places of the largest or smallest elements are used", "a spec knows their values alone")
    places = site.home.add(Draft(None, (), site.shape(1), "places", site.where, trouble=trouble))
    return site.emit(op, found.tensors), places


def glu(site: Site) -> Draft:
    """Half of the channels gated by the other half (Dauphin et al. 2017, arXiv:1612.08083)."""
    x = source(site)
    dim = positive(site.arguments("input dim").plain.get("dim", -1), len(x.shape))
    value, gate = (site.emit(Chunk(chunks=2, dim=dim, index=i), (x,)) for i in range(2))
    return site.emit(Mul(), (value, site.emit(Sigmoid(), (gate,), function="sigmoid")))


def origin(node: Any) -> Any:
    """The tensors and axes that sizes were read from: `(node, axis)`, a list of such pairs, or None."""
    if not isinstance(node, Node) or not node.args:
        return None
    tensor: Any = node.args[0]
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        assert isinstance(tensor, Node)
        axes = [(tensor, i) for i in range(seen_of(tensor).first.ndim)]
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        return axes[dim] if isinstance(dim, int) else axes
    if getattr(node.target, "__name__", "") == "getitem" and isinstance(tensor, Node):
        whole = origin(tensor)
        index: Any = node.args[1]
        plain = isinstance(index, int) or (isinstance(index, slice) and not isinstance(index.start, Node))
        return whole[index] if isinstance(whole, list) and plain and not tensors_in(seen_of(tensor).first) else None
    return None


def sizes(site: Site, argument: Any) -> tuple[tuple[Any, ...], list[Draft]]:
    """Sizes that a call is given: numbers, `Batch`, and `SizeOf` where it is plain which tensor they are taken from.

    Returns:
        The sizes, and the tensors that the values of their `SizeOf` number.

    """
    found = origin(argument)
    read = site.read(argument)
    given = read if isinstance(read, tuple) else (read,)
    elements: list[Any] = list(argument) if isinstance(argument, (tuple, list)) else [None] * len(given)
    origins = found if isinstance(found, list) else [found or origin(e) for e in elements]
    tensors: list[Draft] = []
    said: list[Any] = []
    for value, place in zip(given, origins, strict=True):
        if place is None:
            said.append(value)
            continue
        draft = site.home.size_of(place[0])
        if draft not in tensors:
            tensors.append(draft)
        said.append(SizeOf(str(tensors.index(draft)), place[1]))
    return tuple(said), tensors


def expand(site: Site) -> Value:
    """Expand and repeat, where axes of size 1 are stretched; as it is, where others are repeated."""
    x, after = source(site), site.shape()
    new = len(after) - len(x.shape)
    said, tensors = _wanted(site)
    size: list[Any] = []
    for i, dim in enumerate(after):
        have = x.shape[i - new] if i >= new else 1
        if have == dim and i >= new:
            size.append(-1)
        elif have != 1:
            try:
                return keep_call(site)
            except ValueError:
                raise ValueError("it repeats an axis whose size is not 1") from None
        else:
            size.append(_size(site, dim, said[i] if i < len(said) else None, tensors))
    if new == 0 and all(s == -1 for s in size):
        return x
    used = [t for i, t in enumerate(tensors) if any(isinstance(s, SizeOf) and s.value == str(i) for s in size)]
    place = {str(i): str(used.index(t)) for i, t in enumerate(tensors) if t in used}
    named = [SizeOf(place[s.value], s.axis) if isinstance(s, SizeOf) else s for s in size]
    return site.emit(Expand(size=tuple(named)), (x,), after, sizes_of=used)


def _size(site: Site, dim: Any, said: Any, tensors: list[Draft]) -> Any:
    if isinstance(said, SizeOf):
        shape = tensors[int(said.value)].shape  # empty where nobody can say how the tensor is made
        if said.axis < len(shape) and shape[said.axis] == dim:
            return said
    if not isinstance(dim, Batch):
        return dim
    draft = input_of_size(site, dim)
    if draft is None:
        raise ValueError(f"it stretches an axis to {dim}, which is no tensor's own size")
    if draft not in tensors:
        tensors.append(draft)
    return SizeOf(str(tensors.index(draft)), 0)


def input_of_size(site: Site, dim: Batch) -> Draft | None:
    """An input of the network whose batch axis has that size."""
    return next((draft for draft in site.home.inputs if draft.shape[0] == dim), None)


def _wanted(site: Site) -> tuple[tuple[Any, ...], list[Draft]]:
    """The sizes as they were given, for `expand(…)`, `expand_as(y)`, `repeat(…)` and `broadcast_to(x, shape)`."""
    given = list(site.node.args[1:]) + [v for k, v in site.node.kwargs.items() if k in ("size", "sizes", "other")]
    if len(given) == 1 and isinstance(given[0], Node) and tensors_in(seen_of(given[0]).first):
        other = site.home.size_of(given[0])
        return tuple(SizeOf("0", i) for i in range(len(other.shape))), [other]
    return sizes(site, given[0] if len(given) == 1 else given)


_HEADS = ("Tensor", "torch")
_FUNCTIONS: dict[str, Handler] = {
    "chunk": chunk,
    "split": split,
    "split_with_sizes": split,
    "tensor_split": split,
    "unbind": unbind,
    "narrow": narrow,
    "select": select,
    "index_select": index_select,
    "flip": flip,
    "max": extreme,
    "min": extreme,
    "expand": expand,
    "expand_as": expand,
    "repeat": expand,
    "tile": expand,
    "broadcast_to": expand,
}

HANDLERS: dict[str, Handler] = {
    **{f"{head}.{name}": handler for name, handler in _FUNCTIONS.items() for head in _HEADS},
    "torch.stack": stack,
    "operator.getitem": getitem,
    "Tensor.__getitem__": getitem,
    "torch.nn.functional.glu": glu,
}
"""By dotted name; `Tensor.chunk` for methods."""
