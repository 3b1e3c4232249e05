"""Recipes: growths written down as TOML, to be replayed on another checkpoint of the same network.

A recipe is a list of operations, each with the arguments that the command of that name takes:

    [[operation]]
    name = "widen"
    layers = { "layer3.*.conv1" = "2x" }
    seed = 0

    [[operation]]
    name = "deepen"
    layers = ["layer2.1"]
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from net2net_cli.checkpoint.lineage import Step
from net2net_cli.errors import InputError
from net2net_cli.growth.batch_norm import BatchNormStart
from net2net_cli.growth.plan import SPLITS

MAX_OPERATIONS = 100
_EXAMPLE = "`net2net diff --recipe` prints an example"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation of a recipe: its name, and its arguments as the recipe writes them."""

    name: str
    arguments: Mapping[str, Any]


def _is_widths(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(v, str | int) for v in value.values())


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


Check = tuple[Callable[[Any], bool], str]

_WIDTHS: Check = (_is_widths, 'a table of widths, as in `{ "conv1" = "2x" }`')
_SPLIT: Check = (lambda v: v in SPLITS, f"one of {', '.join(SPLITS)}")
_COUNT: Check = (_is_count, "a whole number")
_FROM_ONE: Check = (lambda v: _is_count(v) and v > 0, "a whole number from 1 up")
_NUMBER: Check = (_is_number, "a number that is neither negative nor infinite")
_FLAG: Check = (lambda v: isinstance(v, bool), "true or false")
_TEXT: Check = (lambda v: isinstance(v, str) and v != "", "a text")
_WIDENING = {"layers": _WIDTHS, "seed": _COUNT, "round_to": _FROM_ONE, "where_possible": _FLAG}

ARGUMENTS: Mapping[str, Mapping[str, Check]] = {
    "widen": {**_WIDENING, "split": _SPLIT, "noise": _NUMBER},
    "random-pad": {**_WIDENING, "std": _NUMBER},
    "deepen": {
        "layers": (_is_names, 'a list of names, as in `["layer2.1"]`'),
        "kernel": _COUNT,
        "count": _COUNT,
        "bn": (lambda v: v in get_args(BatchNormStart), f"one of {', '.join(get_args(BatchNormStart))}"),
        "where_possible": _FLAG,
    },
    "grow": {"like": _TEXT, "split": _SPLIT, "seed": _COUNT},
}
"""What each operation takes."""

NEEDED = {"widen": "layers", "random-pad": "layers", "deepen": "layers", "grow": "like"}


def parse_recipe(text: str, *, where: str) -> list[Instruction]:
    """The operations of a recipe, in order.

    Raises:
        InputError: it is no recipe; names the operation and what was needed.
    """
    import tomllib  # not at the top: proofs need only `instruction`

    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as wrong:  # not its own error alone: a number may have too many digits
        raise InputError(f"{where} is no TOML: {wrong}", _EXAMPLE) from None
    operations = found.pop("operation", None)
    if found or not isinstance(operations, list) or not 0 < len(operations) <= MAX_OPERATIONS:
        said = f"`{next(iter(found))}` is no key of a recipe" if found else "it has no list of `[[operation]]`"
        raise InputError(f"{where} is no recipe: {said}", _EXAMPLE)
    return [instruction(entry, f"operation {i} of {where}") for i, entry in enumerate(operations, start=1)]


def instruction(entry: Any, place: str) -> Instruction:
    """One operation, its `name` among its arguments.

    Raises:
        InputError: it is none; says where, and what was needed.
    """
    name = entry.pop("name", None) if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in ARGUMENTS:
        raise InputError(
            f"{place} has the name {name!r}, which is none", f"an operation is one of {', '.join(ARGUMENTS)}"
        )
    for key, value in entry.items():
        if key not in ARGUMENTS[name]:
            raise InputError(f"{place} has an unknown key `{key}`", f"`{name}` takes {', '.join(ARGUMENTS[name])}")
        check, needed = ARGUMENTS[name][key]
        if not check(value):
            raise InputError(f"`{key}` of {place} is {value!r}; it must be {needed}", _EXAMPLE)
    if NEEDED[name] not in entry:
        raise InputError(f"{place} has no `{NEEDED[name]}`", f"`{name}` needs it")
    return Instruction(name, entry)


def recipe_text(steps: Sequence[Step]) -> str:
    """The recipe that replays the steps of a lineage.

    Raises:
        InputError: there is nothing to replay, or a step measured statistics on data that the lineage does not hold.
    """
    if not steps:
        raise InputError("the student was not grown by net2net: it has no lineage", "a teacher has no recipe")
    return "\n".join(_operation_text(step) for step in steps)


def _operation_text(step: Step) -> str:
    arguments = {k: v for k, v in step.arguments.items() if v is not None and k != "rounds"}
    if step.operation == "widen" and "like" in arguments:
        arguments["layers"] = arguments.pop("like")
    if arguments.get("bn") == "measured":
        arguments["bn"] = "estimate"
    lines = ["[[operation]]", f'name = "{step.operation}"']
    lines += [f"{key} = {_toml(value)}" for key, value in arguments.items()]
    if step.seed is not None:
        lines.append(f"seed = {step.seed}")
    if step.operation == "grow":
        lines.insert(1, "# `like` is the target's name: put its spec's path or its source there")
    if step.arguments.get("bn") == "measured":
        lines.insert(1, "# statistics were measured on data; a recipe estimates them")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # TOML writes texts, numbers and truth values as JSON does
