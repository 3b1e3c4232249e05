"""Python expressions as data, and their layout on lines: one line where they fit, else one item a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

WIDTH = 88
"""Longest line, the default of black and ruff."""

INDENT = "    "


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Items between brackets; each with what stands before it (`key=` or `"key": `), or nothing."""

    opening: str
    items: tuple[tuple[str, Expression], ...]
    closing: str

    @property
    def flat(self) -> str:
        """The expression on one line."""
        inner = ", ".join(before + flat(item) for before, item in self.items)
        return f"{self.opening}{inner}{',' if self.opening == '(' and len(self.items) == 1 else ''}{self.closing}"


Expression: TypeAlias = str | Bracketed


def flat(expression: Expression) -> str:
    """The expression on one line."""
    return expression if isinstance(expression, str) else expression.flat


def statement(start: str, expression: Expression, depth: int) -> list[str]:
    """The lines of `start expression`, indented."""
    return _lines(INDENT * depth + start, expression, "", depth)


def _lines(start: str, expression: Expression, end: str, depth: int) -> list[str]:
    line = start + flat(expression) + end
    if len(line) <= WIDTH or isinstance(expression, str):
        return [line]
    lines = [start + expression.opening]
    for before, item in expression.items:
        lines += _lines(INDENT * (depth + 1) + before, item, ",", depth + 1)
    return [*lines, INDENT * depth + expression.closing + end]


def call(function: str, args: Iterable[Expression] = (), kwargs: Mapping[str, Expression] | None = None) -> Bracketed:
    """`function(args, key=value)`."""
    named = tuple((f"{key}=", value) for key, value in (kwargs or {}).items())
    return Bracketed(f"{function}(", (*(("", arg) for arg in args), *named), ")")


def listing(items: Iterable[Expression]) -> Bracketed:
    """`[items]`."""
    return Bracketed("[", tuple(("", item) for item in items), "]")


def grouping(items: Iterable[Expression]) -> Bracketed:
    """`(items)`, a tuple."""
    return Bracketed("(", tuple(("", item) for item in items), ")")


def mapping(items: Mapping[str, Expression]) -> Bracketed:
    """`{"key": value}`."""
    return Bracketed("{", tuple((f"{quoted(key)}: ", value) for key, value in items.items()), "}")


def quoted(text: str) -> str:
    """A string literal; whatever the text holds, it stays a string."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def literal(value: Any) -> str:
    """A number, string, None, or tuple of them as Python writes it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return grouping(literal(item) for item in value).flat
    if isinstance(value, list):
        return listing(literal(item) for item in value).flat
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"{value!r} has no literal")
