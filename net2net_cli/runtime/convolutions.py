"""Convolutions as function calls, `F.conv2d(x, self.conv.weight, …)`: subclasses of PyTorch's classes make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.ops.join import Expand
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.owning import ForeignTensorsError, owned, owned_layer, slots_of
from net2net_cli.runtime.site import Arguments, Handler, Site


def convolution(site: Site) -> Draft:
    """`F.conv2d(x, self.conv.weight, …)`, or with filters that are a value."""
    x, slots, found = slots_of(site, "input weight bias stride padding dilation groups")
    return _made(site, x, slots, found, transposed=False)


def transposed(site: Site) -> Draft:
    """`F.conv_transpose1d(x, self.conv.weight, …)`, likewise."""
    x, slots, found = slots_of(site, "input weight bias stride padding output_padding groups dilation")
    return _made(site, x, slots, found, transposed=True)


def _made(site: Site, x: Draft, slots: Mapping[str, Draft | None], found: Arguments, *, transposed: bool) -> Draft:
    weight = slots["weight"]
    assert weight is not None
    rank = len(weight.shape) - 2
    wide = {name: _wide(found, name, default, rank) for name, default in _DEFAULTS.items()}
    more = {"output_padding": _wide(found, "output_padding", 0, rank)} if transposed else {}
    groups = found.plain.get("groups", 1)
    try:
        owned(site, slots)  # before an op is made of what may be no weights
    except ForeignTensorsError:
        if slots["bias"] is not None or groups != x.shape[1] or weight.shape[:2] != (groups, 1):
            raise
        if isinstance(weight.op, Expand) and weight.inputs[0].shape == (1, *weight.shape[1:]):
            weight = weight.inputs[0]  # the same for all channels, however many there are
        filtering: Any = REGISTRY[f"filter{'_transpose' * transposed}{rank}d"]
        return site.emit(filtering(**wide, **more), (x, weight), site.shape(), function="filter")
    first, second, *kernel = (int(n) for n in weight.shape if isinstance(n, int))
    inner, out = (first, second * groups) if transposed else (second * groups, first)
    cls = REGISTRY[f"Conv{'Transpose' * transposed}{rank}d"]
    windows = {"kernel_size": tuple(kernel), **wide, "groups": groups, "padding_mode": "zeros", **more}
    made = cls(in_channels=inner, out_channels=out, bias=slots["bias"] is not None, **windows)  # type: ignore[call-arg]
    return owned_layer(site, made, x, slots)


_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1}


def _wide(found: Arguments, name: str, default: int, rank: int) -> Any:
    """An argument with a number for each axis, which may be given as one number for all of them; or a word."""
    value = found.plain.get(name, default)
    if isinstance(value, str):
        return value
    given = value if isinstance(value, tuple) else (value,)
    return given * rank if len(given) == 1 else given


_F = "torch.nn.functional"

HANDLERS: dict[str, Handler] = {
    **{f"{_F}.conv{rank}d": convolution for rank in (1, 2, 3)},
    **{f"{_F}.conv_transpose{rank}d": transposed for rank in (1, 2, 3)},
}
"""Calls that are read here, by dotted name."""
