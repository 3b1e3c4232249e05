"""Tensors that a network makes by itself, and keeps in no state dict: their values stand in the spec."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.ops import attributes
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError, TraceError
from runtime.tracing import Calls, assert_same, graph_of, layer_of, ops_of

TOKENS, WIDTH, HEADS = 5, 16, 2


def turned(x: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return torch.cat((-right, left), dim=-1)


class Rotary(nn.Module):
    """Attention with rotary positions (Su et al. 2021, arXiv:2104.09864), its angles made as most people make them."""

    def __init__(self) -> None:
        super().__init__()
        self.size = WIDTH // HEADS
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        frequencies = 1.0 / 10_000 ** (torch.arange(0, self.size, 2) / self.size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(self, x: Tensor) -> Any:
        n, t, _ = x.shape
        angles = torch.outer(torch.arange(t).to(self.frequencies), self.frequencies)
        cos, sin = (torch.cat((f(angles), f(angles)), dim=-1) for f in (torch.cos, torch.sin))
        heads = [layer(x).view(n, t, -1, self.size).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        q, k = (h * cos + turned(h) * sin for h in heads[:2])
        found = nn.functional.scaled_dot_product_attention(q, k, heads[2])
        return self.out(found.transpose(1, 2).flatten(2))


class Positions(nn.Module):
    """The sinusoidal table of Vaswani et al. 2017 (arXiv:1706.03762) as a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(4, 6), nn.Linear(6, 2)
        self.table = torch.sin(torch.outer(torch.arange(TOKENS), torch.logspace(0, -2, 6)))

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.relu(self.embed(x) + self.table[: x.shape[1]]))


class Windows(nn.Module):
    """A bias for each pair of places, looked up by a table of indices, as windowed attention does."""

    def __init__(self) -> None:
        super().__init__()
        places = torch.arange(TOKENS)
        self.register_buffer("index", places[:, None] - places + TOKENS - 1, persistent=False)
        self.index: Tensor
        self.bias = nn.Parameter(torch.randn(2 * TOKENS - 1, HEADS))
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Any:
        q = self.fc(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        bias = self.bias[self.index.view(-1)].view(TOKENS, TOKENS, -1).permute(2, 0, 1)
        return (q @ q.mT + bias).softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rotary_angles_are_one_constant_each_and_all_is_rebuilt_bit_for_bit(dtype: torch.dtype) -> None:
    model = Rotary().to(dtype)
    graph = assert_same(model, torch.randn(3, TOKENS, WIDTH, dtype=dtype))
    angles = np.outer(np.arange(TOKENS), 1 / 10_000.0 ** (np.arange(0, 8, 2) / 8))
    found: list[Any] = [layer.op.values() for layer in graph.layers if isinstance(layer.op, Constant)]
    assert len(found) == 2
    error = 1e-6 if dtype != torch.bfloat16 else 0.05  # frequencies of 8 bits
    for table, f in zip(found, (np.cos, np.sin), strict=True):
        np.testing.assert_allclose(table, np.concatenate([f(angles), f(angles)], axis=-1), atol=error)


@pytest.mark.parametrize(("growth"), [{"value": "2x"}, {"query": "2x"}])
def test_heads_grow_under_rotary_positions_and_a_head_keeps_its_size(growth: dict[str, str]) -> None:
    model, x = Rotary().double().eval(), torch.randn(3, TOKENS, WIDTH, dtype=torch.float64)
    teacher = Net2Net.from_module(model, (x,))
    student = teacher.widen(growth)
    torch.testing.assert_close(student.to_module().eval()(x), model(x), rtol=0, atol=1e-12)
    with pytest.raises(GrowthRefusedError, match="8 at a time"):
        teacher.widen(dict.fromkeys(growth, "+1"))


def test_positions_that_the_class_makes_do_not_grow_and_what_meets_them_is_refused() -> None:
    x = torch.randn(3, TOKENS, 4)
    assert_same(Positions(), x)
    teacher = Net2Net.from_module(Positions(), (x,))
    with pytest.raises(GrowthRefusedError, match="`add` meets channels there that cannot change"):
        teacher.widen({"embed": "2x"})


def test_a_lookup_by_constant_indices_is_a_selection_and_names_no_code() -> None:
    graph = assert_same(Windows(), torch.randn(3, TOKENS, WIDTH))
    assert "opaque" not in ops_of(graph)
    assert "constant" not in ops_of(graph)  # the indices stand in the selection
    places = np.arange(TOKENS)
    assert attributes(layer_of(graph, "index_select").op)["index"] == tuple(
        (places[:, None] - places + TOKENS - 1).ravel().tolist()
    )


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[:, :, torch.tensor([2, 0, -1])], (2, 0, 5)),
        (lambda x: x[..., torch.tensor([[2, 0], [1, 1]])].flatten(2), (2, 0, 1, 1)),
        (lambda x: torch.index_select(x, 2, torch.tensor([5, 4])), (5, 4)),
        (lambda x: x.index_select(-1, torch.arange(3)), (0, 1, 2)),
    ],
)
def test_slices_are_taken_in_the_order_of_a_constant(
    function: Callable[[Tensor], Tensor], expected: tuple[int, ...]
) -> None:
    graph = assert_same(Calls(function, 2.0), torch.randn(3, 4, 6))
    assert attributes(layer_of(graph, "index_select").op)["index"] == expected


def test_a_selection_by_places_that_weights_decide_is_kept_as_it_is() -> None:
    class Ranked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rank = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Any:
            return x.index_select(1, self.rank.argsort())

    graph = assert_same(Ranked(), torch.randn(3, 4, 6))
    assert "opaque" in ops_of(graph)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x + torch.zeros(6, dtype=torch.float64), "neither parameter nor buffer"),  # would widen the result
        (lambda x: x + torch.zeros(6, requires_grad=True), "neither parameter nor buffer"),  # would be trained
        (lambda x: x * torch.randperm(6), "draws random numbers"),
        (lambda x: x * torch.bernoulli(torch.zeros(6, device=x.device)), "draws random numbers"),
    ],
)
def test_what_is_no_constant_is_refused(function: Callable[[Tensor], Tensor], why: str) -> None:
    with pytest.raises(TraceError, match=why):
        graph_of(Calls(function, 2.0), torch.randn(3, 4, 6))


def test_a_constant_that_training_makes_otherwise_is_refused() -> None:
    class Modal(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x * torch.full((6,), 2.0 if self.training else 3.0)

    with pytest.raises(TraceError, match="evaluation"):
        graph_of(Modal(), torch.randn(3, 4, 6))


def test_a_student_loads_strictly_into_the_class_that_makes_the_constant() -> None:
    teacher = Net2Net.from_module(Windows(), (torch.randn(3, TOKENS, WIDTH),))
    assert set(teacher.to_module().state_dict()) == set(Windows().state_dict())


def test_real_constants_take_the_type_that_the_network_is_given() -> None:
    teacher = Net2Net.from_module(Positions(), (torch.randn(3, TOKENS, 4),))
    for dtype in (torch.float64, torch.bfloat16):
        module = teacher.to_module(dtype=dtype)
        assert module(torch.randn(3, TOKENS, 4, dtype=dtype)).dtype == dtype


def test_an_exported_file_brings_the_constants_along(tmp_path: Path) -> None:
    model, x = Positions().eval(), torch.randn(3, TOKENS, 4)
    graph = graph_of(model, x)
    (tmp_path / "exported.py").write_text(python_source(graph, class_name="Exported"), encoding="utf-8")
    made: Any = runpy.run_path(str(tmp_path / "exported.py"))["Exported"]()
    made.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(made.eval()(x), model(x))


@pytest.mark.parametrize("values", [np.zeros((0, 3), np.float32), np.array(True), np.arange(7, dtype=np.uint8)])
def test_a_constant_of_any_shape_is_what_it_was(values: np.ndarray) -> None:
    held = Constant.of(values)
    assert held.values().dtype == values.dtype
    assert np.array_equal(held.values(), values)


def test_a_stream_that_inflates_without_end_is_refused_before_it_has() -> None:
    bomb = Constant.of(np.zeros(2**20, np.uint8)).data
    with pytest.raises(ValueError, match="no zlib stream"):
        Constant((8,), "uint8", bomb).values()


class Reordered(nn.Module):
    """Channels that are reordered between two layers."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.how = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 3), how

    def forward(self, x: Tensor) -> Any:
        return self.b(torch.relu(self.how(self.a(x))))


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x.roll(2, 1),
        lambda x: x.flip(1),
        lambda x: x.roll((1, -2), (2, 3)),
        lambda x: x.flip(2, 3),
        lambda x: x[:, torch.tensor([5, 3, 1, 1, 0, 2])],
    ],
)
@pytest.mark.parametrize("width", ["2x", "+1", 11])
def test_rolled_flipped_and_selected_channels_grow_exactly(how: Callable[[Tensor], Tensor], width: str | int) -> None:
    model, x = Reordered(how).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    graph = assert_same(model, x)
    assert "opaque" not in ops_of(graph)
    student = Net2Net.from_module(model, (x,)).widen({"a": width}, split="random")
    torch.testing.assert_close(student.to_module()(x), model(x), rtol=0, atol=1e-12)


def test_a_bias_that_is_put_together_is_added_behind_its_linear_layer() -> None:
    class Biased(nn.Module):
        """Queries and values have a bias, keys have none: as in BEiT (Bao et al. 2021, arXiv:2106.08254)."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.mlp = nn.Linear(6, 12, bias=False), nn.Linear(12, 5)
            self.q_bias, self.v_bias = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
            self.register_buffer("k_bias", torch.zeros(4), persistent=False)
            self.k_bias: Tensor
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Any:
            bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
            return self.head(torch.relu(self.mlp(nn.functional.linear(x, self.qkv.weight, bias=bias))))

    model, x = Biased().double(), torch.randn(3, 6, dtype=torch.float64)
    teacher = Net2Net.from_module(model, (x,))
    assert set(teacher.to_module().state_dict()) == set(model.state_dict())
    student = teacher.widen({"mlp": "2x"})
    torch.testing.assert_close(student.to_module()(x), model(x), rtol=0, atol=1e-12)
