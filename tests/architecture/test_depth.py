"""Depth counts the weighted layers of the longest path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from net2net_cli import Net2Net
from net2net_cli.architecture.depth import depth
from net2net_cli.networks import lenet5


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.lstm(x)[0])
        return y


def counted(model: nn.Module, *shape: int) -> int:
    return depth(Net2Net.from_module(model, torch.zeros(2, *shape)).graph)


def test_layers_with_weights_count_and_branches_do_not_add_up() -> None:
    assert counted(lenet5(), 1, 28, 28) == 5  # LeCun et al. 1998: two convolutions and three linear layers
    shortcut = models.resnet18(num_classes=4)  # He et al. 2016: 18 weighted layers, the projections stand beside
    assert counted(shortcut, 3, 32, 32) == 18


def test_recurrent_layers_count_in_every_step() -> None:
    assert counted(Recurrent(), 7, 3) == 7 + 1 + 1


def test_a_network_without_weights_has_no_depth() -> None:
    assert counted(nn.ReLU(), 3) == 0


@pytest.mark.parametrize(("heads", "expected"), [(2, 2)])
def test_attention_counts_what_goes_in_and_what_goes_out(heads: int, expected: int) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, heads, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x)[0]
            return y

    assert counted(Attention(), 5, 8) == expected
