"""Calls with parameters of a module's own: whose they are, and the layers that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops.arithmetic import Parameter
from net2net_cli.architecture.ops.weight_norm import KEYS, Stored, normed
from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import TraceError
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.readings import spoken
from net2net_cli.runtime.site import Arguments, Site


class ForeignTensorsError(Exception):
    """A call takes tensors that are no module's own under their usual names; it can be kept as it is.

    Attributes:
        error: to be raised where it cannot.
    """

    def __init__(self, error: TraceError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(eq=False, slots=True)
class NormedWeight(Draft):
    """A module's `weight` on its way from lengths and directions to the layer that uses it; a spec has no such value.

    Attributes:
        norm_dim: the axis along which its slices are normalised.
        stored: in which way.
    """

    norm_dim: int = 0
    stored: Stored = "hook"


def owned(site: Site, slots: Mapping[str, Draft | None]) -> tuple[str, dict[str, int]]:
    """The module path that owns the parameters of a call, and their identities.

    Raises:
        ForeignTensorsError: they are computed, or are not one module's own under their usual names.
        TraceError: one is computed from the input.

    """
    given = {name: draft for name, draft in slots.items() if draft is not None}
    path = given["weight"].wish.rpartition(".")[0]
    found: dict[str, int] = {}
    for name, draft in given.items():
        own = isinstance(draft, NormedWeight) or isinstance(draft.op, Parameter)
        if not own or draft.wish != at(path, name):
            error = site.error(
                f"`{spoken(site.node)}` has a {name} that is no parameter `{name}` of a submodule",
                "call the `torch.nn` module instead; a weight that is computed from others has no place in a spec",
            )
            if any(isinstance(dim, Batch) for dim in draft.shape):
                raise error  # each sample would have its own, or all would meet
            raise ForeignTensorsError(error)
        found |= draft.tensors if isinstance(draft, NormedWeight) else {name: draft.tensors[""]}
    return path, found


def at(path: str, name: str) -> str:
    """The name of a tensor below a module; that of the network itself is empty."""
    return f"{path}.{name}" if path else name


def is_weight(draft: Draft) -> bool:
    """Whether it is the parameter `weight` of a submodule, or what its weight norm makes."""
    return isinstance(draft, NormedWeight) or (isinstance(draft.op, Parameter) and draft.wish.endswith(".weight"))


def owned_layer(site: Site, op: Op, x: Draft, slots: Mapping[str, Draft | None]) -> Draft:
    """A layer of one input with parameters of its own; errors as `owned`."""
    weight = slots.get("weight")
    if isinstance(weight, NormedWeight):
        op = normed(op, weight.norm_dim, weight.stored)
    made = site.emit(op, (x,), site.shape())
    if op.tensors():
        path, made.tensors = owned(site, slots)
        made.owner = made.wish = path
    return made


def slots_of(site: Site, signature: str) -> tuple[Draft, dict[str, Draft | None], Arguments]:
    """A call's input, its `weight` and `bias`, and all of its arguments."""
    found = site.arguments(signature)
    slots: dict[str, Draft | None] = {name: found.named.get(name) for name in ("weight", "bias")}
    return found.named["input"], slots, found


def weight_norm(site: Site) -> Draft:
    """What PyTorch's weight norm calls, of whichever way: `torch._weight_norm(v, g, dim)`."""
    found = site.arguments("v g dim")
    v, g = found.named["v"], found.named["g"]
    for stored, keys in KEYS.items():
        path = g.wish.removesuffix(keys[0]).removesuffix(".")
        if (g.wish, v.wish) == (at(path, keys[0]), at(path, keys[1])):
            tensors = {key: draft.tensors[""] for key, draft in zip(keys, (g, v), strict=True)}
            trouble = site.error(
                f"the normalised weights of `{path}` are used, and not by a convolution or a linear layer",
                "bake the norm in before the import: `remove_weight_norm`, or `remove_parametrizations`",
            )
            more: dict[str, Any] = {"norm_dim": found.plain.get("dim", 0), "stored": stored}
            wish = at(path, "weight")
            made = NormedWeight(
                None, (), site.shape(), wish, site.where, owner=path, tensors=tensors, trouble=trouble, **more
            )
            return site.home.add(made)
    raise site.error(
        "weights are normalised that are no module's own", "use `torch.nn.utils.parametrizations.weight_norm`"
    )
