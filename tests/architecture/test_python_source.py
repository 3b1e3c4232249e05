"""The exported file is plain PyTorch: it loads the state dict strictly and computes what the network computes."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, SizeOf
from net2net_cli.architecture.python_source import class_name_for, python_source
from net2net_cli.architecture.shapes import Batch, Shape, concrete
from net2net_cli.errors import SpecError, UsageError
from net2net_cli.runtime.arrays import to_array
from net2net_cli.runtime.build import Network, build, load_weights

N = Batch()


def make(op: str, *args: Any, **attributes: Any) -> Any:
    return REGISTRY[op](*args, **attributes)


def conv(inner: int, outer: int, *, stride: int = 1, groups: int = 1) -> Any:
    return make("Conv2d", inner, outer, (3, 3), (stride,) * 2, (1, 1), (1, 1), groups, True, "zeros")


def norm(width: int) -> Any:
    return make("BatchNorm2d", width, 1e-5, 0.1, True, True)


def residual_graph() -> Graph:
    """Containers of every kind, weights used twice, an auxiliary head, named tuples, sizes read at run time."""
    layers = (
        Layer("stem.0", conv(3, 4), ("image",)),
        Layer("stem.1", norm(4), ("stem.0",)),
        Layer("stem.2", make("ReLU"), ("stem.1",)),
        Layer("layer1.0.conv1", conv(4, 4, groups=2), ("stem.2",)),
        Layer("layer1.0.conv2", conv(4, 4, groups=2), ("layer1.0.conv1",), weights_of="layer1.0.conv1"),
        Layer("layer1.0.bn", make("FrozenBatchNorm2d", 4, 1e-5), ("layer1.0.conv2",)),
        Layer("layer1.0.gamma", make("Parameter", (4, 1, 1)), ()),
        Layer("layer1.0.mul", make("mul"), ("layer1.0.bn", "layer1.0.gamma")),
        Layer("layer1.0.drop", make("StochasticDepth", 0.5, "row"), ("layer1.0.mul",)),
        Layer("layer1.0.add", make("add"), ("layer1.0.drop", "stem.2")),
        Layer("head.values", conv(4, 6, stride=2), ("layer1.0.add",)),
        Layer("head.shift", make("Parameter", (1,), trainable=False), ()),
        Layer("head.sub", make("sub"), ("head.values", "head.shift")),
        Layer("up", make("interpolate", size=(SizeOf("image", 2), SizeOf("image", 3))), ("head.sub",)),
        Layer("cat", make("cat", 1), ("up", "layer1.0.add")),
        Layer("half", make("slice", 1, 5, 10, 1), ("cat",)),
        Layer("power", make("pow", -1), ("half",)),
        Layer("rsub", make("rsub", -2.5), ("half",)),
        Layer("clip", make("clamp", min=float("-inf"), max=3.0), ("rsub",)),
        Layer("pool", make("AdaptiveAvgPool2d", (1, 1)), ("clip",)),
        Layer("flatten", make("rearrange", "n c h w -> n (c h w)"), ("pool",)),
        Layer("dropout", make("Dropout", 0.5), ("flatten",)),
        Layer("fc", make("Linear", 5, 7, True), ("dropout",)),
        Layer("aux.pool", make("AdaptiveAvgPool2d", (1, 1)), ("layer1.0.add",), when="train"),
        Layer("aux.flatten", make("rearrange", "n c h w -> n (c h w)"), ("aux.pool",), when="train"),
        Layer("aux.fc", make("Linear", 4, 7, False), ("aux.flatten",), when="train"),
    )
    returns: dict[Any, Any] = {
        "eval": {"dict": {"logits": "out", "parts": {"list": ["power", None]}}},
        "train": {"namedtuple": "Outputs", "fields": {"logits": "out", "aux": {"tuple": ["aux"]}}},
    }
    outputs = {"out": "fc", "aux": "aux.fc", "power": "power"}
    return Graph("residual", "tests:residual", (NetworkInput("image", (N, 3, 6, 6)),), layers, outputs, returns)


def single(op: Any, *shapes: Shape, name: str = "op") -> Graph:
    inputs = tuple(NetworkInput(f"x{i}", shape) for i, shape in enumerate(shapes))
    return Graph("single", "tests:single", inputs, (Layer(name, op, tuple(i.name for i in inputs)),), {"out": name})


def load(graph: Graph, class_name: str = "Student") -> type[nn.Module]:
    """The class in the exported file."""
    names: dict[str, Any] = {}
    exec(compile(python_source(graph, class_name=class_name), "exported.py", "exec"), names)
    found: type[nn.Module] = names[class_name]
    return found


def filled(graph: Graph) -> Network:
    """The network with random weights."""
    torch.manual_seed(0)
    network = build(graph)
    values = {
        k: torch.rand(v.shape) if v.is_floating_point() else torch.zeros(v.shape, dtype=v.dtype)
        for k, v in network.state_dict().items()
    }
    load_weights(network, lambda name: to_array(values[name]))
    return network


def tensors(value: Any) -> list[Any]:
    """A returned structure, types and all, with lists for tensors."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return ["dict", *((k, tensors(v)) for k, v in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, getattr(value, "_fields", None), *map(tensors, value)]
    return [value]


def check(graph: Graph) -> nn.Module:
    """The exported module loads the network's state dict strictly and computes the same in both modes."""
    network, exported = filled(graph), load(graph)()
    exported.load_state_dict(network.state_dict(), strict=True)
    inputs = [torch.rand(concrete(i.shape, 2)) + 0.1 for i in graph.inputs]
    for mode in (True, False):
        torch.manual_seed(1)
        expected = network.train(mode)(*inputs)
        torch.manual_seed(1)
        assert tensors(exported.train(mode)(*inputs)) == tensors(expected)
    return exported


def test_a_whole_network_computes_the_same_in_both_modes() -> None:
    exported = check(residual_graph())
    assert set(dict(exported.named_parameters())) == set(dict(filled(residual_graph()).named_parameters()))


def test_the_file_reads_as_a_person_would_write_it() -> None:
    layers = (
        Layer("conv1", conv(3, 4), ("x",)),
        Layer("relu", make("ReLU"), ("conv1",)),
        Layer("layer1.0.conv", conv(4, 4), ("relu",)),
        Layer("layer1.0.bn", norm(4), ("layer1.0.conv",)),
        Layer("add", make("add"), ("layer1.0.bn", "relu")),
        Layer("layer1.1", make("Tanh"), ("add",)),
        Layer("flatten", make("rearrange", "n c h w -> n (c h w)"), ("layer1.1",)),
        Layer("head.fc", make("Linear", 64, 5, True), ("flatten",)),
        Layer("head.act", make("GELU"), ("head.fc",)),
    )
    x = NetworkInput("x", (N, 3, 4, 4))
    graph = Graph("small", "models:small", (x,), layers, {"out": "head.act"}, {"eval": "out", "train": "out"})
    assert (
        python_source(graph, class_name="Small")
        == '''\
"""Small: generated by net2net from `models:small`.

    from safetensors.torch import load_file

    model = Small()
    model.load_state_dict(load_file("student.safetensors"), strict=True)

Input: `x` (n, 3, 4, 4), float32.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.layer1 = nn.ModuleList(
            [
                nn.Sequential(
                    OrderedDict(
                        conv=nn.Conv2d(4, 4, kernel_size=3, padding=1),
                        bn=nn.BatchNorm2d(4),
                    ),
                ),
                nn.Tanh(),
            ],
        )
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(64, 5), act=nn.GELU()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.relu(x)
        layer1_0 = self.layer1[0](x)
        x = layer1_0 + x
        x = self.layer1[1](x)
        x = torch.flatten(x, 1, 3)
        x = self.head(x)
        return x
'''
    )


@pytest.mark.parametrize("graph", [residual_graph(), single(make("mul", 2.0), (N, 3))], ids=["residual", "single"])
def test_the_file_is_formatted_and_has_no_unused_import(tmp_path: Path, graph: Graph) -> None:
    path = tmp_path / "student.py"
    path.write_text(python_source(graph, class_name="Student"))
    for command in (["format", "--check", "--diff"], ["check", "--select", "F,I"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_imports_torch_and_the_standard_library_only() -> None:
    modules = set()
    for node in ast.walk(ast.parse(python_source(residual_graph(), class_name="Student"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).split(".")[0])
    assert modules == {"torch", "collections"}


OPS: dict[str, tuple[Any, tuple[Shape, ...]]] = {
    "number minus": (make("rsub", 1), ((N, 4),)),
    "number by": (make("rdiv", 2.0), ((N, 4),)),
    "negative number to the power": (make("rpow", 2), ((N, 4),)),
    "minus a negative number": (make("sub", -1.5), ((N, 4),)),
    "square": (make("square"), ((N, 4),)),
    "chunk": (make("chunk", 2, 1, 1), ((N, 6),)),
    "split": (make("split", (2, 4), 1, 1), ((N, 6),)),
    "slice": (make("slice", 1, 1, 6, 2), ((N, 6),)),
    "select": (make("select", 1, 2), ((N, 6),)),
    "expand": (make("expand", (-1, 5, 3)), ((N, 1, 3),)),
    "pad": (make("pad", (1, 2), "reflect"), ((N, 1, 6),)),
    "mean": (make("mean", (2, 3), keepdim=True), ((N, 2, 3, 4),)),
    "shuffle": (make("rearrange", "n (g c) h -> n (c g) h", {"g": 2}), ((N, 6, 3),)),
    "nothing": (make("rearrange", "n c -> n c"), ((N, 3),)),
    "normalize": (make("normalize"), ((N, 5),)),
    "matmul": (make("matmul"), ((N, 4, 3), (N, 3, 5))),
    "layer norm": (make("LayerNorm", (5,), 1e-6, True, False), ((N, 5),)),
    "layer norm over two axes": (make("LayerNorm", (3, 3), 1e-5, True, True), ((N, 3, 3),)),
    "group norm": (make("GroupNorm", 2, 4, 1e-5, True), ((N, 4, 3),)),
    "instance norm": (make("InstanceNorm1d", 4, 1e-5, 0.1, True, True), ((N, 4, 3),)),
    "batch norm without statistics": (make("BatchNorm1d", 4, 1e-3, None, False, False), ((N, 4),)),
    "uneven window": (make("Conv2d", 1, 2, (3, 1), (1, 2), (1, 0), (1, 1), 1, False, "circular"), ((N, 1, 5, 5),)),
    "same padding": (make("Conv1d", 2, 2, (3,), (1,), "same", (1,), 2, True, "zeros"), ((N, 2, 5),)),
    "transposed": (
        make("ConvTranspose2d", 2, 3, (3, 3), (2, 2), (1, 1), (1, 1), 1, True, "zeros", (1, 1)),
        ((N, 2, 4, 4),),
    ),
    "max pooling": (make("MaxPool2d", (3, 3), (2, 2), (1, 1), (1, 1), True), ((N, 2, 5, 5),)),
    "average pooling": (make("AvgPool2d", (2, 2), (1, 1), (1, 1), False, False), ((N, 2, 4, 4),)),
    "power pooling": (make("LPPool1d", 2.0, (2,), (2,)), ((N, 2, 4),)),
    "half pooled": (make("AdaptiveAvgPool2d", (None, 2)), ((N, 2, 4, 4),)),
    "all kept": (make("AdaptiveMaxPool2d", (None, None)), ((N, 2, 4, 4),)),
    "bounds": (make("Hardtanh", float("-inf"), 0.5), ((N, 4),)),
    "gelu": (make("GELU", "tanh"), ((N, 4),)),
    "softmax": (make("Softmax", -1), ((N, 4),)),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_computes_the_same(name: str) -> None:
    op, shapes = OPS[name]
    check(single(op, *shapes))


@pytest.mark.parametrize(
    "name", ["values", "0", "class", "a.keys", "a.0", "a.class", "naïve.x", 'quote".a', "_conv", "forward_"]
)
def test_a_layer_may_have_any_name_that_a_submodule_can_have(name: str) -> None:
    check(single(make("Linear", 3, 3, True), (N, 3), name=name))
    check(single(make("Parameter", (2, 3)), name=name) if "." in name else single(make("ReLU"), (N, 3), name=name))


@pytest.mark.parametrize("name", ["training", "forward", "a.type", "_modules", "self", "torch", "F", "x0_", "a.b"])
def test_a_layer_without_tensors_may_have_any_name(name: str) -> None:
    check(single(make("ReLU"), (N, 3), name=name))
    check(single(make("neg"), (N, 3), name=name))


def test_a_layer_with_tensors_cannot_have_the_name_of_a_method() -> None:
    with pytest.raises(SpecError, match=r"`a\.type` cannot be written: `nn.Module` itself has a `type`"):
        python_source(single(make("Linear", 3, 3, True), (N, 3), name="a.type"), class_name="Student")


def test_layers_below_other_layers_are_reached() -> None:
    linear = make("Linear", 3, 3, False)
    layers = (
        Layer("a.b", linear, ("x",)),
        Layer("a", linear, ("a.b",)),
        Layer("a.scale", make("Parameter", (3,)), ()),
        Layer("a.shift", make("Parameter", (3,), trainable=False), ()),
        Layer("mul", make("mul"), ("a", "a.scale")),
        Layer("add", make("add"), ("mul", "a.shift")),
    )
    check(Graph("n", "s", (NetworkInput("x", (N, 3)),), layers, {"out": "add"}))


def test_a_value_that_is_returned_and_read_again_keeps_its_variable() -> None:
    layers = (
        Layer("a", make("ReLU"), ("x",)),
        Layer("b", make("neg"), ("a",)),
        Layer("c.a", make("add"), ("b", "x")),
        Layer("d.a", make("mul"), ("c.a", "a")),
    )
    returns: dict[Any, Any] = {"eval": {"tuple": ["first"]}, "train": {"tuple": ["first", "last"]}}
    outputs = {"first": "a", "last": "d.a"}
    check(Graph("n", "s", (NetworkInput("x", (N, 3)),), layers, outputs, returns))


def chain(*names: str) -> list[Layer]:
    """Linear layers, each reading the one before it."""
    read = ("x", *names)
    return [Layer(name, make("Linear", 3, 3, True), (read[i],)) for i, name in enumerate(names)]


def of(layers: list[Layer], *outputs: str) -> Graph:
    named = {f"out{i}": name for i, name in enumerate(outputs or (layers[-1].name,))}
    return Graph("n", "s", (NetworkInput("x", (N, 3)),), tuple(layers), named)


NEG = make("neg")
ONE_AFTER_ANOTHER: dict[str, tuple[Graph, int]] = {
    "numbered": (of(chain("a.0", "a.1", "a.2")), 1),
    "named": (of(chain("a.up", "a.down")), 1),
    "nested": (of(chain("a.0.up", "a.0.down", "a.1.up", "a.1.down")), 1),
    "two of them": (of(chain("a.0", "a.1", "b.0", "b.1")), 2),
    "against the numbers": (of(chain("a.1", "a.0")), 0),
    "with names of methods": (of(chain("a.pop", "a.append")), 0),
    "with names of no variable": (of(chain("a.b-0", "a.b-1")), 0),
    "returned in the middle": (of(chain("a.0", "a.1"), "a.0", "a.1"), 0),
    "read in the middle": (of([*chain("a.0", "a.1"), Layer("add", make("add"), ("a.1", "a.0"))]), 0),
    "something between": (of([*chain("a.0"), Layer("n", NEG, ("a.0",)), Layer("a.1", make("ReLU"), ("n",))]), 0),
    "another branch between": (
        of([*chain("a.0"), Layer("n", NEG, ("x",)), Layer("a.1", make("ReLU"), ("a.0",))], "n", "a.1"),
        0,
    ),
    "shared": (of([*chain("a.0", "a.1"), Layer("b", make("Linear", 3, 3, True), ("a.1",), weights_of="a.0")]), 0),
    "with a parameter": (of([*chain("a.0", "a.1"), Layer("a.p", make("Parameter", (3,)), ())], "a.1"), 0),
}


@pytest.mark.parametrize("name", ONE_AFTER_ANOTHER)
def test_modules_that_run_one_after_another_are_a_sequential(name: str) -> None:
    graph, calls = ONE_AFTER_ANOTHER[name]
    exported = check(graph)
    assert sum(type(child) is nn.Sequential for child in exported.children()) == calls


def test_named_tuples_of_one_name_are_kept_apart() -> None:
    returns: dict[Any, Any] = {
        "eval": {"namedtuple": "torch", "fields": {"a": "out"}},
        "train": {"namedtuple": "torch", "fields": {"a": "out", "b": None}},
    }
    relu = (Layer("relu", make("ReLU"), ("x",)),)
    graph = Graph("n", "s", (NetworkInput("x", (N, 3)),), relu, {"out": "relu"}, returns)
    check(graph)


def test_tied_weights_are_tied() -> None:
    linear = make("Linear", 3, 3, False)
    layers = (Layer("a.x", linear, ("x",)), Layer("b", linear, ("a.x",)))
    graph = Graph("n", "s", (NetworkInput("x", (N, 3)),), layers, {"out": "b"})
    source = python_source(graph, class_name="Tied", aliases={"b.weight": "a.x.weight"})
    names: dict[str, Any] = {}
    exec(source, names)
    assert len(list(names["Tied"]().parameters())) == 1
    assert 'load_model(model, "student.safetensors", strict=True)' in source


def test_text_of_the_graph_cannot_become_code() -> None:
    hostile = '"""\n    import os  # \\'
    layers = (Layer('a"](x); print("', make("Linear", 3, 3, True), ("x",)),)
    returns: dict[Any, Any] = {"eval": {"dict": {'"}; print("': "out"}}}
    graph = Graph(hostile, hostile, (NetworkInput("x = print()", (N, 3)),), (), {"out": "x = print()"}, returns)
    other = Graph(hostile, hostile, (NetworkInput("x", (N, 3)),), layers, {"out": layers[0].name}, returns)
    for each in (graph, other):
        tree = ast.parse(python_source(each, class_name="Student"))
        assert "print" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "os" not in {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        check(each)


@pytest.mark.parametrize("name", ["class", "1st", "torch", "a b", ""])
def test_a_name_that_no_class_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a class"):
        python_source(single(make("ReLU"), (N, 3)), class_name=name)


@pytest.mark.parametrize(
    ("name", "expected"), [("small_resnet", "SmallResnet"), ("3d", "Network3d"), ("", "Network"), ("F", "NetworkF")]
)
def test_a_class_name_is_made_of_the_networks(name: str, expected: str) -> None:
    assert class_name_for(Graph(name, "s", (), (), {})) == expected


def test_a_network_called_like_a_class_that_its_file_defines_gets_another_name() -> None:
    gru = make("GRU", 3, 4, 1, True, True, 0.0, False)
    graph = replace(single(gru, (N, 5, 3)), name="GRU")
    assert class_name_for(graph) == "NetworkGRU"
    with pytest.raises(UsageError, match="is no name for a class"):
        python_source(graph, class_name="GRU")
    check(graph)


def test_exporting_needs_no_torch() -> None:
    code = "import sys, net2net_cli.architecture.python_source; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
