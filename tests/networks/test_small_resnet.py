"""The small ResNet against the arithmetic of He et al. 2016, section 4.2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from net2net_cli.networks import small_resnet


def convolution(in_channels: int, channels: int, kernel: int) -> int:
    """A convolution without bias and its batch norm."""
    return kernel * kernel * in_channels * channels + 2 * channels


def expected(classes: int, in_channels: int, w: int, blocks: int) -> int:
    total = convolution(in_channels, w, 3) + classes * (4 * w + 1)
    for c in (w, 2 * w, 4 * w):
        total += (2 * blocks - 1) * convolution(c, c, 3)
    total += convolution(w, w, 3)
    for c in (2 * w, 4 * w):
        total += convolution(c // 2, c, 3) + convolution(c // 2, c, 1)
    return total


@pytest.mark.parametrize(
    ("classes", "in_channels", "width", "blocks"), [(10, 1, 16, 2), (10, 1, 16, 1), (7, 3, 5, 1), (3, 2, 8, 3)]
)
def test_the_parameters_are_those_of_the_formula(classes: int, in_channels: int, width: int, blocks: int) -> None:
    model = small_resnet(classes, in_channels, width, blocks)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected(classes, in_channels, width, blocks)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_it_has_six_blocks_plus_two_weighted_layers(blocks: int) -> None:
    weighted = [
        name
        for name, module in small_resnet(blocks=blocks).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(weighted) == 6 * blocks + 2


@pytest.mark.parametrize(("size", "last"), [(28, 7), (32, 8), (29, 8)])
@torch.no_grad()
def test_three_stages_halve_the_image_twice(size: int, last: int) -> None:
    model = small_resnet(num_classes=7, in_channels=2, width=3, blocks=1).eval()
    seen: list[torch.Size] = []
    model.layer3.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert model(torch.randn(2, 2, size, size)).shape == (2, 7)
    assert seen == [(2, 12, last, last)]


def test_modules_are_named_as_in_torchvision_s_resnet() -> None:
    from torchvision.models import ResNet
    from torchvision.models.resnet import BasicBlock

    theirs = ResNet(BasicBlock, [2, 2, 2, 2]).state_dict()
    assert set(small_resnet(blocks=2).state_dict()) == {name for name in theirs if not name.startswith("layer4")}
