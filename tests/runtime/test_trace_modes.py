"""Evaluation and training in one graph: what follows the mode, what only training computes, and what is returned."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from net2net_cli import Net2Net
from net2net_cli.errors import TraceError
from net2net_cli.runtime.trace import trace
from runtime.tracing import Calls, assert_same, graph_of, layer_of, ops_of, rebuilt

X = (4, 6)


class Both(NamedTuple):
    logits: Tensor
    hidden: Tensor


class Training(nn.Module):
    """`function(x, training)`, behind a linear layer."""

    def __init__(self, function: Callable[[Tensor, bool], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x), self.training)


@pytest.mark.parametrize(
    ("function", "ops"),
    [
        (lambda x, training: F.dropout(x, 0.3, training=training), ["Dropout"]),
        (lambda x, training: F.dropout(x, 0.3, training), ["Dropout"]),
        (lambda x, training: F.dropout(x, 0.3 if training else 0.0), ["Dropout"]),
        (lambda x, training: F.dropout(x, 0.3) if training else x, ["Dropout"]),
        (lambda x, training: F.dropout(x, 0.3, False), []),
        (lambda x, training: F.dropout(x, 0.0, True), []),
        (lambda x, training: F.alpha_dropout(x, 0.3, training) * 2, ["AlphaDropout", "mul"]),
        (
            lambda x, training: x + torchvision.ops.stochastic_depth(x, 0.5, "row", training),
            ["StochasticDepth", "add"],
        ),
    ],
)
def test_dropout_that_is_a_function_follows_the_mode(function: Callable[..., Any], ops: list[str]) -> None:
    graph = assert_same(Training(function), torch.randn(X))
    assert ops_of(graph) == ["Linear", *ops]
    assert all(layer.when == "always" for layer in graph.layers)


def test_stochastic_depth_and_dropout_modules_keep_their_probabilities() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.depth = torchvision.ops.StochasticDepth(0.4, "row")
            self.drop = nn.Dropout(0.0)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.depth(self.drop(self.fc(x)))
            return out

    graph = assert_same(Block(), torch.randn(X))
    assert graph.by_name["depth"].op.p == 0.4  # type: ignore[attr-defined]
    assert graph.by_name["drop"].op.p == 0.0  # type: ignore[attr-defined]


def test_a_value_that_both_modes_return_has_one_name() -> None:
    graph = assert_same(Training(lambda x, training: Both(x, x.relu()) if training else x), torch.randn(X))
    assert graph.outputs == {"out": "fc", "hidden": "relu"}
    fields = {"logits": "out", "hidden": "hidden"}
    assert graph.returns == {"eval": "out", "train": {"namedtuple": "Both", "fields": fields}}
    assert {layer.name: layer.when for layer in graph.layers} == {"fc": "always", "relu": "train"}


def test_what_evaluation_returns_may_be_inside_what_training_computes() -> None:
    graph = assert_same(Training(lambda x, training: (x * 2).relu() if training else x * 2), torch.randn(X))
    assert graph.returns["eval"] != graph.returns["train"]
    assert {layer.name: layer.when for layer in graph.layers}["relu"] == "train"


@pytest.mark.parametrize(
    ("function", "returns", "outputs"),
    [
        (lambda x: x * 2, "out", {"out": "mul"}),
        (
            lambda x: (x * 2, [x + 1, None]),
            {"tuple": ["out0", {"list": ["out1.0", None]}]},
            {"out0": "mul", "out1.0": "add"},
        ),
        (
            lambda x: {"a": x * 2, "b": {"c": x}},
            {"dict": {"a": "a", "b": {"dict": {"c": "b.c"}}}},
            {"a": "mul", "b.c": "x"},
        ),
        (lambda x: x.chunk(2, 1), {"tuple": ["out0", "out1"]}, {"out0": "chunk", "out1": "chunk_1"}),
        (
            lambda x: namedtuple("Pair", "p q")(x * 2, x * 2 + 1),  # type: ignore[call-arg]
            {"namedtuple": "Pair", "fields": {"p": "p", "q": "q"}},
            {"p": "mul", "q": "add"},
        ),
        (lambda x: [y := x * 2, y], {"list": ["out0", "out0"]}, {"out0": "mul"}),
    ],
)
def test_what_forward_returns_is_kept(function: Callable[[Tensor], Any], returns: Any, outputs: dict[str, str]) -> None:
    graph = assert_same(Calls(function), torch.randn(X))
    assert graph.returns["eval"] == graph.returns["train"] == returns
    assert graph.outputs == outputs


def test_inputs_bear_the_names_of_arguments() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(6, 3)

        def forward(self, left: Tensor, right: Tensor, scale: float = 2.0, extra: Tensor | None = None) -> Tensor:
            out: Tensor = self.left(left) * scale + right
            return out if extra is None else out + extra

    graph = assert_same(Two(), torch.randn(4, 6), torch.randn(4, 3))
    assert [i.name for i in graph.inputs] == ["left_input", "right"]
    assert [(str(i.shape[0]), i.shape[1], i.dtype) for i in graph.inputs] == [("n", 6, "float32"), ("n", 3, "float32")]


class Careless(nn.Module):
    """Leaves traces of a forward pass everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.bn = nn.BatchNorm1d(6, momentum=None)
        self.drop = nn.Dropout(0.5)
        self.calls = 0
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.drop(self.bn(self.fc(x)))
        out: Tensor = self.last
        return out


def test_the_model_is_left_as_it_was() -> None:
    model = Careless()
    model.train()
    model.bn.eval()
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    generators = (random.getstate(), torch.get_rng_state())
    graph = trace(model, (torch.randn(X),), name="careless", source="test")
    assert ops_of(graph) == ["Linear", "BatchNorm1d", "Dropout"]
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert (id(tensor), True) == (before[name][0], torch.equal(tensor, before[name][1])), name
    assert (model.training, model.bn.training, model.drop.training) == (True, False, True)
    assert (model.calls, model.last) == (0, None)
    assert random.getstate() == generators[0]
    assert "forward" not in model.fc.__dict__


def test_the_models_random_state_and_attributes_outlive_a_failure() -> None:
    model = Training(lambda x, training: torch.bernoulli(x))
    state, keys = torch.get_rng_state(), set(model.__dict__)
    with pytest.raises(TraceError):
        graph_of(model, torch.randn(X, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert (set(model.__dict__), model.training) == (keys, True)


def test_batch_size_of_the_example_does_not_matter() -> None:
    model = Training(lambda x, training: x.view(x.shape[0], 2, -1))
    assert graph_of(model, torch.randn(1, 6)) == graph_of(model, torch.randn(5, 6))


def test_networks_that_need_values_are_run_with_values() -> None:
    class NeedsValues(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.register_buffer("scale", torch.tensor([2.0]))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x) * self.scale.to("cpu")
            return out

    assert layer_of(assert_same(NeedsValues(), torch.randn(X)), "mul")


class Frozen(nn.Module):
    """A backbone that is not trained, a target that no gradient reaches, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.0))
        self.middle, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            y = self.backbone(x) * 2
        h = torch.relu(self.middle(x))
        h = h + (y - h).detach() + h.data
        return self.head(h), y


def test_gradients_stop_where_they_stopped() -> None:
    torch.manual_seed(0)
    model, x = Frozen(), torch.randn(4, 6)
    graph = assert_same(model, x)
    assert ops_of(graph).count("detach") == 3
    network = rebuilt(graph, model)
    gradients = []
    for run in (model, network):
        given = x.clone().requires_grad_()
        head, target = run.train()(given)
        assert not target.requires_grad
        head.square().sum().backward()
        gradients.append({name: p.grad for name, p in run.named_parameters()} | {"x": given.grad})
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient)


class Head(Frozen):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def test_what_is_frozen_grows_too() -> None:
    torch.manual_seed(0)
    model, x = Head().double(), torch.randn(4, 6, dtype=torch.float64)
    student = Net2Net.from_module(model, x).widen({"middle": "2x"})
    assert student.graph.by_name["backbone.0"].op.tensors()["weight"].shape == (10, 6)
    torch.testing.assert_close(student.to_module(dtype=torch.float64).eval()(x), model.eval()(x))
