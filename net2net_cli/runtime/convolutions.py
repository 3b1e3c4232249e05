"""Convolutions as function calls, `F.conv2d(x, self.conv.weight, …)`: subclasses of PyTorch's classes make them."""

from __future__ import annotations

from typing import Any

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.ops.conv import Convolution, TransposedConvolution
from net2net_cli.runtime.drafts import Draft
from net2net_cli.runtime.owning import owned, owned_layer, slots_of
from net2net_cli.runtime.site import Arguments, Handler, Site


def convolution(site: Site) -> Draft:
    """`F.conv2d(x, self.conv.weight, …)`."""
    x, slots, found = slots_of(site, "input weight bias stride padding dilation groups")
    weight = slots["weight"]
    assert weight is not None
    cls = REGISTRY[f"Conv{len(weight.shape) - 2}d"]
    assert issubclass(cls, Convolution)
    owned(site, slots)
    groups = found.plain.get("groups", 1)
    out, inner, *_ = (int(n) for n in weight.shape if isinstance(n, int))
    op = cls(inner * groups, out, **_windows(weight, slots["bias"], found))
    return owned_layer(site, op, x, slots)


def transposed(site: Site) -> Draft:
    """`F.conv_transpose1d(x, self.conv.weight, …)`."""
    x, slots, found = slots_of(site, "input weight bias stride padding output_padding groups dilation")
    weight = slots["weight"]
    assert weight is not None
    cls = REGISTRY[f"ConvTranspose{len(weight.shape) - 2}d"]
    assert issubclass(cls, TransposedConvolution)
    owned(site, slots)
    groups = found.plain.get("groups", 1)
    inner, out, *_ = (int(n) for n in weight.shape if isinstance(n, int))
    more = _wide(found, "output_padding", 0, len(weight.shape) - 2)
    op = cls(inner, out * groups, **_windows(weight, slots["bias"], found), output_padding=more)
    return owned_layer(site, op, x, slots)


def _windows(weight: Draft, bias: Draft | None, found: Arguments) -> dict[str, Any]:
    """The attributes that all convolutions have behind their widths."""
    kernel = tuple(int(n) for n in weight.shape[2:] if isinstance(n, int))
    wide = {name: _wide(found, name, default, len(kernel)) for name, default in _DEFAULTS.items()}
    groups = found.plain.get("groups", 1)
    return {"kernel_size": kernel, **wide, "groups": groups, "bias": bias is not None, "padding_mode": "zeros"}


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
