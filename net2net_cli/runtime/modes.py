"""One graph for both modes: what training computes, in which what evaluation computes is found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from net2net_cli.architecture.graph import Mode, Structure
from net2net_cli.architecture.ops import Op, dropout
from net2net_cli.architecture.ops.activation import Detach
from net2net_cli.architecture.ops.noise import InTraining, Noise
from net2net_cli.errors import TraceError
from net2net_cli.runtime.drafts import Draft, NamedTuple, Recorded, Tree, leaves, needed, parts
from net2net_cli.runtime.noise import TrainingNoise

SILENT: tuple[type[Op], ...] = (
    Detach,
    InTraining,
    *(
        cls
        for cls in vars(dropout).values()
        if isinstance(cls, type) and issubclass(cls, Op) and cls.__module__ == dropout.__name__
    ),
)
"""Ops that return their first input in evaluation."""


@dataclass(slots=True)
class Merged:
    """Both modes in one.

    Attributes:
        inputs: of the network.
        drafts: what is needed, in order.
        always: the drafts that evaluation needs.
        outputs: output name -> value.
        returns: what `forward` returns, built of output names.

    """

    inputs: tuple[Draft, ...]
    drafts: list[Draft]
    always: set[Draft]
    outputs: dict[str, Draft]
    returns: dict[Mode, Structure]


class _Numbering:
    """Equal numbers for values that are equal in evaluation."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}
        self._draws: Counter[Hashable] = Counter()
        self.of: dict[Draft, int] = {}

    def add(self, draft: Draft) -> int:
        """The number of a draft whose inputs have theirs."""
        if isinstance(draft.op, SILENT):
            number = self.of[draft.inputs[0]]
        else:
            trouble = id(draft) if draft.trouble else None  # such a value is like no other
            reads = tuple(self.of[d] for d in draft.reads)
            op = draft.op.in_evaluation() if isinstance(draft.op, Op) else draft.op
            key: Hashable = (op, draft.owner, reads, len(draft.inputs), trouble)
            if isinstance(draft.op, Noise):  # drawn twice it is two values
                self._draws[key] += 1
                key = (key, self._draws[key])
            number = self._known.setdefault(key, len(self._known))
        self.of[draft] = number
        return number

    def inputs(self, drafts: tuple[Draft, ...]) -> None:
        """Network inputs, by place, with which a mode begins."""
        self._draws.clear()
        for i, draft in enumerate(drafts):
            self.of[draft] = self._known.setdefault(("input", i), len(self._known))


def merge(evaluation: Recorded, training: Recorded) -> Merged:
    """Find what evaluation computes in what training computes.

    Raises:
        TraceError: evaluation computes something that training does not, or something that no spec can say is needed.

    """
    live = _checked(evaluation)
    _checked(training)
    numbering = _Numbering()
    numbering.inputs(evaluation.inputs)
    evaluated = {numbering.of[draft] for draft in evaluation.inputs} | {numbering.add(draft) for draft in live}
    numbering.inputs(training.inputs)
    trained = {numbering.of[draft]: draft for draft in training.inputs}
    noise = TrainingNoise()
    for draft in training.drafts:
        number = numbering.add(draft)
        if noise.settle(draft, in_evaluation=lambda value: numbering.of[value] in evaluated):
            number = numbering.add(draft)
        trained.setdefault(number, draft)
    for draft in live:
        if numbering.of[draft] not in trained:
            raise noise.refusal() or _only_in_evaluation(draft)
    names = _Outputs(numbering, trained, list(leaves(training.returned)))
    returns: dict[Mode, Structure] = {
        "eval": names.structure(evaluation.returned, training.returned),
        "train": names.structure(training.returned, training.returned),
    }
    always = needed(names.values[name] for name in _names_in(returns["eval"]))
    both = needed(names.values.values())
    drafts = [draft for draft in training.drafts if draft in both]
    return Merged(training.inputs, drafts, always, dict(names.values), returns)


def _checked(recorded: Recorded) -> list[Draft]:
    """The drafts that are needed, in order."""
    wanted = needed(leaves(recorded.returned))
    live = [draft for draft in recorded.drafts if draft in wanted]
    for draft in live:
        if draft.trouble is not None:
            raise draft.trouble
    if not any(True for _ in leaves(recorded.returned)):
        raise TraceError("the network returns no tensor", "let `forward` return the network's output")
    return live


def _only_in_evaluation(draft: Draft) -> TraceError:
    what = draft.op.name if isinstance(draft.op, Op) else "rearrange"
    return draft.where.error(
        f"`{draft.wish}` ({what}) is computed in evaluation, but not in training from the same values",
        "what evaluation computes must be part of what training computes; let the class do the same in both modes, "
        "or import two networks",
    )


class _Outputs:
    """Names for what is returned: a value that both modes return has one name."""

    def __init__(self, numbering: _Numbering, trained: dict[int, Draft], returned: list[Draft]) -> None:
        self._numbering = numbering
        self._trained = trained
        self._returned = returned
        self.values: dict[str, Draft] = {}

    def structure(self, tree: Tree, twin: Tree, name: str = "") -> Structure:
        """A tree with output names for values; `twin` is what training returns at the same place."""
        if tree is None:
            return None
        if isinstance(tree, Draft):
            return self._name(self._in_training(tree, twin), name or "out")
        held = dict(parts(twin)) if twin is not None and not isinstance(twin, Draft) else {}
        numbered = isinstance(tree, (list, tuple))
        inner = {
            key: self.structure(part, held.get(key), _joined(name, key, numbered=numbered)) for key, part in parts(tree)
        }
        if isinstance(tree, NamedTuple):
            return {"namedtuple": tree.name, "fields": inner}
        if isinstance(tree, dict):
            return {"dict": inner}
        return {"list" if isinstance(tree, list) else "tuple": list(inner.values())}

    def _in_training(self, draft: Draft, twin: Any) -> Draft:
        """The value of the training graph that is this one in evaluation, if possible one that training returns too."""
        number = self._numbering.of[draft]
        candidates = ([twin] if isinstance(twin, Draft) else []) + self._returned
        return next((d for d in candidates if self._numbering.of[d] == number), self._trained[number])

    def _name(self, draft: Draft, name: str) -> str:
        for known, value in self.values.items():
            if value is draft:
                return known
        while name in self.values:
            name += "_train"
        self.values[name] = draft
        return name


def _joined(outer: str, key: str, *, numbered: bool) -> str:
    if numbered:
        return f"{outer or 'out'}{key}" if not outer or not outer[-1].isdigit() else f"{outer}.{key}"
    return f"{outer}.{key}" if outer else key


def _names_in(structure: Structure) -> list[str]:
    if structure is None:
        return []
    if isinstance(structure, str):
        return [structure]
    held = structure.get("fields") or next(iter(structure.values()))
    return [n for part in (held.values() if isinstance(held, dict) else held) for n in _names_in(part)]
