"""A difference that is to be expected is told from one that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from net2net_cli import Net2Net
from net2net_cli.runtime.expected import identities


def fresh() -> nn.Sequential:
    """An untrained network, whose batch norm is still the identity with the statistics that it holds."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


def with_added(net: Net2Net, tensor: str, value: float) -> Net2Net:
    """The same network, with a number added to the first entry of a tensor."""
    tensors = {name: net.tensor(name).copy() for name, *_ in net.graph.tensors()}
    tensors[tensor][0] += np.float32(value)
    return Net2Net.from_tensors(net.graph, tensors)


def test_an_identity_that_the_teacher_has_too_explains_nothing() -> None:
    teacher = Net2Net.from_module(fresh(), torch.zeros(2, 1, 4, 4))
    assert identities(teacher) == {"1"}
    found = with_added(teacher, "4.bias", 1).verify(teacher, level="train", device="cpu")
    assert not found.passed
    assert found.explanation is None


@pytest.mark.parametrize("tensor", ["weight", "bias", "running_mean", "running_var"])
def test_a_batch_norm_that_changes_what_it_passes_is_no_identity(tensor: str) -> None:
    teacher = Net2Net.from_module(fresh(), torch.zeros(2, 1, 4, 4))
    assert identities(with_added(teacher, f"1.{tensor}", 0.1)) == set()


def test_an_inserted_batch_norm_explains_a_difference_in_training_alone() -> None:
    teacher = Net2Net.from_module(fresh(), torch.zeros(2, 1, 4, 4))
    deeper = teacher.deepen(["0"])
    assert deeper.verify(teacher, device="cpu").explanation is None
    found = deeper.verify(teacher, level="train", device="cpu")
    assert not found.passed
    assert found.explanation is not None
    assert "`0_deeper1_bn` is the identity with the statistics that it holds" in found.explanation
