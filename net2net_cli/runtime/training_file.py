"""Files in which a training run keeps an optimizer's state and averages of the weights (EMA): read, grown, written.

Anything else in such a file, an epoch or a scheduler, is carried along as it is.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from net2net_cli.architecture.graph import Graph
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.checkpoint.torch_file import read_document
from net2net_cli.errors import InputError
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.plan import Plan
from net2net_cli.growth.source import Tensors
from net2net_cli.growth.training_state import Quantity, Rule, grown_state, inherited
from net2net_cli.runtime.arrays import to_tensor
from net2net_cli.runtime.build import build

State: TypeAlias = dict[str, dict[str, Any]]
"""Parameter -> what the optimizer keeps of it."""

Way: TypeAlias = tuple[str | int, ...]
"""Keys that lead to a part of the file."""

QUANTITIES: Mapping[str, Quantity | None] = {
    "step": None,
    "mu_product": None,
    "momentum_buffer": "momentum",
    "exp_avg": "momentum",
    "exp_avg_sq": "second moment",
    "max_exp_avg_sq": "second moment",
}
"""What PyTorch's optimizers keep; numbers that belong to no element are None."""

KNOWN = "SGD, Adam, AdamW, NAdam and RAdam"
WITHOUT = "leave out `--optimizer` to write the student without state"
NAMED = (
    "build the optimizer from `model.named_parameters()` (PyTorch 2.6 or newer), so that its state holds their names"
)
DEPTH = 3
"""How far below the top of a file an optimizer or an average is looked for."""


@dataclass(frozen=True)
class TrainingFile:
    """A file, and where in it there is what grows.

    Attributes:
        document: all of it.
        optimizer: the way to the optimizer's state dict.
        averages: the ways to state dicts of the network: averages of its weights, or the weights themselves.
        groups: names of the parameters of each group, in the order of the optimizer's numbers.
    """

    path: Path
    document: Any
    optimizer: Way
    averages: tuple[Way, ...]
    groups: tuple[tuple[str, ...], ...]

    @property
    def rule(self) -> Rule:
        """Whether the optimizer's steps depend on the size of gradients."""
        kept = {key for state in at(self.document, self.optimizer)["state"].values() for key in state}
        return "adam" if "exp_avg" in kept else "sgd"


def at(document: Any, way: Way) -> Any:
    """A part of a file."""
    for key in way:
        document = document[key]
    return document


def read_training_file(path: Path, graph: Graph) -> TrainingFile:
    """Read what a training run of a network saved.

    Args:
        path: saved by `torch.save`: the optimizer's state dict, or a mapping that holds it.
        graph: the network that was trained.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is no PyTorch file, wants to run code, or is damaged.
        InputError: it holds no optimizer state, or not of this network, or of an optimizer whose state has no rule.
    """
    document = read_document(path)
    optimizers = [way for way, part in _parts(document) if _is_optimizer(part)]
    if len(optimizers) != 1:
        found = "no optimizer state" if not optimizers else f"the states of {len(optimizers)} optimizers"
        raise InputError(f"`{path}` holds {found}", "save `optimizer.state_dict()`, alone or under the key `optimizer`")
    shapes = {name: slot.shape for name, _, _, slot in graph.tensors()}
    parameters = {name: slot.shape for name, _, _, slot in graph.tensors() if slot.kind == "parameter"}
    averages = tuple(way for way, part in _parts(document) if _is_state_dict(part, parameters))
    state = at(document, optimizers[0])
    beside = next((list(at(document, way)) for way in averages), None)
    groups = _names(path, state["param_groups"], beside, parameters)
    _check_state(path, state["state"], [name for group in groups for name in group], shapes)
    return TrainingFile(path, document, optimizers[0], averages, groups)


def _parts(value: Any, way: Way = ()) -> Iterator[tuple[Way, Mapping[Any, Any]]]:
    if isinstance(value, Mapping):
        yield way, value
        if len(way) < DEPTH and not _is_optimizer(value):
            for key, part in value.items():
                yield from _parts(part, (*way, key))
    elif isinstance(value, list) and len(way) < DEPTH:
        for number, part in enumerate(value):
            yield from _parts(part, (*way, number))


def _is_optimizer(part: Any) -> bool:
    if not isinstance(part, Mapping) or not isinstance(part.get("state"), Mapping):
        return False
    groups = part.get("param_groups")
    return (
        isinstance(groups, list)
        and all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups)
        and all(isinstance(kept, Mapping) for kept in part["state"].values())
    )


def _is_state_dict(part: Mapping[Any, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it has all parameters of the network, by name (an average by PyTorch's own class has a prefix)."""
    found = {_plain(key): value for key, value in part.items()}
    return all(isinstance(t := found.get(n), np.ndarray) and t.shape == shape for n, shape in shapes.items())


def _plain(key: object) -> str:
    return str(key).removeprefix("module.")


def _names(
    path: Path, groups: Sequence[Mapping[str, Any]], beside: Sequence[str] | None, parameters: Container[str]
) -> tuple[tuple[str, ...], ...]:
    """The parameters of each group; the order of a state dict tells them where there is one group of all."""
    if all(isinstance(group.get("param_names"), list) for group in groups):
        named = tuple(tuple(map(_plain, group["param_names"])) for group in groups)
    elif len(groups) == 1 and beside is not None:
        named = (tuple(name for name in map(_plain, beside) if name in parameters),)
    else:
        raise InputError(f"`{path}` says the optimizer's parameters by number alone", f"{NAMED}; or {WITHOUT}")
    for group, names in zip(groups, named, strict=True):
        if len(group["params"]) != len(names):
            raise InputError(
                f"the optimizer in `{path}` has {len(group['params'])} parameters, the network {len(names)}",
                f"it belongs to another network, or not all are trained: {NAMED}",
            )
    for name in (name for names in named for name in names):
        if name not in parameters:
            raise InputError(f"`{path}` has state of `{name}`, no parameter of the teacher", "give the teacher's own")
    numbers = [number for group in groups for number in group["params"]]
    counted = all(type(number) is int for number in numbers) and numbers == list(range(len(numbers)))
    if not counted or len({name for names in named for name in names}) < len(numbers):
        raise InputError(f"the groups of the optimizer in `{path}` are damaged", "save the optimizer's state again")
    return named


def _check_state(
    path: Path, state: Mapping[Any, Mapping[str, Any]], names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for number, kept in state.items():
        if type(number) is not int or not 0 <= number < len(names):
            raise InputError(
                f"the optimizer in `{path}` keeps a state for parameter {number!r:.60}, which it does not have",
                "save the optimizer's state again",
            )
        name = names[number]
        for key, value in kept.items():
            if key not in QUANTITIES:
                raise InputError(
                    f"`{path}` keeps `{key}` of `{name}`, and no rule says how that grows",
                    f"known are the states of {KNOWN}; {WITHOUT}",
                )
            if QUANTITIES[key] and value is not None:  # SGD keeps None where it has no momentum yet
                _check_shape(f"`{key}` of `{name}` in `{path}`", value, shapes[name])


def _check_shape(where: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind in "iub":
        found = f"has the shape {list(value.shape)}" if isinstance(value, np.ndarray) else f"is {value!r:.60}"
        kind = f" and the type {value.dtype}" if isinstance(value, np.ndarray) and value.shape == shape else ""
        raise InputError(
            f"{where} {found}{kind}, the teacher's parameter has the shape {list(shape)}",
            "give the optimizer state that was saved with this checkpoint",
        )


def grown_file(file: TrainingFile, plans: Sequence[Plan], order: Sequence[str]) -> Any:
    """The same file for the student.

    Args:
        file: the teacher's.
        plans: how it was grown, the first growth first.
        order: the student's parameters, in the order of its module.

    Returns:
        a document for `torch.save`; parameters are numbered in the given order within each group, and named.
    """
    optimizer = at(file.document, file.optimizer)
    names = [name for group in file.groups for name in group]
    state: State = {names[number]: dict(kept) for number, kept in optimizer["state"].items()}
    for plan in plans:
        state = _grown_states(plan, state)
    axes = {name: len(slot.shape) for name, _, _, slot in plans[-1].student.tensors()}
    groups = _grown_groups(file.groups, order, axes)
    numbers = {name: number for number, name in enumerate(name for group in groups for name in group)}
    document = _replaced(
        file.document,
        file.optimizer,
        {
            **optimizer,
            "state": {numbers[name]: state[name] for name in numbers if name in state},
            "param_groups": [
                {**group, "params": [numbers[n] for n in members], "param_names": list(members)}
                for group, members in zip(optimizer["param_groups"], groups, strict=True)
            ],
        },
    )
    for way in file.averages:
        document = _replaced(document, way, _grown_average(at(file.document, way), plans))
    return document


def _grown_states(plan: Plan, teacher: State) -> State:
    found: State = {}
    for name, source in inherited(plan).items():
        kept = teacher.get(source)
        grown = None if kept is None else _grown_one(plan, name, kept)
        if grown is not None:
            found[name] = grown
    return found


def _grown_one(plan: Plan, name: str, kept: Mapping[str, Any]) -> dict[str, Any] | None:
    found = dict(kept)
    for key, value in kept.items():
        quantity = QUANTITIES[key]
        if quantity is not None and isinstance(value, np.ndarray):
            grown = grown_state(plan, name, quantity, value)
            if grown is None:
                return None
            found[key] = grown
    return found


def _grown_groups(teacher: Sequence[Sequence[str]], order: Sequence[str], axes: Mapping[str, int]) -> list[list[str]]:
    """New parameters join the group of the last one before them that is named and shaped alike.

    That is, with the same last part of the name and as many axes: weight decay is often for matrices alone.
    """
    home = {name: number for number, group in enumerate(teacher) for name in group}
    groups: list[list[str]] = [[] for _ in teacher]
    last: dict[tuple[str, int], int] = {}
    for name in order:
        kind = name.rpartition(".")[2], axes[name]
        number = home.get(name, last.get(kind, len(groups) - 1))
        last[kind] = number
        groups[number].append(name)
    return groups


def _replaced(document: Any, way: Way, part: Any) -> Any:
    """A copy of a file with another part; what is beside it is shared."""
    if not way:
        return part
    copied: Any = list(document) if isinstance(document, list) else dict(document)
    copied[way[0]] = _replaced(document[way[0]], way[1:], part)
    return copied


def _grown_average(average: Mapping[str, Any], plans: Sequence[Plan]) -> dict[str, Any]:
    """A state dict grown with the very shares that the weights got; without buffers where it has none."""
    prefix = "module." if any(str(key).startswith("module.") for key in average) else ""
    arrays = {_plain(key): value for key, value in average.items() if isinstance(value, np.ndarray)}
    there = set(arrays)
    absent = {name: slot.shape for name, _, _, slot in plans[0].teacher.tensors() if name not in there}
    tensors: Tensors = MemoryTensors(arrays | {n: np.zeros(s, np.float32) for n, s in absent.items()}, {})
    for plan in plans:
        tensors = Grown(plan, tensors)
        there = {name for name, made in plan.tensors.items() if made.source is None or made.source in there}
    grown = {f"{prefix}{name}": tensors.read(name) for name in plans[-1].tensors if name in there}
    known = {name for name, *_ in plans[0].teacher.tensors()}
    return {**grown, **{key: value for key, value in average.items() if _plain(key) not in known}}


def parameter_order(graph: Graph, *, trust_code: bool = False) -> list[str]:
    """Names of a network's parameters in the order of its module; tied ones once."""
    with torch.device("meta"):
        network = build(graph, trust_code=trust_code)
    known = {name for name, _, _, slot in graph.tensors() if slot.kind == "parameter"}
    return [name for name, _ in network.named_parameters() if name in known]


def write_training_file(path: Path, document: Any) -> None:
    """Save it with `torch.save`, with tensors in the place of arrays."""
    torch.save(_with_tensors(document), path)


def _with_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return to_tensor(value)
    if isinstance(value, dict):
        return {key: _with_tensors(part) for key, part in value.items()}
    return type(value)(map(_with_tensors, value)) if isinstance(value, list | tuple) else value
