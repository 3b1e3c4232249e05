"""Specs: the document, and how its layers fit together."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from unittest.mock import patch

from messages.example import Area, Example

X = {"name": "x", "shape": ["n", 4, 8, 8], "dtype": "float32"}
RELU = {"name": "act", "op": "ReLU", "inputs": ["x"]}
NORM = {
    "name": "norm",
    "op": "LayerNorm",
    "inputs": ["x"],
    "normalized_shape": [8],
    "eps": 1e-05,
    "elementwise_affine": True,
    "bias": True,
}
TWIN = {**NORM, "name": "twin", "weights_of": "norm"}
SHORT_NORM = {"name": "norm", "op": "LayerNorm"}
SHORT_TWIN = {**SHORT_NORM, "name": "twin", "weights_of": "norm"}


def text(**changes: Any) -> str:
    """A sound spec with something else in some places."""
    document = {
        "format": "net2net-spec",
        "version": 1,
        "name": "net",
        "source": "",
        "inputs": [X],
        "layers": [RELU],
        "outputs": {"out": "act"},
        **changes,
    }
    return json.dumps({k: v for k, v in document.items() if v is not None}, ensure_ascii=False)


def short(value: Any) -> str:
    """JSON on one line."""
    found = json.dumps(value, ensure_ascii=False)
    return found if len(found) < 150 else found[:147] + "…"


def holds(row: str | None = None, **changes: Any) -> Example:
    """A spec that holds this."""
    shown = row or ", ".join(f"{json.dumps(k)}: {short(v)}" for k, v in changes.items() if v is not None)
    return Example("net2net inspect net.json", {".net.json": text(**changes)}, row=shown)


def layers(*found: dict[str, Any], row: Any = None, **more: Any) -> Example:
    """A spec with these layers; the last one is the output."""
    shown = ", ".join(short(entry) for entry in (row if row is not None else found))
    return holds(f'"layers": [{shown}]', layers=list(found), outputs={"out": found[-1]["name"]}, **more)


def is_text(name: str, row: str, content: str) -> Example:
    """A file that is no spec at all."""
    return Example(f"net2net inspect {name}", {f".{name}": content}, row=row)


DOCUMENT = (
    is_text("net.json", '{"format": "net2net-spec", "version":', '{"format": "net2net-spec", "version":'),
    is_text("net.json", '{"format": …, "format": …}', '{"format": "net2net-spec", "format": "net2net-spec"}'),
    is_text("net.json", '"eps": NaN', '{"eps": NaN}'),
    is_text("net.json", "[[[[… a hundred thousand times", "[" * 100000),
    holds(format="onnx"),
    Example(
        "net2net inspect net.json",
        {".net.json": text()},
        row="more than can be a spec",
        fault=partial(patch, "net2net_cli.architecture.spec_file.MAX_BYTES", 100),
        vague=r"\d+(?= characters)|(?<=most )\d+",
    ),
    is_text("net.json", "[]", "[]"),
    holds(version="1"),
    holds(version=99),
    holds(colour="red"),
    holds("no `name`", name=None),
    holds(name="two\nlines"),
    holds(layers={}),
    holds(outputs={}),
    holds(outputs={"out": "head"}),
    holds(returns={"test": "out"}),
    holds(returns={"eval": "aux"}),
    holds(returns={"eval": 3}),
    holds(returns={"eval": {"set": ["out"]}}),
    holds(returns={"eval": {"namedtuple": "Out", "fields": {"class": "out"}}}),
    holds(inputs=[{**X, "name": ""}]),
    holds(inputs=[{**X, "name": "a/b"}]),
    holds(inputs=[{**X, "name": "a..b"}]),
    holds(inputs=[X, X]),
    holds(inputs=[{**X, "shape": ["n", 0]}]),
    holds(inputs=[{**X, "shape": ["n"] + [1] * 40}]),
    holds('"shape": ["n", 1, 1, … a hundred thousand times', inputs=[{**X, "shape": [1] * 100_001}]),
)

LAYERS = (
    layers({"name": "act", "op": "ReLU"}),
    layers({**RELU, "op": "Relu6"}),
    layers({**RELU, "when": "never"}),
    layers(RELU, RELU, row=[RELU, RELU]),
    layers({**RELU, "inputs": ["y"]}),
    layers({**RELU, "inputs": ["x", "x"]}),
    layers({**RELU, "alpha": 1}),
    layers({k: v for k, v in NORM.items() if k != "eps"}),
    layers({**NORM, "normalized_shape": [0]}),
    layers({**NORM, "normalized_shape": [2**31]}),
    layers({**NORM, "normalized_shape": [2**26, 2**26]}),
    layers(TWIN, row=[SHORT_TWIN]),
    layers(RELU, {**RELU, "name": "twin", "weights_of": "act"}),
    layers(
        NORM,
        {**TWIN, "eps": 0.1},
        row=[SHORT_NORM, {"name": "twin", "op": "LayerNorm", "eps": 0.1, "weights_of": "norm"}],
    ),
    layers(
        NORM,
        TWIN,
        {**TWIN, "name": "third", "weights_of": "twin"},
        row=[SHORT_NORM, SHORT_TWIN, {**SHORT_TWIN, "name": "third", "weights_of": "twin"}],
    ),
)

LINEAR = {"name": "fc", "op": "Linear", "inputs": ["x"], "in_features": 8, "out_features": 8, "bias": True}
SECTION = {"name": "first", "op": "slice", "inputs": ["x"], "dim": 5, "start": 0, "stop": 1, "step": 1}
EMPTY = {"name": "pool", "op": "pad", "inputs": ["x"], "pad": [-9, 0], "mode": "constant"}
LATE = {**RELU, "name": "aux", "when": "train"}

WHOLE = (
    layers(LINEAR, {"name": "fc.weight", "op": "Parameter", "inputs": [], "size": [8], "trainable": True}),
    layers({"name": "value", "op": "Parameter", "inputs": [], "size": [2**25], "trainable": True}),
    layers(EMPTY),
    layers(SECTION),
    layers(LATE, {**RELU, "inputs": ["aux"]}),
    holds(
        '"layers": [{"name": "aux", "op": "ReLU", "when": "train"}], "returns": {"eval": "out"}',
        layers=[LATE],
        outputs={"out": "aux"},
        returns={"eval": "out", "train": "out"},
    ),
)

AREAS = (
    Area(
        "spec-document",
        "Specs: the document",
        3,
        "`net2net schema` prints what a spec may hold. Messages begin with the file, the place in it and the layer.",
        DOCUMENT,
        "where `net.json` holds",
    ),
    Area("spec-whole", "Specs: the network as a whole", 3, "", WHOLE, "where `net.json` holds"),
    Area("spec-layers", "Specs: layers", 3, "", LAYERS, "where `net.json` holds"),
)
