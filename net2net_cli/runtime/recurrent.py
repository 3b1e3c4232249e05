"""What recurrent modules return beside their output, and start with: their states.

Final states of the last layer are slices of the output sequence. Where others are read, they follow behind it.
"""

from __future__ import annotations

import operator
from collections.abc import Container
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx.node import Node

from net2net_cli.architecture.ops import Op
from net2net_cli.architecture.ops.join import Chunk, Select, Slice
from net2net_cli.architecture.ops.recurrent import Recurrent
from net2net_cli.architecture.shapes import fixed
from net2net_cli.runtime.drafts import Draft, FinalStates
from net2net_cli.runtime.seen import seen_of
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
    if op.states:
        return _with_states(site, output, op)
    inner = _lost(site, "the final state of a layer below the last", "its last layer's states, `h[-1]` and `h[-2]`")
    states = (inner,) * ((op.num_layers - 1) * op.directions) + tuple(_last(site, output, op))
    final = FinalStates(states)
    if isinstance(site.seen.first[1], tuple):
        return output, (final, _lost(site, "its final cell state", "the hidden state or the output sequence"))
    return output, final


def _with_states(site: Site, every: Draft, op: Recurrent) -> tuple[Any, ...]:
    steps = fixed(every.shape[op.time]) - len(op.kept) * op.num_layers
    output = site.emit(Slice(dim=op.time, start=0, stop=steps, step=1), (every,))
    kinds = []
    for kind in range(len(op.kept)):
        states: list[Draft] = []
        for layer in range(op.num_layers):
            row = site.emit(Select(dim=op.time, index=steps + kind * op.num_layers + layer), (every,))
            sides = range(op.directions) if op.bidirectional else ()
            states += [site.emit(Chunk(chunks=2, dim=1, index=i), (row,)) for i in sides] or [row]
        kinds.append(FinalStates(states))
    return output, (tuple(kinds) if len(kinds) > 1 else kinds[0])


def with_states(op: Op, node: Node, returned: Container[Node]) -> Op:
    """A recurrent op that also returns final states where more of them is read than the last layer's hidden ones.

    Args:
        op: of the module.
        node: its call.
        returned: what the network returns.
    """
    if not isinstance(op, Recurrent) or isinstance(seen_of(node).first, Tensor):  # one of our own modules
        return op
    return replace(op, states=True) if _reads_more(op, node, returned) else op


def _reads_more(op: Recurrent, node: Node, returned: Container[Node]) -> bool:
    hidden: list[Node] = []
    for index, final in _reads(node, returned):
        if index is None:
            return len(op.kept) > 1 or op.num_layers > 1
        if index in (0, -2):
            continue
        if len(op.kept) == 1:
            hidden.append(final)
            continue
        for which, state in _reads(final, returned):
            if which in (0, -2):
                hidden.append(state)
            elif which is None or _reads(state, returned):
                return True
    return op.num_layers > 1 and any(
        not _of_the_last(op, index) for state in hidden for index, _ in _reads(state, returned)
    )


def _reads(node: Node, returned: Container[Node]) -> list[tuple[Any, Node]]:
    """The indices by which a result is read, each with the call that does; None where it is read as a whole."""
    taken = [(user.args[1] if user.target is operator.getitem else None, user) for user in node.users]
    return [*taken, (None, node)] if node in returned else taken


def _of_the_last(op: Recurrent, index: Any) -> bool:
    """Whether an index takes states of the last layer alone."""
    first: Any = index[0] if isinstance(index, tuple) and index else index
    every = range(op.directions * op.num_layers)
    if isinstance(first, int):
        return every[first] >= every.stop - op.directions
    plain = isinstance(first, slice) and not any(
        isinstance(part, Node) for part in (first.start, first.stop, first.step)
    )
    return plain and all(i >= every.stop - op.directions for i in list(every)[first])


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


def drafts_of(value: Any) -> list[Draft]:
    """The tensors that are given for an argument: one, several, or none."""
    return [value] if isinstance(value, Draft) else list(value) if isinstance(value, tuple) else []


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
