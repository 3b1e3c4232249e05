"""The last step of tracing: arrangements joined, names given, shared tensors found, and the graph checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie
from net2net_cli.architecture.ops import attributes
from net2net_cli.architecture.ops.arithmetic import BorrowedParameter, Parameter
from net2net_cli.architecture.shapes import show
from net2net_cli.errors import Net2NetError
from net2net_cli.runtime.arrangement import Arrangement, composed, rearrange_op
from net2net_cli.runtime.drafts import Draft, with_sizes_of
from net2net_cli.runtime.matrices import with_linear_layers
from net2net_cli.runtime.modes import Merged


def assemble(merged: Merged, *, name: str, source: str, dtypes: Sequence[str], reserved: Iterable[str]) -> Graph:
    """The graph of a merged recording.

    Args:
        merged: both modes in one.
        name: of the network.
        source: where it comes from.
        dtypes: of the inputs.
        reserved: names that only what they belong to may have: module paths and names of tensors.

    Raises:
        TraceError: one module has the same tensor twice.

    """
    with_linear_layers(merged)
    drafts = _joined(merged)
    names = _Names(reserved)
    for draft in drafts:
        if draft.owner is not None:
            names.own(draft)
    inputs = tuple(
        NetworkInput(names.give(draft, f"{draft.wish}_input"), draft.shape, dtype)
        for draft, dtype in zip(merged.inputs, dtypes, strict=True)
    )
    shared = _shared(drafts)
    layers = tuple(_layer(draft, names, shared, always=draft in merged.always) for draft in drafts)
    outputs = {output: names.of[draft] for output, draft in merged.outputs.items()}
    graph = Graph(name, source, inputs, layers, outputs, merged.returns)
    _check_shapes(graph, {names.of[draft]: draft for draft in drafts})
    return graph


def _joined(merged: Merged) -> list[Draft]:
    """Chains of arrangements become one where nobody reads what is between; what moves nothing goes.

    What ends one module with tensors and what begins the next stay apart: each may be a block that is to be repeated.
    """
    blocks = {path for draft in merged.drafts if draft.owner for path in _paths_to(draft.owner)}
    readers = Counter(d for draft in merged.drafts for d in draft.reads)
    readers.update(merged.outputs.values())
    instead: dict[Draft, Draft] = {}
    dropped: set[Draft] = set()
    for draft in merged.drafts:
        draft.inputs = tuple(instead.get(d, d) for d in draft.inputs)
        draft.sizes_of = tuple(instead.get(d, d) for d in draft.sizes_of)
        before = draft.inputs[0] if draft.inputs else None
        if before is None or not isinstance(draft.op, Arrangement) or not isinstance(before.op, Arrangement):
            continue
        if (
            readers[before] != 1
            or _in_two_blocks(before, draft, blocks)
            or (both := composed(before.op, draft.op)) is None
        ):
            continue
        dropped.add(before)
        draft.op, draft.inputs, draft.wish = both, before.inputs, _common_wish(before, draft)
        if both.identity:
            dropped.add(draft)
            instead[draft] = draft.inputs[0]
            readers[draft.inputs[0]] += readers[draft] - 1
    for output, draft in merged.outputs.items():
        merged.outputs[output] = instead.get(draft, draft)
    return [draft for draft in merged.drafts if draft not in dropped]


def _paths_to(name: str) -> Iterator[str]:
    """`a`, `a.b`, … of a dotted name, itself last."""
    parts = name.split(".")
    return (".".join(parts[:i]) for i in range(1, len(parts) + 1))


def _in_two_blocks(before: Draft, draft: Draft, blocks: Set[str]) -> bool:
    """Whether each stands in a module with tensors in which the other does not."""
    one, other = ({path for path in _paths_to(d.where.module) if path in blocks} for d in (before, draft))
    return not one <= other and not other <= one


def _common_wish(before: Draft, draft: Draft) -> str:
    if before.wish == draft.wish:
        return draft.wish
    home = draft.wish.rpartition(".")[0]
    return f"{home}.rearrange" if home else "rearrange"


class _Names:
    """Names that no two layers share."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._reserved = {
            ".".join(parts[:i]) for parts in (n.split(".") for n in reserved) for i in range(1, 1 + len(parts))
        }
        self._used: set[str] = set()
        self.of: dict[Draft, str] = {}

    def own(self, draft: Draft) -> None:
        """The first layer with tensors of its own bears the name that they have in the state dict."""
        if draft.wish not in self._used:
            self._take(draft, draft.wish)

    def give(self, draft: Draft, spare: str | None = None) -> str:
        """The name of a draft; the one it wishes, or the next that is free."""
        if draft in self.of:
            return self.of[draft]
        name = draft.wish
        if spare is None and draft.where.module == draft.wish and name not in self._used:
            return self._take(draft, name)  # a module without tensors, where it is called for the first time
        count = 0
        while name in self._used or name in self._reserved:
            count += 1
            name = spare if spare and count == 1 else f"{draft.wish}_{count}"
        return self._take(draft, name)

    def _take(self, draft: Draft, name: str) -> str:
        self._used.add(name)
        self.of[draft] = name
        return name


@dataclass(slots=True)
class _Shared:
    """Tensors that several layers use.

    Attributes:
        owners: a layer that does the same with the same tensors as one before it -> that one.
        ties: another layer -> its tensors that belong to layers before it: slot -> (layer, its slot).
    """

    owners: dict[Draft, Draft] = field(default_factory=dict)
    ties: dict[Draft, dict[str, tuple[Draft, str]]] = field(default_factory=dict)


def _shared(drafts: Sequence[Draft]) -> _Shared:
    """Which layers use tensors of a layer before them.

    Raises:
        TraceError: one module has the same tensor twice.

    """
    found = _Shared()
    first: dict[int, tuple[Draft, str]] = {}
    alike: dict[Hashable, Draft] = {}
    for draft in drafts:
        if not draft.tensors:
            continue
        whole = alike.setdefault((draft.op, tuple(draft.tensors.items())), draft)
        if whole is not draft:
            found.owners[draft] = whole
            found.ties[draft] = found.ties[whole]
            continue
        _check_different(draft)
        found.ties[draft] = {slot: first[i] for slot, i in draft.tensors.items() if i in first}
        first |= {i: (draft, slot) for slot, i in draft.tensors.items() if i not in first}
    return found


def _check_different(draft: Draft) -> None:
    by_tensor: dict[int, str] = {}
    for slot, i in draft.tensors.items():
        if i in by_tensor:
            raise draft.where.error(
                f"`{by_tensor[i]}` and `{slot}` of `{draft.wish}` are the same tensor", "let both have their own"
            )
        by_tensor[i] = slot


def _layer(draft: Draft, names: _Names, shared: _Shared, *, always: bool) -> Layer:
    op = rearrange_op(draft.op) if isinstance(draft.op, Arrangement) else draft.op
    assert op is not None
    if draft.sizes_of:
        op = with_sizes_of(op, tuple(names.of[d] for d in draft.sizes_of))
    owner, ties = shared.owners.get(draft), shared.ties.get(draft, {})
    if ties and isinstance(op, Parameter):
        op = BorrowedParameter(**attributes(op))
    return Layer(
        name=names.give(draft),
        op=op,
        inputs=tuple(names.of[d] for d in draft.inputs),
        weights_of=names.of[owner] if owner is not None else None,
        when="always" if always else "train",
        tied=tuple(Tie(slot, names.of[other], of) for slot, (other, of) in ties.items()),
    )


def _check_shapes(graph: Graph, drafts: Mapping[str, Draft]) -> None:
    """Raise Net2NetError where the ops' own shapes are not those that were seen: our bug."""
    for name, draft in drafts.items():
        if graph.shapes[name] != draft.shape:
            said, op = show(graph.shapes[name]), graph.by_name[name].op.name
            raise Net2NetError(
                f"internal error: layer `{name}` ({op}) should give {said}, but gave {show(draft.shape)}"
            )
