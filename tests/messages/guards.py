"""Words that no user has been seen to meet: something else stands before them. Each with what that is."""

from __future__ import annotations

_KEPT = "such a call is kept as it is"
_BY_TORCH = "PyTorch or einops refuses such a call before it is read"

GUARDS = {
    "it is called with `…`": "every op whose class takes more than inputs reads it",
    "the grid of its tokens is not given as three numbers": "torchvision's class fails without them",
    "its channels cannot have copies": "it is told with what froze them",
    "gives each of its slices to as many others": "only `inspect` says it, as the reason of a group",
    "reads its channels in another order than `…` makes them": "the reader would be frozen",
    "pads it": "it is told with the constants that padding puts among them",
    "merges a growing axis with the batch": "such an axis is frozen",
    "`…` is the network's input": "channels that meet the input are frozen for that",
    "it reads something else than the channels of `…`": "an axis that meets another one is frozen for that",
    "… is closed": "a mistake in Python code that uses private names",
    "`…` of the target has the shape …, and no growth of the teacher has it": "attributes are compared before shapes",
    "`…` would not get the target's shape": "widths are compared before shapes",
    "the input is no batch of sequences for this module": "tracing with values is tried then",
    "the numbers of elements differ": _BY_TORCH,
    "its axes are given as numbers; write them as letters, as in `ij,jk->ik`": _BY_TORCH,
    "its pattern does not come last": _BY_TORCH,
    "`…` has … terms for … tensors": _BY_TORCH,
    "its two sides name different axes": _BY_TORCH,
    "its pattern has no `->`, or several": _BY_TORCH,
    "the norm `…` is one of matrices": _KEPT,
    "it rolls all elements, those of the batch too": _KEPT,
    "it takes a list of tensors": _BY_TORCH,
    "tensors and numbers are mixed in one argument": _BY_TORCH,
    "its first operand is a number": _BY_TORCH,
    "`max_norm` rescales its rows in place when they are read": "the write into the weights is found first",
    "tensor `…` has the shape …; the spec needs …": "a checkpoint is compared with its spec when it is opened",
    "there are no inputs to compare on": "at least one is drawn, or read from a file",
    "`…` returns …, which is read; a spec knows its output sequence alone": "a layer that is read so returns them",
    "weight norm is not known of `…`": "such a module is refused, with the call that bakes its norm in",
    "internal error: `…` should give …, but gave …, …": "told as our bug, with a traceback",
    "internal error: layer `…` (…) should give …, but gave …": "told as our bug, with a traceback",
}
