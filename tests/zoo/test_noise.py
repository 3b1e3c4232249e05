"""Networks that draw random numbers: under one seed a student returns what the original module returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.python_source import python_source
from net2net_cli.channels.values import Slices, Value, chained
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.runtime.compare import compare

MODES = ("eval", "train")


class Variational(nn.Module):
    """Kingma & Welling 2013 (arXiv:1312.6114), with a block that may be repeated."""

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.encoder, self.mean, self.log_variance = nn.Linear(7, 9), nn.Linear(9, 4), nn.Linear(9, 4)
        self.decoder, self.block, self.head = nn.Linear(4, 8), Block(8), nn.Linear(8, 7)
        self.always = always

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encoder(x).relu()
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean
        if self.training or self.always:
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.head(self.block(self.decoder(z).relu())), mean, log_variance


class Block(nn.Module):
    """A residual block with noise in its branch, in training alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 5), nn.Linear(5, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x).tanh()
        if self.training:
            inner = inner + 0.3 * torch.randn_like(inner)
        found: Tensor = x + self.second(inner)
        return found


class Styled(nn.Module):
    """An image of noise, the same for all channels, scaled for each of them (Karras et al. 2019, arXiv:1812.04948)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 2, 1)
        self.strength = nn.Parameter(torch.randn(1, 5, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.strength * torch.randn(x.size(0), 1, x.size(2), x.size(3), device=x.device, dtype=x.dtype)
        found: Tensor = self.head(self.second(x.relu()).relu())
        return found


def seeded(module: nn.Module, x: Tensor, mode: str) -> list[Tensor]:
    """What a module returns after one seed."""
    torch.manual_seed(11)
    with torch.no_grad():
        found = module.double().train(mode == "train")(x.double())
    return list(found) if isinstance(found, tuple) else [found]


def off(module: nn.Module, student: Net2Net, x: Tensor, mode: str) -> float:
    """The largest difference, in standard deviations of the module's output."""
    pairs = zip(seeded(module, x, mode), seeded(student.to_module(), x, mode), strict=True)
    return max(float((t - s).abs().max() / t.std()) for t, s in pairs)


def made(make: Any, *shape: int, **how: Any) -> tuple[nn.Module, Tensor, Net2Net]:
    torch.manual_seed(0)
    module, x = make(**how).double(), torch.randn(4, *shape, dtype=torch.float64)
    return module, x, Net2Net.from_module(module, x)


@pytest.mark.parametrize("split", ["ownership", "random", "equal", "fresh"])
@pytest.mark.parametrize("always", [True, False])
def test_layers_around_the_draws_grow_exactly(always: bool, split: Any) -> None:
    module, x, teacher = made(Variational, 7, always=always)
    student = teacher.widen({"encoder": "+1", "decoder": 13}, split=split)
    for mode in MODES:
        assert off(module, student, x, mode) < 1e-12, mode
    for layer in ("encoder", "decoder"):
        broken = student.to_module()
        broken.get_parameter(f"{layer}.weight").data[0] += 1.0
        assert (seeded(module, x, "eval")[0] - seeded(broken, x, "eval")[0]).abs().max() > 1e-3, layer


@pytest.mark.parametrize("split", ["ownership", "random", "fresh"])
@pytest.mark.parametrize("width", ["+1", "2x"])
def test_channels_that_share_their_noise_grow_exactly(width: str, split: Any) -> None:
    module, x, teacher = made(Styled, 3, 6, 6)
    student = teacher.widen({"first": width, "second": "+2"}, split=split)
    assert student.tensor("strength").shape[1] == {"+1": 6, "2x": 10}[width]
    for mode in MODES:
        assert off(module, student, x, mode) < 1e-12, mode


@pytest.mark.parametrize("layer", ["mean", "log_variance"])
@pytest.mark.parametrize("split", ["ownership", "fresh"])
def test_channels_with_noise_of_their_own_stay(layer: str, split: Any) -> None:
    class Hidden(Variational):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)[0]

    teacher = made(Hidden, 7, always=True)[2]
    with pytest.raises(GrowthRefusedError, match="draws a random number for each of them"):
        teacher.widen({layer: "2x"}, split=split)


def test_where_only_training_draws_they_grow_exactly_in_evaluation() -> None:
    module, x, teacher = made(Variational, 7, always=False)
    student = teacher.widen({"block.first": "2x"})
    assert off(module, student, x, "eval") < 1e-12
    assert off(module, student, x, "train") > 1e-3  # copies get numbers of their own, as with dropout


def compared(teacher: Net2Net, student: Net2Net, x: Tensor, values: Any) -> Any:
    return compare(teacher.to_module(), student.to_module(), [(x,)], mode="train", values=values)


def test_and_a_comparison_gives_copies_the_same_numbers_in_training() -> None:
    _, x, teacher = made(Variational, 7, always=False)
    student = teacher.widen({"block.first": "2x", "encoder": 10}, split="random")
    values = chained([plan.values for plan in student.plans], teacher.graph)
    found = compared(teacher, student, x, values)
    assert found.passed, found.error
    assert not found.notes
    (noise,) = (n.name for n in student.graph.layers if n.op.name == "Normal" and n.name.startswith("block"))
    slices = values[noise].axes[1]
    assert slices is not None
    rolled = Value(noise, (None, Slices(np.roll(slices.position, 1), slices.size)))
    assert not compared(teacher, student, x, {**values, noise: rolled}).passed
    assert noise in compared(teacher, student, x, {}).notes[0]


@pytest.mark.parametrize("always", [True, False])
def test_a_block_with_noise_in_its_branch_is_repeated_silently(always: bool) -> None:
    module, x, teacher = made(Variational, 7, always=always)
    student = teacher.deepen(["block"])
    assert off(module, student, x, "eval") < 1e-12
    for level in ("outputs", "train"):
        found = student.verify(teacher, level=level)
        assert found.passed, (level, found.error)


def test_a_block_whose_branch_ends_in_noise_is_not_repeated() -> None:
    class Ends(Block):
        def forward(self, x: Tensor) -> Tensor:
            inner = self.second(self.first(x).tanh())
            found: Tensor = x + (inner + 0.3 * torch.randn_like(inner))
            return found

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.head = nn.Linear(7, 8), Ends(8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(self.block(self.stem(x)))
            return found

    teacher = made(Net, 7)[2]
    with pytest.raises(GrowthRefusedError):
        teacher.deepen(["block"])


@pytest.mark.parametrize("make", [lambda: Variational(always=True), lambda: Variational(always=False), Styled])
def test_the_exported_class_draws_likewise(make: Any) -> None:
    module, x, teacher = made(make, *((3, 6, 6) if make is Styled else (7,)))
    student = teacher.widen({"first": 9} if make is Styled else {"encoder": 12})
    scope: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), scope)
    exported = scope["Student"]().double()
    exported.load_state_dict(student.to_module().state_dict(), strict=True)
    for mode in MODES:
        pairs = zip(seeded(module, x, mode), seeded(exported, x, mode), strict=True)
        assert max(float((t - s).abs().max() / t.std()) for t, s in pairs) < 1e-12, mode


def test_what_was_grown_is_imported_again() -> None:
    module, x, teacher = made(Variational, 7, always=False)
    again = Net2Net.from_module(teacher.widen({"encoder": 12}).to_module(), x).widen({"encoder": "2x"})
    assert [n.op.name for n in again.graph.layers].count("InTraining") == 2
    for mode in MODES:
        assert off(module, again, x, mode) < 1e-12, mode


def test_comparisons_draw_the_same_for_both() -> None:
    _, _, teacher = made(Variational, 7, always=True)
    student = teacher.widen({"encoder": 12})
    for level in ("outputs", "train"):
        found = student.verify(teacher, level=level)
        assert found.passed, found.error


class Always(nn.Module):
    """Noise in a module without weights, which in another class has another name."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.head, self.last = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(3, 3)
        self.blocks = nn.ModuleList(NoisyBlock() for _ in range(blocks))
        if blocks > 1:
            self.noise = Added()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        x = self.head(x)
        found: Tensor = self.last(self.noise(x) if len(self.blocks) > 1 else x + torch.randn_like(x))
        return found


class Added(nn.Module):
    """x + noise."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class NoisyBlock(nn.Module):
    """A residual block that always draws."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 5), nn.Linear(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x).tanh()
        found: Tensor = x + self.second(inner + torch.randn_like(inner))
        return found


def test_noise_that_has_another_name_in_the_student_draws_the_same() -> None:
    teacher, target = made(lambda: Always(1), 6)[2], made(lambda: Always(2), 6)[2]
    student = teacher.grow(target.graph)
    assert {n.name for n in student.graph.layers if n.op.name == "Normal"} > {"noise.randn_like"}
    assert "noise.randn_like" not in teacher.graph.by_name
    for level in ("outputs", "train"):
        assert student.verify(teacher, level=level).passed, level
