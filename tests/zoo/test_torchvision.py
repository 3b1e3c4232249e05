"""torchvision's convolutional families, layer by layer: grown exactly in both modes, or refused for a known reason.

The default run takes a seeded sample of layers of one variant of each family; `slow` takes every layer of these
variants, and a sample of the other variants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from benchmarks.coverage.networks import is_slim, slim
from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.describe import repeatable_blocks
from net2net_cli.growth.plan import COPYING
from zoo.growing import WIDTHS, Teacher, cause, check_growth, new_layers


@dataclass(frozen=True)
class Variant:
    """A network of torchvision, with ten classes.

    Attributes:
        size: of its images.
        count: how many layers the default run widens; fewer where the network is large.
        arguments: of its constructor.
        refused: all reasons for which widening any of its layers is refused, patterns of `cause`.
    """

    size: int = 64
    count: int = 4
    arguments: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


SECTIONS = r"(it|`[^`]+`) needs \d+ sections of equal size"
OUTPUT = r"(it|`[^`]+`) is the network's output `[^`]+`"

INCEPTION = {"init_weights": True}

FAMILIES = {
    "alexnet": Variant(),
    "vgg11_bn": Variant(),
    "resnet18": Variant(),
    "resnext50_32x4d": Variant(refused=(SECTIONS,)),
    "wide_resnet50_2": Variant(count=2),
    "googlenet": Variant(arguments=INCEPTION),
    "inception_v3": Variant(128, arguments=INCEPTION | {"aux_logits": False}),  # its auxiliary head needs 299
    "densenet121": Variant(),
    "squeezenet1_1": Variant(refused=(OUTPUT,)),
    "mobilenet_v2": Variant(),
    "mobilenet_v3_small": Variant(),
    "mnasnet0_5": Variant(),
    "efficientnet_b0": Variant(),
    "efficientnet_v2_s": Variant(count=2),
    "regnet_y_400mf": Variant(refused=(SECTIONS,)),
    "shufflenet_v2_x0_5": Variant(refused=(SECTIONS,)),
}

OTHERS = {
    "inception_v3": Variant(299, count=2, arguments=INCEPTION),
    "vgg16": Variant(),
    "resnet50": Variant(),
    "resnext101_32x8d": Variant(refused=(SECTIONS,)),
    "densenet169": Variant(),
    "squeezenet1_0": Variant(refused=(OUTPUT,)),
    "mobilenet_v3_large": Variant(),
    "mnasnet1_3": Variant(),
    "efficientnet_b3": Variant(),
    "efficientnet_v2_m": Variant(),
    "regnet_x_800mf": Variant(refused=(SECTIONS,)),
    "shufflenet_v2_x1_0": Variant(refused=(SECTIONS,)),
}


def make(name: str, variant: Variant) -> nn.Module:
    model: nn.Module = getattr(torchvision.models, name)(num_classes=10, **variant.arguments)
    return slim(model) if is_slim(name) else model


KEPT: dict[tuple[str, int], Teacher] = {}
"""The teacher that was used last: they are large, and tests come by name."""


def teacher(name: str, variant: Variant) -> Teacher:
    key = (name, variant.size)
    if key not in KEPT:
        KEPT.clear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            KEPT[key] = Teacher.of(make(name, variant), [(3, variant.size, variant.size)], batch=2)
    return KEPT[key]


def tried(one: Teacher, grow: Callable[[], Net2Net]) -> Net2Net | str:
    """The student, or why it was refused."""
    try:
        return grow()
    except GrowthRefusedError as refusal:
        return cause(one.net, refusal)


def expected(variant: Variant, one: Teacher, layer: str, why: str) -> bool:
    if layer in one.net.graph.output_values():
        return re.fullmatch(OUTPUT, why) is not None
    return any(re.fullmatch(pattern, why) for pattern in variant.refused)


def check_widening(variant: Variant, one: Teacher, layer: str, width: str, split: Any) -> str | None:
    """Widen one layer; the reason where that is refused."""
    found = tried(one, lambda: one.net.widen({layer: width}, split=split))
    if isinstance(found, str):
        assert expected(variant, one, layer, found), f"{layer}={width} was refused: {found}"
        return found
    check_growth(one, found, [layer])
    return None


def check_deepening(one: Teacher, layer: str) -> str | None:
    """Deepen behind one layer, or repeat one block; the reason where that is refused."""
    found = tried(one, lambda: one.net.deepen([layer]))
    if isinstance(found, str):
        assert re.search(r"before any activation$|^no layer before|^it is a|^its uses", found), found
        return found
    new = new_layers(one.net, found)
    block = layer not in one.net.graph.by_name
    silent = [n for n in new if bool(found.plans) and not found.tensor(f"{n}.weight").any()] if block else new
    assert silent
    check_growth(one, found, silent, train=block or not any(n.endswith("_bn") for n in new))
    return None


def sample(names: list[str], count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [names[int(i)] for i in rng.permutation(len(names))[:count]]


def check_sample(name: str, variant: Variant, count: int) -> None:
    one = teacher(name, variant)
    rng = np.random.default_rng(len(name))
    exact = 0
    for layer in sample(one.growable, count, seed=1):
        width, split = WIDTHS[int(rng.integers(3))], COPYING[int(rng.integers(3))]
        exact += check_widening(variant, one, layer, width, split) is None
    exact += sum(check_deepening(one, layer) is None for layer in sample(one.growable, 2, seed=2))
    exact += sum(check_deepening(one, block) is None for block in sample(repeatable_blocks(one.net.graph), 1, seed=3))
    assert exact


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_of_the_layers_of_each_family_grows_exactly(name: str) -> None:
    check_sample(name, FAMILIES[name], FAMILIES[name].count)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_each_family_is_widened_exactly(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    one = teacher(name, FAMILIES[name])
    refused: dict[str, int] = {}
    for i, layer in enumerate(one.growable):
        for j, width in enumerate(WIDTHS):
            why = check_widening(FAMILIES[name], one, layer, width, COPYING[(i + j) % 3])
            if why is not None:
                kind = re.sub(r"`[^`]+`", "…", why)
                refused[kind] = refused.get(kind, 0) + 1
    attempts = len(one.growable) * len(WIDTHS)
    record_property("attempts", attempts)
    record_property("refused", refused)
    print(f"{name}: {attempts} attempts, refused {refused}")  # noqa: T201 - the share is what is to be seen
    assert sum(refused.values()) < attempts


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_and_block_of_each_family_is_deepened_exactly(name: str) -> None:
    one = teacher(name, FAMILIES[name])
    places = [*one.growable, *repeatable_blocks(one.net.graph)]
    assert [place for place in places if check_deepening(one, place) is None]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", OTHERS)
def test_a_sample_of_the_layers_of_other_variants_grows_exactly(name: str) -> None:
    check_sample(name, OTHERS[name], OTHERS[name].count + 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FAMILIES)
def test_all_layers_of_each_family_grow_exactly_at_once(name: str) -> None:
    one = teacher(name, FAMILIES[name])
    for width, split in zip(WIDTHS, COPYING, strict=True):
        student = one.net.widen({"**": width}, split=split, where_possible=True)
        wider = [n for n in one.growable if student.graph.by_name[n].op != one.net.graph.by_name[n].op]
        assert len(wider) >= len(one.growable) / 2
        check_growth(one, student, wider if width == "1.5x" else [])
    fresh = one.net.widen({"**": "1.5x"}, split="fresh", where_possible=True)
    check_growth(one, fresh, [])
    assert all(fresh.graph.by_name[n].op != one.net.graph.by_name[n].op for n in one.growable)
    places = [n for n in one.growable if not isinstance(tried(one, lambda n=n: one.net.deepen([n])), str)]  # type: ignore[misc]
    check_growth(one, one.net.deepen(places), [], train=False, tolerance=1e-9)
