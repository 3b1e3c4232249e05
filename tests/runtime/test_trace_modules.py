"""Modules: used twice, subclassed, tied, hooked, called as functions of their parameters; names that result."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from net2net_cli.runtime.trace import unused_tensors
from runtime.tracing import assert_same, graph_of, ops_of

IMAGE = (2, 4, 6, 6)


class Holds(nn.Module):
    """Modules by name, and a forward that is given."""

    def __init__(self, function: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def test_a_module_with_tensors_that_is_used_again_shares_them() -> None:
    model = Holds(lambda m, x: m.relu(m.conv(x)) + m.relu(m.conv(m.conv(x))), conv=nn.Conv2d(4, 4, 1), relu=nn.ReLU())
    graph = assert_same(model, torch.randn(IMAGE))
    assert [(layer.name, layer.weights_of) for layer in graph.layers] == [
        ("conv", None),
        ("relu", None),
        ("conv_1", "conv"),
        ("conv_2", "conv"),
        ("relu_1", None),
        ("add", None),
    ]


def test_names_do_not_collide_with_modules_or_tensors() -> None:
    model = Holds(
        lambda m, x: m.relu(m.add(m.relu(x)) + m.relu_1(x)),
        relu=nn.ReLU(),
        relu_1=nn.Conv2d(4, 4, 1),
        add=nn.Conv2d(4, 4, 1),
    )
    graph = assert_same(model, torch.randn(IMAGE))
    assert [layer.name for layer in graph.layers] == ["relu", "add", "relu_1", "add_1", "relu_2"]
    assert {name for name, *_ in graph.tensors()} == set(model.state_dict())


def test_two_modules_with_the_same_tensors_are_one_owner_and_one_user() -> None:
    a, b = nn.Linear(6, 6), nn.Linear(6, 6)
    b.weight, b.bias = a.weight, a.bias
    model = Holds(lambda m, x: m.b(m.a(x)), a=a, b=b)
    graph = assert_same(model, torch.randn(IMAGE))
    assert [(layer.name, layer.weights_of) for layer in graph.layers] == [("a", None), ("b", "a")]
    assert unused_tensors(model, graph) == []


def test_tensors_that_nothing_uses_are_told() -> None:
    model = Holds(lambda m, x: m.a(x), a=nn.Conv2d(4, 4, 1), spare=nn.BatchNorm2d(4))
    graph = assert_same(model, torch.randn(IMAGE))
    assert [name.split(".")[0] for name in unused_tensors(model, graph)] == ["spare"] * 5


class SameConv(nn.Conv2d):
    """Adds nothing to what a convolution computes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3)
        self.note = "mine"


class WrittenOut(nn.Conv2d):
    """Says what a convolution does in its own words."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ChannelsLast(nn.LayerNorm):
    """Layer norm of channels, as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Acting(nn.BatchNorm2d):
    """Batch norm and an activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class ActingInItsOwnWords(nn.BatchNorm2d):
    """The same as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, factor, self.eps).relu()


@pytest.mark.parametrize(
    ("module", "ops", "owner"),
    [
        (SameConv(4), ["Conv2d"], "inner"),
        (WrittenOut(4, 4, 3, padding=1), ["Conv2d"], "inner"),
        (ChannelsLast(4), ["rearrange", "LayerNorm", "rearrange"], "inner"),
        (Acting(4), ["BatchNorm2d", "ReLU"], "inner"),
        (ActingInItsOwnWords(4), ["BatchNorm2d", "ReLU"], "inner"),
        (nn.PReLU(4), ["PReLU"], "inner"),
        (torchvision.ops.FrozenBatchNorm2d(4), ["FrozenBatchNorm2d"], "inner"),
    ],
)
def test_subclasses_are_what_they_compute(module: nn.Module, ops: list[str], owner: str) -> None:
    graph = assert_same(Holds(lambda m, x: m.inner(x), inner=module), torch.randn(IMAGE))
    assert ops_of(graph) == ops
    assert {layer.name for _, layer, *_ in graph.tensors()} == {owner}


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: F.conv2d(x, m.inner.weight, m.inner.bias, padding="same"),
        lambda m, x: F.conv2d(x, m.inner.weight, stride=(2, 1), bias=m.inner.bias),
        lambda m, x: F.conv2d(x, m.inner.weight, m.inner.bias) + F.pad(m.inner(x), (0, 0)),
    ],
)
def test_functions_of_a_modules_parameters_are_its_layer(call: Any) -> None:
    graph = assert_same(Holds(call, inner=nn.Conv2d(4, 3, 1)), torch.randn(IMAGE))
    assert graph.layers[0].name == "inner"


def test_linear_group_norm_and_prelu_as_functions() -> None:
    def call(m: Any, x: Tensor) -> Tensor:
        x = F.linear(x, m.fc.weight, m.fc.bias)
        x = F.group_norm(x, 2, m.norm.weight, m.norm.bias, m.norm.eps)
        return F.prelu(x, m.act.weight)

    model = Holds(call, fc=nn.Linear(6, 5), norm=nn.GroupNorm(2, 4), act=nn.PReLU())
    assert ops_of(assert_same(model, torch.randn(IMAGE))) == ["Linear", "GroupNorm", "PReLU"]


def test_hooks_of_modules_are_computed_too() -> None:
    conv = nn.Conv2d(4, 4, 1)
    conv.register_forward_hook(lambda module, args, output: output * 2)
    conv.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    graph = assert_same(Holds(lambda m, x: m.conv(x), conv=conv), torch.randn(IMAGE))
    assert ops_of(graph) == ["add", "Conv2d", "mul"]


def test_parameters_and_buffers_of_the_users_own_are_layers() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4, 1, 1))
            self.mean: Tensor
            self.register_buffer("mean", torch.randn(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (x - self.mean) * self.scale + self.scale

    graph = assert_same(Holds(lambda m, x: m.inner(x), inner=Scaled()), torch.randn(IMAGE))
    parameters = {layer.name: layer.op.trainable for layer in graph.layers if layer.op.name == "Parameter"}  # type: ignore[attr-defined]
    assert parameters == {"inner.mean": False, "inner.scale": True}


def test_convolution_over_channels_and_linear_over_places() -> None:
    def call(m: Any, x: Tensor) -> Tensor:
        y = m.conv(m.pool(x).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        x = x * y.sigmoid().expand_as(x)
        mixed: Tensor = m.mix(x.flatten(2))
        return mixed.view_as(x)

    model = Holds(
        call, pool=nn.AdaptiveAvgPool2d(1), conv=nn.Conv1d(1, 1, 3, padding=1, bias=False), mix=nn.Linear(36, 36)
    )
    graph = assert_same(model, torch.randn(IMAGE))
    assert graph.by_name["rearrange"].op.pattern == "n c 1 1 -> n 1 c"  # type: ignore[attr-defined]


def test_attention_written_by_hand() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)
            self.out = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            n, t, c = x.shape
            assert c % 2 == 0, "two heads"
            q, k, v = self.qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(-2, -1)) * (c // 2) ** -0.5
            out: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))
            return out

    graph = assert_same(Attention(), torch.randn(2, 5, 8))
    assert ops_of(graph).count("select") == 3
    assert ops_of(graph).count("matmul") == 2


def test_modules_that_do_nothing_vanish() -> None:
    model = nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 1), nn.Identity(), nn.Flatten(), nn.Linear(144, 2))
    graph = assert_same(model, torch.randn(IMAGE))
    assert [layer.name for layer in graph.layers] == ["1", "3", "4"]


def test_dead_ends_are_left_out() -> None:
    def call(m: Any, x: Tensor) -> Tensor:
        torch.fft.fft2(x)
        m.conv(x)
        return x + 1

    graph = graph_of(Holds(call, conv=nn.Conv2d(4, 4, 1)), torch.randn(IMAGE))
    assert ops_of(graph) == ["add"]


class Turned(nn.Module):
    """A block whose stream is turned, and turned back."""

    def __init__(self, *, tensors: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4) if tensors else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        y: Tensor = x + self.layer(x)
        return y.permute(0, 3, 1, 2)


@pytest.mark.parametrize(("tensors", "moves"), [(True, 4), (False, 2)])
def test_moves_at_the_borders_of_two_modules_with_tensors_stay_in_them(tensors: bool, moves: int) -> None:
    """So that each of them can be repeated; between modules without tensors nothing is moved there and back."""
    graph = assert_same(nn.Sequential(*(Turned(tensors=tensors) for _ in range(2))), torch.randn(IMAGE))
    assert ops_of(graph).count("rearrange") == moves
