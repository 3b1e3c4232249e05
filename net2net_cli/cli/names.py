"""Many layer names in little room: `layer1.{0,1,2}.conv3, layer1.0.downsample.0`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])|\d+(?=[^.\d]*(?:\.|$))")


def patterns(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Names that differ in numbers alone are put together, exactly; each with the names that it stands for."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        merged.setdefault(_skeleton(name), []).append(name)
    found: list[tuple[str, list[str]]] = []
    for same in merged.values():
        found += _merged(same)
    return found


def _skeleton(name: str) -> tuple[str, ...]:
    return tuple(_NUMBER.split(name))


def _merged(names: list[str]) -> list[tuple[str, list[str]]]:
    """Names of one skeleton: one entry if they are all combinations of some numbers, else apart by the earlier ones."""
    numbers = [tuple(_NUMBER.findall(name)) for name in names]
    choices = [list(dict.fromkeys(column)) for column in zip(*numbers, strict=True)]
    if len(set(numbers)) == prod(map(len, choices)):
        parts = _skeleton(names[0])
        shown = [_set(choice) for choice in choices]
        return [("".join(part + number for part, number in zip(parts, [*shown, ""], strict=True)), names)]
    first = next(i for i, choice in enumerate(choices) if len(choice) > 1)
    apart: dict[str, list[str]] = {}
    for name, number in zip(names, numbers, strict=True):
        apart.setdefault(number[first], []).append(name)
    return [entry for same in apart.values() for entry in _merged(same)]


def _set(numbers: Sequence[str]) -> str:
    """`{0-5}` for a run, `{0,2,7}` otherwise."""
    if len(numbers) == 1:
        return numbers[0]
    values = sorted({int(n) for n in numbers})
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{{{values[0]}-{values[-1]}}}"
    return "{" + ",".join(str(v) for v in values) + "}"


def abbreviated(names: Sequence[str], room: int | None) -> str:
    """As many of the names as there is room for, whole, and how many more there are; a single one in any case."""
    if len(names) == 1:
        return names[0]
    entries = sorted(patterns(names), key=lambda entry: -len(entry[1]))
    for shown in range(len(entries), 0, -1):
        left = sum(len(same) for _, same in entries[shown:])
        text = ", ".join(p for p, _ in entries[:shown]) + (f" +{left}" if left else "")
        if room is None or len(text) <= room:
            return text
    return f"{len(names)} layers"
