"""Means and variances of activations, measured on the user's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph
from net2net_cli.growth.batch_norm import Moments
from net2net_cli.runtime.build import values_of
from net2net_cli.runtime.inputs import load_inputs
from net2net_cli.runtime.machine import explained, full_precision, pick_device
from net2net_cli.runtime.running import converted

BATCH = 32


class _Sums:
    """Sums over all but the channel axis, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def add(self, value: Tensor) -> None:
        """One batch `(n, channels, …)`."""
        flat = value.double().transpose(0, 1).flatten(1)
        first, second = flat.sum(1).cpu(), flat.square().sum(1).cpu()
        self.count += flat.shape[1]
        self.first = first if self.first is None else self.first + first
        self.second = second if self.second is None else self.second + second

    def moments(self) -> Moments:
        """What was seen."""
        assert self.first is not None
        assert self.second is not None
        mean = self.first / self.count
        return Moments(mean.numpy(), (self.second / self.count - mean.square()).clamp(min=0).numpy())


def measured_moments(
    graph: Graph, module: nn.Module, values: Sequence[str], inputs: Path, device_name: str
) -> Mapping[str, Moments]:
    """Mean and variance of each channel (axis 1) of some values, in eval mode.

    Args:
        graph: the network.
        module: the same, with its weights.
        values: names of layers.
        inputs: a file of samples, or a folder of images.
        device_name: where to run.

    Raises:
        UsageError, InputError: the inputs are not there or do not fit.
        MachineError: the device is not there, or its memory does not suffice.
    """
    device = pick_device(device_name)
    sums = {name: _Sums() for name in values}
    with explained(device), full_precision(), torch.no_grad():
        network = converted(module, device, torch.float32).eval()
        for batch in load_inputs(inputs, graph, batch=BATCH).batches:
            arguments = [x.to(device, torch.float32 if x.is_floating_point() else x.dtype) for x in batch]
            for name, value in values_of(network, *arguments):  # type: ignore[arg-type]
                if name in sums:
                    sums[name].add(value)
    return {name: found.moments() for name, found in sums.items()}
