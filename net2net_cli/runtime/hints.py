"""What to do instead of what a spec does not know."""

from __future__ import annotations

from torch.fx.node import Node

from net2net_cli.runtime.readings import is_random, spoken

_HINTS = {
    "assign": "write it out of place, with `torch.cat`, `torch.where` or `F.pad`",
}
_MADE = ("zeros", "ones", "full", "arange", "linspace", "eye", "new_zeros", "new_ones", "new_full", "tril", "triu")


def hint_of(node: Node) -> str:
    """Likewise, for a recorded call."""
    return hint_for(spoken(node, bare=True)) or "write it with operations that `net2net schema` lists"


def hint_for(name: str) -> str | None:
    """Likewise, for a function of that name; None where nothing is known."""
    if name in _HINTS:
        return _HINTS[name]
    if is_random(name):
        return (
            "noise is known as `torch.randn_like(x)` and `torch.rand_like(x)`, masks as `torch.nn.Dropout` and "
            "`torchvision.ops.StochasticDepth`; the parts before and behind others can be imported each by itself"
        )
    if name in _MADE:
        return 'for constant tensors use `self.register_buffer("name", tensor)` in `__init__`'
    return None
