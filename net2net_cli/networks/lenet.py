"""LeNet-5 (LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86(11), 1998, figure 2)."""

from __future__ import annotations

from torch import Tensor, nn

PAPER_SIZE = 32


class LeNet5(nn.Module):
    """LeNet-5 in its modern form; `lenet5` says where it leaves the paper.

    Input `(n, in_channels, image_size, image_size)`, output `(n, num_classes)`.
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        if image_size not in (28, PAPER_SIZE):
            raise ValueError(f"`image_size` is {image_size}; LeNet-5 takes images of 28×28 or 32×32")
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5, padding=(PAPER_SIZE - image_size) // 2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, image_size, image_size)` -> `(n, num_classes)`."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(self.flatten(x)))
        out: Tensor = self.fc3(self.relu4(self.fc2(x)))
        return out


def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> LeNet5:
    """LeNet-5, untrained: 61,706 parameters for ten classes and grey images.

    The layer sizes are the paper's: 6 and 16 filters of 5×5, then 120, 84 and `num_classes` units. As usual today, and
    unlike 1998: ReLU in place of scaled tanh, max pooling in place of trainable averages, every filter of `conv2` reads
    every channel, and the last layer is linear in place of radial basis functions.

    Args:
        num_classes: width of the output.
        in_channels: 1 for grey, 3 for colour.
        image_size: 32 as in the paper, or 28, which is padded by two on each side.
    """
    return LeNet5(num_classes, in_channels, image_size)
