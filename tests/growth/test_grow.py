"""Growing into a bigger network's own class."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError


def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """Statistics that belong to the weights, then jittered, and no parameter at its initial zero."""
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0.0, 0.2, generator=generator)
    with torch.no_grad():
        model.double().train()(x)
    for norm in norms:
        assert norm.running_var is not None
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.25, generator=generator))
    return model.float().eval()


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.double().eval()(x)
    return found


def into_its_own_class(student: Net2Net, target: nn.Module) -> nn.Module:
    """The target's own module with the student's tensors, loaded strictly by name."""
    state = {name: torch.from_numpy(student.tensor(name).copy()) for name in target.state_dict()}
    target.load_state_dict(state, strict=True)
    return target


FAMILIES: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], float]] = {
    "resnet18-resnet34": (models.resnet18, models.resnet34, 1e-12),
    "vgg11-vgg16": (models.vgg11, models.vgg16, 1e-12),
    "vgg11_bn-vgg13_bn": (models.vgg11_bn, models.vgg13_bn, 5e-8),
    "resnet50-wide_resnet50_2": (models.resnet50, models.wide_resnet50_2, 1e-12),
    "mobilenet_v2-1.4": (models.mobilenet_v2, lambda **k: models.mobilenet_v2(width_mult=1.4, **k), 1e-12),
    "efficientnet_b0-b1": (models.efficientnet_b0, models.efficientnet_b1, 1e-12),
    "efficientnet_b0-b4": (models.efficientnet_b0, models.efficientnet_b4, 1e-12),
}
QUICK = {"resnet18-resnet34", "efficientnet_b0-b1", "mobilenet_v2-1.4"}


@pytest.mark.parametrize(
    "family", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_student_loads_strictly_into_the_bigger_class_and_computes_what_the_teacher_computes(family: str) -> None:
    small, big, tolerance = FAMILIES[family]
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    teacher = trained(small(num_classes=10), x)
    target = big(num_classes=10).eval()
    student = Net2Net.from_module(teacher, x.float()).grow(Net2Net.from_module(target, x.float()).graph)
    expected = outputs(teacher, x)
    found = outputs(into_its_own_class(student, target), x)
    assert float((found - expected).abs().max() / expected.std()) <= tolerance


def plain(*, kernel: int = 3, width: int = 6, extra: bool = False, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    layers = [nn.Conv2d(3, width, kernel, padding=kernel // 2), act()]
    if extra:
        layers += [nn.Conv2d(width, width, 3, padding=1), act()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


def grown_plain(small: nn.Module, big: nn.Module) -> float:
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    student = Net2Net.from_module(small, x.float()).grow(Net2Net.from_module(big, x.float()).graph)
    expected = outputs(small, x)
    return float((outputs(into_its_own_class(student, big), x) - expected).abs().max() / expected.std())


def test_a_bigger_kernel_is_filled_up_with_zeros() -> None:
    assert grown_plain(plain(kernel=3), plain(kernel=7)) <= 1e-12


def test_kernel_width_and_depth_grow_at_once() -> None:
    assert grown_plain(plain(kernel=3), plain(kernel=5, width=11, extra=True)) <= 1e-12


def test_a_new_layer_behind_an_activation_that_changes_its_input_is_refused() -> None:
    with pytest.raises(GrowthRefusedError, match="does not pass unchanged"):
        grown_plain(plain(act=nn.Tanh), plain(act=nn.Tanh, extra=True))


def test_a_narrower_target_is_refused_naming_the_layer() -> None:
    with pytest.raises(GrowthRefusedError, match=r"`0` .* out_channels 6 in the teacher and 5 in the target"):
        grown_plain(plain(width=6), plain(width=5))


def test_a_basic_block_does_not_become_a_bottleneck() -> None:
    x = torch.zeros(2, 3, 64, 64)
    teacher = Net2Net.from_module(models.resnet18(num_classes=10).eval(), x)
    target = Net2Net.from_module(models.resnet50(num_classes=10).eval(), x)
    with pytest.raises(GrowthRefusedError, match=r"`layer1\.0\.conv3`"):
        teacher.grow(target.graph)


def test_another_activation_is_no_growth() -> None:
    with pytest.raises(GrowthRefusedError, match="the teacher has a ReLU"):
        grown_plain(plain(), plain(act=nn.GELU, width=12))
