"""Tensors of the batch's size that a network fills, and assignments to parts of tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.architecture.ops.matrix import Matrix, MatrixProduct
from net2net_cli.errors import TraceError
from runtime.tracing import Calls, assert_same, layer_of, ops_of

X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def count(x: Tensor) -> int:
    """A function of the user's own that has a name of torch's."""
    return len(x)


@pytest.mark.parametrize(
    "made",
    [
        lambda x: torch.zeros(x.shape[0], 4, 6),
        lambda x: torch.ones(len(x), 1, 6, dtype=x.dtype, device=x.device),
        lambda x: torch.full((x.size(0), 4, 1), 2.5),
        lambda x: torch.full((count(x), 1, 1), fill_value=3),
        lambda x: x.new_zeros(x.size(0), 6),
        lambda x: x.new_ones((x.size(0), 4, 6)) * 0.5,
        lambda x: x.new_full((x.shape[0], 4, 6), -1.0),
        lambda x: torch.zeros_like(x) - torch.ones_like(x[:, :1]) + torch.full_like(x[:, :, :1], 0.25),
        lambda x: torch.ones(x.shape[0], 4, 6, dtype=torch.bool).logical_not(),
    ],
)
def test_tensors_of_the_batch_s_size_are_constants_that_are_stretched(made: Callable[[Tensor], Tensor]) -> None:
    def function(x: Tensor) -> Tensor:
        other = made(x)
        return x + (other[:, None] if other.ndim == 2 else other)

    ops = ops_of(assert_same(Calls(function), X))
    assert "constant" in ops
    assert "expand" in ops
    assert not any(op.startswith("opaque") for op in ops)


def half(y: Tensor, x: Tensor) -> None:
    y[:, :2] = 0


def single(y: Tensor, x: Tensor) -> None:
    y[:, -1, 2] = 1.5
    y[..., 0] = x[:, :, 1]


def shifted(y: Tensor, x: Tensor) -> None:
    y[:, 1:, :3] = x[:, :-1, 3:]


def stretched(y: Tensor, x: Tensor) -> None:
    y[:, 1:3] = x[:, 3:, :]
    y[:, :, 4:] = x[:, :1, :1]


def everywhere(y: Tensor, x: Tensor) -> None:
    y[:] = x + 1
    y[y > 1] = -2.0


def by_sample(y: Tensor, x: Tensor) -> None:
    y[x[:, :, 0] > 0] = 7.0


@pytest.mark.parametrize("put", [half, single, shifted, stretched, everywhere, by_sample])
def test_assignments_to_parts_are_rebuilt_bit_for_bit(put: Callable[[Tensor, Tensor], None]) -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 2
        put(y, x)
        return y * x

    assert not any(op.startswith("opaque") for op in ops_of(assert_same(Calls(function), X)))


def test_an_assignment_to_a_view_of_what_is_read_later_is_refused() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 2
        part = y[:, :2]
        part[:, 0] = 1.0
        return y

    with pytest.raises(TraceError, match=r"writes in place into memory that `.*` shares"):
        assert_same(Calls(function), X)


def test_an_assignment_into_a_constant_is_worked_out() -> None:
    def function(x: Tensor) -> Tensor:
        table = torch.zeros(4, 6)
        table[:, ::2] = torch.arange(4.0)[:, None]
        table[0] += 1
        return x * table

    graph = assert_same(Calls(function), X)
    (table,) = (layer.op for layer in graph.layers if isinstance(layer.op, Constant))
    expected = np.zeros((4, 6), np.float32)
    expected[:, ::2] = np.arange(4.0)[:, None]
    expected[0] += 1
    np.testing.assert_array_equal(table.values(), expected)


class KeysWithoutBias(nn.Module):
    """Queries and values have a bias and keys have none, as in BEiT (arXiv:2106.08254)."""

    def __init__(self, middle: Tensor) -> None:
        super().__init__()
        self.weight, self.q, self.v = (
            nn.Linear(6, 12, bias=False),
            nn.Parameter(torch.rand(4)),
            nn.Parameter(torch.rand(4)),
        )
        self.register_buffer("middle", middle, persistent=False)
        self.middle: Tensor
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(torch.relu(self.weight(x) + torch.cat((self.q, self.middle, self.v))))
        return found


def test_a_constant_is_made_as_wide_as_what_it_meets_where_it_holds_one_number() -> None:
    model = KeysWithoutBias(torch.zeros(4))
    student = Net2Net.from_module(model, X[:, 0]).widen({"weight": "2x"})
    assert layer_of(student.graph, "constant").op.shape() == (8,)
    torch.testing.assert_close(student.to_module()(X[:, 0]), model(X[:, 0]))


def test_a_constant_of_several_numbers_keeps_its_slices() -> None:
    model = KeysWithoutBias(torch.arange(4.0))
    net = Net2Net.from_module(model, X[:, 0])
    student = net.widen({"weight": "2x"})
    assert layer_of(student.graph, "constant") == layer_of(net.graph, "constant")
    torch.testing.assert_close(student.to_module()(X[:, 0]), model(X[:, 0]))


def test_a_matrix_that_is_read_as_a_value_too_stays_one() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.W = nn.Linear(6, 4), nn.Parameter(torch.rand(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.first(x) @ self.W * self.W.abs().mean()
            return found

    ops = ops_of(assert_same(Normed(), X))
    assert "Matrix" not in ops
    assert "matmul" in ops


def test_a_product_from_the_left_is_one_of_two_values() -> None:
    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.rand(5, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.W @ x

    assert "Matrix" not in ops_of(assert_same(Left(), X))


def test_a_matrix_has_the_shapes_of_its_product() -> None:
    assert MatrixProduct(4, 8, 0).tensors()["weight"].shape == Matrix((4, 8), 0).shape() == (4, 8)
    assert MatrixProduct(4, 8, 1).tensors()["weight"].shape == Matrix((8, 4), 1).shape() == (8, 4)
    assert Matrix((4, 8), 0).tensors()[""].fan_in == Matrix((8, 4), 1).tensors()[""].fan_in == 4
