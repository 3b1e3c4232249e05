"""Untrained networks as checkpoints, for teachers and for training from scratch.

`python -m experiments.models build tiny-inception --width 0.55 --seed 0 -o untrained.safetensors`,
`python -m experiments.models reset student.safetensors --seed 0 -o scratch.safetensors`
"""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.errors import exit_code_of
from net2net_cli import Net2Net
from net2net_cli.networks import inception_v2, small_resnet
from net2net_cli.networks.inception import MODULES, ConvNormReLU, Inception

TINY_MODULES = ("inception_3b", "inception_3c", "inception_4a")
"""Of the ten of Inception-V2; the second has stride 2."""

FILTERS = 0.125
"""Filters of a small network at width 1, as a part of those of Inception-V2: few, so that wider ones are better."""


class SmallInception(nn.Module):
    """Some of the modules of Inception-V2, or all, with an eighth of its filters at width 1, for small images.

    Dropout stands behind every activation inside the modules, at probability 0, since a training script may want it:
    the paper leaves it to dropout to part copies. Input `(n, in_channels, h, w)`, output `(n, classes)`.
    """

    def __init__(self, modules: Sequence[str], width: float, classes: int, in_channels: int) -> None:
        super().__init__()
        self.names = tuple(modules)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=ConvNormReLU(in_channels, 16, 3),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),
                conv2=ConvNormReLU(16, 32, 3),
            )
        )
        channels = 32
        for name in modules:
            filters = MODULES[name].scaled(width * FILTERS)
            self.add_module(name, Inception(channels, filters))
            channels = filters.output(channels)
        for module in self.modules():
            if isinstance(module, Inception):
                for layer in module.modules():
                    if isinstance(layer, ConvNormReLU):
                        layer.relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.0))  # type: ignore[assignment]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, in_channels, h, w)` -> `(n, classes)`."""
        x = self.stem(x)
        for name in self.names:
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return out


def make(network: str, width: float, classes: int, in_channels: int, size: int) -> nn.Module:
    """An untrained network; `width` multiplies the filters of what the experiments widen."""
    if network == "tiny-inception":
        return SmallInception(TINY_MODULES, width, classes, in_channels)
    if network == "small-inception":
        return SmallInception(tuple(MODULES), width, classes, in_channels)
    if network == "inception":
        return inception_v2(width, classes, in_channels, stem="small" if size < 64 else "imagenet")
    if network == "tiny-resnet":
        return small_resnet(classes, in_channels, width=int(16 * width + 0.5), blocks=1)
    if network == "resnet20":
        return small_resnet(classes, in_channels, width=int(16 * width + 0.5), blocks=3)
    from torchvision.models import resnet50

    found: nn.Module = resnet50(num_classes=classes, width_per_group=int(64 * width + 0.5))
    return found


NETWORKS = ("tiny-inception", "small-inception", "inception", "tiny-resnet", "resnet20", "resnet50")


@lru_cache
def widths(network: str, narrow: float, wide: float, size: int) -> dict[str, int]:
    """The convolutions that a wider network has wider -> how wide."""
    with torch.device("meta"):
        small, large = (make(network, width, 10, 3, size) for width in (narrow, wide))
    before, after = (
        {name: module.out_channels for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
        for model in (small, large)
    )
    return {name: width for name, width in after.items() if width != before[name]}


def reset(model: nn.Module) -> None:
    """Draw all weights again as PyTorch does for new layers."""
    for module in model.modules():
        if callable(draw := getattr(module, "reset_parameters", None)):
            draw()


def save(model: nn.Module, network: Net2Net, path: Path) -> None:
    """Write a model's weights with the spec that it was built from; its lineage ends, since it has been trained."""
    from net2net_cli.runtime.arrays import to_array

    state = model.state_dict()
    tensors = {name: to_array(state[name]) for name, _, _, _ in network.graph.tensors()}
    Net2Net.from_tensors(network.graph, tensors, aliases=network.origin.aliases).save(path, force=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.models", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    building = commands.add_parser("build", help="an untrained network")
    building.add_argument("network", choices=NETWORKS)
    building.add_argument("--width", type=float, default=1.0)
    building.add_argument("--classes", type=int, default=10)
    building.add_argument("--in-channels", type=int, default=1)
    building.add_argument("--size", type=int, default=28)
    again = commands.add_parser("reset", help="a checkpoint's architecture with new random weights")
    again.add_argument("checkpoint", type=Path)
    for command in (building, again):
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(argv)

    def run() -> None:
        torch.manual_seed(options.seed)
        if options.command == "build":
            size, channels = options.size, options.in_channels
            model = make(options.network, options.width, options.classes, channels, size)
            network = Net2Net.from_module(model, torch.zeros(2, channels, size, size), name=options.network)
            network.save(options.out, force=True)
        else:
            network = Net2Net.load(options.checkpoint)
            model = network.to_module()
            reset(model)
            save(model, network, options.out)

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
