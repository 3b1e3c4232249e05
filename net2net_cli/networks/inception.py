"""Inception-V2: the batch-normalised Inception network (Ioffe & Szegedy, ICML 2015, arXiv:1502.03167, figure 5).

The Net2Net paper grows this network (arXiv:1511.05641, section 3).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Stem = Literal["imagenet", "small"]


@dataclass(frozen=True, slots=True)
class Filters:
    """One row of the table: how many filters each convolution of an Inception module has.

    The modules with stride 2 have neither a 1×1 branch nor a projection behind the pooling: their pooled input is
    passed through. Both are 0 there.
    """

    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    project: int
    pool: Literal["avg", "max"]

    @property
    def stride(self) -> int:
        """2 for the modules that pass their pooled input through."""
        return 1 if self.project else 2

    def output(self, in_channels: int) -> int:
        """Channels of the concatenated branches."""
        return self.one + self.three + self.double + (self.project or in_channels)

    def scaled(self, width: float) -> Filters:
        """Every count times `width`, rounded to the nearest integer and at least 1; what is absent stays absent."""
        return Filters(
            one=_scale(self.one, width),
            three_reduce=_scale(self.three_reduce, width),
            three=_scale(self.three, width),
            double_reduce=_scale(self.double_reduce, width),
            double=_scale(self.double, width),
            project=_scale(self.project, width),
            pool=self.pool,
        )


def _scale(count: int, width: float) -> int:
    return max(1, int(count * width + 0.5)) if count else 0


MODULES = {
    "inception_3a": Filters(64, 64, 64, 64, 96, 32, "avg"),
    "inception_3b": Filters(64, 64, 96, 64, 96, 64, "avg"),
    "inception_3c": Filters(0, 128, 160, 64, 96, 0, "max"),
    "inception_4a": Filters(224, 64, 96, 96, 128, 128, "avg"),
    "inception_4b": Filters(192, 96, 128, 96, 128, 128, "avg"),
    "inception_4c": Filters(160, 128, 160, 128, 160, 128, "avg"),
    "inception_4d": Filters(96, 128, 192, 160, 192, 128, "avg"),
    "inception_4e": Filters(0, 128, 192, 192, 256, 0, "max"),
    "inception_5a": Filters(352, 192, 320, 160, 224, 128, "avg"),
    "inception_5b": Filters(352, 192, 320, 192, 224, 128, "max"),
}


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU.

    Input `(n, in_channels, h, w)`, output `(n, channels, ⌈h / stride⌉, ⌈w / stride⌉)`.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, channels, ⌈h / stride⌉, ⌈w / stride⌉)`."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Inception(nn.Module):
    """1×1, 3×3, double 3×3 and pooled branch side by side, concatenated over channels in this order.

    Input `(n, in_channels, h, w)`, output `(n, filters.output(in_channels), h, w)`; with stride 2 there is no 1×1
    branch, and height and width are ⌈h / 2⌉ and ⌈w / 2⌉.
    """

    def __init__(self, in_channels: int, filters: Filters) -> None:
        super().__init__()
        branches: OrderedDict[str, nn.Module] = OrderedDict()
        if filters.one:
            branches["branch1x1"] = ConvNormReLU(in_channels, filters.one, 1)
        branches["branch3x3"] = _branch3x3(in_channels, filters)
        branches["double3x3"] = _double3x3(in_channels, filters)
        branches["branch_pool"] = _branch_pool(in_channels, filters)
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, filters.output(in_channels), ⌈h / stride⌉, ⌈w / stride⌉)`."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def _branch3x3(in_channels: int, filters: Filters) -> nn.Sequential:
    reduce = ConvNormReLU(in_channels, filters.three_reduce, 1)
    conv = ConvNormReLU(filters.three_reduce, filters.three, 3, stride=filters.stride)
    return nn.Sequential(OrderedDict(reduce=reduce, conv3x3=conv))


def _double3x3(in_channels: int, filters: Filters) -> nn.Sequential:
    reduce = ConvNormReLU(in_channels, filters.double_reduce, 1)
    first = ConvNormReLU(filters.double_reduce, filters.double, 3)
    second = ConvNormReLU(filters.double, filters.double, 3, stride=filters.stride)
    return nn.Sequential(OrderedDict(reduce=reduce, conv3x3_1=first, conv3x3_2=second))


def _branch_pool(in_channels: int, filters: Filters) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    pool = nn.AvgPool2d if filters.pool == "avg" else nn.MaxPool2d
    layers["pool"] = pool(3, stride=filters.stride, padding=1)
    if filters.project:
        layers["proj"] = ConvNormReLU(in_channels, filters.project, 1)
    return nn.Sequential(layers)


def _imagenet_stem(in_channels: int) -> tuple[nn.Sequential, int]:
    """The paper's stem, `(n, in_channels, 224, 224)` -> `(n, 192, 28, 28)`, and its output channels."""
    layers = OrderedDict(
        conv1=ConvNormReLU(in_channels, 64, 7, stride=2),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
        conv2_reduce=ConvNormReLU(64, 64, 1),
        conv2=ConvNormReLU(64, 192, 3),
        pool2=nn.MaxPool2d(3, stride=2, padding=1),
    )
    return nn.Sequential(layers), 192


def _small_stem(in_channels: int) -> tuple[nn.Sequential, int]:
    """For small images, `(n, in_channels, 28, 28)` -> `(n, 64, 14, 14)`, and its output channels."""
    layers = OrderedDict(
        conv1=ConvNormReLU(in_channels, 32, 3),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
        conv2=ConvNormReLU(32, 64, 3),
    )
    return nn.Sequential(layers), 64


class InceptionV2(nn.Module):
    """Stem, ten Inception modules, average pooling, dropout and classifier; `inception_v2` explains the arguments.

    Input `(n, in_channels, h, w)`, output `(n, num_classes)`.
    """

    def __init__(self, width: float, num_classes: int, in_channels: int, dropout: float, stem: Stem) -> None:
        super().__init__()
        if stem not in ("imagenet", "small"):
            raise ValueError(f"`stem` is {stem!r}; it is `imagenet` or `small`")
        self.stem, channels = _imagenet_stem(in_channels) if stem == "imagenet" else _small_stem(in_channels)
        for name, row in MODULES.items():
            filters = row.scaled(width)
            self.add_module(name, Inception(channels, filters))
            channels = filters.output(channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, num_classes)`."""
        x = self.stem(x)
        for name in MODULES:
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.dropout(self.flatten(self.avgpool(x))))
        return out


def inception_v2(
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    stem: Stem = "imagenet",
) -> InceptionV2:
    """Inception-V2, untrained, with batch norm behind every convolution.

    Filter counts are those of the table in figure 5 of arXiv:1502.03167. The counts of 4c and 4d add up to 608
    channels, and with them 4e to 1056, where the table's sizes say 576 and 1024; the counts are taken, as the Caffe and
    PyTorch versions in use do. The first convolution is a plain 7×7, the paper's is separable. No auxiliary heads.

    Parameters for 1000 classes with `stem="imagenet"`; `√0.3` is the Net2Net paper's teacher:

    | width      |      total | in Inception modules |
    |------------|-----------:|---------------------:|
    | 1          | 11,285,224 |           10,135,488 |
    | 0.3 ** 0.5 |  3,746,834 |            3,060,098 |

    The modules shrink to 30.2 %: most convolutions lose channels on both sides, those that read the stem and the batch
    norms on one. The whole network shrinks to 33.2 %.

    Args:
        width: factor on every filter count inside the Inception modules, rounded to nearest, at least 1. The stem
            keeps its widths; the classifier reads what 5b gives.
        num_classes: width of the output.
        in_channels: 1 for grey, 3 for colour.
        dropout: probability before the classifier.
        stem: `imagenet` as in the paper, for images of about 224×224; `small` for about 28×28: two 3×3 convolutions and
            one pooling, 64 channels of 14×14 into 3a and 4×4 at 5b.
    """
    return InceptionV2(width, num_classes, in_channels, dropout, stem)
