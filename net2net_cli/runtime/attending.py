"""Calls that people write attention with: products over named axes, masks, and heads that several others share."""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from net2net_cli.architecture.ops.attention import ScaledDotProductAttention
from net2net_cli.architecture.ops.join import Expand, positive
from net2net_cli.architecture.ops.logic import LogicalAnd, LogicalNot, LogicalOr, NotEqual, Where
from net2net_cli.architecture.ops.product import Baddbmm, Einsum
from net2net_cli.architecture.shapes import product
from net2net_cli.runtime.arrangement import reshaped
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.seen import seen_of
from net2net_cli.runtime.site import Handler, Site
from net2net_cli.runtime.views import source, unsqueezed


def attention(site: Site) -> Draft:
    """`F.scaled_dot_product_attention`; dropout that evaluation leaves out follows the mode."""
    found = site.arguments("query key value attn_mask dropout_p is_causal scale enable_gqa")
    dropout = found.plain.get("dropout_p", 0.0)
    if dropout and site.home.mode == "eval":
        raise site.error(
            "attention drops weights in evaluation too, so that outputs are random",
            "pass `dropout_p=self.dropout if self.training else 0.0`",
        )
    op = ScaledDotProductAttention(
        dropout_p=float(dropout),
        is_causal=bool(found.plain.get("is_causal", False)),
        scale=found.plain.get("scale"),
        enable_gqa=bool(found.plain.get("enable_gqa", False)),
    )
    return site.emit(op, found.tensors, site.shape())


def einsum(site: Site) -> Draft:
    """`torch.einsum`, its operands one by one or as a list."""
    equation, *operands = site.node.args
    if not isinstance(equation, str):
        raise ValueError("its axes are given as numbers; write them as letters, as in `ij,jk->ik`")
    read: Any = [site.read(x) for x in operands]
    tensors = list(read[0]) if len(read) == 1 and isinstance(read[0], tuple) else read
    return _summed(site, equation.replace(" ", ""), tensors)


def einops_einsum(site: Site) -> Draft:
    """`einops.einsum`, whose axes have names: they get letters in the order in which they come."""
    *operands, pattern = site.node.args
    if not isinstance(pattern, str):
        raise ValueError("its pattern does not come last")
    names = pattern.replace("->", " ").replace(",", " ").replace("...", " ").split()
    letters = dict(zip(dict.fromkeys(names), string.ascii_letters, strict=False))
    terms = [t.split() for t in pattern.replace("...", " ... ").replace("->", " -> ").replace(",", " , ").split(" -> ")]
    sides = ["".join(letters.get(word, word) for word in term) for term in terms]
    return _summed(site, "->".join(sides), [site.read(x) for x in operands])


def _summed(site: Site, equation: str, tensors: Sequence[Draft]) -> Draft:
    op = Einsum(equation=spelled_out(equation, [len(x.shape) for x in tensors]))
    return site.emit(op, tensors, site.shape())


def spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """An equation with an output, and letters for the axes that `...` stands for.

    Args:
        equation: without spaces.
        ranks: of the operands.

    Raises:
        ValueError: it does not fit them.
    """
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"`{equation}` has {len(terms)} terms for {len(ranks)} tensors")
    spare = [c for c in string.ascii_letters if c not in equation]
    dots = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True) if "..." in term]
    batch = "".join(spare[: max(dots, default=0)])
    opened = [
        term.replace("...", batch[len(batch) - (rank - len(term.replace("...", ""))) :])
        for term, rank in zip(terms, ranks, strict=True)
    ]
    if not arrow:
        named = "".join(chain(*terms)).replace(".", "")
        right = "..." + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    elif batch and "..." not in right:
        raise ValueError("it sums over the axes that `...` stands for")
    return f"{','.join(opened)}->{right.replace('...', batch)}"


def baddbmm(site: Site) -> Draft:
    """`torch.baddbmm(bias, queries, keys)`."""
    found = site.arguments("input batch1 batch2 beta alpha")
    return site.emit(Baddbmm(found.plain.get("beta", 1), found.plain.get("alpha", 1)), found.tensors)


def masked_fill(site: Site) -> Draft:
    """`scores.masked_fill(mask, value)`: the value where the mask holds, the scores elsewhere."""
    found = site.arguments("input mask value")
    value = found.plain.get("value")
    x, mask = found.tensors
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not site.seen.first.is_floating_point():
        raise ValueError("it fills in what is no number, or into a tensor of whole numbers")
    return site.emit(Where(input=value), (mask, x))


def where(site: Site) -> Draft:
    """`torch.where(condition, x, y)`, and `x.where(condition, y)`."""
    method = site.node.op == "call_method"
    found = site.arguments("input condition other" if method else "condition input other")
    if "other" not in found.named:
        raise ValueError("it gives the places where a condition holds")
    numbers = {name: found.plain[name] for name in ("input", "other") if name in found.plain}
    if any(not isinstance(n, (int, float)) or isinstance(n, bool) for n in numbers.values()):
        raise ValueError("it chooses what is neither a tensor nor a real number")
    order = [found.named[name] for name in ("condition", "input", "other") if name not in numbers]
    return site.emit(Where(**numbers), order)


def to_bool(site: Site) -> Draft:
    """`mask.bool()`: whether an element is not zero."""
    return source(site) if _holds(site.node.args[0]) else site.emit(NotEqual(scalar=0), (source(site),))


def logical(site: Site) -> Draft:
    """`~mask`, `a & b`, `a | b` of conditions; of whole numbers they mean something else."""
    name = str(getattr(site.node.target, "__name__", site.node.target)).strip("_").removeprefix("bitwise_")
    if not all(_holds(argument) for argument in site.node.args):
        raise ValueError("its operands are no conditions")
    op = {"invert": LogicalNot, "not": LogicalNot, "and": LogicalAnd, "iand": LogicalAnd}.get(name, LogicalOr)
    return site.emit(op(), [site.read(argument) for argument in site.node.args])


def _holds(argument: Any) -> bool:
    """Whether an argument is a tensor of yes and no."""
    return isinstance(argument, torch.fx.Node) and getattr(seen_of(argument).first, "dtype", None) == torch.bool


def repeat_interleave(site: Site) -> Draft:
    """Every slice of an axis several times, side by side, as key heads are that serve several query heads."""
    x, given = source(site), site.arguments("input repeats dim output_size").plain
    if not isinstance(given.get("repeats"), int) or given.get("dim") is None:
        raise ValueError("it does not repeat every slice of one axis equally often")
    dim = positive(given["dim"], len(x.shape))
    apart = unsqueezed(site, x, dim + 1)
    size = tuple(given["repeats"] if i == dim + 1 else -1 for i in range(len(apart.shape)))
    wide = site.emit(Expand(size=size), (apart,), function="expand")
    merged = (*x.shape[:dim], product(wide.shape[dim : dim + 2]), *x.shape[dim + 1 :])
    return site.emit(reshaped(wide.shape, merged, flatten=False), (wide,), function="flatten")


HANDLERS: dict[str, Handler] = {
    "torch.nn.functional.scaled_dot_product_attention": attention,
    "torch.einsum": einsum,
    "torch.functional.einsum": einsum,
    "einops.einops.einsum": einops_einsum,
    "torch.baddbmm": baddbmm,
    "Tensor.baddbmm": baddbmm,
    "torch.masked_fill": masked_fill,
    "Tensor.masked_fill": masked_fill,
    "Tensor.masked_fill_": masked_fill,
    "torch.where": where,
    "Tensor.where": where,
    "Tensor.bool": to_bool,
    "operator.invert": logical,
    "torch.bitwise_not": logical,
    **{f"operator.{name}": logical for name in ("and_", "or_", "iand", "ior")},
    "torch.repeat_interleave": repeat_interleave,
    "Tensor.repeat_interleave": repeat_interleave,
}
"""By dotted name; `Tensor.where` for methods."""
