"""Window attention computes and draws what torchvision's does, bit for bit, at any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from net2net_cli.runtime import modules_swin

CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (ShiftedWindowAttention, ShiftedWindowAttentionV2, ShiftedWindowAttention3d)
}

IMAGES = [
    ((3, 4), (1, 2), (7, 9)),  # padded and shifted
    ((3, 4), (0, 2), (6, 8)),  # shifted along one axis
    ((3, 4), (1, 2), (3, 9)),  # one window high: shifted along the other axis alone
    ((3, 4), (1, 2), (2, 3)),  # the window is larger than the image
    ((4, 4), (0, 0), (8, 6)),
]
VIDEOS = [
    ((2, 3, 3), (1, 1, 1), (5, 7, 6)),
    ((2, 3, 3), (1, 0, 1), (4, 3, 6)),
    ((4, 3, 3), (2, 1, 1), (3, 2, 7)),  # windows become as short as the video
    ((4, 3, 3), (2, 1, 1), (1, 2, 3)),
]
CASES = [
    *((name, *case) for name in ("ShiftedWindowAttention", "ShiftedWindowAttentionV2") for case in IMAGES),
    *(("ShiftedWindowAttention3d", *case) for case in VIDEOS),
]


def awake(module: nn.Module) -> nn.Module:
    """No bias of zero, and scores far from equal."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return module


def pair(name: str, window: tuple[int, ...], shift: tuple[int, ...], **arguments: Any) -> tuple[nn.Module, nn.Module]:
    """torchvision's module, and ours with its tensors."""
    theirs = awake(CLASSES[name](12, list(window), list(shift), 3, **arguments))
    options = {"qkv_bias": True, "proj_bias": True, "attention_dropout": 0.0, "dropout": 0.0} | arguments
    ours: nn.Module = getattr(modules_swin, name)(12, 3, window, shift, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def output(module: nn.Module, x: Tensor, *, training: bool) -> Tensor:
    torch.manual_seed(5)
    found: Tensor = module.train(training)(x)
    return found


@pytest.mark.parametrize(("name", "window", "shift", "size"), CASES)
def test_window_attention_computes_what_torchvision_computes(
    name: str, window: tuple[int, ...], shift: tuple[int, ...], size: tuple[int, ...]
) -> None:
    theirs, ours = pair(name, window, shift, attention_dropout=0.3, dropout=0.2)
    x = torch.randn(2, *size, 12, generator=torch.Generator().manual_seed(1))
    for training in (False, True):
        assert torch.equal(output(ours, x, training=training), output(theirs, x, training=training))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("biased", [False, True])
def test_gradients_are_those_of_torchvision(name: str, *, biased: bool) -> None:
    rank = 3 if name.endswith("3d") else 2
    theirs, ours = pair(name, (3,) * rank, (1,) * rank, qkv_bias=biased, proj_bias=biased)
    x = torch.randn(2, *(5,) * rank, 12, generator=torch.Generator().manual_seed(1))
    for module in (theirs, ours):
        torch.autograd.backward(output(module, x, training=True).square().sum())
    for key, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(key).grad, parameter.grad), key  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CLASSES)
def test_a_fresh_module_has_the_positions_that_torchvision_gives_it(name: str) -> None:
    window = (2, 3, 4) if name.endswith("3d") else (3, 4)
    theirs = CLASSES[name](12, list(window), [0] * len(window), 3)
    ours = getattr(modules_swin, name)(12, 3, window, (0,) * len(window), True, True, 0.0, 0.0)
    for key, buffer in theirs.named_buffers():
        assert torch.equal(ours.get_buffer(key), buffer), key
