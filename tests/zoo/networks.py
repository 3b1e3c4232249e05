"""Small networks unlike torchvision's, each with something that a list of "next layers" gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    Attributes:
        make: builds it.
        shapes: of its inputs, without the batch.
        coupled: layer -> the layers that have to grow with it.
        refused: layer, or `layer=width` -> why widening is refused, as the refusal ends.
        not_deepened: layer -> why nothing can be inserted behind it; layers that are not named can be deepened.
    """

    make: Callable[[], nn.Module]
    shapes: Shapes
    coupled: Mapping[str, set[str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    not_deepened: Mapping[str, str] = field(default_factory=dict)


def conv(inner: int, outer: int, kernel: int = 3, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, kernel, padding=kernel // 2, **how)


def head(width: int, classes: int = 5) -> nn.Sequential:
    """Pooled and read by a linear layer, `head.2`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 5)
        self.hidden = nn.Linear(5 * 4 * 3, 7)
        self.out = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.conv(x)).flatten(1)
        return self.out(torch.relu(self.hidden(x)))


class FlattenedPixelsOutside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 5)
        self.out = nn.Linear(5 * 4 * 3, 4)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.relu(self.conv(x)).permute(0, 2, 3, 1).reshape(x.shape[0], -1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 6)
        self.q, self.k, self.v = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 8)
        self.proj = nn.Linear(8, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        n, t, _ = x.shape
        q, k, v = (f(x).view(n, t, 2, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = torch.softmax(q @ k.transpose(-2, -1) * 0.5, dim=-1)
        x = x + self.proj((scores @ v).transpose(1, 2).reshape(n, t, -1))
        return self.out(x.mean(1))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, stride=2)
        self.cls = nn.Parameter(torch.randn(1, 1, 6))
        self.position = nn.Parameter(torch.randn(1, 5, 6))
        self.hidden, self.back = nn.Linear(6, 9), nn.Linear(9, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = x + self.back(F.gelu(self.hidden(x)))
        return self.out(x[:, 0] + 0.5 * x.mean(1))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = conv(3, 8), conv(4, 6)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        p, q = self.conv(x).chunk(2, dim=1)
        return self.head(F.relu(self.back(p * torch.sigmoid(q))))


class SplitUnevenly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.three, self.five = conv(3, 8), conv(3, 4), conv(5, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        p, q = torch.split(F.relu(self.conv(x)), [3, 5], dim=1)
        return self.head(F.relu(self.three(p) + self.five(q)))


class DualPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.d, self.o = conv(3, 3), conv(3, 2), conv(3, 5)
        self.last = conv(5, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.last(F.relu(torch.cat([self.a(x), self.d(x)], 1) + self.o(x)))))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 3 * i), nn.ReLU(), conv(4 + 3 * i, 3)) for i in range(3)
        )
        self.norm = nn.BatchNorm2d(13)
        self.head = head(13)

    def forward(self, x: Tensor) -> Any:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.head(F.relu(self.norm(torch.cat(features, 1))))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = conv(3, 4), conv(4, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.again(F.relu(self.again(x)))))


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.branch = conv(3, 4), conv(2, 4), conv(4, 6)
        self.head = head(6)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        a = F.relu(self.branch(F.relu(self.left(x))))
        b = F.relu(self.branch(F.relu(self.right(y))))
        return self.head(torch.abs(a - b))


class OneChannelGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = conv(3, 5), conv(5, 1), conv(5, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        return self.head(F.relu(self.last(x * torch.sigmoid(self.gate(x)))))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(3, 6, bias=False), nn.BatchNorm2d(6)
        self.reduce, self.expand = conv(6, 2, 1), conv(2, 6, 1)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.bn(self.conv(x)))
        s = torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return self.head(x * s)


class OptionA(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.conv1, self.bn1 = conv(4, 8, stride=2), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = conv(8, 8), nn.BatchNorm2d(8)
        self.head = head(8)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.head(F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))))


class ECA(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = conv(3, 4), conv(4, 6)
        self.slide = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(F.relu(self.first(x))))
        y = self.slide(x.mean((2, 3)).unsqueeze(1)).squeeze(1)
        return self.head(x * torch.sigmoid(y)[:, :, None, None])


class TokenMixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv1d(3, 5, 1)
        self.mix, self.unmix = nn.Linear(6, 8), nn.Linear(8, 6)
        self.channels = nn.Conv1d(5, 5, 1)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        x = x + self.unmix(F.relu(self.mix(x)))
        return self.out(F.relu(self.channels(x)).mean(-1))


class DotProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.first = conv(4, 5), conv(4, 5), conv(3, 4)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.first(x))
        return self.out((self.a(x) * self.b(x)).sum(1).flatten(1))


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class PlusShuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = conv(3, 6), conv(6, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.conv(x))
        return self.head(F.relu(self.last(y + shuffled(y, 2))))


class InPlace(nn.Module):
    """`relu_` and `+=` change what is read again later."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.side, self.last = conv(3, 5), conv(5, 5), conv(5, 4)
        self.act = nn.ReLU(inplace=True)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        z = self.act(y)
        z += self.side(y)
        return self.head(F.relu(self.last(y * z)))


class SameTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = conv(3, 4), conv(8, 5)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        return self.head(F.relu(self.last(torch.cat([x, x], 1))))


class Crossed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = conv(3, 3), conv(3, 3), conv(6, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        return self.head(F.relu(self.last(torch.cat([a, b], 1) + torch.cat([b, a], 1))))


class Shuffled(nn.Module):
    """Sub-pixel convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = conv(3, 8), conv(2, 4)
        self.up = nn.PixelShuffle(2)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.last(F.relu(self.up(self.conv(x))))))


class Unshuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = conv(3, 3), conv(12, 4)
        self.down = nn.PixelUnshuffle(2)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.last(F.relu(self.down(self.conv(x))))))


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 6)
        self.first, self.second = conv(6, 6, 1, groups=2), conv(6, 6, 1, groups=2)
        self.deep = conv(6, 6, groups=6)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.second(self.deep(shuffled(F.relu(self.first(x)), 2)))))


class ShuffleModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = conv(3, 6), conv(6, 6, 1, groups=3), conv(6, 6, 1, groups=3)
        self.shuffle = nn.ChannelShuffle(3)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.second(self.shuffle(F.relu(self.first(F.relu(self.stem(x))))))))


class GroupNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gn = conv(3, 6), nn.GroupNorm(3, 6)
        self.last, self.one = conv(6, 4), nn.GroupNorm(1, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.one(self.last(F.relu(self.gn(self.conv(x)))))))


class InstanceNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 5), nn.InstanceNorm2d(5, affine=True, track_running_stats=True)
        self.last, self.plain = conv(5, 4), nn.InstanceNorm2d(4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.sigmoid(self.plain(self.last(F.relu(self.norm(self.conv(x)))))))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = conv(3, 4), conv(4, 6), conv(6, 8)
        self.up2, self.fuse2 = nn.ConvTranspose2d(8, 6, 2, stride=2), conv(12, 6)
        self.up1, self.fuse1 = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), conv(8, 4)
        self.out = conv(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        a = F.relu(self.down1(x))
        b = F.relu(self.down2(F.max_pool2d(a, 2)))
        c = F.relu(self.middle(F.max_pool2d(b, 2)))
        b = F.relu(self.fuse2(torch.cat([F.relu(self.up2(c)), b], 1)))
        a = F.relu(self.fuse1(torch.cat([a, F.relu(self.up1(b))], 1)))
        return self.out(a)


class ParametricReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.each, self.last, self.all = conv(3, 5), nn.PReLU(5), conv(5, 4), nn.PReLU()
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.all(self.last(self.each(self.conv(x)))))


class OneChannel(nn.Module):
    """A convolution of one channel is no depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.conv = conv(2, 1), conv(1, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.conv(F.relu(self.squeeze(x)))))


class Multiplier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deep, self.bn, self.point = conv(3, 4), conv(4, 8, groups=4), nn.BatchNorm2d(8), conv(8, 5, 1)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.point(F.relu6(self.bn(self.deep(F.relu6(self.conv(x))))))))


class DepthwiseOnInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.up, self.point = conv(3, 6, groups=3), nn.ConvTranspose2d(6, 12, 2, groups=6), conv(12, 4, 1)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.point(F.relu(self.up(F.relu(self.deep(x)))))))


class TwoInputs(nn.Module):
    """Features of an image scaled and shifted by a vector (FiLM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(3, 5), nn.BatchNorm2d(5)
        self.hidden, self.film = nn.Linear(4, 6), nn.Linear(6, 10)
        self.head = head(5)

    def forward(self, image: Tensor, vector: Tensor) -> Any:
        scale, shift = self.film(torch.tanh(self.hidden(vector))).chunk(2, dim=-1)
        x = self.bn(self.conv(image))
        return self.head(F.relu(x * scale[:, :, None, None] + shift[:, :, None, None]))


class DictOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mask, self.box = conv(3, 5), conv(5, 2), conv(5, 4)
        self.aux = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        found = {"mask": self.mask(x), "box": self.box(x)}
        if self.training:
            found["aux"] = self.aux(x.mean((2, 3)))
        return found


class TiedWeights(nn.Module):
    """Two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 5)
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.relu(self.second(torch.relu(self.first(torch.relu(self.embed(x)))))))


class Sequence1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.last = nn.Conv1d(3, 7, 3, dilation=2), nn.BatchNorm1d(7), nn.Conv1d(7, 4, 3, stride=2)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.last(F.relu(self.bn(self.conv(x)))))
        return self.out(F.adaptive_max_pool1d(x, 1).squeeze(-1))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv3d(2, 5, 3, padding=1, padding_mode="circular"), nn.BatchNorm3d(5)
        self.last = nn.Conv3d(5, 4, 1)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.max_pool3d(F.relu(self.bn(self.conv(x))), 2)
        return self.out(F.leaky_relu(self.last(x), 0.1).mean((2, 3, 4)))


class SpatialAttention(nn.Module):
    """Largest and mean over channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mask = conv(3, 4), conv(2, 1)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        both = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return self.head(x * torch.sigmoid(self.mask(both)))


class LargestChannel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 7)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.conv(x).amax(1).flatten(1))


class MeanChannel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = conv(3, 5), conv(5, 3)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.relu(self.conv(torch.relu(self.first(x)))).mean(1).flatten(1))


class Maxout(nn.Module):
    """The larger of two neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = conv(3, 8), conv(4, 5)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        n, _, h, w = x.shape
        return self.head(F.relu(self.last(x.view(n, 4, 2, h, w).amax(2))))


class ChannelsLast(nn.Module):
    """LayerNorm over channels, pointwise linear layers, a learned scale: a block of ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 4, 1), conv(4, 4, groups=4)
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 9), nn.Linear(9, 4)
        self.gamma = nn.Parameter(torch.full((4,), 1e-6))
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return self.head(x + y.permute(0, 3, 1, 2))


class SelectiveKernel(nn.Module):
    """Two branches weighted by a softmax between them, channel by channel (SKNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large, self.squeeze, self.choose = conv(3, 5), conv(3, 5, 5), nn.Linear(5, 4), nn.Linear(4, 10)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        a, b = F.relu(self.small(x)), F.relu(self.large(x))
        weights = self.choose(F.relu(self.squeeze((a + b).mean((2, 3))))).view(-1, 2, 5).softmax(1)
        return self.head(a * weights[:, 0, :, None, None] + b * weights[:, 1, :, None, None])


class Res2(nn.Module):
    """Sections of one layer, each added to what the one before it became (Res2Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.back = conv(3, 9, 1), conv(9, 4, 1)
        self.steps = nn.ModuleList(conv(3, 3) for _ in range(2))
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        first, second, third = torch.split(F.relu(self.wide(x)), 3, 1)
        a = F.relu(self.steps[0](first))
        b = F.relu(self.steps[1](a + second))
        return self.head(F.relu(self.back(torch.cat([a, b, third], 1))))


class Ghost(nn.Module):
    """Channels and cheap copies of them, of which some are cut off (GhostNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap, self.last = conv(3, 4), conv(4, 4, groups=4), conv(7, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.primary(x))
        return self.head(F.relu(self.last(torch.cat([x, F.relu(self.cheap(x))], 1)[:, :7])))


class MixedKernels(nn.Module):
    """Depthwise convolutions of two sizes, each for a section (MixNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.small, self.large, self.point = (
            conv(3, 7),
            conv(4, 4, groups=4),
            conv(3, 3, 5, groups=3),
            conv(7, 5, 1),
        )
        self.bn = nn.BatchNorm2d(7)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        p, q = torch.split(F.relu(self.conv(x)), [4, 3], 1)
        return self.head(F.silu(self.point(self.bn(torch.cat([self.small(p), self.large(q)], 1)))))


class GroupedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = conv(3, 6), conv(6, 8, groups=2), conv(8, 6, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(6)
        self.head = head(6)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x))
        return self.head(F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))))


class SharedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bn, self.last = conv(3, 4), conv(3, 4, 1), nn.BatchNorm2d(4), conv(8, 5)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.last(torch.cat([F.relu(self.bn(self.a(x))), F.relu(self.bn(self.b(x)))], 1))))


class CrossCovariance(nn.Module):
    """Attention between channels: the score matrix has channels on both axes (XCiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.q(x).transpose(1, 2), self.k(x).transpose(1, 2), self.v(x).transpose(1, 2)
        mixed = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return self.out(mixed.transpose(1, 2)).mean(1)


class SelfGram(nn.Module):
    """Bilinear pooling: products of every two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 3), conv(3, 4)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        a, b = F.relu(self.a(x)).flatten(2), F.relu(self.b(x)).flatten(2)
        return self.out((a @ b.transpose(1, 2)).flatten(1))


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.last = conv(3, 5), conv(5, 5, stride=2), conv(5, 4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Any:
        x = F.hardswish(self.fine(x))
        y = F.interpolate(self.coarse(x), size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.head(F.elu(self.last(x - 0.5 * y)))


class OuterSum(nn.Module):
    """A row and a column of channels, stretched over one another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 5)
        self.out = nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.tanh(self.a(x)[:, :, None] + self.b(x)[:, None, :]).flatten(1))


class SoftmaxChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.soft, self.last = conv(3, 5), conv(5, 4), conv(4, 3)
        self.head = head(3)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.relu(self.last(torch.softmax(self.soft(F.relu(self.first(x))), dim=1))))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.unit = conv(3, 4), conv(4, 5)
        self.lrn = nn.LocalResponseNorm(3)
        self.head = head(5)

    def forward(self, x: Tensor) -> Any:
        return self.head(F.normalize(self.unit(self.lrn(self.first(x))), dim=1))


IMAGE = [(3, 6, 6)]

ENTRIES: dict[str, Entry] = {
    "Flattened": Entry(Flattened, [(3, 4, 3)]),
    "FlattenedPixelsOutside": Entry(FlattenedPixelsOutside, [(3, 4, 3)]),
    "Attention": Entry(
        Attention,
        [(4, 5)],
        coupled={"embed": {"proj"}, "q": {"k", "v"}, "k": {"q", "v"}, "v": {"q", "k"}, "proj": {"embed"}},
        refused={
            "q=+1": "its channels only grow 3 at a time",
            "k=+1": "its channels only grow 3 at a time",
            "v=+1": "its channels only grow 4 at a time",
        },
        not_deepened={
            "embed": "4 layers read `embed` before any activation",
            "q": "`rearrange` (rearrange) comes before any activation",
            "k": "`rearrange` (rearrange) comes before any activation",
            "v": "`rearrange` (rearrange) comes before any activation",
            "proj": "`add` (add) comes before any activation",
        },
    ),
    "Tokens": Entry(
        Tokens,
        [(3, 4, 4)],
        coupled={
            "patches": {"back", "cls", "position"},
            "cls": {"back", "patches", "position"},
            "position": {"back", "cls", "patches"},
            "back": {"cls", "patches", "position"},
        },
        not_deepened={
            "patches": "`rearrange` (rearrange) comes before any activation",
            "back": "`add` (add) comes before any activation",
        },
    ),
    "Gated": Entry(
        Gated,
        IMAGE,
        refused={"conv=+1": "`chunk` needs 2 sections of equal size"},
        not_deepened={"conv": "2 layers read `conv` before any activation"},
    ),
    "SplitUnevenly": Entry(
        SplitUnevenly,
        IMAGE,
        coupled={"three": {"five"}, "five": {"three"}},
        not_deepened={
            "three": "`add` (add) comes before any activation",
            "five": "`add` (add) comes before any activation",
        },
    ),
    "DualPath": Entry(
        DualPath,
        IMAGE,
        coupled={"a": {"o"}, "d": {"o"}, "o": {"a", "d"}},
        not_deepened={
            "a": "`cat` (cat) comes before any activation",
            "d": "`cat` (cat) comes before any activation",
            "o": "`add` (add) comes before any activation",
        },
    ),
    "Dense": Entry(
        Dense,
        IMAGE,
        not_deepened={
            "stem": "4 layers read `stem` before any activation",
            "layers.0.2": "3 layers read `layers.0.2` before any activation",
            "layers.1.2": "2 layers read `layers.1.2` before any activation",
            "layers.2.2": "`cat` (cat) comes before any activation",
        },
    ),
    "Twice": Entry(Twice, IMAGE, coupled={"stem": {"again"}, "again": {"stem"}}),
    "Siamese": Entry(Siamese, [(3, 6, 6), (2, 6, 6)], coupled={"left": {"right"}, "right": {"left"}}),
    "OneChannelGate": Entry(
        OneChannelGate,
        IMAGE,
        refused={"gate": "`mul` stretches its one slice over the other operand"},
        not_deepened={"gate": "no layer before a Sigmoid (`Sigmoid`) passes every value through unchanged"},
    ),
    "SqueezeExcite": Entry(
        SqueezeExcite,
        IMAGE,
        coupled={"conv": {"expand"}, "expand": {"conv"}},
        not_deepened={"expand": "no layer before a Sigmoid (`Sigmoid`) passes every value through unchanged"},
    ),
    "OptionA": Entry(
        OptionA,
        IMAGE,
        coupled={"stem": {"conv2"}, "conv2": {"stem"}},
        not_deepened={"conv2": "`add` (add) comes before any activation"},
    ),
    "ECA": Entry(
        ECA,
        IMAGE,
        refused={"conv": "`slide` slides over it", "slide": "`rearrange` drops it as an axis of a single slice"},
        not_deepened={"slide": "`rearrange` (rearrange) comes before any activation"},
    ),
    "TokenMixing": Entry(
        TokenMixing,
        [(3, 6)],
        refused={"unmix": "`add` meets channels there that cannot change"},
        not_deepened={
            "embed": "2 layers read `embed` before any activation",
            "unmix": "`add` (add) comes before any activation",
        },
    ),
    "DotProduct": Entry(
        DotProduct,
        [(3, 4, 4)],
        coupled={"a": {"b"}, "b": {"a"}},
        refused={
            "a": "`sum` sums over it, and no weight can share out the copies",
            "b": "`sum` sums over it, and no weight can share out the copies",
        },
        not_deepened={"a": "`mul` (mul) comes before any activation", "b": "`mul` (mul) comes before any activation"},
    ),
    "PlusShuffled": Entry(
        PlusShuffled,
        IMAGE,
        refused={
            "conv=+1": "`rearrange` needs 2 sections of equal size",
            "conv=1.5x": "`rearrange` needs 2 sections of equal size",
        },
    ),
    "InPlace": Entry(
        InPlace,
        IMAGE,
        coupled={"conv": {"side"}, "side": {"conv"}},
        not_deepened={"side": "`add` (add) comes before any activation"},
    ),
    "SameTwice": Entry(SameTwice, IMAGE),
    "Crossed": Entry(Crossed, IMAGE, coupled={"a": {"b"}, "b": {"a"}}),
    "Shuffled": Entry(
        Shuffled,
        IMAGE,
        refused={"conv=+1": "its channels only grow 4 at a time"},
        not_deepened={"conv": "`rearrange` (rearrange) comes before any activation"},
    ),
    "Unshuffled": Entry(
        Unshuffled, IMAGE, not_deepened={"conv": "`rearrange` (rearrange) comes before any activation"}
    ),
    "ChannelShuffle": Entry(
        ChannelShuffle,
        IMAGE,
        coupled={"first": {"deep"}, "deep": {"first"}},
        refused={
            "stem=+1": "`first` needs 2 sections of equal size",
            "stem=1.5x": "`first` needs 2 sections of equal size",
            "first=+1": "it needs 2 sections of equal size",
            "first=1.5x": "it needs 2 sections of equal size",
            "deep=+1": "`first` needs 2 sections of equal size",
            "deep=1.5x": "`first` needs 2 sections of equal size",
            "second=+1": "it needs 2 sections of equal size",
            "second=1.5x": "it needs 2 sections of equal size",
        },
        not_deepened={"deep": "`second` (Conv2d) comes before any activation"},
    ),
    "ShuffleModule": Entry(
        ShuffleModule,
        IMAGE,
        refused={
            "stem=+1": "`first` needs 3 sections of equal size",
            "first=+1": "it needs 3 sections of equal size",
            "first=1.5x": "its channels only grow 2 at a time",
            "second=+1": "it needs 3 sections of equal size",
        },
    ),
    "GroupNormed": Entry(
        GroupNormed,
        IMAGE,
        refused={
            "conv=+1": "its channels only grow 2 at a time",
            "conv=1.5x": "its channels only grow 2 at a time",
            "last=+1": "its channels only grow 4 at a time",
            "last=1.5x": "its channels only grow 4 at a time",
        },
    ),
    "InstanceNormed": Entry(
        InstanceNormed,
        IMAGE,
        not_deepened={"last": "no layer before a Sigmoid (`Sigmoid`) passes every value through unchanged"},
    ),
    "UNet": Entry(
        UNet,
        [(3, 8, 8)],
        refused={
            "fuse2=+1": "`up1` needs 2 sections of equal size",
            "fuse2=1.5x": "`up1` needs 2 sections of equal size",
            "up1=+1": "it needs 2 sections of equal size",
        },
    ),
    "ParametricReLU": Entry(
        ParametricReLU,
        IMAGE,
        not_deepened={
            "conv": "no layer before a PReLU (`each`) passes every value through unchanged",
            "last": "no layer before a PReLU (`all`) passes every value through unchanged",
        },
    ),
    "OneChannel": Entry(OneChannel, [(2, 6, 6)]),
    "Multiplier": Entry(
        Multiplier,
        IMAGE,
        coupled={"conv": {"deep"}, "deep": {"conv"}},
        refused={"deep=+1": "its channels only grow 2 at a time"},
    ),
    "DepthwiseOnInput": Entry(
        DepthwiseOnInput,
        IMAGE,
        coupled={"deep": {"up"}, "up": {"deep"}},
        refused={"deep=+1": "it needs 3 sections of equal size", "up=+1": "its channels only grow 2 at a time"},
    ),
    "TwoInputs": Entry(
        TwoInputs,
        [(3, 6, 6), (4,)],
        coupled={"film": {"conv"}, "conv": {"film"}},
        refused={
            "film=+1": "`chunk` needs 2 sections of equal size",
            "film=1.5x": "`chunk` needs 2 sections of equal size",
        },
        not_deepened={
            "hidden": "no layer before a Tanh (`Tanh`) passes every value through unchanged",
            "film": "2 layers read `film` before any activation",
            "conv": "`mul` (mul) comes before any activation",
        },
    ),
    "DictOutputs": Entry(DictOutputs, IMAGE),
    "TiedWeights": Entry(TiedWeights, [(4,)], coupled={"embed": {"first"}, "first": {"embed"}}),
    "Sequence1d": Entry(Sequence1d, [(3, 12)]),
    "Volume": Entry(Volume, [(2, 4, 4, 4)]),
    "SpatialAttention": Entry(
        SpatialAttention,
        IMAGE,
        refused={
            "conv=+1": "its channels only grow 4 at a time",
            "conv=1.5x": "its channels only grow 4 at a time",
            "mask": "`mul` stretches its one slice over the other operand",
        },
        not_deepened={"mask": "no layer before a Sigmoid (`Sigmoid`) passes every value through unchanged"},
    ),
    "LargestChannel": Entry(
        LargestChannel, [(3, 4, 4)], not_deepened={"conv": "`amax` (amax) comes before any activation"}
    ),
    "MeanChannel": Entry(
        MeanChannel,
        [(3, 4, 4)],
        refused={"conv=+1": "its channels only grow 3 at a time", "conv=1.5x": "its channels only grow 3 at a time"},
    ),
    "Maxout": Entry(
        Maxout,
        IMAGE,
        refused={"conv=+1": "its channels only grow 2 at a time"},
        not_deepened={"conv": "`rearrange` (rearrange) comes before any activation"},
    ),
    "ChannelsLast": Entry(
        ChannelsLast,
        IMAGE,
        coupled={
            "stem": {"deep", "down", "gamma"},
            "deep": {"down", "gamma", "stem"},
            "gamma": {"deep", "down", "stem"},
            "down": {"deep", "gamma", "stem"},
        },
        refused=dict.fromkeys(
            (f"{layer}={width}" for layer in ("stem", "deep", "down") for width in ("+1", "1.5x")),
            "its channels only grow 4 at a time: a norm averages over them, and `deep` filters each channel by itself",
        ),
        not_deepened={
            "stem": "2 layers read `stem` before any activation",
            "deep": "`rearrange` (rearrange) comes before any activation",
            "down": "`mul` (mul) comes before any activation",
        },
    ),
    "SelectiveKernel": Entry(
        SelectiveKernel,
        IMAGE,
        coupled={"small": {"choose", "large"}, "large": {"choose", "small"}, "choose": {"large", "small"}},
        refused={
            "choose=+1": "its channels only grow 2 at a time",
            "choose=1.5x": "its channels only grow 2 at a time",
        },
        not_deepened={"choose": "`rearrange` (rearrange) comes before any activation"},
    ),
    "Res2": Entry(Res2, IMAGE, coupled={"wide": {"steps.0"}, "steps.0": {"wide"}}),
    "Ghost": Entry(Ghost, IMAGE, coupled={"primary": {"cheap"}, "cheap": {"primary"}}),
    "MixedKernels": Entry(
        MixedKernels,
        IMAGE,
        coupled={"conv": {"large", "small"}, "small": {"conv"}, "large": {"conv"}},
        not_deepened={
            "small": "`cat` (cat) comes before any activation",
            "large": "`cat` (cat) comes before any activation",
        },
    ),
    "GroupedResidual": Entry(
        GroupedResidual,
        IMAGE,
        coupled={"stem": {"conv2"}, "conv2": {"stem"}},
        refused={
            "stem=+1": "`conv1` needs 2 sections of equal size",
            "stem=1.5x": "`conv1` needs 2 sections of equal size",
            "conv1=+1": "it needs 2 sections of equal size",
            "conv2=+1": "`conv1` needs 2 sections of equal size",
            "conv2=1.5x": "`conv1` needs 2 sections of equal size",
        },
        not_deepened={"conv2": "`add` (add) comes before any activation"},
    ),
    "SharedNorm": Entry(SharedNorm, IMAGE, coupled={"a": {"b"}, "b": {"a"}}),
    "CrossCovariance": Entry(
        CrossCovariance,
        [(4, 5)],
        refused={
            "k": "`Softmax` normalises over it",
            "v": "`matmul` multiplies two activations over it, and no weight can share out the copies",
            "out": "`mean` is the network's output `out`",
        },
        not_deepened={
            "q": "`rearrange` (rearrange) comes before any activation",
            "k": "`matmul` (matmul) comes before any activation",
            "v": "`rearrange` (rearrange) comes before any activation",
            "out": "`mean` (mean) comes before any activation",
        },
    ),
    "SelfGram": Entry(SelfGram, IMAGE, refused={"b": "`rearrange` merges it with another axis that may grow"}),
    "Resized": Entry(
        Resized,
        IMAGE,
        coupled={"fine": {"coarse"}, "coarse": {"fine"}},
        not_deepened={
            "coarse": "`interpolate` (interpolate) comes before any activation",
            "last": "no layer before a ELU (`ELU`) passes every value through unchanged",
        },
    ),
    "OuterSum": Entry(
        OuterSum,
        [(4,)],
        refused={"b": "`rearrange` merges it with another axis that may grow"},
        not_deepened={
            "a": "`rearrange` (rearrange) comes before any activation",
            "b": "`rearrange` (rearrange) comes before any activation",
        },
    ),
    "SoftmaxChannels": Entry(
        SoftmaxChannels,
        IMAGE,
        refused={"soft": "`Softmax` normalises over it"},
        not_deepened={"soft": "`Softmax` (Softmax) comes before any activation"},
    ),
    "Normalized": Entry(
        Normalized,
        IMAGE,
        refused={
            "first": "`LocalResponseNorm` sums over neighbouring channels",
            "unit": "`normalize` divides by the norm over it",
        },
        not_deepened={
            "first": "`LocalResponseNorm` (LocalResponseNorm) comes before any activation",
            "unit": "`normalize` (normalize) comes before any activation",
        },
    ),
}
