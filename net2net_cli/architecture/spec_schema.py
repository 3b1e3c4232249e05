"""The JSON Schema of specs, made from the registry of ops."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from net2net_cli.architecture.ops import REGISTRY, Op, SizeOf
from net2net_cli.architecture.ops.arguments import DTYPES as ARGUMENT_DTYPES
from net2net_cli.architecture.spec_checks import MAX_NAME
from net2net_cli.architecture.spec_file import DTYPES, FORMAT, KEYS, MAX_AXES, OPTIONAL_KEYS, VERSION
from net2net_cli.architecture.spec_values import (
    MAX_INTEGER,
    NOT_FINITE,
    WINDOWS,
    absent_values,
    attribute_types,
    lower_bound,
)

Schema = dict[str, Any]

_NAME = {"$ref": "#/$defs/name"}
_PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    NoneType: {"type": "null"},
    float: {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE)}]},
    SizeOf: {"$ref": "#/$defs/size_of"},
    Any: {"$ref": "#/$defs/argument"},
}


def schema() -> Schema:
    """JSON Schema (draft 2020-12) of a spec; what only `from_json_text` can check, such as order, is not in it."""
    layers = [{"$ref": f"#/$defs/op.{name}"} for name in sorted(REGISTRY)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "net2net spec",
        "description": f"A network that net2net can grow, version {VERSION} of the format.",
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "version": {"const": VERSION},
            "name": {"type": "string"},
            "source": {"type": "string"},
            "inputs": {
                "type": "array",
                "items": _object({"name": _NAME, "shape": _shape(), "dtype": {"enum": list(DTYPES)}}),
            },
            "layers": {"type": "array", "items": {"oneOf": layers}},
            "outputs": {"type": "object", "additionalProperties": _NAME, "minProperties": 1},
            "returns": _object({mode: {"$ref": "#/$defs/structure"} for mode in ("eval", "train")}, required=()),
        },
        "required": [key for key in KEYS if key not in OPTIONAL_KEYS],
        "additionalProperties": False,
        "$defs": {
            "name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": r"^[^./\\]+(\.[^./\\]+)*$"},
            "size_of": _object({"size_of": _NAME, "axis": {"type": "integer"}}),
            "argument": _argument(),
            "structure": _structure(),
            **{f"op.{name}": _layer(op) for name, op in sorted(REGISTRY.items())},
        },
    }


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _shape() -> Schema:
    plain = {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER}
    batch = {"type": "string", "pattern": "^([1-9][0-9]*)?n$"}
    return {"type": "array", "items": {"anyOf": [plain, batch]}, "maxItems": MAX_AXES}


def _argument() -> Schema:
    """What a call that is not known is given: plain values, and forms that JSON has no notation for."""
    inner = {"$ref": "#/$defs/argument"}
    several = {"type": "array", "items": inner}
    pair = {"type": "array", "items": inner, "minItems": 2, "maxItems": 2}
    forms = [
        _object({"input": {"type": "integer", "minimum": 0}}),
        _object({"tuple": several}),
        _object({"dict": {"type": "array", "items": pair}}),
        _object({"slice": {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 3, "maxItems": 3}}),
        _object({"dtype": {"enum": list(ARGUMENT_DTYPES)}}),
        _object({"float": {"enum": list(NOT_FINITE)}}),
    ]
    return {"anyOf": [*({"type": kind} for kind in ("null", "boolean", "number", "string")), several, *forms]}


def _structure() -> Schema:
    inner = {"$ref": "#/$defs/structure"}
    several, named = {"type": "array", "items": inner}, {"type": "object", "additionalProperties": inner}
    objects = [
        _object({"tuple": several}),
        _object({"list": several}),
        _object({"dict": named}),
        _object({"namedtuple": {"type": "string"}, "fields": named}),
    ]
    return {"anyOf": [{"type": "string"}, {"type": "null"}, *objects]}


def _layer(op: type[Op]) -> Schema:
    least, most = (1, None) if op.arity is None else (op.arity, op.arity)
    inputs: Schema = {"type": "array", "items": _NAME, "minItems": least} | ({} if most is None else {"maxItems": most})
    fixed: Schema = {"name": _NAME, "op": {"const": op.name}, "inputs": inputs}
    pair: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
    tied: Schema = {"type": "object", "additionalProperties": pair}
    optional: Schema = {"weights_of": _NAME, "tied": tied, "when": {"enum": ["always", "train"]}}
    own = {key: _attribute(op, key, kind) for key, kind in attribute_types(op.name).items()}
    required = (*fixed, *(key for key in own if key not in absent_values(op.name)))
    summary = (op.__doc__ or "").strip().partition("\n")[0]
    return {"description": summary, **_object(fixed | optional | own, required)}


def _attribute(op: type[Op], key: str, kind: Any) -> Schema:
    found = _type(kind, lower_bound(op, key))
    rank = getattr(op, "rank", None)
    if rank is not None and key in WINDOWS:
        for part in found.get("anyOf", [found]):
            if part.get("type") == "array":
                part |= {"minItems": rank, "maxItems": rank}
    return found


def _type(kind: Any, least: int | None) -> Schema:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_type(part, least) for part in get_args(kind)]}
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is tuple:
        return {"type": "array", "items": _type(get_args(kind)[0], least)}
    if origin is not None:
        return {"type": "object", "additionalProperties": _type(get_args(kind)[1], least)}
    if kind is int:
        return {"type": "integer", "minimum": -MAX_INTEGER if least is None else least, "maximum": MAX_INTEGER}
    return dict(_PLAIN[kind])
