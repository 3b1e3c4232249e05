"""Specs that name code: all of it is written, nothing of it is run, and what is wrong is told with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, Input
from net2net_cli.architecture.ops.arguments import Form, decode_argument, encode_argument, unfolded
from net2net_cli.architecture.ops.opaque import Code, Opaque
from net2net_cli.architecture.python_source import python_source
from net2net_cli.architecture.shapes import Batch
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.architecture.spec_schema import schema
from net2net_cli.architecture.trust import check_trust, named_code
from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import SpecError, UntrustedCodeError, UsageError
from net2net_cli.runtime.build import build

N = Batch()
X = Input(0)
SOURCE = """
import torch
from torch import nn

class Scale(nn.Module):
    def __init__(self, width, power=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), power))
        self.inner = nn.Linear(width, width)

    def forward(self, x, times=1):
        return (self.inner(x) * self.weight * times, None)

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.blocks = nn.ModuleList([Scale(width), Scale(width, 2.0)])
"""


def op(name: str, *args: Any, **attributes: Any) -> Any:
    return REGISTRY[name](*args, **attributes)


def network(place: str = "/nowhere/scales.py") -> Graph:
    """Functions, attributes, methods; a module of torch, a class of a file, and a part of a network."""
    parameters = {"weight": (4,), "inner.weight": (4, 4), "inner.bias": (4,)}
    scale = Opaque(
        *("module", f"{place}:Scale", ("n", 3, 4), (X,), {"times": 2}, {"width": 4, "power": 0.5}),
        output=0,
        parameters=parameters,
    )
    part = Opaque(
        *("module", f"{place}:Net", ("n", 3, 4), (X,), {}, {"width": 4}, "blocks.1", 0), parameters=parameters
    )
    pair = Opaque(
        *("module", "torch.nn:Bilinear", ("n", 3, 4), (Input(0), Input(1)), {}),
        {"in1_features": 4, "in2_features": 4, "out_features": 4, "bias": False},
        parameters={"weight": (4, 4, 4)},
    )
    layers = (
        Layer("fc", op("Linear", 4, 4, True), ("x",)),
        Layer("sum", Opaque("function", "torch:cumsum", ("n", 3, 4), (X, 1)), ("fc",)),
        Layer("roll", Opaque("function", "torch:Tensor.roll", ("n", 3, 4), (X, (1,), Form("tuple", (2,)))), ("sum",)),
        Layer("fft", Opaque("function", "torch.fft:fft", ("n", 3, 4), (X,), {"dim": -1}), ("roll",)),
        Layer("real", Opaque("function", "builtins:getattr", ("n", 3, 4), (X, "real")), ("fft",)),
        Layer("scale", scale, ("real",)),
        Layer("net.part", part, ("scale",)),
        Layer("pair", pair, ("net.part", "sum")),
        Layer("logsigmoid", Opaque("function", "torch.nn.functional:logsigmoid", ("n", 3, 4), (X,)), ("pair",)),
    )
    return Graph("kept", "", (NetworkInput("x", (N, 3, 4)),), layers, {"out": "logsigmoid"})


def changed(change: Callable[[dict[str, Any]], object], layer: str = "sum") -> str:
    document = json.loads(to_json_text(network()))
    change(next(entry for entry in document["layers"] if entry["name"] == layer))
    return json.dumps(document)


def test_a_spec_says_all_of_it_and_is_the_same_text_again() -> None:
    text = to_json_text(network())
    assert from_json_text(text, where="test") == network()
    assert to_json_text(from_json_text(text, where="test")) == text
    assert (
        '{"name": "roll", "op": "opaque", "inputs": ["sum"], "kind": "function", "rebuild": "torch:Tensor.roll", '
        '"output_shape": ["n", 3, 4], "args": [{"input": 0}, [1], {"tuple": [2]}]}'
    ) in text


@pytest.mark.parametrize(
    ("value", "python"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("sum", "sum"),
        ((1, 2), [1, 2]),
        (Form("tuple", (1, (2,))), (1, [2])),
        (Form("float", "-inf"), float("-inf")),
        (Form("dict", (("a", 1), ("b", Form("tuple", ())))), {"a": 1, "b": ()}),
        (Form("slice", (None, 3, -1)), slice(None, 3, -1)),
        (Form("dtype", "int64"), Form("dtype", "int64")),
        (Input(2), Input(2)),
    ],
)
def test_every_kind_of_argument_survives_json(value: Any, python: Any) -> None:
    def fail(found: object, needed: str) -> None:
        raise AssertionError((found, needed))

    assert decode_argument(json.loads(json.dumps(encode_argument(value))), fail) == value
    assert unfolded(value) == python


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no place": (lambda e: e.update(rebuild="cumsum"), "neither `package.module:callable` nor `file.py:callable`"),
    "code for a name": (lambda e: e.update(rebuild="os:system('x')"), "neither `package.module:callable`"),
    "code for a place": (lambda e: e.update(rebuild="__import__('os'):system"), "neither `package.module:callable`"),
    "a line break": (lambda e: e.update(rebuild="a\nb.py:f"), "neither `package.module:callable`"),
    "an address": (lambda e: e.update(rebuild="https://x.org/a.py:f"), "neither `package.module:callable`"),
    "no text": (lambda e: e.update(rebuild=3), "`layers[1].rebuild` of layer `sum` is 3; a string is needed"),
    "no shape": (lambda e: e.pop("output_shape"), "has no `output_shape`, which `opaque` needs"),
    "another shape": (lambda e: e.update(output_shape=["m"]), "`m` is no size"),
    "an unknown kind": (lambda e: e.update(kind="lambda"), "`function` or `module` is needed"),
    "an input too many": (lambda e: e.update(args=[{"input": 0}, {"input": 1}]), "the inputs [0, 1], and it has 1"),
    "no input": (lambda e: e.update(args=[1]), "its arguments hold the inputs [], and it has 1"),
    "a negative input": (lambda e: e.update(args=[{"input": -1}]), "`input` and its number"),
    "an unknown form": (
        lambda e: e.update(args=[{"lambda": "x"}]),
        "one of `tuple`, `dict`, `slice`, `dtype`, `float`",
    ),
    "an unknown dtype": (
        lambda e: e.update(args=[{"dtype": "__class__"}]),
        "one of `tuple`, `dict`, `slice`, `dtype`, `float`",
    ),
    "a huge number": (lambda e: e.update(args=[{"input": 0}, 2**70]), "a 64-bit integer is needed"),
    "a keyword that is none": (lambda e: e.update(kwargs={"x=1, y": 1}), "a keyword is no Python name"),
    "tensors of a function": (lambda e: e.update(parameters={"w": [1]}), "a function has no `made_with`"),
    "a submodule of a function": (lambda e: e.update(submodule="a"), "a function has no `made_with`"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_opaque_layer_is_refused_with_its_place(case: str) -> None:
    change, message = BROKEN[case]
    with pytest.raises(SpecError) as caught:
        from_json_text(changed(change), where="`spec.json`")
    assert message in caught.value.message
    assert "`spec.json`" in caught.value.message


def test_a_module_whose_tensors_make_no_sense_is_refused() -> None:
    for change in (
        lambda e: e.update(parameters={"a..b": [1]}),
        lambda e: e.update(parameters={"w": [-1]}),
        lambda e: e.update(parameters={"w": [1]}, buffers={"w": [1]}),
        lambda e: e.update(submodule="a..b"),
        lambda e: e.update(made_with={"width": {"input": 0}}),
        lambda e: e.update(output=-1),
    ):
        with pytest.raises(SpecError, match="layer `scale` cannot be"):
            from_json_text(changed(change, "scale"), where="test")


def test_the_schema_describes_the_op() -> None:
    found = schema()["$defs"]
    assert found["op.opaque"]["properties"]["args"]["items"] == {"$ref": "#/$defs/argument"}
    assert found["op.opaque"]["properties"]["kind"] == {"enum": ["function", "module"]}
    needed = {"name", "op", "inputs", "kind", "rebuild", "output_shape", "args"}
    assert set(found["op.opaque"]["required"]) == needed
    assert {"type": "string"} in found["argument"]["anyOf"]


def test_code_is_named_with_the_layers_that_need_it() -> None:
    found = named_code(network())
    assert found["torch:cumsum"] == ["sum"]
    assert list(found)[-2:] == ["torch.nn:Bilinear", "torch.nn.functional:logsigmoid"]
    with pytest.raises(UntrustedCodeError) as caught:
        check_trust(network(), trusted=False)
    assert "`torch:cumsum` (layer `sum`)" in caught.value.message
    assert "and 4 more" in caught.value.message
    assert "`--trust-code`" in str(caught.value.hint)
    check_trust(network(), trusted=True)


def test_looking_at_it_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    graph = from_json_text(changed(lambda e: e.update(rebuild=f"{trap}:act")), where="test")
    find_labels(graph)
    python_source(graph, class_name="Kept")
    with pytest.raises(UntrustedCodeError):
        build(graph)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["trap.py"]


def test_places_are_read_as_people_write_them() -> None:
    assert Code.of("torch.fft:rfft2").dotted == "torch.fft.rfft2"
    assert Code.of("nets/my model.py:Net.make") == Code("nets/my model.py", "Net.make")
    assert Code.of("nets/my model.py:Net").is_file


def test_the_exported_file_imports_the_code_and_computes_the_same(tmp_path: Path) -> None:
    (tmp_path / "scales.py").write_text(SOURCE)
    graph = network(str(tmp_path / "scales.py"))
    built = build(graph, trust_code=True)
    state = {
        name: torch.randn(slot.shape, generator=torch.Generator().manual_seed(i))
        for i, (name, _, _, slot) in enumerate(graph.tensors())
    }
    built.load_state_dict(state, assign=True)
    text = python_source(graph, class_name="Kept")
    for line in (
        "import scales  # ",
        'scales.Net(width=4).get_submodule("blocks.1")',
        "torch.cumsum(x, 1)",
        "x.roll([1], (2,))",
        "torch.fft.fft(roll, dim=-1)",
        "roll = roll.real",
        "self.scale(roll, times=2)[0]",
        "F.logsigmoid(",
    ):
        assert line in text, (line, text)
    (tmp_path / "kept.py").write_text(text)
    x = torch.randn(2, 3, 4)
    torch.save({"state": state, "x": x}, tmp_path / "given.pt")
    code = (
        "import torch, kept; d = torch.load('given.pt'); m = kept.Kept()\n"
        "m.load_state_dict(d['state'], strict=True); torch.save(m.eval()(d['x']), 'out.pt')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "out.pt"), built.eval()(x))


def test_a_file_that_no_import_can_name_is_refused() -> None:
    graph = network("/nowhere/my-scales.py")
    with pytest.raises(UsageError, match="`my-scales` is no name of a module") as caught:
        python_source(graph, class_name="Kept")
    assert "`--to torch`" in str(caught.value.hint)
