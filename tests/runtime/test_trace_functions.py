"""Each way to write a computation becomes the layers it means, and computes the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import einops
import pytest
import torch
from einops import rearrange, reduce
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everyone calls it

from net2net_cli.architecture.ops.shape import Rearrange as RearrangeOp
from runtime.tracing import Calls, assert_same, layer_of, ops_of

IMAGE = (2, 8, 4, 6)
TOKENS = (2, 4, 6)


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


PATTERNS: list[tuple[Callable[[Tensor], Tensor], tuple[int, ...], str, dict[str, int]]] = [
    (lambda x: x.flatten(1), IMAGE, "n c h w -> n (c h w)", {}),
    (lambda x: torch.flatten(x, 2), IMAGE, "n c h w -> n c (h w)", {}),
    (lambda x: x.view(x.size(0), -1), IMAGE, "n c h w -> n (c h w)", {}),
    (lambda x: x.reshape((x.shape[0], 8, 24)), IMAGE, "n c h w -> n c (h w)", {}),
    (lambda x: x.view(x.size(0), x.numel() // x.size(0)), IMAGE, "n c h w -> n (c h w)", {}),
    (lambda x: x.flatten(2).transpose(1, 2), IMAGE, "n c h w -> n (h w) c", {}),
    (lambda x: x.permute(0, 2, 3, 1), IMAGE, "n c h w -> n h w c", {}),
    (lambda x: torch.movedim(x, 1, -1), IMAGE, "n c h w -> n h w c", {}),
    (lambda x: x.swapaxes(1, 2), TOKENS, "n c l -> n l c", {}),
    (lambda x: x.mT, TOKENS, "n c l -> n l c", {}),
    (lambda x: x.unsqueeze(1), TOKENS, "n h w -> n 1 h w", {}),
    (lambda x: x[:, None], TOKENS, "n h w -> n 1 h w", {}),
    (lambda x: x.squeeze(1), (2, 1, 4, 6), "n 1 h w -> n h w", {}),
    (lambda x: x.unflatten(1, (2, 2)), TOKENS, "n (c h) w -> n c h w", {"h": 2}),  # type: ignore[no-untyped-call]
    (lambda x: x.view(-1, 4, 2, 3), (2, 24), "n (c h w) -> n c h w", {"h": 2, "w": 3}),
    (lambda x: x.view(-1, 6), TOKENS, "n c l -> (n c) l", {}),
    (shuffled, IMAGE, "n (g c) h w -> n (c g) h w", {"g": 2}),
    (lambda x: F.channel_shuffle(x, 4), IMAGE, "n (g c) h w -> n (c g) h w", {"g": 4}),
    (lambda x: F.pixel_shuffle(x, 2), IMAGE, "n (c a b) h w -> n c (h a) (w b)", {"a": 2, "b": 2}),
    (lambda x: F.pixel_unshuffle(x, 2), IMAGE, "n c (h a) (w b) -> n (c a b) h w", {"h": 2, "b": 2}),
    (nn.PixelShuffle(2), IMAGE, "n (c a b) h w -> n c (h a) (w b)", {"a": 2, "b": 2}),
    (nn.ChannelShuffle(2), IMAGE, "n (g c) h w -> n (c g) h w", {"g": 2}),
    (nn.Unflatten(1, (2, 4)), IMAGE, "n (c d) h w -> n c d h w", {"d": 4}),
    (lambda x: rearrange(x, "b c h w -> b (h w) c"), IMAGE, "b c h w -> b (h w) c", {}),
    (lambda x: einops.rearrange(x, "b c ... -> b (...) c"), IMAGE, "b c h w -> b (h w) c", {}),
    (lambda x: einops.rearrange(x, "b (k d) ... -> b ... d k", k=2), IMAGE, "b (k d) c w -> b c w d k", {"k": 2}),
    (Rearrange("b c (h p) w -> b h (p c) w", p=2), IMAGE, "b c (h p) w -> b h (p c) w", {"h": 2}),
    (lambda x: x.view(-1, 2, 2, 6).permute(0, 2, 1, 3).reshape(-1, 4, 6), TOKENS, "n (g c) l -> n (c g) l", {"g": 2}),
]


@pytest.mark.parametrize(("function", "shape", "pattern", "axes"), PATTERNS)
def test_moves_become_one_pattern(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...], pattern: str, axes: dict[str, int]
) -> None:
    graph = assert_same(Calls(function, times=2), torch.randn(shape))
    assert ops_of(graph) == ["mul", "rearrange"]
    op = layer_of(graph, "rearrange").op
    assert isinstance(op, RearrangeOp)
    known = {name: size for name, size in op.axes.items() if name in axes}
    assert (op.pattern, len(op.axes)) == (pattern, len(axes)), op
    assert known.keys() <= axes.keys()


def test_moves_that_undo_each_other_vanish() -> None:
    graph = assert_same(
        Calls(lambda x: x.flatten(1).view(-1, 8, 4, 6).transpose(1, 2).transpose(1, 2) + 1), torch.randn(IMAGE)
    )
    assert ops_of(graph) == ["add"]


def test_windows_of_attention_merge_into_the_batch_and_back() -> None:
    def windows(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.view(n, c, h // 2, 2, w // 3, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 6, c)
        y = y.softmax(1)
        return y.view(n, h // 2, w // 3, 2, 3, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)

    graph = assert_same(Calls(windows), torch.randn(IMAGE))
    assert ops_of(graph) == ["rearrange", "Softmax", "rearrange"]


OPS: list[tuple[Callable[[Tensor], Any], tuple[int, ...], list[str]]] = [
    (lambda x: 1 - x, TOKENS, ["rsub"]),
    (lambda x: 2 / (x + 9), TOKENS, ["add", "rdiv"]),
    (lambda x: 2**x, TOKENS, ["rpow"]),
    (lambda x: 2 * x, TOKENS, ["mul"]),
    (lambda x: x / math.sqrt(x.shape[-1]), TOKENS, ["div"]),
    (lambda x: x.add(x).mul_(3), TOKENS, ["add", "mul"]),
    (lambda x: torch.rsub(x, 3), TOKENS, ["rsub"]),
    (lambda x: x.relu() + F.relu(-x, inplace=True), TOKENS, ["ReLU", "neg", "ReLU", "add"]),
    (lambda x: torch.sigmoid(x) * F.silu(x), TOKENS, ["Sigmoid", "SiLU", "mul"]),
    (lambda x: x.mean(dim=[2, 3], keepdim=True), IMAGE, ["mean"]),
    (lambda x: x.mean((-1, -2)), IMAGE, ["mean"]),
    (lambda x: torch.max(x, 1)[0], TOKENS, ["amax"]),
    (lambda x: x.max(dim=1, keepdim=True).values, TOKENS, ["amax"]),
    (lambda x: torch.min(x, -1).values, TOKENS, ["amin"]),
    (lambda x: torch.max(x, x * 2), TOKENS, ["mul", "maximum"]),
    (lambda x: x[:, 1:3, ::2], TOKENS, ["slice", "slice"]),
    (lambda x: x[..., -1], TOKENS, ["select"]),
    (lambda x: x[:, -2:], TOKENS, ["slice"]),
    (lambda x: x.narrow(1, 1, 2), TOKENS, ["slice"]),
    (lambda x: x.select(2, -1), TOKENS, ["select"]),
    (lambda x: x.unbind(1)[2], TOKENS, ["select"]),
    (lambda x: x.chunk(2, 1)[1], TOKENS, ["chunk"]),
    (lambda x: torch.split(x, [1, 3], dim=1), TOKENS, ["split", "split"]),
    (lambda x: x.split(3, 2)[0], TOKENS, ["split"]),  # type: ignore[no-untyped-call]
    (lambda x: x.tensor_split(3, 2)[1], TOKENS, ["split"]),
    (lambda x: torch.stack([x, x * 2], dim=-1), TOKENS, ["mul", "rearrange", "rearrange", "cat"]),
    (lambda x: torch.cat((x, x), -1), TOKENS, ["cat"]),
    (lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)), IMAGE, ["slice", "slice", "pad"]),
    (nn.ZeroPad2d(1), IMAGE, ["pad"]),
    (nn.ReflectionPad2d((1, 0, 2, 1)), IMAGE, ["pad"]),
    (nn.GLU(1), IMAGE, ["chunk", "chunk", "Sigmoid", "mul"]),
    (lambda x: F.adaptive_avg_pool2d(x, 1), IMAGE, ["AdaptiveAvgPool2d"]),
    (lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True), IMAGE, ["MaxPool2d"]),
    (lambda x: F.avg_pool2d(x, 2), IMAGE, ["AvgPool2d"]),
    (lambda x: F.softmax(x, dim=-1) + x.log_softmax(1), IMAGE, ["Softmax", "LogSoftmax", "add"]),
    (lambda x: F.interpolate(x, scale_factor=2), IMAGE, ["interpolate"]),
    (lambda x: x.clamp(min=0).contiguous().clone(), IMAGE, ["clamp"]),
    (lambda x: x.to(x.dtype).float() @ x.transpose(-1, -2), IMAGE, ["rearrange", "matmul"]),
    (lambda x: F.dropout(x, 0.5, training=False) + 1, IMAGE, ["add"]),
    (lambda x: einops.reduce(x, "b c h w -> b c", "mean"), IMAGE, ["mean"]),
    (lambda x: einops.reduce(x, "b c h w -> b c 1 1", "max"), IMAGE, ["amax", "rearrange"]),
    (Reduce("b c (h p) (w q) -> b c h w", "max", p=2, q=3), IMAGE, ["rearrange", "amax"]),
    (lambda x: torch.flatten(x, 1) if x.dim() == 4 else x, IMAGE, ["rearrange"]),
    (lambda x: x[:, : x.shape[1] // 2] * len(x.shape), IMAGE, ["slice", "mul"]),
]


@pytest.mark.parametrize(("function", "shape", "ops"), OPS)
def test_calls_become_layers(function: Callable[[Tensor], Any], shape: tuple[int, ...], ops: list[str]) -> None:
    assert ops_of(assert_same(Calls(function), torch.randn(shape))) == ops


def test_sizes_taken_from_a_tensor_are_kept_as_such() -> None:
    def up(x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, 2)
        h, w = x.shape[-2:]
        return F.interpolate(y, size=(h, w), mode="bilinear", align_corners=False) + F.interpolate(y, size=x.size()[2:])

    graph = assert_same(Calls(up), torch.randn(IMAGE))
    for layer in graph.layers:
        if layer.op.name == "interpolate":
            assert [(s.value, s.axis) for s in layer.op.size] == [("x", 2), ("x", 3)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "stretch",
    [
        lambda token, x: token.expand(x.shape[0], -1, -1),
        lambda token, x: token.expand(x.size(0) * (x.shape[1] // 4), 1, 6),
        lambda token, x: token.repeat(x.shape[0], 1, 1),
        lambda token, x: token.expand_as(x[:, :1]),
    ],
)
def test_class_token_is_stretched_over_the_batch(stretch: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 6))
            self.position = nn.Parameter(torch.randn(1, 5, 6))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([stretch(self.token, x), x], dim=1) + self.position

    graph = assert_same(Tokens(), torch.randn(TOKENS))
    (size, *kept) = layer_of(graph, "expand").op.size  # type: ignore[attr-defined]
    assert size.axis == 0
    assert kept == [-1, -1]
    assert [layer.name for layer in graph.layers if layer.op.name == "Parameter"] == ["token", "position"]


def test_functions_of_einops_that_a_file_imports_by_name_are_known() -> None:
    class Imported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(24, 24)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.mix(rearrange(x, "b c h w -> b c (h w)"))
            back = rearrange(tokens, "b c (h w) -> b h w c", h=x.shape[2])
            out: Tensor = reduce(back, "b ... c -> b c", "mean")
            return out

    graph = assert_same(Imported(), torch.randn(IMAGE))
    assert ops_of(graph) == ["rearrange", "Linear", "rearrange", "mean"]


@torch.fx.wrap
def halves(size: tuple[int, int]) -> tuple[int, int]:
    """A function that computes with sizes, of which a leaf was made for plain `torch.fx`."""
    return size[0] // 2, size[1] // 2


def test_functions_given_to_fx_wrap_may_take_and_return_tuples_of_sizes() -> None:
    def cropped(x: Tensor) -> Tensor:
        height, width = halves((x.shape[2], x.shape[3]))
        return x[:, :, :height, :width]

    graph = assert_same(Calls(cropped), torch.randn(IMAGE))
    assert [(layer.op.dim, layer.op.stop) for layer in graph.layers] == [(2, 2), (3, 3)]  # type: ignore[attr-defined]
    calls = [n for n in torch.fx.symbolic_trace(Calls(lambda x: halves((x, x)))).graph.nodes if n.op == "call_function"]
    assert [n.target for n in calls] == [halves]  # it still is a leaf elsewhere


def snake(x: Tensor, a: Tensor) -> Tensor:
    """Ziyin, Hartwig & Ueda 2020 (arXiv:2006.08195), as vocoders compile it."""
    return x + (a + 1e-9).reciprocal() * torch.sin(a * x).pow(2)


def test_a_function_compiled_by_torchscript_is_read_as_what_it_was_compiled_from() -> None:
    class Snake(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.rand(1, 4, 1) + 0.5)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                self.compiled = torch.jit.script(snake)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.compiled(x, self.a)
            return found

    assert "sin" in ops_of(assert_same(Snake(), torch.randn(2, 4, 6)))
