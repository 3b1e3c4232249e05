"""The private and fragile names that tracing touches are there, and mean what they meant."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

import einops.layers.torch
import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.runtime import adapters
from net2net_cli.runtime.functional import HANDLERS
from net2net_cli.runtime.readings import UNTOUCHED, Readings

ABSENT = {"timm.layers.drop.DropPath"}
"""Names of packages that are not installed here."""


def added(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@pytest.mark.parametrize("name", sorted({n for op in REGISTRY.values() for n in op.reads_modules} - ABSENT))
def test_modules_that_ops_read_exist(name: str) -> None:
    assert issubclass(adapters.loaded(name), nn.Module)


@pytest.mark.parametrize("name", sorted({n for op in REGISTRY.values() for n in op.functions}))
def test_functions_that_ops_read_exist(name: str) -> None:
    assert callable(adapters.loaded(name.replace("Tensor.", "torch.Tensor.")))


def test_functions_with_handlers_exist_as_method_or_function() -> None:
    import_module("einops")
    missing = [
        name
        for name in HANDLERS
        if not callable(adapters.loaded(name.replace("Tensor.", "torch.Tensor.")))
        and not callable(adapters.loaded(f"torch.{name.rpartition('.')[2]}"))
        and not hasattr(torch.Tensor, name.rpartition(".")[2])
    ]
    assert missing == []


@pytest.mark.parametrize("name", adapters.TRACER_HOOKS)
def test_hooks_of_the_tracer_exist(name: str) -> None:
    assert callable(getattr(fx.Tracer, name))


@pytest.mark.parametrize(
    "name",
    [
        *(*adapters.TRANSPARENT, *adapters.LAZY, *adapters.SCRIPTED, *adapters.NORM_HOOKS, *adapters.EINOPS_LAYERS),
        adapters.WEIGHT_NORM,
    ],
)
def test_classes_that_are_treated_by_name_exist(name: str) -> None:
    assert isinstance(adapters.loaded(name), type)


def test_weight_norm_is_found_with_the_axis_that_it_keeps_and_nothing_else_is() -> None:
    def made() -> nn.Module:
        return nn.Conv1d(2, 3, 3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        hooked = nn.utils.weight_norm(made(), dim=1)
        twice = nn.utils.weight_norm(parametrizations.orthogonal(nn.Linear(3, 3)), name="bias")
    both = parametrizations.orthogonal(parametrizations.weight_norm(nn.Linear(3, 3)))
    watched = parametrizations.weight_norm(made())
    watched.register_forward_hook(lambda *_: None)
    assert adapters.weight_norm_of(watched) == ("parametrization", 0)
    assert len(adapters.other_hooks_of(watched)) == 1
    assert adapters.weight_norm_of(hooked) == ("hook", 1)
    assert adapters.weight_norm_of(parametrizations.weight_norm(made(), dim=2)) == ("parametrization", 2)
    others = (made(), parametrizations.spectral_norm(made()), nn.utils.spectral_norm(made()), both, twice)
    assert [adapters.weight_norm_of(module) for module in others] == [None] * len(others)


def test_a_compiled_function_holds_what_it_was_compiled_from_and_is_called_by_its_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        compiled: Any = torch.jit.script(added)
    assert getattr(compiled, adapters.SCRIPTED_FROM) is added
    before = torch.jit.ScriptFunction.__call__
    with adapters.scripts_inlined():
        assert torch.equal(compiled(torch.ones(2), torch.ones(2)), torch.full((2,), 2.0))
        assert torch.jit.ScriptFunction.__call__ is not before
    assert torch.jit.ScriptFunction.__call__ is before


def test_the_class_of_compiled_modules_has_its_name() -> None:
    import_module("torch._dynamo")
    (name,) = adapters.COMPILED
    assert isinstance(adapters.loaded(name), type)


def test_containers_are_defined_where_they_are_looked_for() -> None:
    for container in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList):
        assert container.__module__ in adapters.CONTAINERS


@pytest.mark.parametrize("name", adapters.LEAF_FUNCTIONS)
def test_leaf_functions_are_reached_through_their_modules(name: str) -> None:
    function = adapters.loaded(name)
    assert all(getattr(sys.modules[home], function.__name__) is function for home in adapters.LEAF_FUNCTIONS[name])


def test_rearrange_of_einops_calls_reduce_of_its_own_module() -> None:
    calls = []
    with adapters.patched("einops.einops.reduce", lambda *args, **axes: calls.append((args[1:], axes))):
        einops.rearrange(torch.zeros(2, 3), "a (b c) -> a b c", b=3)
    assert calls == [(("a (b c) -> a b c",), {"reduction": "rearrange", "b": 3})]
    layer = einops.layers.torch.Rearrange("a b -> b a")
    assert (layer.pattern, layer.axes_lengths) == ("a b -> b a", {})
    assert einops.layers.torch.Reduce("a b -> a", "max").reduction == "max"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages_tell_views_from_copies(device: str) -> None:
    x = torch.zeros(2, 3, device=device)
    assert adapters.storage_of(x) == adapters.storage_of(x[:, 1:]) == adapters.storage_of(x.view(6))
    assert adapters.storage_of(x) != adapters.storage_of(x.clone())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_versions_count_writes_through_any_view(device: str) -> None:
    with torch.no_grad():
        x = torch.zeros(2, 3, device=device)
        before = adapters.version_of(x)
        x * 2
        assert adapters.version_of(x) == before
        x.view(6)[1:].mul_(2)
        assert adapters.version_of(x) > before


def test_random_layers_without_values_draw_no_numbers() -> None:
    before = adapters.random_states()
    nn.functional.dropout(torch.zeros(2, 3, device="meta"), 0.5, True)
    torchvision.ops.stochastic_depth(torch.zeros(2, 3, device="meta"), 0.5, "row", True)
    assert adapters.random_states() == before


def test_a_twin_does_not_reach_the_original() -> None:
    module = nn.BatchNorm1d(3)
    twin = adapters.twin_of(module, torch.clone)
    twin(torch.randn(8, 3))
    assert int(module.num_batches_tracked or 0) == 0
    assert int(twin.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_subclasses_that_change_nothing_are_read_as_their_base() -> None:
    class Plain(nn.Linear):
        def extra_repr(self) -> str:
            return "plain"

    class Other(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    readings = Readings()
    assert readings.op_of(Plain(2, 2)) is REGISTRY["Linear"]
    assert readings.op_of(Other(2, 2)) is None
    assert "forward" not in UNTOUCHED


def test_buffers_that_are_not_saved_are_told_apart() -> None:
    module = nn.Module()
    module.register_buffer("kept", torch.zeros(2))
    module.register_buffer("unsaved", torch.zeros(2), persistent=False)
    assert adapters.unsaved_buffers(module) == {"unsaved"}
