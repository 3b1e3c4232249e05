"""What cannot be traced is refused, with the user's line, the module, and what to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it
from torch.nn.utils import parametrizations

from net2net_cli.errors import ExitCode, TraceError
from runtime.tracing import Calls, graph_of

X = (2, 4, 6)


def refusal(model: nn.Module, *inputs: Tensor) -> TraceError:
    with pytest.raises(TraceError) as caught:
        graph_of(model, *(inputs or (torch.randn(X),)))
    assert caught.value.exit_code is ExitCode.INPUT
    return caught.value


def by_data(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x
    return -x


def by_batch(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 1 else x


def looped(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row in x])


def assigned(x: Tensor) -> Tensor:
    y = x * 2
    y[:, ::2] = 0
    return y


@pytest.mark.parametrize(
    ("function", "message", "hint"),
    [
        (by_data, "a tensor is used as a condition", "one fixed computation"),
        (by_batch, "a branch depends on the batch size", "how many samples"),
        (looped, "the batch axis is looped over", "one tensor operation"),
        (assigned, "cannot be said in a spec, because a slice has a step", "out of place"),
        (lambda x: torch.nonzero(x), "its shape depends on the data", "net2net schema"),
        (lambda x: x.cumsum_(1), "`Tensor.cumsum_` is not known, and cannot be kept as it is: it writes in", None),
        (lambda x: torch.cumsum(x, 1, dtype=torch.float64), "a precision is written into it", None),
        (lambda x: x.new_tensor(1.0).broadcast_to(x.shape[0], 4, 6), "neither parameter nor buffer", None),
        (lambda x: torch.linalg.norm(x), "what it returns has no batch axis", None),
        (lambda x: x * x.max().item(), "`item()` reads the values", "one fixed computation"),
        (lambda x: x * float(x.sum()), "a tensor is turned into a number", "one fixed computation"),
        (lambda x: x.double() * 2, "converted from torch.float32 to torch.float64", "precision"),
        (lambda x: x.max(1)[1], "the places of the largest or smallest", "values alone"),
        (lambda x: x * torch.arange(6, dtype=torch.float64), "neither parameter nor buffer", "register_buffer"),
        (lambda x: x + torch.arange(x.shape[0]).view(-1, 1, 1), "the batch size takes part", "register_buffer"),
        (
            lambda x: x * torch.bernoulli(x.sigmoid()),
            "`torch.bernoulli` is not known, and cannot be kept as it is: it draws",
            "StochasticDepth",
        ),
        (lambda x: F.dropout(x, 0.5), "active in evaluation too", "training=self.training"),
        (lambda x: x / x.shape[0], "the batch size takes part", None),
        (lambda x: x[:1] * 2, "it takes a part of the batch", None),
        (lambda x: x[:, x[0, :, 0] > 0], "an index is a tensor", None),
        (lambda x: x.sum(), "it reduces the batch axis too", None),
        (lambda x: x.view(7, -1) * 2, "`Tensor.view` fails", "batch sizes"),
        (lambda x: x.view(2, -1) * 2, "has no pattern", "x.shape[0]"),
        (lambda x: x.reshape(-1, 3, 8) * 2, "has no pattern", None),
        (lambda x: x.t() * 2, "`Tensor.t` fails", None),
        (lambda x: (x, 3), "the network returns a value of type `int`", "return tensors"),
        (lambda x: x.shape, "the network returns a number or size", "tensors only"),
        (lambda x: None, "the network returns no tensor", None),
        (lambda x: isinstance(x, Tensor) or 1 / 0, "ZeroDivisionError", "torch.Tensor"),
        (lambda x: x + torch.rand(1).item(), "draws random numbers", "randn_like"),
        (lambda x: x * torch.randint(0, 2, (6,)), "draws random numbers", "randn_like"),
        (lambda x: x * np.random.rand(), "draws random numbers", "Dropout"),  # noqa: NPY002 - as users do
        (lambda x: x * random.random(), "draws random numbers", "Dropout"),
        (lambda x: nn.ReLU()(x), "no submodule of the network", "nn.ModuleList"),
        (lambda x: F.conv1d(x, x[:, :, :3]), "has a weight that is no parameter", "torch.nn"),
    ],
)
def test_refusals_name_the_line_and_the_next_step(
    function: Callable[[Tensor], Any], message: str, hint: str | None
) -> None:
    error = refusal(Calls(function))
    assert message in error.message, error.message
    assert hint is None or (error.hint is not None and hint in error.hint), error.hint
    if "returns" not in message and "draws" not in message:
        assert __file__ in error.message
        assert "`Calls`" in error.message


class Block(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.bernoulli(x)


def test_the_module_and_the_code_are_in_the_message() -> None:
    error = refusal(nn.Sequential(nn.ReLU(), nn.Sequential(Block())))
    line = Block.forward.__code__.co_firstlineno + 1
    assert f"at {__file__}:{line}, in module `1.0` of class `Block`: `return torch.bernoulli(x)`" in error.message


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (
            lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 6))),
            "module `0` computes its `weight` from other tensors",
            'remove_parametrizations(model.get_submodule("0"), "weight")',
        ),
        (
            lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6))),
            "module `0` computes its weight from other tensors (`SpectralNorm`)",
            'remove_spectral_norm(model.get_submodule("0"))',
        ),
        (lambda: nn.Sequential(nn.LazyLinear(6)), "lazy", "one batch"),
        (lambda: nn.DataParallel(nn.Linear(6, 6)), "`DataParallel`", "model.module"),
        (lambda: torch.jit.trace(nn.Linear(6, 6), torch.randn(X)), "TorchScript", "Python class"),  # type: ignore[no-untyped-call]
    ],
)
def test_modules_that_are_refused(make: Callable[[], nn.Module], message: str, hint: str | None) -> None:
    error = refusal(make())
    assert message in error.message, error.message
    assert hint is None or hint in str(error.hint), error.hint


def test_a_module_with_one_tensor_at_two_places_is_refused() -> None:
    gru = nn.GRU(6, 6, batch_first=True)
    gru.bias_hh_l0 = gru.bias_ih_l0
    assert "`bias_ih_l0` and `bias_hh_l0` of `0` are the same tensor" in refusal(nn.Sequential(gru)).message


def test_buffers_of_another_precision_outside_of_the_state_dict_are_refused() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean: Tensor
            self.register_buffer("mean", torch.zeros(6).double(), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return x - self.mean

    error = refusal(Hidden())
    assert "the buffer `mean` is not kept" in error.message
    assert "persistent=True" in str(error.hint)


def test_a_batch_norm_that_never_trains_is_refused() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(4)

        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.bn.eval()
            return self

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.bn(x)
            return out

    error = refusal(Frozen())
    assert "module `bn` stays in evaluation mode when `train()` is called" in error.message
    assert "FrozenBatchNorm2d" in str(error.hint)


@pytest.mark.parametrize("mistake", [{"training": True}, {"momentum": 0.5}, {"eps": 1.0}])
def test_a_batch_norm_in_other_words_that_does_something_else_is_refused(mistake: dict[str, Any]) -> None:
    class Differs(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            said = {"training": self.training, "momentum": self.momentum, "eps": self.eps} | mistake
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, **said)

    error = refusal(nn.Sequential(Differs(4)))
    assert "does not do what its module says" in error.message
    assert "in module `0` of class `Differs`" in error.message


def test_an_example_without_a_batch_axis_is_refused() -> None:
    assert "no axes" in refusal(Calls(lambda x: x * 2), torch.tensor(1.0)).message


def test_evaluation_that_training_does_not_contain_is_refused() -> None:
    class Softens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x * 2
            return x if self.training else x.softmax(1)

    assert "`softmax` (Softmax) is computed in evaluation, but not in training" in refusal(Softens()).message


def test_an_error_that_the_users_code_catches_is_still_told() -> None:
    class Hides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return x * int(x.sum())
            except TraceError:
                return x * 2

    assert "turned into a number" in refusal(Hides()).message
