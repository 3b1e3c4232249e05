"""torchvision's segmentation and video networks: rebuilt in both modes, and grown exactly layer by layer.

The default run takes a seeded sample of layers of small images and clips; `slow` takes every layer, and the networks
with deeper backbones.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import maxvit_t, segmentation, video

from net2net_cli import Net2Net
from net2net_cli.channels.labels import find_labels
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.describe import repeatable_blocks
from net2net_cli.growth.plan import COPYING
from zoo.growing import TOLERANCE, WIDTHS, Teacher, cause, check_growth, new_layers, tensors_in


@dataclass(frozen=True)
class Variant:
    """A network with five classes.

    Attributes:
        shape: of its images or clips.
        count: how many layers the default run widens.
        arguments: of its constructor.
        batch: how many images or clips; in training, batch norms of few values would blow up rounding.
        tolerance: larger where random weights blow up rounding: changing them by 2e-16 moves the outputs by 3e-12.
    """

    shape: tuple[int, ...]
    count: int = 3
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 3
    tolerance: float = TOLERANCE


IMAGE = (3, 32, 32)
AUX = {"aux_loss": True, "weights_backbone": None}
PLAIN = {"weights_backbone": None}

CLIP = (3, 4, 16, 16)

SMALL = {
    "deeplabv3_mobilenet_v3_large": Variant(IMAGE, 2, AUX),
    "lraspp_mobilenet_v3_large": Variant(IMAGE, 2, PLAIN),
    "mc3_18": Variant(CLIP, 1, batch=8),
    "r2plus1d_18": Variant(CLIP, 1, batch=8),
    "s3d": Variant((3, 8, 64, 64), 2, batch=2, tolerance=1e-11),
}

LARGE = {
    "fcn_resnet50": Variant(IMAGE, 4, AUX, tolerance=1e-11),
    "fcn_resnet101": Variant(IMAGE, 4, PLAIN, tolerance=1e-11),
    "deeplabv3_resnet50": Variant(IMAGE, 4, PLAIN, tolerance=1e-11),
    "deeplabv3_resnet101": Variant(IMAGE, 4, AUX, tolerance=1e-11),
    "deeplabv3_mobilenet_v3_large": Variant((3, 64, 64), 6, PLAIN),
    "lraspp_mobilenet_v3_large": Variant((3, 64, 64), 6, PLAIN),
    "r3d_18": Variant(CLIP, 4, batch=8),
    "mc3_18": Variant((3, 8, 32, 32), 4),
    "s3d": Variant((3, 16, 64, 64), 6, tolerance=1e-11),
}

OUTPUT = r"(it|`[^`]+`) is the network's output `[^`]+`"


def make(name: str, variant: Variant) -> nn.Module:
    made: Any = getattr(segmentation if hasattr(segmentation, name) else video, name)
    model: nn.Module = made(num_classes=5, **variant.arguments)
    if name == "s3d":  # its last pooling needs 224 pixels
        model.avgpool = nn.AvgPool3d(1)
    return model


KEPT: dict[tuple[str, str], Teacher] = {}
"""The teacher that was used last: they are large, and tests come by name."""


def teacher(name: str, variant: Variant) -> Teacher:
    key = (name, repr(variant))
    if key not in KEPT:
        KEPT.clear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            KEPT[key] = Teacher.of(make(name, variant), [variant.shape], batch=variant.batch)
    return KEPT[key]


def check_rebuilt(one: Teacher) -> None:
    """The rebuilt network returns what the original returns, bit for bit and under the same names, in both modes."""
    rebuilt = one.net.to_module(dtype=torch.float64)
    for mode in (True, False):
        found = []
        for module in (one.module, rebuilt):
            buffers = copy.deepcopy(module.state_dict()) if mode else {}
            torch.manual_seed(3)
            with torch.no_grad():
                found.append(module.train(mode)(*one.inputs))
            module.load_state_dict(buffers or module.state_dict())
        theirs, ours = (list(f) if isinstance(f, dict) else None for f in found)
        assert theirs == ours
        assert all(torch.equal(a, b) for a, b in zip(*map(tensors_in, found), strict=True))


def tried(one: Teacher, grow: Callable[[], Net2Net]) -> Net2Net | str:
    """The student, or why it was refused."""
    try:
        return grow()
    except GrowthRefusedError as refusal:
        return cause(one.net, refusal)


def check_widening(variant: Variant, one: Teacher, layer: str, width: str, split: Any) -> bool:
    """Whether one layer can be widened; only those that make the network's outputs may be refused."""
    student = tried(one, lambda: one.net.widen({layer: width}, split=split))
    if isinstance(student, str):
        assert re.fullmatch(OUTPUT, student), f"{layer}={width} was refused: {student}"
        return False
    check_growth(one, student, [layer], tolerance=variant.tolerance)
    return True


def check_deepening(variant: Variant, one: Teacher, place: str) -> bool:
    """Whether something can be put behind a layer, or a block be repeated."""
    student = tried(one, lambda: one.net.deepen([place]))
    if isinstance(student, str):
        assert re.search(r"before any activation$|^no layer before", student), student
        return False
    new = new_layers(one.net, student)
    block = place not in one.net.graph.by_name
    silent = [n for n in new if not student.tensor(f"{n}.weight").any()] if block else new
    train = block or not any(n.endswith("_bn") for n in new)
    check_growth(one, student, silent, train=train, tolerance=variant.tolerance)
    return True


def sample(names: list[str], count: int, seed: int) -> list[str]:
    return [names[int(i)] for i in np.random.default_rng(seed).permutation(len(names))[:count]]


def check_sample(name: str, variant: Variant) -> None:
    one = teacher(name, variant)
    check_rebuilt(one)
    layers = sample(one.growable, variant.count, seed=1)
    exact = sum(check_widening(variant, one, n, WIDTHS[i % 3], COPYING[i % 3]) for i, n in enumerate(layers))
    places = sample(one.growable, 1, seed=2) + sample(repeatable_blocks(one.net.graph), 1, seed=3)
    exact += sum(check_deepening(variant, one, place) for place in places)
    assert exact


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_rebuilt_and_a_sample_of_its_layers_grows_exactly(name: str) -> None:
    check_sample(name, SMALL[name])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LARGE)
def test_a_larger_network_is_rebuilt_and_a_sample_of_its_layers_grows_exactly(name: str) -> None:
    check_sample(name, LARGE[name])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SMALL)
def test_every_layer_and_block_grows_exactly(name: str) -> None:
    variant = SMALL[name]
    one = teacher(name, variant)
    ways = [(layer, width, COPYING[i % 3]) for layer in one.growable for i, width in enumerate(WIDTHS)]
    assert sum(check_widening(variant, one, *way) for way in ways) >= len(ways) - 6  # layers that make the outputs
    assert sum(check_deepening(variant, one, n) for n in [*one.growable, *repeatable_blocks(one.net.graph)])


TRANSFORMERS: Mapping[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "maxvit_t": (maxvit_t, (3, 224, 224)),
    "mvit_v1_b": (video.mvit_v1_b, (3, 16, 224, 224)),
    "mvit_v2_s": (video.mvit_v2_s, (3, 16, 224, 224)),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_of_full_size_is_rebuilt_bit_for_bit_and_its_labels_are_found_at_once(name: str) -> None:
    make_it, shape = TRANSFORMERS[name]
    torch.manual_seed(0)
    model, x = make_it(num_classes=5), torch.randn(2, *shape)
    net = Net2Net.from_module(copy.deepcopy(model), x)
    start = time.perf_counter()
    find_labels(net.graph)
    assert time.perf_counter() - start < 1.0
    found = []
    for module in (model, net.to_module()):
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(module.train()(x))
    assert torch.equal(*found)
