"""What holds for every network of the package, and for the package itself."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx

import net2net_cli.networks
from net2net_cli.networks import inception_v2, lenet5, small_resnet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": lambda: lenet5(),
    "lenet5 at 32": lambda: lenet5(num_classes=3, in_channels=3, image_size=32),
    "small_resnet": lambda: small_resnet(num_classes=3, width=5),
    "inception_v2": lambda: inception_v2(width=0.05, num_classes=3),
    "inception_v2 small": lambda: inception_v2(width=0.05, num_classes=3, in_channels=1, dropout=0.2, stem="small"),
}
SHAPES = {"lenet5 at 32": (3, 32, 32), "inception_v2": (3, 64, 64)}


def example(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return BUILDERS[name](), torch.randn(3, *SHAPES.get(name, (1, 28, 28)))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_the_fx_trace_computes_what_the_network_computes(name: str, training: bool) -> None:
    model, x = example(name)
    traced = fx.symbolic_trace(model.train(training))
    torch.manual_seed(1)
    ours = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(traced(x), ours, rtol=0, atol=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_trace_reads_no_sizes(name: str) -> None:
    model, _ = example(name)
    calls = {node.op for node in fx.symbolic_trace(model).graph.nodes} - {"placeholder", "output"}
    assert calls <= {"call_module", "call_function"}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model, x = example(name)
    model(x).square().sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_naming_the_package_imports_no_torch() -> None:
    code = "import sys, net2net_cli.networks as n; dir(n); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", net2net_cli.networks.__all__)
def test_a_name_stays_its_function_after_its_file_was_imported(name: str) -> None:
    builder = getattr(net2net_cli.networks, name)
    importlib.import_module(builder.__module__)
    assert getattr(net2net_cli.networks, name) is builder
    assert callable(builder)
    assert name in dir(net2net_cli.networks)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="`lenet6`"):
        getattr(net2net_cli.networks, "lenet6")  # noqa: B009  # a plain attribute would be a useless expression
