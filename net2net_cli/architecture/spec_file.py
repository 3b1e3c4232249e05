"""Specs as text: a graph written as JSON, one layer a line, and read back with every check and without running code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie
from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.shapes import Dim, dim_to_json, parse_dim
from net2net_cli.architecture.spec_checks import check_graph, check_name, check_structure
from net2net_cli.architecture.spec_values import (
    MAX_INTEGER,
    Place,
    decode_op,
    encode_attributes,
    nearest,
    shown,
)
from net2net_cli.errors import SpecError

FORMAT = "net2net-spec"
VERSION = 1
MAX_BYTES = 64 << 20
MAX_LAYERS = 100_000
MAX_AXES = 32
DTYPES = (
    *("float32", "float64", "float16", "bfloat16"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)
KEYS = ("format", "version", "name", "source", "inputs", "layers", "outputs", "returns")
OPTIONAL_KEYS = ("returns",)
LAYER_KEYS = ("name", "op", "inputs", "weights_of", "tied", "when")

_NOT_A_SPEC = "write one with `net2net import`"


def to_json_text(graph: Graph) -> str:
    """The spec of a graph: the same text for equal graphs, each layer on a line of its own."""
    head = {"format": FORMAT, "version": VERSION, "name": graph.name, "source": graph.source}
    lines = [f"{_text(key)}: {_text(value)}" for key, value in head.items()]
    lines.append(f'"inputs": {_text([_input_to_json(i) for i in graph.inputs])}')
    layers = ",\n  ".join(_text(_layer_to_json(layer)) for layer in graph.layers)
    lines.append(f'"layers": [\n  {layers}\n ]' if layers else '"layers": []')
    lines.append(f'"outputs": {_text(dict(graph.outputs))}')
    if graph.returns:
        modes = {mode: graph.returns[mode] for mode in sorted(graph.returns)}
        lines.append(f'"returns": {_text(modes)}')
    return "{" + ",\n ".join(lines) + "}\n"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _input_to_json(given: NetworkInput) -> dict[str, Any]:
    return {"name": given.name, "shape": [dim_to_json(d) for d in given.shape], "dtype": given.dtype}


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {"name": layer.name, "op": layer.op.name, "inputs": list(layer.inputs)}
    if layer.weights_of is not None:
        found["weights_of"] = layer.weights_of
    if layer.tied:
        found["tied"] = {tie.slot: [tie.layer, tie.of] for tie in layer.tied}
    if layer.when != "always":
        found["when"] = layer.when
    return found | encode_attributes(layer.op)


def from_json_text(text: str, *, where: str) -> Graph:
    """Read a spec.

    Args:
        text: the JSON document.
        where: what the messages call it, for example "`teacher.json`".

    Raises:
        SpecError: it breaks the format, or its layers do not fit together; the message holds the JSON path.

    """
    top = Place(where)
    try:
        graph = _read_graph(_parse(text, top), top)
        check_graph(graph, top)
    except RecursionError:
        top.fail("is nested too deeply", _NOT_A_SPEC)
    return graph


def _parse(text: str, place: Place) -> dict[str, Any]:
    """The document as a dictionary; duplicate keys, NaN and anything but an object are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise ValueError(f"the key `{twice[:60]}` appears twice")
        return found

    def no_constant(constant: str) -> NoReturn:
        raise ValueError(f"`{constant}` is not JSON")

    if len(text) > MAX_BYTES:
        place.fail(f"has {len(text)} characters; at most {MAX_BYTES} are read", _NOT_A_SPEC)
    try:
        document = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except ValueError as wrong:
        place.fail(f"is not valid JSON: {wrong}", _NOT_A_SPEC)
    if not isinstance(document, dict):
        place.expect(document, "an object")
    return document


def _read_graph(document: dict[str, Any], place: Place) -> Graph:
    _check_format(document, place)
    _check_keys(document, KEYS, OPTIONAL_KEYS, place)
    graph = Graph(
        name=_string(document["name"], place.at("name")),
        source=_string(document["source"], place.at("source")),
        inputs=tuple(_read_input(item, p) for item, p in _items(document["inputs"], place.at("inputs"))),
        layers=tuple(_read_layer(item, p) for item, p in _items(document["layers"], place.at("layers"))),
        outputs=_read_outputs(document["outputs"], place.at("outputs")),
        returns=_object(document.get("returns", {}), place.at("returns")),
    )
    for mode, structure in graph.returns.items():
        if mode not in ("eval", "train"):
            place.at("returns").at(mode).fail("is no mode", "the modes are `eval` and `train`")
        check_structure(structure, graph.outputs, place.at("returns").at(mode))
    return graph


def _check_format(document: dict[str, Any], place: Place) -> None:
    """Format and version come first: a newer spec may break every other rule."""
    if document.get("format") != FORMAT:
        place.at("format").fail(f"is {shown(document.get('format'))}; {shown(FORMAT)} is needed", _NOT_A_SPEC)
    version = document.get("version")
    if type(version) is not int or version < 1:
        place.at("version").expect(version, "a positive integer")
    if version > VERSION:
        raise SpecError(
            f"{place.where}: written by a newer net2net: version {version} of the format needs a later release, "
            f"this one reads versions up to {VERSION}",
            "upgrade: `pip install --upgrade net2net`",
        )


def _check_keys(given: Mapping[str, Any], known: Iterable[str], optional: Iterable[str], place: Place) -> None:
    for key in given:
        if key not in known:
            place.at(key).fail(f"is no key that version {VERSION} has", nearest(key, known) or None)
    for key in known:
        if key not in given and key not in optional:
            place.fail(f"has no `{key}`")


def _items(value: Any, place: Place) -> Iterable[tuple[Any, Place]]:
    if not isinstance(value, list):
        place.expect(value, "a list")
    if len(value) > MAX_LAYERS:
        place.fail(f"has {len(value)} entries; at most {MAX_LAYERS} are read")
    return ((item, place.at(i)) for i, item in enumerate(value))


def _object(value: Any, place: Place) -> dict[Any, Any]:
    if not isinstance(value, dict):
        place.expect(value, "an object")
    return value


def _string(value: Any, place: Place) -> str:
    if not isinstance(value, str) or not all(c.isprintable() for c in value):
        place.expect(value, "a string of printable characters")
    return value


def _read_input(value: Any, place: Place) -> NetworkInput:
    entry = _object(value, place)
    _check_keys(entry, ("name", "shape", "dtype"), (), place)
    name = check_name(entry["name"], place.at("name"))
    if entry["dtype"] not in DTYPES:
        place.at("dtype").expect(entry["dtype"], " or ".join(f"`{d}`" for d in DTYPES))
    sizes = [_read_size(item, p) for item, p in _items(entry["shape"], place.at("shape"))]
    if len(sizes) > MAX_AXES:
        place.at("shape").fail(f"has {len(sizes)} axes; at most {MAX_AXES} are read")
    return NetworkInput(name, tuple(sizes), entry["dtype"])


def _read_size(value: Any, place: Place) -> Dim:
    if not (type(value) is int and 1 <= value <= MAX_INTEGER) and not (isinstance(value, str) and len(value) < 10):
        place.expect(value, "a positive number or `n`")
    try:
        return parse_dim(value)
    except ValueError:
        place.expect(value, "a positive number or `n`")


def _read_layer(value: Any, place: Place) -> Layer:
    entry = _object(value, place)
    for key in ("name", "op", "inputs"):
        if key not in entry:
            place.fail(f"has no `{key}`")
    name = check_name(entry["name"], place.at("name"))
    place = Place(place.where, place.path, name)
    op = entry["op"]
    if not isinstance(op, str) or op not in REGISTRY:
        later = "a later net2net may know it: `pip install --upgrade net2net`"
        place.at("op").fail(f"is {shown(op)}, no op that this net2net knows", nearest(str(op), REGISTRY) or later)
    when = entry.get("when", "always")
    if when not in ("always", "train"):
        place.at("when").expect(when, "`always` or `train`")
    owner = check_name(entry["weights_of"], place.at("weights_of")) if "weights_of" in entry else None
    inputs = tuple(check_name(item, p) for item, p in _items(entry["inputs"], place.at("inputs")))
    rest = {k: v for k, v in entry.items() if k not in LAYER_KEYS}
    tied = tuple(_read_tie(slot, tie, place.at("tied").at(slot)) for slot, tie in _ties(entry, place))
    return Layer(name, decode_op(REGISTRY[op], rest, place), inputs, owner, when, tied)


def _ties(entry: dict[str, Any], place: Place) -> Iterable[tuple[str, Any]]:
    return _object(entry.get("tied", {}), place.at("tied")).items()


def _read_tie(slot: str, value: Any, place: Place) -> Tie:
    """`"weight": ["embed", "weight"]`: the layer that owns the tensor, and its name there."""
    if not isinstance(value, list) or len(value) != 2:
        place.expect(value, "a list of a layer and its tensor")
    return Tie(slot, check_name(value[0], place.at(0)), _string(value[1], place.at(1)))


def _read_outputs(value: Any, place: Place) -> dict[str, str]:
    outputs = _object(value, place)
    if not outputs:
        place.fail("is empty; a network has at least one output")
    return {_string(k, place.at(k)): check_name(v, place.at(k)) for k, v in outputs.items()}
