"""A network that is built from its graph is the hand-written one: names, values, both modes, return values, ties."""

from __future__ import annotations

import copy
import io
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, SizeOf
from net2net_cli.architecture.shapes import Batch, Shape
from net2net_cli.errors import CheckpointError, SpecError
from net2net_cli.runtime.arrays import to_array, to_tensor
from net2net_cli.runtime.build import Network, build, load_weights, outputs_of, values_of

N = Batch()
Outputs = namedtuple("Outputs", ["logits", "aux"])


def make(op: str, *args: Any, **attributes: Any) -> Any:
    return REGISTRY[op](*args, **attributes)


def conv(inner: int, outer: int) -> Any:
    return make("Conv2d", inner, outer, (3, 3), (1, 1), (1, 1), (1, 1), 1, True, "zeros")


def norm(width: int) -> Any:
    return make("BatchNorm2d", width, 1e-5, 0.1, True, True)


class Residual(nn.Module):
    """A residual block with an auxiliary head, a convolution used twice and a parameter of its own."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, padding=1), "bn": nn.BatchNorm2d(4)})
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.register_buffer("shift", torch.randn(1))
        self.layers = nn.Linear(16, 5)
        self.aux = nn.Linear(16, 5, bias=False)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        y = self.block["bn"](self.block["conv"](self.block["conv"](x)))
        y = torch.relu(y * self.scale + x) - self.shift
        y = nn.functional.adaptive_avg_pool2d(y, (2, 2)).flatten(1)
        out = self.layers(self.drop(y))
        return Outputs(out, self.aux(y)) if self.training else {"out": out}


def residual_graph() -> Graph:
    layers = (
        Layer("stem.0", conv(3, 4), ("x",)),
        Layer("stem.1", norm(4), ("stem.0",)),
        Layer("stem.2", make("ReLU"), ("stem.1",)),
        Layer("block.conv", conv(4, 4), ("stem.2",)),
        Layer("block.conv_1", conv(4, 4), ("block.conv",), weights_of="block.conv"),
        Layer("block.bn", norm(4), ("block.conv_1",)),
        Layer("scale", make("Parameter", (4, 1, 1)), ()),
        Layer("mul", make("mul"), ("block.bn", "scale")),
        Layer("add", make("add"), ("mul", "stem.2")),
        Layer("relu", make("ReLU"), ("add",)),
        Layer("shift", make("Parameter", (1,), trainable=False), ()),
        Layer("sub", make("sub"), ("relu", "shift")),
        Layer("pool", make("AdaptiveAvgPool2d", (2, 2)), ("sub",)),
        Layer("flatten", make("rearrange", "n c h w -> n (c h w)"), ("pool",)),
        Layer("drop", make("Dropout", 0.5), ("flatten",)),
        Layer("layers", make("Linear", 16, 5, True), ("drop",)),
        Layer("aux", make("Linear", 16, 5, False), ("flatten",), when="train"),
    )
    returns: dict[Any, Any] = {
        "eval": {"dict": {"out": "out"}},
        "train": {"namedtuple": "Outputs", "fields": {"logits": "out", "aux": "aux"}},
    }
    x = NetworkInput("x", (N, 3, 4, 4))
    return Graph("residual", "tests:Residual", (x,), layers, {"out": "layers", "aux": "aux"}, returns)


def reader(model: nn.Module) -> Callable[[str], np.ndarray]:
    return lambda name: to_array(model.state_dict()[name])


@pytest.fixture
def original() -> Residual:
    torch.manual_seed(0)
    model = Residual()
    for buffer in (model.stem[1].running_mean, model.block["bn"].running_var):
        assert isinstance(buffer, Tensor)
        buffer.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def rebuilt(original: Residual) -> Network:
    network = build(residual_graph())
    load_weights(network, reader(original))
    return network


def image(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def single(op: Any, *shapes: Shape, others: tuple[Layer, ...] = ()) -> Graph:
    """A network of one op."""
    inputs = tuple(NetworkInput(f"x{i}", shape) for i, shape in enumerate(shapes))
    layers = (*others, Layer("op", op, tuple(i.name for i in inputs)))
    return Graph("single", "tests:single", inputs, layers, {"out": "op"}, {"eval": "out", "train": "out"})


def test_the_state_dict_has_the_names_and_shapes_of_the_original(original: Residual) -> None:
    found = build(residual_graph()).state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in original.state_dict().items()}
    assert set(dict(build(residual_graph()).named_parameters())) == set(dict(original.named_parameters()))


def test_building_allocates_nothing() -> None:
    wide = make("Linear", 2**20, 2**20, False)
    network = build(single(wide, (N, 2**20)))
    assert next(network.parameters()).is_meta


def test_evaluation_computes_what_the_original_computes(original: Residual, rebuilt: Network) -> None:
    expected, found = original.eval()(image()), rebuilt.eval()(image())
    assert list(found) == ["out"]
    assert torch.equal(found["out"], expected["out"])


def test_training_draws_the_same_dropout_and_updates_the_same_statistics(original: Residual, rebuilt: Network) -> None:
    torch.manual_seed(5)
    expected = original.train()(image())
    torch.manual_seed(5)
    found = rebuilt.train()(image())
    assert type(found).__name__ == "Outputs"
    assert found._fields == ("logits", "aux")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    after = original.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in rebuilt.state_dict().items())


def test_gradients_are_those_of_the_original(original: Residual, rebuilt: Network) -> None:
    for network in (original.eval(), rebuilt.eval()):
        network(image())["out"].square().sum().backward()
    expected = {k: p.grad for k, p in original.named_parameters() if p.grad is not None}
    found = {k: p.grad for k, p in rebuilt.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_loading_into_the_original_is_strict_both_ways(original: Residual, rebuilt: Network) -> None:
    original.load_state_dict(rebuilt.state_dict(), strict=True)
    rebuilt.load_state_dict(original.state_dict(), strict=True)


def test_a_copy_and_a_pickled_network_compute_the_same(rebuilt: Network) -> None:
    buffer = io.BytesIO()
    torch.save(rebuilt.eval(), buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(rebuilt), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(image())["out"], rebuilt(image())["out"])
    changed = copy.deepcopy(rebuilt)
    with torch.no_grad():
        next(changed.parameters()).add_(1)
    assert not torch.equal(changed(image())["out"], rebuilt(image())["out"])


def test_a_submodule_that_the_user_replaces_is_used(rebuilt: Network) -> None:
    rebuilt.eval().add_module("layers", nn.Linear(16, 7))
    assert rebuilt(image())["out"].shape == (3, 7)


def test_the_values_of_all_layers_can_be_watched(rebuilt: Network) -> None:
    rebuilt.eval()
    found = dict(values_of(rebuilt, image()))
    assert list(found) == [layer.name for layer in residual_graph().layers if layer.when == "always"]
    assert torch.equal(found["add"], found["mul"] + found["stem.2"])
    assert list(dict(values_of(rebuilt.train(), image())))[-1] == "aux"
    assert set(outputs_of(rebuilt, image())) == {"out", "aux"}


def test_values_are_let_go_after_their_last_reader(rebuilt: Network) -> None:
    steps = rebuilt._plans["eval"].steps
    released = {name: step.name for step in steps for name in step.release}
    assert released["stem.2"] == "add"
    assert released["x"] == "stem.0"
    assert "layers" not in released


def test_inputs_may_be_given_by_name(rebuilt: Network) -> None:
    rebuilt.eval()
    assert torch.equal(rebuilt(x=image())["out"], rebuilt(image())["out"])
    with pytest.raises(TypeError, match="the network takes x; given were 2 by place"):
        rebuilt(image(), image())


def test_weights_that_are_tied_stay_tied() -> None:
    linear = make("Linear", 4, 4, False)
    layers = (Layer("a", linear, ("x",)), Layer("b", linear, ("a",)))
    graph = Graph("tied", "tests:tied", (NetworkInput("x", (N, 4)),), layers, {"out": "b"})
    network = build(graph)
    load_weights(network, {"a.weight": np.eye(4, dtype=np.float32)}.__getitem__, {"b.weight": "a.weight"})
    first, second = network.get_parameter("a.weight"), network.get_parameter("b.weight")
    assert first is second
    assert len(list(network.parameters())) == 1


def test_loaded_weights_are_the_networks_own() -> None:
    array = np.ones((2, 2), np.float32)
    network = build(single(make("Linear", 2, 2, False), (N, 2)))
    array.flags.writeable = False
    load_weights(network, lambda _: array)
    with torch.no_grad():
        network.get_parameter("op.weight").zero_()
    assert array.all()


def test_a_tensor_of_another_shape_is_refused() -> None:
    network = build(single(make("Linear", 2, 2, False), (N, 2)))
    with pytest.raises(CheckpointError, match=r"tensor `op.weight` has the shape \[3, 2\]; the spec needs \[2, 2\]"):
        load_weights(network, lambda _: np.ones((3, 2), np.float32))


def test_floating_point_tensors_alone_are_converted() -> None:
    network = build(single(make("BatchNorm2d", 4, 1e-5, 0.1, True, True), (N, 4, 2, 2)))
    arrays = {k: np.zeros(v.shape, np.int64 if not v.shape else np.float32) for k, v in network.state_dict().items()}
    load_weights(network, arrays.__getitem__, dtype=torch.float64)
    assert {k.partition(".")[2]: v.dtype for k, v in network.state_dict().items()} == {
        **dict.fromkeys(("weight", "bias", "running_mean", "running_var"), torch.float64),
        "num_batches_tracked": torch.int64,
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float64", "int8"])
def test_arrays_of_every_type_travel_both_ways(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype, dtype))
    tensor = to_tensor(array)
    assert str(tensor.dtype) == f"torch.{dtype}"
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    back = to_array(tensor)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_an_unaligned_view_of_a_file_is_read() -> None:
    raw = np.frombuffer(b"\0" + np.arange(3, dtype=np.float32).tobytes(), np.uint8)[1:]
    assert to_tensor(raw.view(np.float32)).tolist() == [0, 1, 2]


def test_a_layer_named_like_an_attribute_of_modules_is_refused_where_its_name_is_contract() -> None:
    linear = make("Linear", 2, 2, False)
    for name in ("training", "forward", "a.parameters"):
        graph = Graph("n", "s", (NetworkInput("x", (N, 2)),), (Layer(name, linear, ("x",)),), {"out": name})
        with pytest.raises(SpecError, match=r"is taken by another layer or by `torch\.nn\.Module` itself"):
            build(graph)


@pytest.mark.parametrize("name", ["training", "forward", "_modules", "values", "graph", "_graph", "layers"])
def test_a_layer_without_tensors_may_have_any_name(name: str) -> None:
    relu = make("ReLU")
    graph = Graph("n", "s", (NetworkInput("x", (N, 2)),), (Layer(name, relu, ("x",)),), {"out": name})
    x = torch.tensor([[-1.0, 1.0]])
    assert build(graph).train()(x).tolist() == [[0.0, 1.0]]


def test_a_layer_may_stand_below_another() -> None:
    linear = make("Linear", 2, 2, False)
    layers = (Layer("a.b", linear, ("x",)), Layer("a", linear, ("a.b",)), Layer("a.scale", make("Parameter", (2,)), ()))
    graph = Graph("n", "s", (NetworkInput("x", (N, 2)),), layers, {"out": "a"})
    assert set(build(graph).state_dict()) == {"a.weight", "a.b.weight", "a.scale"}


def test_sizes_are_read_when_the_network_runs() -> None:
    relu = Layer("relu", make("ReLU"), ("x0",))
    size = make("interpolate", size=(SizeOf("x0", 2), SizeOf("relu", 3)), mode="nearest")
    graph = Graph(
        "n",
        "s",
        (NetworkInput("x0", (N, 1, 4, 6)), NetworkInput("x1", (N, 1, 2, 2))),
        (relu, Layer("op", size, ("x1",))),
        {"out": "op"},
    )
    assert build(graph)(torch.zeros(1, 1, 8, 10), torch.zeros(1, 1, 2, 2)).shape == (1, 1, 8, 10)


def test_attributes_that_pytorch_refuses_are_an_error_of_the_spec() -> None:
    with pytest.raises(SpecError, match=r"layer `op` \(Dropout\) cannot be built"):
        build(single(make("Dropout", 2.0), (N, 4)))
