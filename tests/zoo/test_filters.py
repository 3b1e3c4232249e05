"""Channels that are filtered one by one, by tensors that are no convolution's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from net2net_cli.architecture.python_source import python_source
from zoo.growing import Teacher, check_growth, error, outputs


class BlurPool(nn.Module):
    """Zhang 2019 (arXiv:1904.11486): a binomial filter for each channel before the stride."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.filt: Tensor
        self.register_buffer("filt", (row[:, None] * row / 16).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class Blurred(nn.Module):
    """A buffer that the state dict holds, and a parameter of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.blur = nn.Conv2d(3, 5, 3), BlurPool(5)
        self.kernel = nn.Parameter(torch.randn(5, 1, 3, 1))
        self.last = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blur(functional.relu(self.first(x)))
        found: Tensor = self.last(functional.conv2d(x, self.kernel, padding=(1, 0), groups=5))
        return found


class Resampled(nn.Module):
    """One filter for all channels, up and down again, as vocoders do it around an activation (arXiv:2206.04658)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(2, 4, 3), nn.Conv1d(4, 3, 1)
        self.up: Tensor
        self.register_buffer("up", torch.rand(1, 1, 4))
        self.down = nn.Parameter(torch.rand(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        channels = x.shape[1]
        x = functional.conv_transpose1d(x, self.up.expand(channels, -1, -1), stride=2, padding=1, groups=channels)
        x = functional.conv1d(torch.tanh(x), self.down.expand(channels, -1, -1), stride=2, groups=channels)
        found: Tensor = self.last(x)
        return found


NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "filters of their own": (Blurred, (3, 10, 10)),
    "one for all": (Resampled, (2, 14)),
}


@pytest.mark.parametrize("split", ["ownership", "random", "equal", "fresh"])
@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_are_filtered_one_by_one_grow_exactly(name: str, split: Any) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    teacher = Teacher.of(make(), [shape])
    for width in ("+1", "2x"):
        check_growth(teacher, teacher.net.widen({"first": width}, split=split), ["first", "last"])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exported_class_filters_likewise(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    teacher = Teacher.of(make(), [shape])
    student = teacher.net.widen({"first": 9})
    scope: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), scope)
    module = scope["Student"]().double()
    module.load_state_dict(student.to_module(dtype=torch.float64).state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= 1e-12


def test_a_shared_filter_stays_one_and_the_filters_of_channels_follow_them() -> None:
    torch.manual_seed(0)
    shared, own = (Teacher.of(make(), [shape]).net.widen({"first": 9}) for make, shape in reversed(NETWORKS.values()))
    assert shared.tensor("down").shape == (1, 1, 4)
    assert own.tensor("blur.filt").shape == (9, 1, 3, 3)
    assert own.tensor("kernel").shape == (9, 1, 3, 1)


def test_a_filter_whose_kernel_is_stretched_too_is_read_as_it_is_used() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv1d(2, 4, 3), nn.Conv1d(4, 3, 1)
            self.weight = nn.Parameter(torch.tensor([[[0.3]]]))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.last(functional.conv1d(self.first(x), self.weight.expand(4, -1, 5), groups=4))
            return found

    teacher = Teacher.of(Mean(), [(2, 14)])
    module = teacher.net.to_module(dtype=torch.float64)
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= 1e-12
