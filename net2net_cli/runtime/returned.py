"""What a traced `forward` returned: containers with drafts for tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from net2net_cli.errors import TraceError
from net2net_cli.runtime.drafts import NamedTuple, Tree
from net2net_cli.runtime.seen import seen_of, tensors_in
from net2net_cli.runtime.site import Home, Site


def tree_of(home: Home, returned: Any) -> Tree:
    """What `forward` returned, with drafts for tensors."""
    if returned is None:
        return None
    if isinstance(returned, fx.Proxy):
        if not tensors_in(seen_of(returned.node).first):
            raise TraceError("the network returns a number or size", "return tensors only")
        value = Site(home, returned.node).read(returned.node)
        return list(value) if isinstance(seen_of(returned.node).first, list) else value
    if isinstance(returned, Mapping) and all(isinstance(key, str) for key in returned):
        return {key: tree_of(home, value) for key, value in returned.items()}
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        fields = {name: tree_of(home, getattr(returned, name)) for name in returned._fields}
        return NamedTuple(type(returned).__name__, fields)
    if isinstance(returned, (tuple, list)):
        return type(returned)(tree_of(home, value) for value in returned)
    raise TraceError(
        f"the network returns a value of type `{type(returned).__name__}`",
        "return tensors, or tuples, lists, named tuples or dicts (with text as keys) of tensors",
    )
