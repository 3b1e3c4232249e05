"""Calls that move data without changing it: each becomes an arrangement of factors."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.node import Node, map_aggregate

from net2net_cli.architecture.ops.activation import Detach
from net2net_cli.architecture.ops.join import positive
from net2net_cli.architecture.ops.reduce import AMax, AMin, Mean, Reduction, Sum
from net2net_cli.architecture.shapes import Dim, Shape, divide, product
from net2net_cli.runtime import arrangement
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.seen import seen_of
from net2net_cli.runtime.site import Handler, Site

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
_HEADS = "Tensor.{0} torch.{0}"
_REDUCTIONS: dict[str, type[Reduction]] = {"mean": Mean, "max": AMax, "min": AMin, "sum": Sum}

BATCH_HINT = "take the batch size from the tensor, as in `x.view(x.shape[0], -1)`, and keep its axis whole"


def source(site: Site) -> Draft:
    """The tensor that is looked at in another way."""
    found = site.read(site.node.args[0] if site.node.args else site.node.kwargs["input"])
    assert isinstance(found, Draft)
    return found


def reshape(site: Site, *, flatten: bool = True) -> Draft:
    """view, reshape, flatten, unflatten: the shapes say all."""
    x, after = source(site), site.shape()
    _same_dtype(site)
    try:
        return site.emit(arrangement.reshaped(x.shape, after, flatten=flatten), (x,))
    except ValueError as why:
        shapes = " to ".join("(" + ", ".join(map(str, s)) + ")" for s in (x.shape, after))
        raise site.error(f"reshaping {shapes} has no pattern, because {why}", BATCH_HINT) from None


def squeeze(site: Site) -> Draft:
    """Squeeze and unsqueeze: axes of size 1 go and come."""
    return reshape(site, flatten=False)


def permute(site: Site) -> Draft:
    """permute, transpose, movedim, `.T`: the order is read off a tensor whose axes all differ in size."""
    x = source(site)
    probe = torch.empty(_PRIMES[: len(x.shape)], device="meta")
    first = site.node.args[0] if site.node.args else site.node.kwargs["input"]

    def at(argument: Any) -> Any:
        if argument is first:
            return probe
        return seen_of(argument).first if isinstance(argument, Node) else argument

    args, kwargs = map_aggregate(site.node.args, at), map_aggregate(site.node.kwargs, at)
    target: Any = site.node.target
    moved = getattr(args[0], target)(*args[1:], **kwargs) if isinstance(target, str) else target(*args, **kwargs)
    name = "transpose" if target is getattr else None
    return site.emit(arrangement.permuted(x.shape, [_PRIMES.index(n) for n in moved.shape]), (x,), function=name)


def keep(site: Site) -> Draft:
    """Contiguous, clone, and conversions that convert nothing."""
    _same_dtype(site)
    return source(site)


def data(site: Site) -> Draft:
    """`x.data`: the same without a gradient."""
    return site.emit(Detach(), (source(site),))


def _same_dtype(site: Site) -> None:
    before = site.node.args[0] if site.node.args else site.node.kwargs["input"]
    assert isinstance(before, Node)
    old, new = seen_of(before).first.dtype, site.seen.first.dtype
    if old != new:
        hint = "leave precision to `torch.autocast` or to `module.to(dtype)` outside of the network"
        raise site.error(f"a tensor is converted from {old} to {new}", hint)


def _factors(site: Site, pattern: str, **sizes: int) -> Draft:
    """A pattern of the last axes; axes before them stay."""
    x = source(site)
    left, right = (side.split() for side in pattern.split("->"))
    outer = " ".join(f"_o{i}" for i in range(len(x.shape) - _rank(left)))
    return rearranged(site, x, f"{outer} {' '.join(left)} -> {outer} {' '.join(right)}", dict(sizes))


def _rank(tokens: list[str]) -> int:
    text, rank, depth = " ".join(tokens), 0, 0
    for token in text.replace("(", "( ").replace(")", " )").split():
        rank += token == "(" or (depth == 0 and token != ")")
        depth += (token == "(") - (token == ")")
    return rank


def pixel_shuffle(site: Site) -> Draft:
    """Channels become places (Shi et al. 2016, arXiv:1609.05158)."""
    r = site.arguments("input upscale_factor").plain["upscale_factor"]
    return _factors(site, "(c a b) h w -> c (h a) (w b)", a=r, b=r)


def pixel_unshuffle(site: Site) -> Draft:
    """Places become channels."""
    r = site.arguments("input downscale_factor").plain["downscale_factor"]
    return _factors(site, "c (h a) (w b) -> (c a b) h w", a=r, b=r)


def channel_shuffle(site: Site) -> Draft:
    """Channels of several groups interleaved (Zhang et al. 2018, arXiv:1707.01083); the batch axis stays."""
    x, g = source(site), site.arguments("input groups").plain["groups"]
    space = " ".join(f"_s{i}" for i in range(len(x.shape) - 2))
    return rearranged(site, x, f"n (g c) {space} -> n (c g) {space}", {"g": g})


def rearranged(site: Site, x: Draft, pattern: str, sizes: dict[str, Any], function: str | None = None) -> Draft:
    """What `einops.rearrange` would do.

    Raises:
        ValueError: the pattern does not fit.

    """
    left, right = _tokens(pattern, len(x.shape))
    known = _sizes(left, x.shape, sizes)
    if {n for axis in left for n in axis} != {n for axis in right for n in axis}:
        raise ValueError("its two sides name different axes")
    return site.emit(_arrangement(left, right, known), (x,), function=function)


def _arrangement(left: list[list[str]], right: list[list[str]], sizes: dict[str, Dim]) -> arrangement.Arrangement:
    names = [name for axis in left for name in axis]
    number = {name: i for i, name in enumerate(names)}
    sides = [[[number[name] for name in axis] for axis in side] for side in (left, right)]
    spoken = [name if name.isascii() and not name.startswith("_") else None for name in names]
    return arrangement.numbered(sides[0], sides[1], [sizes[name] for name in names], spoken)


def _tokens(pattern: str, rank: int) -> tuple[list[list[str]], list[list[str]]]:
    """Both sides: `"b ... (h p) -> …"` gives `[["b"], ["_0"], ["_1"], ["h", "p"]]` on the left for rank 4.

    Raises:
        ValueError: the pattern is of a kind that is not supported.

    """
    if pattern.count("->") != 1:
        raise ValueError("its pattern has no `->`, or several")
    left, right = (_words(side) for side in pattern.split("->"))
    dots = [[f"_{i}"] for i in range(rank - sum(axis != ["..."] for axis in left))]
    opened = []
    for side in (left, right):
        axes = [a for axis in side for a in (dots if axis == ["..."] else [_opened(axis, dots)])]
        if any(name.isdigit() for axis in axes for name in axis):
            raise ValueError("a number other than 1 in a pattern is not supported: name the axis")
        opened.append(axes)
    return opened[0], opened[1]


def _opened(axis: list[str], dots: list[list[str]]) -> list[str]:
    """The factors of one axis: without `1`, and for `(...)` all axes that the dots stand for."""
    return [name for word in axis if word != "1" for name in ([d for (d,) in dots] if word == "(...)" else [word])]


def _words(side: str) -> list[list[str]]:
    axes: list[list[str]] = []
    inside = False
    for word in side.replace("(", " ( ").replace(")", " ) ").replace("...", " ... ").split():
        if word in "()":
            inside = word == "("
            axes += [[]] if inside else []
        elif inside:
            axes[-1].append("(...)" if word == "..." else word)
        else:
            axes.append([word])
    return axes


def _sizes(left: list[list[str]], shape: Shape, given: dict[str, Any]) -> dict[str, Dim]:
    sizes: dict[str, Dim] = dict(given)
    for axis, size in zip(left, shape, strict=True):
        unknown = [name for name in axis if name not in sizes]
        if unknown:
            sizes[unknown[0]] = divide(size, product(sizes[name] for name in axis if name not in unknown))
    return sizes


def einops(site: Site) -> Draft:
    """`rearrange` and `reduce` of einops, functions and layers; `repeat` has new axes, which no pattern here has."""
    found = site.arguments("tensor pattern reduction *")
    if len(found.tensors) != 1 or not isinstance(found.plain["pattern"], str):
        raise ValueError("it takes a list of tensors")
    (x,), pattern, reduction = found.tensors, found.plain["pattern"], found.plain["reduction"]
    sizes = {k: v for k, v in found.plain.items() if k not in ("pattern", "reduction")}
    if reduction == "rearrange":
        return rearranged(site, x, pattern, sizes, "rearrange")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"`{reduction}` of einops is not supported")
    return _reduced(site, x, pattern, sizes, _REDUCTIONS[reduction])


def _reduced(site: Site, x: Draft, pattern: str, given: dict[str, Any], op: type[Reduction]) -> Draft:
    """Axes split into factors, some of them reduced, the others arranged."""
    left, right = _tokens(pattern, len(x.shape))
    sizes = _sizes(left, x.shape, given)
    names = [name for axis in left for name in axis]
    kept = {name for axis in right for name in axis}
    apart = site.emit(_arrangement(left, [[name] for name in names], sizes), (x,), function="rearrange")
    dims = tuple(i for i, name in enumerate(names) if name not in kept)
    made = site.emit(op.from_call({"dim": dims}, (apart.shape,)), (apart,)) if dims else apart
    rest = [[name] for name in names if name in kept]
    return site.emit(_arrangement(rest, right, sizes), (made,), function="rearrange")


def unsqueezed(site: Site, x: Draft, dim: int) -> Draft:
    """A new axis of size 1."""
    at = positive(dim, len(x.shape) + 1)
    after = (*x.shape[:at], 1, *x.shape[at:])
    return site.emit(arrangement.reshaped(x.shape, after, flatten=False), (x,), function="unsqueeze")


def _both(names: str, handler: Handler) -> dict[str, Handler]:
    return {form: handler for name in names.split() for form in _HEADS.format(name).split()}


HANDLERS: dict[str, Handler] = {
    **_both("view reshape flatten unflatten ravel view_as reshape_as", reshape),
    **_both("squeeze unsqueeze", squeeze),
    **_both("permute transpose swapaxes swapdims movedim moveaxis t", permute),
    **_both("contiguous clone to float double half bfloat16 type type_as positive", keep),
    "operator.pos": keep,
    "torch.nn.functional.pixel_shuffle": pixel_shuffle,
    "torch.nn.functional.pixel_unshuffle": pixel_unshuffle,
    "torch.nn.functional.channel_shuffle": channel_shuffle,
    "torch.channel_shuffle": channel_shuffle,
    "einops.einops.reduce": einops,
}
"""By dotted name; `Tensor.view` for methods."""
