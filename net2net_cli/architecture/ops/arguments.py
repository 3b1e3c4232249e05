"""Arguments of calls that net2net does not know, as JSON: plain values, and a layer's inputs among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from net2net_cli.architecture.ops.base import Input

LARGEST = 2**63 - 1
"""Largest integer that PyTorch takes."""

NOT_FINITE = ("inf", "-inf", "nan")

DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "complex128", "complex64"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)

FORMS = ("tuple", "dict", "slice", "dtype", "float")
"""What JSON has no notation for: `{"tuple": […]}`, `{"dict": [[key, value], …]}`, `{"slice": [0, null, 2]}`,
`{"dtype": "int64"}`, `{"float": "inf"}`."""


@dataclass(frozen=True, slots=True)
class Form:
    """An argument of one of the `FORMS`, which is its `kind`."""

    kind: str
    value: Any


Argument: TypeAlias = Any
"""None, a bool, number or string, an `Input`, a `Form`, or a list of arguments, which is kept as a Python tuple."""

Fail: TypeAlias = Callable[[object, str], Any]
"""Raises: what was found, and what was needed."""


def encode_argument(value: Argument) -> Any:
    """An argument as JSON."""
    if isinstance(value, Input):
        return {"input": value.index}
    if isinstance(value, Form):
        return {value.kind: encode_argument(value.value)}
    return [encode_argument(item) for item in value] if isinstance(value, tuple) else value


def decode_argument(value: Any, fail: Fail) -> Argument:
    """An argument from JSON; `fail` is called where it is none."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if isinstance(value, float) or abs(value) <= LARGEST else fail(value, "a 64-bit integer")
    if isinstance(value, list):
        return tuple(decode_argument(item, fail) for item in value)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, held),) = value.items()
        if kind == "input" and type(held) is int and held >= 0:
            return Input(held)
        if kind in FORMS and _fits(kind, held):
            return Form(kind, decode_argument(held, fail))
    return fail(value, "a plain value, `input` and its number, or one of " + ", ".join(f"`{f}`" for f in FORMS))


def _fits(kind: str, held: Any) -> bool:
    if kind == "tuple":
        return isinstance(held, list)
    if kind == "slice":
        return isinstance(held, list) and len(held) == 3 and all(type(i) in (int, type(None)) for i in held)
    if kind == "dict":
        return isinstance(held, list) and all(
            isinstance(p, list) and len(p) == 2 and isinstance(p[0], (str, int)) for p in held
        )
    return held in (NOT_FINITE if kind == "float" else DTYPES)


def inputs_in(value: Argument) -> Iterator[int]:
    """The numbers of the inputs that an argument holds."""
    if isinstance(value, Input):
        yield value.index
    elif isinstance(value, Form):
        yield from inputs_in(value.value)
    elif isinstance(value, tuple):
        for item in value:
            yield from inputs_in(item)


def unfolded(value: Argument) -> Any:
    """An argument as Python has it: lists, tuples, dicts and numbers; inputs and dtypes are left as they are."""
    if isinstance(value, tuple):
        return [unfolded(item) for item in value]
    if isinstance(value, Form) and value.kind == "tuple":
        return tuple(unfolded(item) for item in value.value)
    if isinstance(value, Form) and value.kind == "slice":
        return slice(*value.value)
    if isinstance(value, Form) and value.kind == "dict":
        return {key: unfolded(held) for key, held in value.value}
    if isinstance(value, Form) and value.kind == "float":
        return float(value.value)
    return value
