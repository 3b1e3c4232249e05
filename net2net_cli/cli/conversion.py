"""Arguments become values without the validators that typer makes for them.

Recent releases of typer check each value by pydantic, which takes a quarter of the time in which a network is widened
to load. What is plainly right needs none: text, a path, one of the words that are listed, a number in its range. All
else goes typer's way, so that what is wrong is told as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperCommand

_UNCLEAR: Any = object()
"""In place of a value: typer shall see to it."""

_NUMBERS: dict[type, re.Pattern[str]] = {
    int: re.compile(r"[0-9]{1,15}"),
    float: re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?(e-?[0-9]{1,2})?"),
}
"""Those that every reader reads alike."""


class Command(TyperCommand):
    """A command whose arguments are read plainly where they can be."""

    def get_params(self, ctx: Any) -> list[Any]:
        """What it takes, `--help` among them."""
        return read_plainly(super().get_params(ctx))


def read_plainly(parameters: list[Any]) -> list[Any]:
    """Have typer's parameters read what is plainly right; those of an older release are left as they are."""
    for parameter in parameters:
        if "process_value" not in vars(parameter):
            _read_plainly(parameter)
    return parameters


def _read_plainly(parameter: Any) -> None:
    described = getattr(parameter, "type_descriptor", None)  # where it is missing, there is no pydantic
    read = None if described is None else _reader(described)
    if read is None:
        return
    usual, then = parameter.process_value, parameter.callback

    def process_value(context: Any, value: Any) -> Any:
        found = _UNCLEAR if value is None and parameter.required else read(value)
        if found is _UNCLEAR:
            return usual(context, value)
        return found if then is None else then(context, parameter, found)

    parameter.process_value = process_value


def _reader(described: Any) -> Callable[[Any], Any] | None:
    """What makes values of a parameter's arguments; None for one of a kind that is not read here."""
    kind, given = described.annotation, described.parameter_info
    if given.parser is not None:
        return None
    if kind in (str, bool):
        return lambda value: _same(value, kind)
    if kind is Path and not any((given.exists, given.readable, given.writable, given.resolve_path, given.allow_dash)):
        return lambda value: Path(value) if isinstance(value, str) else _same(value, Path)
    if get_origin(kind) is Literal:
        return lambda value: value if value is None or value in get_args(kind) else _UNCLEAR
    if kind in _NUMBERS and not given.clamp:
        return lambda value: _number(value, kind, given.min, given.max)
    if kind == list[str]:
        return _texts
    return None


def _same(value: Any, kind: type) -> Any:
    return value if value is None or isinstance(value, kind) else _UNCLEAR


def _number(value: Any, kind: Any, least: float | None, most: float | None) -> Any:
    if isinstance(value, str) and _NUMBERS[kind].fullmatch(value):
        value = kind(value)
    if value is None:
        return None
    fits = type(value) is kind and (least is None or value >= least) and (most is None or value <= most)
    return value if fits else _UNCLEAR


def _texts(value: Any) -> Any:
    """A list, unless it is empty: whether there must be something, typer knows."""
    plain = isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(text, str) for text in value)
    return list(value) if plain else _UNCLEAR
