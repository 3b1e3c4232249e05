"""What recurrent modules return beside their output: final states, which are slices of the output sequence."""

from __future__ import annotations

from typing import Any

from torch.fx.node import Node

from net2net_cli.architecture.ops.join import Chunk, Select
from net2net_cli.architecture.ops.recurrent import Recurrent
from net2net_cli.architecture.shapes import fixed
from net2net_cli.runtime.drafts import Draft, FinalStates
from net2net_cli.runtime.site import Site

_ZEROS = ("zeros", "zeros_like", "new_zeros")
_SAME = ("to", "type_as", "contiguous", "requires_grad_", "cuda", "cpu", "float", "double")
"""Methods after which zeros are zeros."""


def results(site: Site, output: Draft) -> tuple[Any, ...]:
    """The output and the final states of a recurrent module, nested as the module returns them.

    The last layer ends forward at the sequence's last step and backward at its first; both are in the output.
    """
    op = output.op
    assert isinstance(op, Recurrent)
    inner = _lost(site, "the final state of a layer below the last", "its last layer's states, `h[-1]` and `h[-2]`")
    states = (inner,) * ((op.num_layers - 1) * op.directions) + tuple(_last(site, output, op))
    final = FinalStates(states)
    if isinstance(site.seen.first[1], tuple):
        return output, (final, _lost(site, "its final cell state", "the hidden state or the output sequence"))
    return output, final


def _last(site: Site, output: Draft, op: Recurrent) -> list[Draft]:
    """The states in which the last layer ends, `(n, hidden)`, forward and backward."""
    steps = fixed(output.shape[op.time])
    if not op.bidirectional:
        return [site.emit(Select(dim=op.time, index=steps - 1), (output,))]
    ends = (site.emit(Select(dim=op.time, index=step), (output,)) for step in (steps - 1, 0))
    return [site.emit(Chunk(chunks=2, dim=1, index=i), (end,)) for i, end in enumerate(ends)]


def _lost(site: Site, what: str, instead: str) -> Draft:
    """A result that is no part of the output: it must not be needed."""
    trouble = site.error(
        f"`{site.node.target}` returns {what}, which is read; a spec knows its output sequence alone",
        f"read {instead}",
    )
    return site.home.add(Draft(None, (), (), "state", site.where, trouble=trouble))


def item(site: Site, states: FinalStates, index: Any) -> tuple[Draft, tuple[Any, ...]]:
    """`h[-1]`, `h[-2:]`, `h[0, :, 4:]`.

    Returns:
        The states that are meant, and what of the index is left to be taken of them.

    Raises:
        TraceError: one of them is no part of the output sequence.
    """
    first, *rest = index if isinstance(index, tuple) else (index,)
    if isinstance(first, int):
        state = states[first]
        if state.trouble is not None:
            raise state.trouble
        return state, tuple(rest)
    if isinstance(first, slice):
        return site.stacked(states[first]), (slice(None), *rest)
    return site.stacked(states), (first, *rest)


def starts_at_zero(state: Any) -> bool:
    """Whether an initial state is what a module starts with by itself: fresh zeros."""
    if isinstance(state, (tuple, list)):
        return all(map(starts_at_zero, state))
    if not isinstance(state, Node):
        return False
    name = state.target if isinstance(state.target, str) else getattr(state.target, "__name__", "")
    return name in _ZEROS or (state.op == "call_method" and name in _SAME and starts_at_zero(state.args[0]))


def inputs_of(node: Node) -> list[Node]:
    """The calls whose results a call reads; initial states that are zero, which need no layer, are left out."""
    unread = [state for state in (*node.args[1:2], node.kwargs.get("hx")) if starts_at_zero(state)]
    if node.op != "call_module" or not unread:
        return node.all_input_nodes
    first: Any = node.args[0] if node.args else node.kwargs["input"]
    return [first]
