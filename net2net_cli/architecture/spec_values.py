"""The attributes of an op as JSON, checked against the types that its dataclass declares."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from net2net_cli.architecture.ops import REGISTRY, Input, Op, SizeOf
from net2net_cli.architecture.ops.arguments import Form, decode_argument, encode_argument
from net2net_cli.errors import SpecError

MAX_INTEGER = 2**31 - 1
"""Largest number that stands for a size or a count."""

NOT_FINITE = ("inf", "-inf", "nan")
"""Floats that JSON does not have, as the spec writes them."""

SEE_SCHEMA = "`net2net schema` prints what a spec may hold"

WINDOWS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")
"""Attributes that have one entry for each axis that the op slides over."""

_FROM_ONE = {
    *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "num_groups"),
    *("num_parameters", "normalized_shape", "kernel_size", "stride", "dilation", "groups", "chunks", "step"),
    *("output_size", "divisor_override", "axes", "num_embeddings", "embedding_dim"),
    *("input_size", "hidden_size", "num_layers"),
}
_FROM_ZERO = {"padding", "output_padding", "dim", "index", "start", "stop", "sizes"}
_FROM_THE_END = {"Softmax", "LogSoftmax", "Softmin", "normalize"}
"""Ops whose `dim` may count from the end."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a spec: `where` names the document for people, `path` the place inside it."""

    where: str
    path: str = ""
    layer: str | None = None

    def at(self, key: str | int) -> Place:
        """A place below this one."""
        step = f"[{key}]" if isinstance(key, int) else '[""]' if not key else f".{key}" if self.path else key
        return Place(self.where, self.path + step, self.layer)  # thousands of times: `replace` takes four times as long

    def fail(self, problem: str, hint: str | None = None) -> NoReturn:
        """Raise the `SpecError` for this place; `problem` is a clause about it."""
        place = f"`{self.path}`" if self.path else "the document"
        of_layer = f" of layer `{self.layer}`" if self.layer else ""
        raise SpecError(f"{self.where}: {place}{of_layer} {problem}", hint or SEE_SCHEMA)

    def expect(self, value: object, needed: str) -> NoReturn:
        """Raise the `SpecError` for a value of the wrong kind."""
        self.fail(f"is {shown(value)}; {needed} is needed")


def shown(value: object) -> str:
    """A JSON value for people, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause that names what may have been meant, or nothing."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = [folded[found] for found in difflib.get_close_matches(name[:200].lower(), list(folded), n=3)]
    return f"did you mean {' or '.join(f'`{c}`' for c in close)}?" if close else ""


@cache
def attribute_types(name: str) -> dict[str, Any]:
    """The declared type of each attribute of an op, in the order in which the spec writes them."""
    op: Any = REGISTRY[name]
    hints = get_type_hints(op)
    return {f.name: hints[f.name] for f in dataclasses.fields(op)}


@cache
def absent_values(name: str) -> dict[str, Any]:
    """Attributes of an op that may stand for nothing, null or an empty mapping, and then are not written."""
    op: Any = REGISTRY[name]
    found: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        if field.default is None:
            found[field.name] = None
        elif field.default_factory is dict:
            found[field.name] = {}
    return found


def encode(value: Any) -> Any:
    """An attribute as JSON."""
    if isinstance(value, SizeOf):
        return {"size_of": value.value, "axis": value.axis}
    if isinstance(value, (Input, Form)):
        return encode_argument(value)
    if isinstance(value, Mapping):
        return {key: encode(value[key]) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


def encode_attributes(op: Op) -> dict[str, Any]:
    """All attributes of an op as JSON; those that stand for nothing are left out."""
    absent = absent_values(op.name)
    values = {name: getattr(op, name) for name in attribute_types(op.name)}
    return {k: encode(v) for k, v in values.items() if k not in absent or v != absent[k]}


def decode_op(op: type[Op], given: Mapping[str, Any], place: Place) -> Op:
    """The op with attributes read from JSON.

    Raises:
        SpecError: an attribute is unknown, missing, of another type, out of range, or does not go with the others.

    """
    types = attribute_types(op.name)
    for key in given:
        if key not in types:
            place.at(key).fail(f"is no attribute of `{op.name}`", nearest(key, types) or _known(types))
    for key in types:
        if key not in given and key not in absent_values(op.name):
            place.fail(f"has no `{key}`, which `{op.name}` needs", _known(types))
    values = {key: decode(types[key], value, place.at(key)) for key, value in given.items()}
    for key, value in values.items():
        _check_range(op, key, value, place.at(key))
    made = op(**values)
    try:
        made.check()
    except ValueError as wrong:
        place.fail(f"cannot be: {wrong}")
    return made


def _known(types: Mapping[str, Any]) -> str:
    return f"its attributes are {', '.join(f'`{t}`' for t in types)}" if types else "it has no attributes"


def decode(kind: Any, value: Any, place: Place) -> Any:
    """A JSON value as the declared type.

    Raises:
        SpecError: it is of another type.

    """
    alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    matching = [k for k in alternatives if _matches(k, value)]
    if not matching:
        place.expect(value, " or ".join(describe(k) for k in alternatives))
    return _decode_one(matching[0], value, place)


def _matches(kind: Any, value: Any) -> bool:
    """Whether the outermost level of a JSON value is of this kind."""
    origin = get_origin(kind)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind is float:
        return (isinstance(value, (int, float)) and not isinstance(value, bool)) or value in NOT_FINITE
    if kind is SizeOf:
        return isinstance(value, dict) and set(value) == {"size_of", "axis"}
    if origin is tuple:
        return isinstance(value, list)
    if origin is not None:
        return isinstance(value, dict)
    return kind is Any or type(value) is kind  # JSON's `true` is no integer


def _decode_one(kind: Any, value: Any, place: Place) -> Any:
    origin = get_origin(kind)
    if kind is float and isinstance(value, str):
        return float(value)
    if kind is Any:
        return decode_argument(value, place.expect)
    if kind is SizeOf:
        return SizeOf(decode(str, value["size_of"], place.at("size_of")), decode(int, value["axis"], place.at("axis")))
    if origin is tuple:
        return tuple(decode(get_args(kind)[0], item, place.at(i)) for i, item in enumerate(value))
    if origin is not None and origin is not Literal:
        return {key: decode(get_args(kind)[1], item, place.at(key)) for key, item in value.items()}
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        place.expect(value, f"a number of at most {MAX_INTEGER}")
    return value


def describe(kind: Any) -> str:
    """A declared type for people."""
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if origin is tuple:
        return f"a list, each entry {describe_all(get_args(kind)[0])},"
    if origin is not None:
        return "an object"
    names = {
        Any: "an argument",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a string",
        NoneType: "null",
    }
    return names.get(kind, '`{"size_of": …, "axis": …}`')


def describe_all(kind: Any) -> str:
    """A declared type or union for people."""
    alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return " or ".join(describe(k) for k in alternatives)


def lower_bound(op: type[Op], attribute: str) -> int | None:
    """The smallest integer that the attribute may hold."""
    if attribute == "dim" and op.name in _FROM_THE_END:
        return None
    return 1 if attribute in _FROM_ONE else 0 if attribute in _FROM_ZERO else None


def _check_range(op: type[Op], attribute: str, value: Any, place: Place) -> None:
    """Sizes are positive, and windows have one entry for each axis that they slide over."""
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
    least = lower_bound(op, attribute)
    for entry in entries:
        if least is not None and isinstance(entry, (int, float)) and not isinstance(entry, bool) and entry < least:
            place.expect(entry, f"a number of at least {least}")
    rank = getattr(op, "rank", None)
    if rank is not None and attribute in WINDOWS and isinstance(value, tuple) and len(value) != rank:
        place.expect(list(value), f"a list of {rank}")
