"""LeNet-5 against the sizes of LeCun et al. 1998."""

from __future__ import annotations

import pytest
import torch

from net2net_cli.networks import lenet5


@pytest.mark.parametrize(("classes", "in_channels"), [(10, 1), (3, 1), (100, 3)])
def test_the_parameters_are_those_of_the_paper_s_layer_sizes(classes: int, in_channels: int) -> None:
    convolutions = 6 * (25 * in_channels + 1) + 16 * (25 * 6 + 1)
    linear = 120 * (400 + 1) + 84 * (120 + 1) + classes * (84 + 1)
    model = lenet5(classes, in_channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == convolutions + linear


def test_for_ten_classes_and_grey_images_it_has_the_familiar_61706_parameters() -> None:
    assert sum(parameter.numel() for parameter in lenet5().parameters()) == 61_706


@pytest.mark.parametrize("size", [28, 32])
@torch.no_grad()
def test_it_takes_both_image_sizes(size: int) -> None:
    model = lenet5(num_classes=7, in_channels=3, image_size=size)
    seen: list[torch.Size] = []
    model.pool2.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert model(torch.randn(2, 3, size, size)).shape == (2, 7)
    assert seen == [(2, 16, 5, 5)]


def test_another_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="28×28 or 32×32"):
        lenet5(image_size=30)
