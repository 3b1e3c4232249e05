"""A spec says everything about a graph, is the same text for equal graphs, and is refused wherever it is wrong."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput, Tie
from net2net_cli.architecture.ops import REGISTRY, Op, SizeOf
from net2net_cli.architecture.shapes import Batch
from net2net_cli.architecture.spec_file import LAYER_KEYS, from_json_text, to_json_text
from net2net_cli.architecture.spec_schema import schema
from net2net_cli.architecture.spec_values import absent_values, attribute_types, encode_attributes
from net2net_cli.errors import SpecError

N = Batch()
WHERE = "`teacher.json`"


def make(op: str, *args: Any, **attributes: Any) -> Op:
    return REGISTRY[op](*args, **attributes)


def conv(inner: int, outer: int, *, bias: bool = False) -> Any:
    return make("Conv2d", inner, outer, (3, 3), (1, 1), (1, 1), (1, 1), 1, bias, "zeros")


def residual() -> Graph:
    """Every kind of thing that a spec can say."""
    layers = (
        Layer("stem.conv", conv(3, 4), ("image",)),
        Layer("stem.bn", make("BatchNorm2d", 4, 1e-5, None, True, True), ("stem.conv",)),
        Layer("relu", make("ReLU"), ("stem.bn",)),
        Layer("again", conv(4, 4, bias=True), ("relu",)),
        Layer("again_1", conv(4, 4, bias=True), ("again",), weights_of="again"),
        Layer("scale", make("Parameter", (4, 1, 1)), ()),
        Layer("scaled", make("mul"), ("again_1", "scale")),
        Layer("half", make("mul", scalar=0.5), ("scaled",)),
        Layer("add", make("add"), ("half", "relu")),
        Layer("clip", make("Hardtanh", -math.inf, 6.0), ("add",)),
        Layer("up", make("interpolate", size=(SizeOf("image", 2), 8), mode="bilinear"), ("clip",)),
        Layer("pool", make("AdaptiveAvgPool2d", (1, None)), ("up",)),
        Layer("flatten", make("rearrange", "n (g c) h w -> n (c g h w)", {"g": 2}), ("pool",)),
        Layer("fc", make("Linear", 32, 5, True), ("flatten",)),
        Layer("aux", make("Linear", 32, 5, False), ("flatten",), when="train"),
        Layer("tied", conv(4, 4), ("relu",), when="train", tied=(Tie("weight", "again", "weight"),)),
    )
    returns: dict[Any, Any] = {
        "eval": {"dict": {"out": "out", "none": None}},
        "train": {"namedtuple": "Outputs", "fields": {"logits": "out", "aux": {"list": ["aux"]}}},
    }
    image = NetworkInput("image", (N, 3, 8, 8))
    return Graph("residual", "models.py:residual", (image,), layers, {"out": "fc", "aux": "aux"}, returns)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(to_json_text(residual()))
    change(document)
    return json.dumps(document)


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        from_json_text(text, where=WHERE)
    assert caught.value.message.startswith(WHERE)
    return caught.value


def test_a_graph_comes_back_equal_and_as_the_same_text() -> None:
    text = to_json_text(residual())
    graph = from_json_text(text, where=WHERE)
    assert graph == residual()
    assert to_json_text(graph) == text


def test_the_text_is_the_documented_one() -> None:
    layers = (
        Layer("conv1", make("Conv2d", 3, 64, (7, 7), (2, 2), (3, 3), (1, 1), 1, False, "zeros"), ("x",)),
        Layer("add", make("add"), ("conv1", "conv1")),
        Layer("flatten", make("rearrange", "n c h w -> n (c h w)"), ("add",)),
    )
    x = NetworkInput("x", (N, 3, 224, 224))
    assert to_json_text(Graph("net", "a:b", (x,), layers, {"out": "flatten"})) == (
        '{"format": "net2net-spec",\n'
        ' "version": 1,\n'
        ' "name": "net",\n'
        ' "source": "a:b",\n'
        ' "inputs": [{"name": "x", "shape": ["n", 3, 224, 224], "dtype": "float32"}],\n'
        ' "layers": [\n'
        '  {"name": "conv1", "op": "Conv2d", "inputs": ["x"], "in_channels": 3, "out_channels": 64,'
        ' "kernel_size": [7, 7], "stride": [2, 2], "padding": [3, 3], "dilation": [1, 1], "groups": 1,'
        ' "bias": false, "padding_mode": "zeros"},\n'
        '  {"name": "add", "op": "add", "inputs": ["conv1", "conv1"]},\n'
        '  {"name": "flatten", "op": "rearrange", "inputs": ["add"], "pattern": "n c h w -> n (c h w)"}\n'
        " ],\n"
        ' "outputs": {"out": "flatten"}}\n'
    )


def test_numpy_numbers_in_attributes_are_written_as_numbers() -> None:
    op = dataclasses.replace(conv(3, 4), out_channels=np.int64(4))
    assert encode_attributes(op) == encode_attributes(conv(3, 4))
    assert type(encode_attributes(op)["out_channels"]) is int


def test_no_attribute_is_named_like_a_key_of_every_layer() -> None:
    for op in REGISTRY.values():
        assert not set(attribute_types(op.name)) & set(LAYER_KEYS)


def test_every_attribute_of_every_op_can_be_read_and_has_a_schema() -> None:
    ops = {name.removeprefix("op."): rule for name, rule in schema()["$defs"].items() if name.startswith("op.")}
    assert set(ops) == set(REGISTRY)
    classes: dict[str, Any] = dict(REGISTRY)
    for name, op in classes.items():
        assert [k for k in ops[name]["properties"] if k not in LAYER_KEYS] == [f.name for f in dataclasses.fields(op)]
        missing = set(attribute_types(name)) - set(ops[name]["required"])
        assert missing == set(absent_values(name))


def test_what_is_written_satisfies_the_schema_of_its_op() -> None:
    document = json.loads(to_json_text(residual()))
    found = schema()
    assert set(document) == set(found["properties"])
    for layer in document["layers"]:
        rule = found["$defs"][f"op.{layer['op']}"]
        assert set(rule["required"]) <= set(layer) <= set(rule["properties"])


def layer(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in document["layers"] if entry["name"] == name)
    return found


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda d: d.update(format="onnx"), '`format` is "onnx"; "net2net-spec" is needed'),
    "a version of text": (lambda d: d.update(version="1"), '`version` is "1"; a positive integer is needed'),
    "version true": (lambda d: d.update(version=True), "`version` is true"),
    "an unknown key": (lambda d: d.update(output={}), "`output` is no key that version 1 has"),
    "no layers": (lambda d: d.pop("layers"), "has no `layers`"),
    "layers of text": (lambda d: d.update(layers="all"), '`layers` is "all"; a list is needed'),
    "an input without type": (lambda d: d["inputs"][0].pop("dtype"), "`inputs[0]` has no `dtype`"),
    "an input of no type": (lambda d: d["inputs"][0].update(dtype="float"), '`inputs[0].dtype` is "float"'),
    "an input of no size": (lambda d: d["inputs"][0].update(shape=["n", 0]), "`inputs[0].shape[1]` is 0"),
    "an input of true size": (lambda d: d["inputs"][0].update(shape=[True]), "`inputs[0].shape[0]` is true"),
    "an input of named size": (lambda d: d["inputs"][0].update(shape=["m"]), '`inputs[0].shape[0]` is "m"'),
    "an empty batch": (lambda d: d["inputs"][0].update(shape=["0n", 3, 8, 8]), "which no tensor can have"),
    "an unknown op": (lambda d: layer(d, "relu").update(op="RELU"), '`layers[2].op` of layer `relu` is "RELU"'),
    "an op that is a list": (lambda d: layer(d, "relu").update(op=["ReLU"]), "`layers[2].op` of layer `relu`"),
    "an unknown attribute": (
        lambda d: layer(d, "fc").update(biass=True),
        "`layers[13].biass` of layer `fc` is no attr",
    ),
    "no attribute": (lambda d: layer(d, "fc").pop("bias"), "`layers[13]` of layer `fc` has no `bias`"),
    "text for a number": (lambda d: layer(d, "fc").update(in_features="32"), "an integer is needed"),
    "a fraction": (lambda d: layer(d, "fc").update(in_features=32.0), "`layers[13].in_features` of layer `fc` is 32.0"),
    "true for a number": (lambda d: layer(d, "fc").update(in_features=True), "is true; an integer is needed"),
    "a number for true": (lambda d: layer(d, "fc").update(bias=1), "is 1; true or false is needed"),
    "no width": (lambda d: layer(d, "fc").update(out_features=0), "is 0; a number of at least 1 is needed"),
    "a huge width": (lambda d: layer(d, "fc").update(out_features=10**12), "a number of at most 2147483647"),
    "a huge tensor": (lambda d: layer(d, "aux").update(out_features=2**31 - 1), "which no tensor can have here"),
    "a choice": (lambda d: layer(d, "again").update(padding_mode="zero"), "`zeros` or `reflect`"),
    "one entry too many": (lambda d: layer(d, "again").update(stride=[1, 1, 1]), "a list of 2 is needed"),
    "a stride of 0": (lambda d: layer(d, "again").update(stride=[1, 0]), "is 0; a number of at least 1"),
    "text in a list": (lambda d: layer(d, "again").update(stride=[1, "1"]), "`layers[3].stride[1]` of layer `again`"),
    "uneven groups": (lambda d: layer(d, "again").update(groups=3), "3 groups divide 4 or 4 channels unevenly"),
    "another infinity": (lambda d: layer(d, "clip").update(min_val="-Infinity"), "a number is needed"),
    "a broken pattern": (lambda d: layer(d, "flatten").update(pattern="n c ->"), "names different axes"),
    "an axis of no pattern": (lambda d: layer(d, "flatten").update(axes={"z": 2}), "names z, which the pattern does"),
    "an empty name": (lambda d: layer(d, "relu").update(name=""), "a name of 1 to 255 characters"),
    "an empty part": (lambda d: layer(d, "relu").update(name="a..b"), "a name without empty parts"),
    "a slash": (lambda d: layer(d, "relu").update(name="../a"), "without slashes"),
    "a control character": (lambda d: layer(d, "relu").update(name="\x1b[2J"), "printable characters"),
    "half a character": (lambda d: d.update(name="\ud800"), "printable characters"),
    "a name twice": (lambda d: layer(d, "relu").update(name="stem.bn"), "is taken by a layer or input before it"),
    "a name of an input": (lambda d: layer(d, "relu").update(name="image"), "is taken by a layer or input before it"),
    "an unknown input": (lambda d: layer(d, "relu").update(inputs=["stem.b"]), "reads `stem.b`, which no layer before"),
    "a later input": (lambda d: layer(d, "relu").update(inputs=["fc"]), "reads `fc`, which no layer before it makes"),
    "two inputs for one": (lambda d: layer(d, "relu").update(inputs=["image"] * 2), "has 2 entries; 1 is needed"),
    "no input": (lambda d: layer(d, "add").update(inputs=[]), "has 0 entries; at least one is needed"),
    "two operands and a number": (lambda d: layer(d, "add").update(scalar=1), "two are needed, or one and a number"),
    "an unknown owner": (lambda d: layer(d, "again_1").update(weights_of="fc"), "is `fc`, which is no layer before it"),
    "an owner without tensors": (lambda d: layer(d, "again_1").update(weights_of="relu"), "which has no tensors"),
    "another op's tensors": (lambda d: layer(d, "again_1").update(weights_of="stem.conv"), "op or attributes differ"),
    "no owner": (lambda d: layer(d, "again_1").update(weights_of=None), "`layers[4].weights_of`"),
    "a tensor twice": (lambda d: layer(d, "scale").update(name="fc.weight"), "reads `scale`"),
    "no pair": (lambda d: layer(d, "tied").update(tied={"weight": "again"}), "a list of a layer and its tensor is"),
    "a tie of no tensor": (
        lambda d: layer(d, "tied").update(tied={"bias": ["again", "bias"]}),
        "no tensor of `Conv2d`",
    ),
    "a tie to no layer": (lambda d: layer(d, "tied").update(tied={"weight": ["f", "weight"]}), "is no layer before it"),
    "a tie to no owner": (
        lambda d: layer(d, "tied").update(tied={"weight": ["again_1", "weight"]}),
        "no tensor that `again_1` owns",
    ),
    "a tie to another shape": (
        lambda d: layer(d, "tied").update(tied={"weight": ["fc", "weight"]}),
        "is a parameter of shape 5×32; a parameter of 4×4×3×3 is needed",
    ),
    "borrowed from nobody": (
        lambda d: layer(d, "scaled").update(op="linear", in_features=4, out_features=4),
        "has no `weight` in `tied`",
    ),
    "when it likes": (lambda d: layer(d, "aux").update(when="eval"), "`always` or `train` is needed"),
    "no outputs": (lambda d: d.update(outputs={}), "a network has at least one output"),
    "an unknown output": (lambda d: d["outputs"].update(out="fcc"), "`outputs.out` is `fcc`, which no layer makes"),
    "an unknown mode": (lambda d: d["returns"].update(test="out"), "`returns.test` is no mode"),
    "an unknown return": (
        lambda d: d["returns"].update(eval="logits"),
        '`returns.eval` is "logits", which is no output',
    ),
    "an unknown structure": (lambda d: d["returns"].update(eval={"set": ["out"]}), "`returns.eval` is"),
    "code for a name": (
        lambda d: d["returns"]["train"].update(namedtuple="X', []) or print("),
        "a Python name that does not start with an underscore",
    ),
    "training's output in evaluation": (lambda d: d["returns"].update(eval="aux"), "which training alone makes"),
    "a shape that does not fit": (lambda d: layer(d, "fc").update(in_features=31), "31 is needed"),
    "a size of no axis": (
        lambda d: layer(d, "up").update(size=[{"size_of": "image", "axis": 9}, 8]),
        "does not fit its input",
    ),
    "a size of no value": (
        lambda d: layer(d, "up").update(size=[{"size_of": "picture", "axis": 2}, 8]),
        "reads `picture`",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_spec_is_refused_with_the_place_and_what_is_needed(case: str) -> None:
    change, message = BROKEN[case]
    assert message in refusal(changed(change)).message


def test_a_layer_that_always_runs_may_not_read_what_training_alone_makes() -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"].append({"name": "late", "op": "ReLU", "inputs": ["aux"]})

    assert "`when` of layer `late`" in refusal(changed(change)).message.replace("layers[16].", "")


def test_two_layers_may_not_own_one_tensor() -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"].append({"name": "fc.bias", "op": "Parameter", "inputs": [], "size": [5], "trainable": True})

    assert "layers `fc` and `fc.bias` both own the tensor `fc.bias`" in refusal(changed(change)).message


def test_a_newer_version_is_named() -> None:
    error = refusal(changed(lambda d: d.update(version=2, anything=[])))
    assert "written by a newer net2net: version 2 of the format needs a later release" in error.message
    assert error.hint is not None
    assert "upgrade" in error.hint


def test_the_nearest_names_are_offered() -> None:
    assert (
        refusal(changed(lambda d: layer(d, "relu").update(op="RELU"))).hint
        == "did you mean `ReLU` or `RReLU` or `ReLU6`?"
    )
    assert refusal(changed(lambda d: layer(d, "fc").update(biass=True))).hint == "did you mean `bias`?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[]", "an object is needed"),
        ("{" * 5, "is not valid JSON"),
        ('{"format": NaN}', "`NaN` is not JSON"),
        ('{"a": 1, "a": 2}', "the key `a` appears twice"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"version": ' + "9" * 5000 + "}", "is not valid JSON"),
    ],
)
def test_what_is_no_spec_at_all_is_refused(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_returns_nested_too_deeply_are_refused() -> None:
    depth = 20 * sys.getrecursionlimit()  # some versions of Python count calls of C apart
    nested = '{"tuple": [' * depth + '"out"' + "]}" * depth
    text = changed(lambda d: d["returns"].update(eval="HERE")).replace('"HERE"', nested)
    assert "nested too deeply" in refusal(text).message


def test_a_text_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net2net_cli.architecture.spec_file.MAX_BYTES", 100)
    assert "at most 100 are read" in refusal(to_json_text(residual())).message


def test_reading_a_spec_needs_no_torch() -> None:
    for path in Path(str(sys.modules["net2net_cli.architecture.spec_file"].__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in names), path
