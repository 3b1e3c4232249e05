"""Many layer names in little room: `layer1.{0,1,2}.conv3, layer1.0.downsample.0`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])|\d+(?=[^.\d]*(?:\.|$))")


def patterns(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names that differ in one number are put together; with how many names each entry stands for."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        merged.setdefault(_skeleton(name), []).append(name)
    found: list[tuple[str, int]] = []
    for same in merged.values():
        found += _merged(same)
    return found


def _skeleton(name: str) -> tuple[str, ...]:
    return tuple(_NUMBER.split(name))


def _merged(names: list[str]) -> list[tuple[str, int]]:
    """Names of one skeleton: one entry if one number differs, `*` for each number that differs otherwise."""
    if len(names) == 1:
        return [(names[0], 1)]
    numbers = [_NUMBER.findall(name) for name in names]
    varying = [i for i in range(len(numbers[0])) if len({n[i] for n in numbers}) > 1]
    shown = dict.fromkeys(varying, "*")
    if len(varying) == 1:
        shown = {varying[0]: _set([n[varying[0]] for n in numbers])}
    parts = _skeleton(names[0])
    text = parts[0]
    for i, part in enumerate(parts[1:]):
        text += shown.get(i, numbers[0][i]) + part
    return [(text, len(names))]


def _set(numbers: Sequence[str]) -> str:
    """`{0-5}` for a run, `{0,2,7}` otherwise."""
    values = sorted({int(n) for n in numbers})
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{{{values[0]}-{values[-1]}}}"
    return "{" + ",".join(str(v) for v in values) + "}"


def abbreviated(names: Sequence[str], room: int | None) -> str:
    """As many of the names as there is room for, whole, and how many more there are."""
    entries = patterns(names)
    for shown in range(len(entries), 0, -1):
        left = sum(n for _, n in entries[shown:])
        text = ", ".join(p for p, _ in entries[:shown]) + (f" +{left} more" if left else "")
        if room is None or len(text) <= room:
            return text
    return f"{len(names)} layers" if len(names) != 1 else names[0]
