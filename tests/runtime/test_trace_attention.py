"""Attention is read from every spelling, and what is rebuilt returns the same bits in both modes, dropout included."""

from __future__ import annotations

import inspect
from typing import Any

import einops
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it
from zoo.attentions import SHAPES, SPELLINGS

from net2net_cli.architecture.ops import attributes
from net2net_cli.architecture.ops.attention import MultiheadAttention
from net2net_cli.architecture.ops.constant import Constant
from net2net_cli.architecture.ops.logic import Triangle
from net2net_cli.errors import TraceError
from net2net_cli.runtime import adapters, modules
from net2net_cli.runtime.attending import spelled_out
from net2net_cli.runtime.calls import evaluate
from net2net_cli.runtime.importing import check_rebuilt, import_module_weights
from net2net_cli.runtime.transformers import FORWARDS
from runtime.tracing import assert_same, graph_of, layer_of, ops_of


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_spelling_is_rebuilt_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    assert_same(SPELLINGS[name].network().to(dtype), torch.randn(3, *SHAPES[0], dtype=dtype))


class Attends(nn.Module):
    """Scaled dot products of the input's own thirds, with given arguments."""

    def __init__(self, p: float = 0.0, **how: Any) -> None:
        super().__init__()
        self.p, self.how = p, how
        self.qkv = nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0, **self.how)


TOLD: list[dict[str, Any]] = [{}, {"p": 0.5}, {"is_causal": True}, {"scale": 0.7}, {"p": 0.3, "scale": 2.0}]


@pytest.mark.parametrize("how", TOLD, ids=str)
def test_scaled_dot_product_attention_keeps_what_it_is_told(how: dict[str, Any]) -> None:
    graph = assert_same(Attends(**how), torch.randn(2, 5, 6))
    op: Any = layer_of(graph, "scaled_dot_product_attention").op
    told = {"dropout_p": how.get("p", 0.0), "is_causal": False, "scale": None} | {k: how[k] for k in how if k != "p"}
    assert {key: getattr(op, key) for key in told} == told


def test_attention_that_drops_weights_in_evaluation_too_is_refused() -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)

    with pytest.raises(TraceError, match="in evaluation too") as refused:
        graph_of(Drops(), torch.randn(2, 5, 6))
    assert "if self.training else 0.0" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("equation", "ranks", "expected"),
    [
        ("ij,jk->ik", (2, 2), "ij,jk->ik"),
        ("ij,jk", (2, 2), "ij,jk->ik"),  # letters that come once, in alphabetical order
        ("kj,ji", (2, 2), "kj,ji->ik"),
        ("...id,...jd->...ij", (4, 4), "abid,abjd->abij"),
        ("...d,d->...", (3, 1), "abd,d->ab"),
        ("...d,...d->...d", (3, 2), "abd,bd->abd"),
    ],
)
def test_an_equation_is_spelled_out(equation: str, ranks: tuple[int, ...], expected: str) -> None:
    assert spelled_out(equation, ranks) == expected
    shapes = [(2, 3, 4, 5)[-rank:] for rank in ranks]
    if "..." in equation:  # what torch itself makes of both
        tensors = [torch.randn(shape) for shape in shapes]
        if equation != "...id,...jd->...ij":
            assert torch.equal(torch.einsum(equation, tensors), torch.einsum(expected, tensors))


class Sums(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.einsum("nij,nkj->nik", x, x),
        lambda x: torch.einsum("aij,akj->aik", [x, x]),
        lambda x: torch.einsum("...ij,...kj->...ik", x, x),
        lambda x: torch.einsum("nii->ni", x[:, :, :4]),
        lambda x: torch.einsum("nij,nij,nij->nj", x, x, x + 1),
        lambda x: einops.einsum(x, x, "batch row d, batch column d -> batch row column"),
        lambda x: einops.einsum(x, x, "... i, ... i -> ..."),
        lambda x: torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2),
        lambda x: x.masked_fill(x > 0.5, -1.0) + x.masked_fill(x.le(0), float("-inf")).clamp(-5, 5),
        lambda x: torch.where(x < 0, x, 0.0) + torch.where(x >= 1, 2.0, x) + x.where(x != 0, x * 2),
        lambda x: torch.where((x > 0) & ~(x > 1) | (x < -1), x, x * 2),
        lambda x: torch.where(torch.logical_or(x > 1, torch.logical_not(x > 0)), x, -x),
        lambda x: torch.where(x.bool(), x, 1.0) + x.repeat_interleave(3, dim=-1)[..., ::3],
    ],
)
def test_products_and_masks_are_rebuilt_bit_for_bit(function: Any) -> None:
    assert_same(Sums(function), torch.randn(3, 4, 5))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: torch.einsum("nij->ij", x), "sums over the batch axis"),
        (lambda x: torch.einsum(x, [0, 1, 2], [0, 1]), "axes are given as numbers"),
        (lambda x: torch.where(x > 0)[0], "places where a condition holds"),
        (lambda x: x.repeat_interleave(2), "every slice of one axis"),
    ],
)
def test_products_that_a_spec_cannot_say_are_refused(function: Any, why: str) -> None:
    with pytest.raises(TraceError, match=why):
        graph_of(Sums(function), torch.randn(3, 4, 5))


class Encoder(nn.Module):
    def __init__(self, mask: Any = None, *, said: bool | None = None, padded: bool = False, **how: Any) -> None:
        super().__init__()
        nested = how.pop("enable_nested_tensor", False)
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, **how)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=nested)
        self.said, self.padded, self.batch_first = said, padded, layer.self_attn.batch_first
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Any:
        hidden = x[:, :, 0] > 0.8 if self.padded else None
        x = x if self.batch_first else x.transpose(0, 1)
        return self.encoder(x, self.mask, hidden, is_causal=self.said)


YES_NO = torch.ones(5, 5).triu(1).bool()
NUMBERS = nn.Transformer.generate_square_subsequent_mask(5)
WINDOW = (torch.arange(5)[:, None] - torch.arange(5)).abs() > 1


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", F.silu])
def test_encoders_are_rebuilt_bit_for_bit(norm_first: bool, batch_first: bool, activation: Any) -> None:
    how = {"norm_first": norm_first, "batch_first": batch_first, "activation": activation}
    graph = assert_same(Encoder(**how), torch.randn(3, 5, 8))
    assert ops_of(graph).count("MultiheadAttention") == 2
    assert {f"encoder.layers.{i}.linear2.weight" for i in (0, 1)} < {name for name, *_ in graph.tensors()}


@pytest.mark.parametrize("mask", [YES_NO, NUMBERS, WINDOW], ids=["yes-no", "numbers", "window"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_encoders_with_masks_are_rebuilt_to_rounding(mask: Tensor, batch_first: bool, padded: bool) -> None:
    """PyTorch fuses a layer in evaluation; a mask of numbers goes another way through its kernels then."""
    padded = padded and mask.dtype == torch.bool
    model = Encoder(mask, batch_first=batch_first, padded=padded).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    imported = import_module_weights(model, (x,), name="encoder", source="test")
    assert check_rebuilt(model, imported.graph, imported.tensors, (x,)) <= 1e-14


def test_a_causal_mask_is_found_by_its_values_or_by_what_is_said() -> None:
    def causal(model: nn.Module) -> set[Any]:
        layers = graph_of(model, torch.randn(3, 5, 8)).layers
        return {layer.op.is_causal for layer in layers if layer.op.name == "MultiheadAttention"}  # type: ignore[attr-defined]

    assert causal(Encoder(YES_NO)) == causal(Encoder(NUMBERS)) == {True}
    assert causal(Encoder(WINDOW)) == causal(Encoder(YES_NO, said=False)) == {None}


def test_masks_that_torch_reads_in_two_ways_are_refused() -> None:
    with pytest.raises(TraceError, match="for yes and no in evaluation"):
        graph_of(Encoder(torch.randn(5, 5), batch_first=True), torch.randn(3, 5, 8))
    assert_same(Encoder(torch.randn(5, 5), batch_first=False), torch.randn(3, 5, 8))


def test_zeros_at_padded_places_in_evaluation_alone_are_refused() -> None:
    model = Encoder(padded=True, batch_first=True, enable_nested_tensor=True)
    with pytest.raises(TraceError, match="zeros at padded places") as refused:
        graph_of(model, torch.randn(3, 5, 8))
    assert "enable_nested_tensor=False" in str(refused.value.hint)


class Masked(nn.Module):
    """Attention under a mask that a function makes of the module and its input."""

    def __init__(self, mask: Any) -> None:
        super().__init__()
        self.make = mask
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("unsaved", YES_NO.clone(), persistent=False)
        self.plain = NUMBERS.clone()

    def forward(self, x: Tensor) -> Any:
        return self.attention(x, x, x, attn_mask=self.make(self, x))[0]


@pytest.mark.parametrize(
    ("make", "triangle"),
    [
        (lambda m, x: nn.Transformer.generate_square_subsequent_mask(x.shape[1]), (5, 5, 0, 0.0, -torch.inf)),
        (lambda m, x: nn.Transformer.generate_square_subsequent_mask(5), (5, 5, 0, 0.0, -torch.inf)),
        (lambda m, x: torch.triu(torch.ones(x.size(1), x.size(1), device=x.device), 1).bool(), (5, 5, 0, False, True)),
        (lambda m, x: ~torch.ones(x.size(1), x.size(1), dtype=torch.bool).tril(2), (5, 5, 2, False, True)),
        (lambda m, x: torch.arange(x.size(1)) > torch.arange(x.size(1))[:, None], (5, 5, 0, False, True)),
        (lambda m, x: (1 - torch.ones(x.size(1), x.size(1)).tril()) * -1e9, (5, 5, 0, -0.0, -1e9)),
        (lambda m, x: m.unsaved, (5, 5, 0, False, True)),
        (lambda m, x: m.plain[: x.size(1), : x.size(1)], (5, 5, 0, 0.0, -torch.inf)),
    ],
)
def test_a_causal_mask_that_forward_makes_is_a_layer(make: Any, triangle: tuple[Any, ...]) -> None:
    graph = assert_same(Masked(make), torch.randn(3, 5, 8))
    assert attributes(layer_of(graph, "triangle").op) == dict(
        zip(("rows", "columns", "diagonal", "below", "above"), triangle, strict=True)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: (torch.arange(x.size(1)) - torch.arange(x.size(1))[:, None]).abs() > 1,
        lambda m, x: WINDOW,
    ],
)
def test_another_mask_that_forward_makes_is_a_constant(make: Any) -> None:
    graph = assert_same(Masked(make), torch.randn(3, 5, 8))
    places = np.arange(5)
    (constant,) = (layer.op for layer in graph.layers if isinstance(layer.op, Constant))
    assert np.array_equal(constant.values(), abs(places - places[:, None]) > 1)


def test_a_mask_of_numbers_takes_the_type_of_the_networks_input_or_that_of_numbers() -> None:
    op = Triangle(2, 3, 1, 0.0, float("-inf"))
    expected = torch.tensor([[0.0, 0.0, -torch.inf], [0.0, 0.0, 0.0]])
    for dtype, own in ((torch.float64, torch.float64), (torch.float32, torch.float32), (torch.int64, torch.float32)):
        found = evaluate(op.call(()), [torch.zeros(2, 7, dtype=dtype)], {})
        assert found.dtype == own
        assert torch.equal(found, expected.to(own))


def test_a_mask_for_each_head_is_refused() -> None:
    class PerHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            mask = (x @ x.mT > 0).repeat_interleave(2, dim=0)
            return self.attention(x, x, x, attn_mask=mask)[0]

    with pytest.raises(TraceError, match="heads would be a part of its batch axis"):
        graph_of(PerHead(), torch.randn(3, 5, 8))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_whole_transformer_is_rebuilt_bit_for_bit(batch_first: bool, norm_first: bool) -> None:
    class Translates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Transformer(8, 2, 1, 2, 12, batch_first=batch_first, norm_first=norm_first)

        def forward(self, x: Tensor, y: Tensor) -> Any:
            return self.net(x, y) if batch_first else self.net(x.transpose(0, 1), y.transpose(0, 1))

    assert_same(Translates(), torch.randn(3, 5, 8), torch.randn(3, 4, 8))


@pytest.mark.parametrize("how", [{}, {"add_bias_kv": True}, {"add_zero_attn": True, "bias": False}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_keys_and_values_of_other_widths_are_rebuilt_bit_for_bit(how: dict[str, bool], batch_first: bool) -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, 0.2, kdim=6, vdim=4, batch_first=batch_first, **how)

        def forward(self, x: Tensor, y: Tensor) -> Any:
            if not batch_first:
                x, y = x.transpose(0, 1), y.transpose(0, 1)
            return self.attention(x, y, y[..., :4])[0]

    assert_same(Crossed(), torch.randn(3, 5, 8), torch.randn(3, 4, 6))


def test_widths_that_have_become_equal_keep_their_weights_apart() -> None:
    op = MultiheadAttention(8, 2, 0.0, True, True, kdim=8, vdim=8)
    module = modules.MultiheadAttention(**op.module_arguments())
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        name: slot.shape for name, slot in op.tensors().items()
    }
    x = torch.randn(3, 5, 8)
    packed = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        packed.in_proj_weight.copy_(torch.cat([module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]))
        packed.out_proj.load_state_dict(module.out_proj.state_dict())
        packed.in_proj_bias.copy_(module.in_proj_bias)
    torch.testing.assert_close(module(x, x, x), packed(x, x, x)[0])


@pytest.mark.parametrize("name", FORWARDS)
def test_what_is_traced_in_place_of_a_forward_takes_the_same_arguments(name: str) -> None:
    theirs, ours = adapters.loaded(name).forward, FORWARDS[name]
    arguments = [[(p.name, p.default) for p in inspect.signature(f).parameters.values()] for f in (theirs, ours)]
    assert arguments[0][1:] == arguments[1][1:]
