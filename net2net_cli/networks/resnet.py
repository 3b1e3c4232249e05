"""A small residual network for small images (He, Zhang, Ren & Sun, CVPR 2016, section 4.2; arXiv:1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (figure 2 of the paper).

    Input `(n, in_channels, h, w)`, output `(n, channels, ⌈h / stride⌉, ⌈w / stride⌉)`. Where the shape changes, the
    shortcut is a 1×1 convolution with batch norm (the paper's option B), else the input itself.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, channels, ⌈h / stride⌉, ⌈w / stride⌉)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class SmallResNet(nn.Module):
    """A stem, three stages of `BasicBlock`s at widths w, 2w and 4w, average pooling and a classifier.

    Input `(n, in_channels, h, w)`, output `(n, num_classes)`; 28×28 and 32×32 are what it is made for.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, num_classes)`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return out


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, stride=1) for _ in range(blocks - 1)))


def small_resnet(num_classes: int = 10, in_channels: int = 1, width: int = 16, blocks: int = 2) -> SmallResNet:
    """A ResNet for images of about 28×28, untrained; modules are named as torchvision names them.

    As the paper's networks for CIFAR-10, it has 6·blocks + 2 weighted layers; unlike theirs, its shortcuts are
    option B, as torchvision's are. 174,970 parameters as called without arguments.

    Args:
        num_classes: width of the output.
        in_channels: 1 for grey, 3 for colour.
        width: channels of the first stage; the others have twice and four times as many.
        blocks: residual blocks a stage: 1 gives ResNet-8, 2 ResNet-14, 3 ResNet-20.
    """
    return SmallResNet(num_classes, in_channels, width, blocks)
