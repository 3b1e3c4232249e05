"""Arguments that need more than a type."""

from __future__ import annotations

import math
from pathlib import Path

from net2net_cli.errors import UsageError


def widths_or_like(
    teacher: Path, texts: list[str], like: Path | None, *, command: str = "widen"
) -> dict[str, str | int]:
    """`LAYER=WIDTH…` as layer -> width; empty where `--like` gives the widths.

    Raises:
        UsageError: neither or both are given, or a layer is named twice.
    """
    from net2net_cli.growth.requests import parse_request

    if like is not None and texts:
        raise UsageError("`--like` and LAYER=WIDTH both give widths", "leave one of them out")
    if like is not None:
        return {}
    if not texts:
        raise UsageError(
            "no layer and width were given",
            f"for example `net2net {command} {teacher} LAYER=2x -o student.safetensors`; "
            f"`net2net inspect {teacher}` lists the layers",
        )
    found: dict[str, str | int] = {}
    for request in map(parse_request, texts):
        if found.setdefault(request.pattern, request.width) != request.width:
            raise UsageError(f"`{request.pattern}` is asked for two widths", "give one")
    return found


def only_type(dtype: str | None, *, float64: bool) -> str | None:
    """The type that `--dtype` and `--float64` ask for.

    Raises:
        UsageError: they ask for two.
    """
    if float64 and dtype not in (None, "float64"):
        raise UsageError(f"`--float64` and `--dtype {dtype}` name two types", "leave one of them out")
    return "float64" if float64 else dtype


def finite(option: str, value: float | None) -> None:
    """Refuse NaN and infinity, which are numbers to a parser.

    Raises:
        UsageError: the value is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise UsageError(f"`{option}` is {value}, a finite number is needed", f"for example `{option} 0.01`")
