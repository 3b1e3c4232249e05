"""Inception-V2 against hand-written arithmetic on the table of arXiv:1502.03167, and against a published count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from net2net_cli.networks import inception_v2

ROOT = math.sqrt(0.3)

# name: 1×1, 3×3 reduce, 3×3, double reduce, double, projection; copied from the paper, 0 where it has none
TABLE = {
    "inception_3a": (64, 64, 64, 64, 96, 32),
    "inception_3b": (64, 64, 96, 64, 96, 64),
    "inception_3c": (0, 128, 160, 64, 96, 0),
    "inception_4a": (224, 64, 96, 96, 128, 128),
    "inception_4b": (192, 96, 128, 96, 128, 128),
    "inception_4c": (160, 128, 160, 128, 160, 128),
    "inception_4d": (96, 128, 192, 160, 192, 128),
    "inception_4e": (0, 128, 192, 192, 256, 0),
    "inception_5a": (352, 192, 320, 160, 224, 128),
    "inception_5b": (352, 192, 320, 192, 224, 128),
}


def module_parameters(channels: int, row: tuple[int, ...]) -> int:
    """Convolutions without bias, and two batch-norm parameters for each filter."""
    one, reduce3, three, reduce_double, double, project = row
    ones = channels * (one + reduce3 + reduce_double + project)
    threes = 9 * (reduce3 * three + reduce_double * double + double * double)
    return ones + threes + 2 * (one + reduce3 + three + reduce_double + 2 * double + project)


def expected(width: float, stem_parameters: int, channels: int, classes: int) -> tuple[int, int]:
    """Parameters of the network, and of its Inception modules."""
    modules = 0
    for row in TABLE.values():
        scaled = tuple(max(1, math.floor(count * width + 0.5)) if count else 0 for count in row)
        modules += module_parameters(channels, scaled)
        one, _, three, _, double, project = scaled
        channels = one + three + double + (project or channels)
    return stem_parameters + modules + classes * (channels + 1), modules


def imagenet_stem(in_channels: int) -> int:
    return 49 * in_channels * 64 + 64 * 64 + 9 * 64 * 192 + 2 * (64 + 64 + 192)


def small_stem(in_channels: int) -> int:
    return 9 * in_channels * 32 + 9 * 32 * 64 + 2 * (32 + 64)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_modules(model: nn.Module) -> int:
    return sum(count(child) for name, child in model.named_children() if name in TABLE)


@pytest.mark.parametrize(("width", "total", "modules"), [(1.0, 11_285_224, 10_135_488), (ROOT, 3_746_834, 3_060_098)])
def test_the_parameter_counts_of_the_docstring_follow_from_the_papers_table(
    width: float, total: int, modules: int
) -> None:
    model = inception_v2(width)
    assert expected(width, imagenet_stem(3), 192, 1000) == (total, modules)
    assert (count(model), count_modules(model)) == (total, modules)
    assert f"{total:,}" in (inception_v2.__doc__ or "")
    assert f"{modules:,}" in (inception_v2.__doc__ or "")


def test_with_convolution_biases_it_has_the_size_published_for_bn_inception() -> None:
    # https://github.com/osmr/imgclsmob lists 11,295,240 for BN-Inception, whose convolutions have biases
    model = inception_v2()
    biases = sum(layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert count(model) + biases == 11_295_240


def test_the_root_of_three_tenths_leaves_three_tenths_of_a_convolution_inside_the_modules() -> None:
    wide, narrow = inception_v2(), inception_v2(ROOT)
    for name in ("inception_4b.branch3x3.reduce.conv", "inception_5a.double3x3.conv3x3_2.conv"):
        ratio = count(narrow.get_submodule(name)) / count(wide.get_submodule(name))
        assert ratio == pytest.approx(0.3, abs=0.01)
    assert count_modules(narrow) / count_modules(wide) == pytest.approx(0.302, abs=0.0005)


@pytest.mark.parametrize("width", [0.001, 0.25, 1.3])
def test_any_width_has_the_parameters_of_the_formula(width: float) -> None:
    model = inception_v2(width, num_classes=7, in_channels=1, stem="small")
    assert (count(model), count_modules(model)) == expected(width, small_stem(1), 64, 7)


def test_every_filter_count_is_at_least_one() -> None:
    model = inception_v2(1e-6, num_classes=3)
    widths = {
        layer.out_channels
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and name.startswith("inception_")
    }
    assert widths == {1}


@pytest.mark.parametrize(("size", "last"), [(28, 4), (32, 4), (33, 5)])
@torch.no_grad()
def test_the_small_stem_leaves_room_at_the_last_module(size: int, last: int) -> None:
    model = inception_v2(0.1, num_classes=7, in_channels=1, stem="small").eval()
    seen: list[torch.Size] = []
    model.get_submodule("inception_5b").register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert model(torch.randn(2, 1, size, size)).shape == (2, 7)
    assert seen[0][2:] == (last, last)


@torch.no_grad()
def test_the_modules_have_the_sizes_of_the_paper_at_224() -> None:
    model = inception_v2(num_classes=5).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in TABLE:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    assert model(torch.randn(1, 3, 224, 224)).shape == (1, 5)
    # 608 and 1056 are what the table's counts add up to; its sizes column says 576 and 1024
    channels = [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]
    sides = [28, 28, 14, 14, 14, 14, 14, 7, 7, 7]
    assert list(shapes.values()) == [(c, side, side) for c, side in zip(channels, sides, strict=True)]


def test_modules_with_stride_two_pass_their_pooled_input_through() -> None:
    model = inception_v2(0.1)
    for name in ("inception_3c", "inception_4e"):
        module = model.get_submodule(name)
        assert [child for child, _ in module.named_children()] == ["branch3x3", "double3x3", "branch_pool"]
        pool = module.get_submodule("branch_pool")
        assert [type(layer) for layer in pool.children()] == [nn.MaxPool2d]


def test_only_the_last_and_the_stride_two_modules_pool_by_maximum() -> None:
    model = inception_v2(0.1)
    by_maximum = [name for name in TABLE if isinstance(model.get_submodule(f"{name}.branch_pool.pool"), nn.MaxPool2d)]
    assert by_maximum == ["inception_3c", "inception_4e", "inception_5b"]


def test_dropout_stands_before_the_classifier() -> None:
    dropout = inception_v2(0.1, dropout=0.4).get_submodule("dropout")
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.4


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="`imagenet` or `small`"):
        inception_v2(stem="tiny")  # type: ignore[arg-type]  # the point of the test
