"""Networks with weight norm: lengths and directions that grow together (Salimans & Kingma 2016, arXiv:1602.07868)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from net2net_cli import Net2Net
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError, TraceError
from net2net_cli.growth.training_state import grown_state
from net2net_cli.proof import prove
from net2net_cli.runtime.running import converted
from zoo.growing import Teacher, check_growth, error, new_layers, outputs

Norm = Callable[..., Any]


def hooked(module: nn.Module, dim: int = 0) -> nn.Module:
    """As most published networks write it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module, dim=dim)


parametrised: Norm = parametrizations.weight_norm
WAYS = {"hook": hooked, "parametrization": parametrised}
LENGTHS = {"hook": "weight_g", "parametrization": "parametrizations.weight.original0"}
DIRECTIONS = {"hook": "weight_v", "parametrization": "parametrizations.weight.original1"}


class TemporalBlock(nn.Module):
    """Bai, Kolter & Koltun 2018 (arXiv:1803.01271): dilated convolutions over the past alone, and a shortcut."""

    last: Callable[[Tensor], Tensor] = staticmethod(functional.relu)

    def __init__(self, norm: Norm, inner: int, outer: int, dilation: int) -> None:
        super().__init__()
        self.past = 2 * dilation
        self.conv1 = norm(nn.Conv1d(inner, outer, 3, padding=self.past, dilation=dilation))
        self.conv2 = norm(nn.Conv1d(outer, outer, 3, padding=self.past, dilation=dilation))
        self.shortcut = nn.Conv1d(inner, outer, 1) if inner != outer else None

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv1(x)[:, :, : -self.past])
        y = self.last(self.conv2(y)[:, :, : -self.past])
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class LeakyBlock(TemporalBlock):
    """With a slope at zero, so that a silent copy can learn."""

    last = staticmethod(functional.leaky_relu)


class TCN(nn.Module):
    """A temporal convolutional network with a weight-normed head."""

    def __init__(self, norm: Norm, block: type[TemporalBlock] = TemporalBlock) -> None:
        super().__init__()
        self.blocks = nn.Sequential(block(norm, 2, 6, 1), block(norm, 6, 6, 2), block(norm, 6, 9, 4))
        self.hidden, self.head = norm(nn.Linear(9, 7)), norm(nn.Linear(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(functional.gelu(self.hidden(self.blocks(x)[:, :, -1])))
        return found


class Vocoder(nn.Module):
    """In the manner of HiFi-GAN (Kong et al. 2020, arXiv:2010.05646): transposed convolutions and residual stacks."""

    def __init__(self, norm: Norm, dim: int = 0) -> None:
        super().__init__()
        self.before = norm(nn.Conv1d(5, 12, 7, padding=3))
        self.up = nn.ModuleList([norm(nn.ConvTranspose1d(12 >> i, 12 >> i + 1, 4, 2, 1), dim=dim) for i in range(2)])
        widths = [(12 >> i + 1, d) for i in range(2) for d in (1, 3)]
        self.stacks = nn.ModuleList([norm(nn.Conv1d(w, w, 3, padding=d, dilation=d)) for w, d in widths])
        self.after = norm(nn.Conv1d(3, 1, 7, padding=3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for i in range(2):
            x = self.up[i](functional.leaky_relu(x, 0.1))
            for j in range(2):
                x = x + self.stacks[2 * i + j](functional.leaky_relu(x, 0.1))
        return torch.tanh(self.after(functional.leaky_relu(x)))


class Causal(nn.Conv1d):
    """A convolution over the past, as a class of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class Trimmed(nn.ConvTranspose1d):
    """The way back, without what lies beyond the end."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x, output_size)[:, :, : self.stride[0] * x.shape[2]]


class Scaled(nn.Linear):
    """Half of what a linear layer returns."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias) / 2


class Subclasses(nn.Module):
    """Layers that are read by what they call."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.down = norm(Causal(2, 6, 3, dilation=2, stride=2))
        self.up, self.head = norm(Trimmed(6, 5, 3, stride=2)), norm(Scaled(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(functional.relu(self.up(functional.relu(self.down(x)))).mean(2))
        return found


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, over images; a transposed one that filters each channel by itself."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.first = norm(nn.Conv2d(3, 8, 3, padding=1))
        self.grouped = norm(nn.Conv2d(8, 12, 3, padding=1, groups=2))
        self.depthwise = norm(nn.Conv2d(12, 24, 3, padding=1, groups=12))
        self.larger = norm(nn.ConvTranspose2d(24, 24, 2, 2, groups=24))
        self.last = norm(nn.Conv2d(24, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.grouped, self.depthwise, self.larger):
            x = functional.relu(layer(x))
        found: Tensor = self.last(x)
        return found


def trained(model: nn.Module) -> nn.Module:
    """Lengths that are not those of the directions any more."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(tuple(LENGTHS.values())):
                value.mul_(0.5 + 1.5 * torch.rand(value.shape, generator=generator))
    return model


def teacher_of(model: nn.Module, *shape: int) -> Teacher:
    torch.manual_seed(0)
    return Teacher.of(trained(model), [shape])


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("split", ["ownership", "random", "equal"])
@pytest.mark.parametrize(
    "widths",
    [{"blocks.0.conv1": "+1"}, {"blocks.0.conv2": "1.5x", "blocks.2.conv1": "2x"}, {"hidden": "+3"}, {"**": "3x"}],
    ids=lambda widths: ",".join(widths),
)
def test_a_temporal_convolutional_network_grows_exactly(way: str, widths: dict[str, str], split: Any) -> None:
    teacher = teacher_of(TCN(WAYS[way]), 2, 20)
    student = teacher.net.widen(widths, split=split, where_possible=True)
    check_growth(teacher, student, ["blocks.0.conv2", "blocks.2.conv1", "hidden", "head"])


@pytest.mark.parametrize("split", ["ownership", "random", "equal"])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("layer", ["before", "up.0", "up.1"])
def test_transposed_convolutions_that_are_normalised_along_either_axis_grow_exactly(
    way: str, layer: str, dim: int, split: Any
) -> None:
    teacher = teacher_of(Vocoder(WAYS[way], dim), 5, 16)
    for width in ("+1", "2x"):
        check_growth(teacher, teacher.net.widen({layer: width}, split=split), [layer, "up.0", "up.1", "after"])


@pytest.mark.parametrize("split", ["ownership", "random", "equal"])
def test_grouped_and_depthwise_convolutions_with_weight_norm_grow_exactly(way: str, split: Any) -> None:
    teacher = teacher_of(Grouped(WAYS[way]), 3, 8, 8)
    for widths in ({"first": "2x"}, {"grouped": "1.5x"}, {"first": "+2", "grouped": "3x"}):
        check_growth(teacher, teacher.net.widen(widths, split=split), ["grouped", "depthwise", "larger", "last"])


@pytest.mark.parametrize("norm", [*WAYS.values(), lambda module: module], ids=[*WAYS, "without"])
def test_subclasses_that_call_their_base_grow_exactly_and_keep_their_names(norm: Norm) -> None:
    model = Subclasses(norm)
    teacher = teacher_of(model, 2, 12)
    assert {name for name, *_ in teacher.net.graph.tensors()} == set(model.state_dict())
    for widths in ({"down": "+1"}, {"up": "2x", "down": "9"}):
        check_growth(teacher, teacher.net.widen(widths), ["down", "up", "head"])


def test_normalised_weights_that_something_else_uses_are_refused() -> None:
    class Cosine(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.T

    with pytest.raises(TraceError, match="the normalised weights of `0` are used") as refused:
        Net2Net.from_module(nn.Sequential(parametrised(Cosine(4, 3, bias=False))), torch.randn(2, 4))
    assert "remove_parametrizations" in str(refused.value.hint)


def test_no_copy_is_left_without_a_direction_where_there_are_more_copies_than_rows_to_deal_out(way: str) -> None:
    """The norm of what a copy owns would be 0, and 0 / 0 is no number."""
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), WAYS[way](nn.ConvTranspose1d(3, 1, 1)))
    teacher = teacher_of(model, 2, 9)
    student = teacher.net.widen({"0": "4x"})
    check_growth(teacher, student, ["0", "2"])
    assert student.plans[-1].notes == (
        f"`2.{DIRECTIONS[way]}`: random shares, since a copy that owns nothing would have no direction",
    )


def test_a_copy_is_stored_with_the_very_numbers_of_its_channel(way: str) -> None:
    teacher = teacher_of(TCN(WAYS[way]), 2, 20)
    student = teacher.net.widen({"hidden": 9})
    (axis,) = student.plans[-1].tensors["hidden.bias"].axes
    for name, _, key, _ in teacher.net.graph.tensors():
        if name.startswith("hidden."):
            assert np.array_equal(student.tensor(name), teacher.net.tensor(name)[axis.position[0]]), key
    length = f"head.{LENGTHS[way]}"
    assert np.array_equal(student.tensor(length), teacher.net.tensor(length))


def test_new_channels_in_the_place_of_copies_are_exact_where_rows_are_normalised(way: str) -> None:
    teacher = teacher_of(TCN(WAYS[way]), 2, 20)
    check_growth(teacher, teacher.net.widen({"blocks.0.conv1": 9, "hidden": 10}, split="fresh"), ["hidden", "head"])


def test_new_channels_are_refused_where_what_is_read_of_each_channel_is_normalised(way: str) -> None:
    teacher = teacher_of(Vocoder(WAYS[way]), 5, 16)
    with pytest.raises(GrowthRefusedError, match=r"`up\.0` normalises what it reads") as refused:
        teacher.net.widen({"before": "2x"}, split="fresh")
    assert refused.value.layer == "up.0"
    assert "ownership" in str(refused.value.hint)


def test_layers_and_blocks_are_added_exactly(way: str) -> None:
    teacher = teacher_of(TCN(WAYS[way], LeakyBlock), 2, 20)
    student = teacher.net.deepen(["hidden"])  # before a GELU, so that the reader might have been doubled
    check_growth(teacher, student, new_layers(teacher.net, student))
    check_growth(teacher, teacher.net.deepen(["blocks.1"]), ["blocks.1.conv1", "blocks.1.conv2"])


def test_a_silent_block_has_lengths_of_zero_and_its_directions_get_no_gradient_but_its_lengths_do(way: str) -> None:
    teacher = teacher_of(TCN(WAYS[way], LeakyBlock), 2, 20)
    student = teacher.net.deepen(["blocks.1"])
    twin = next(name.rpartition(".")[0] for name in new_layers(teacher.net, student) if name.endswith("conv2"))
    module = student.to_module()
    module(teacher.inputs[0]).square().sum().backward()
    parameters = dict(module.named_parameters())
    length, direction = (parameters[f"{twin}.conv2.{key[way]}"].grad for key in (LENGTHS, DIRECTIONS))
    assert length is not None
    assert length.abs().max() > 0
    assert direction is not None
    assert direction.abs().max() == 0


def test_growths_of_growths_are_exact(way: str) -> None:
    teacher = teacher_of(Vocoder(WAYS[way]), 5, 16)
    student = teacher.net.widen({"before": 17}, split="equal").widen({"up.0": 9, "before": 20}).deepen(["before"])
    check_growth(teacher, student, ["before", "up.0", "up.1", "after"])


def test_the_student_loads_strictly_into_the_wider_class(way: str) -> None:
    class Net(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first = WAYS[way](nn.Conv1d(2, width, 3))
            self.second, self.head = WAYS[way](nn.Conv1d(width, 5, 5)), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(2))
            return found

    teacher = teacher_of(Net(4), 2, 20)
    wide = Net(7).double()
    target = Net2Net.from_module(wide, teacher.inputs[0][:2])
    wide.load_state_dict(teacher.net.grow(target.graph).to_module(dtype=torch.float64).state_dict(), strict=True)
    for mode in ("eval", "train"):
        assert error(teacher.expected[mode], outputs(wide, teacher.inputs, mode)) <= 1e-12


@pytest.mark.parametrize("split", ["ownership", "random"])
def test_a_written_student_is_proved(way: str, split: Any, tmp_path: Path) -> None:
    teacher = teacher_of(Vocoder(WAYS[way]), 5, 16).net
    teacher.save(tmp_path / "teacher.safetensors")
    student = Net2Net.load(tmp_path / "teacher.safetensors").widen({"before": "2x", "up.0": 9}, split=split)
    student.save(tmp_path / "student.safetensors")
    read = [Net2Net.load(tmp_path / f"{name}.safetensors") for name in ("teacher", "student")]
    assert prove(*read).passed


def test_the_exported_class_loads_the_student_and_returns_the_same(way: str) -> None:
    teacher = teacher_of(Vocoder(WAYS[way]), 5, 16)
    student = teacher.net.widen({"up.0": 9})
    scope: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(python_source(student.graph, class_name="Student"), scope)
        module = scope["Student"]().double()
    module.load_state_dict(student.to_module(dtype=torch.float64).state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= 1e-12


def test_optimizer_state_of_copied_rows_is_what_the_gradients_of_the_copies_are(way: str) -> None:
    """By the chain rule, from a backward pass of both: with equal shares, each of two copies gets half."""
    teacher = teacher_of(TCN(WAYS[way]), 2, 20)
    student = teacher.net.widen({"hidden": "2x"}, split="equal")
    modules = teacher.net.to_module(dtype=torch.float64), student.to_module(dtype=torch.float64)
    for module in modules:
        module(teacher.inputs[0]).square().sum().backward()
    ours, theirs = ({n: p.grad for n, p in module.named_parameters()} for module in modules)
    plan = student.plans[-1]
    for key in ("bias", LENGTHS[way], DIRECTIONS[way]):
        before, now = ours[f"hidden.{key}"], theirs[f"hidden.{key}"]
        assert before is not None
        assert now is not None
        grown = grown_state(plan, f"hidden.{key}", "momentum", before.numpy())
        assert grown is not None
        assert np.allclose(grown, now.numpy(), rtol=1e-9, atol=1e-12), key
    for key in (LENGTHS[way], DIRECTIONS[way]):  # of the reader no rule says what it would be
        assert grown_state(plan, f"head.{key}", "momentum", teacher.net.tensor(f"head.{key}")) is None


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (partial(parametrised, nn.Conv1d(2, 3, 3), dim=1), "parametrization"),
        (partial(hooked, nn.Conv1d(2, 3, 3), dim=2), "WeightNorm"),
        (partial(parametrised, nn.Linear(4, 3), dim=-1), "parametrization"),
        (partial(parametrised, nn.Bilinear(4, 4, 3)), "parametrization"),
        (partial(parametrizations.spectral_norm, nn.Linear(4, 3)), "parametrization"),
        (lambda: parametrised(parametrizations.orthogonal(nn.Linear(4, 4))), "parametrization"),
    ],
)
def test_other_norms_of_weights_are_refused_with_the_call_that_bakes_them_in(
    module: Callable[[], nn.Module], named: str
) -> None:
    with pytest.raises(TraceError, match=named) as refused:
        Net2Net.from_module(nn.Sequential(module()), torch.randn(2, 2, 4))
    assert "model.get_submodule" in str(refused.value.hint)


def test_lengths_that_another_layer_has_too_are_not_changed(way: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 2, 1)
            self.t, self.u = (WAYS[way](nn.ConvTranspose1d(4, 4, 3)) for _ in range(2))
            *outer, last = LENGTHS[way].split(".")
            ours, theirs = (one.get_submodule(".".join(outer)) for one in (self.t, self.u))
            setattr(theirs, last, getattr(ours, last))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            found: Tensor = self.head(torch.relu(self.t(x)) + torch.tanh(self.u(x)))
            return found

    teacher = teacher_of(Tied(), 3, 9)
    with pytest.raises(GrowthRefusedError, match="has it too"):
        teacher.net.widen({"a": "2x"})


@pytest.mark.parametrize("split", ["ownership", "equal", "fresh"])
def test_a_target_with_larger_kernels_and_further_layers_is_reached_exactly(way: str, split: Any) -> None:
    def net(width: int, kernel: int, more: int) -> nn.Module:
        layers: list[nn.Module] = [WAYS[way](nn.Conv1d(3, width, kernel, padding=kernel // 2)), nn.ReLU()]
        for _ in range(more):
            layers += [WAYS[way](nn.Conv1d(width, width, kernel, padding=kernel // 2)), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv1d(width, 2, kernel, padding=kernel // 2))

    teacher = teacher_of(net(4, 3, 0), 3, 9)
    wide = net(6, 5, 1).double()
    student = teacher.net.grow(Net2Net.from_module(wide, teacher.inputs[0][:2]).graph, split=split)
    wide.load_state_dict(student.to_module(dtype=torch.float64).state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(wide, teacher.inputs, "eval")) <= 1e-12


def test_a_network_that_was_run_is_copied_to_another_type(way: str) -> None:
    """As every comparison does it; a hook leaves weights with a history behind."""
    teacher = teacher_of(TCN(WAYS[way]), 2, 20)
    module = teacher.net.to_module()
    copy.deepcopy(module)
    module(teacher.inputs[0])
    twin = converted(module, torch.device("cpu"), torch.float64)
    assert error(teacher.expected["eval"], outputs(twin, teacher.inputs, "eval")) <= 1e-12


def test_a_network_that_is_itself_a_layer_with_weight_norm_is_refused_with_the_call_that_bakes_it_in(way: str) -> None:
    with pytest.raises(TraceError, match="the network computes its") as refused:
        Net2Net.from_module(WAYS[way](nn.Linear(4, 3)), torch.randn(2, 4))
    assert "(model" in str(refused.value.hint)


def test_what_a_hook_makes_of_a_normalised_layers_output_is_seen() -> None:
    layer = parametrised(nn.Linear(4, 3))
    layer.register_forward_hook(lambda module, given, made: 2 * made)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    assert torch.equal(
        Net2Net.from_module(model, x).widen({"0": 5}).to_module()(x).round(decimals=12), model(x).round(decimals=12)
    )


def test_the_users_module_is_left_as_it_was(way: str) -> None:
    model = Subclasses(WAYS[way]).eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 2, 20)
    expected = model(x)
    Net2Net.from_module(model, x)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(model(x), expected)
