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
from net2net_cli.errors import GrowthRefusedError, TraceError
from runtime.tracing import Calls, assert_same, graph_of, layer_of, ops_of, rebuilt

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


def test_a_number_that_is_assigned_is_what_its_place_can_hold() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 2
        y[x > 3] = 2.7
        y[:, 0] = True
        return y * 10

    model, x = Calls(function), torch.arange(12).reshape(2, 6)
    assert torch.equal(rebuilt(assert_same(model, x), model)(x), model(x))


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (lambda y, x: y.__setitem__(slice(None), x > 0), "writes in place, and its operands differ"),
        (lambda y, x: y.__setitem__((slice(None), slice(0, x.shape[0])), 0), "borders of a slice depend on the batch"),
    ],
)
def test_assignments_that_a_spec_cannot_say_are_refused(put: Callable[[Tensor, Tensor], None], why: str) -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 2
        put(y, x)
        return y + 1

    with pytest.raises(TraceError, match=why):
        assert_same(Calls(function), X)


def test_an_assignment_to_the_input_is_seen_by_what_reads_it_later() -> None:
    def function(x: Tensor) -> Tensor:
        x[:, 1:3] = 0.5
        return x * 2

    graph = assert_same(Calls(function), X.clone())
    assert ops_of(graph).count("cat") == 1


class Written(nn.Module):
    """A parameter, zero as it starts, that is written into a table which would be a constant without it."""

    def __init__(self, write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.write, self.w = write, nn.Parameter(torch.zeros(6))
        self.register_buffer("table", torch.ones(4, 6), persistent=False)
        self.table: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.write(self.table.clone(), self.w, x) * 2) + 1


def added(table: Tensor, w: Tensor, x: Tensor) -> Tensor:
    return table.add_(w)


def put_in(table: Tensor, w: Tensor, x: Tensor) -> Tensor:
    table[:2] = w
    return table


def made_here(table: Tensor, w: Tensor, x: Tensor) -> Tensor:
    made = torch.ones(4, 6)
    made[:2] = w
    return made


@pytest.mark.parametrize("write", [added, put_in])
def test_what_is_written_into_a_table_is_not_lost(write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    model = Written(write)
    network = rebuilt(assert_same(model, X), model)
    with torch.no_grad():
        for one in (model, network):
            one.get_parameter("w").fill_(0.5)
    assert torch.equal(network(X), model(X))


def test_a_write_into_a_tensor_that_is_no_value_of_the_network_is_refused() -> None:
    with pytest.raises(TraceError, match="does not come from the input"):
        assert_same(Written(made_here), X)


def test_filled_tensors_are_read_in_a_network_of_several_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x + torch.ones(x.shape[0], 6), torch.zeros(len(y), 3, dtype=y.dtype) - y

    given = torch.randn(2, 6), torch.randn(2, 3)
    assert_same(Two(), *given)


def test_equal_states_do_not_couple_what_meets_them() -> None:
    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = x.new_zeros(len(x), 4), x.new_zeros(len(x), 4)
            found: Tensor = self.out(torch.cat((torch.relu(self.f(x) + a), torch.relu(self.g(x) + b)), 1))
            return found

    student = Net2Net.from_module(States(), X[:, 0]).widen({"f": "+1"})
    shapes = {name: student.graph.by_name[name].op.tensors()["weight"].shape for name in ("f", "g")}
    assert shapes == {"f": (5, 6), "g": (4, 6)}


def test_what_is_filled_leaves_the_growth_of_a_merged_axis_to_the_channels() -> None:
    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Linear(6, 4), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)[:, None] * torch.ones(3, 1)
            found: Tensor = self.out(torch.relu(h.flatten(1)))
            return found

    model = Spread()
    student = Net2Net.from_module(model, X[:, 0]).widen({"a": "+1"})
    torch.testing.assert_close(student.to_module()(X[:, 0]), model(X[:, 0]))


def test_a_state_too_large_for_a_spec_is_refused_before_anything_is_written() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.out(self.a(x) + x.new_zeros(x.shape[0], 4, *x.shape[2:]))
            return found

    net = Net2Net.from_module(Large(), torch.zeros(2, 1, 1024, 1024))
    with pytest.raises(GrowthRefusedError, match="cannot be so wide"):
        net.widen({"a": "2x"})


def test_hooks_of_a_cell_run() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(6, 4)
            self.cell.register_forward_hook(lambda m, given, made: made.clamp(-0.1, 0.1))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.cell(x)
            return found

    assert "clamp" in ops_of(graph_of(Hooked(), X[:, 0]))


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
