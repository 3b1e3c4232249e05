"""MViT, both versions: its attention bit for bit, and every part of it grown exactly."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.video.mvit import (
    MSBlockConfig,
    MultiscaleAttention,
    MultiscaleBlock,
    MViT,
    PositionalEncoding,
)

from net2net_cli import Net2Net
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError, TraceError
from net2net_cli.growth.describe import repeatable_blocks
from net2net_cli.runtime import modules_mvit
from zoo.growing import WIDTHS, Teacher, cause, check_growth, error, new_layers, outputs, random_inputs, sensitive

CLIP = (3, 4, 16, 16)

WINDOW, FLAT = [3, 3, 3], [1, 1, 1]

V1 = {"residual_pool": False, "residual_with_cls_embed": False, "rel_pos_embed": False, "proj_after_attn": False}
V2 = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}


def mvit(version: int, *, width: int = 4, depth: int = 1, **more: Any) -> nn.Module:
    """Three stages in which queries, keys and values are pooled by different strides, or not at all."""
    w = width
    if version == 1:
        rows = [
            MSBlockConfig(w // 4, w, 2 * w, [], WINDOW, [], [1, 2, 2]),
            MSBlockConfig(w // 2, 2 * w, 2 * w, WINDOW, WINDOW, [1, 2, 2], [1, 1, 1]),
        ]
        rows += [MSBlockConfig(w // 2, 2 * w, 2 * w, [], [], [], [])] * depth
    else:
        rows = [
            MSBlockConfig(w // 4, w, w, WINDOW, WINDOW, FLAT, [1, 4, 4]),
            MSBlockConfig(w // 2, w, 2 * w, WINDOW, WINDOW, [1, 2, 2], [1, 2, 2]),
        ]
        rows += [MSBlockConfig(w // 2, 2 * w, 2 * w, WINDOW, WINDOW, FLAT, FLAT)] * depth
    patches = {"patch_embed_kernel": (3, 3, 3), "patch_embed_stride": (2, 2, 2), "patch_embed_padding": (1, 1, 1)}
    settings = {"spatial_size": (16, 16), "temporal_size": 4, "num_classes": 5, "stochastic_depth_prob": 0.2}
    model: nn.Module = MViT(block_setting=rows, **patches, **settings, **(V1 if version == 1 else V2), **more)
    return model


@pytest.fixture(scope="module", params=[1, 2])
def teacher(request: pytest.FixtureRequest) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Teacher.of(mvit(request.param), [CLIP])


_PLAIN = MSBlockConfig(2, 8, 8, [], [], [], [])
"""A block of two heads in which nothing is pooled."""

GRID = (2, 6, 4)

ATTENTIONS: Mapping[str, Mapping[str, Any]] = {
    "all pooled": {"kernel_q": WINDOW, "kernel_kv": WINDOW, "stride_q": [1, 2, 2], "stride_kv": [1, 1, 1]},
    "keys coarser": {"kernel_q": WINDOW, "kernel_kv": [1, 3, 3], "stride_q": FLAT, "stride_kv": [2, 2, 2]},
    "not pooled": {"kernel_q": [], "kernel_kv": [], "stride_q": [], "stride_kv": []},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("relative", "residual", "with_class"), [(False, False, False), (True, True, True), (True, True, False)]
)
@pytest.mark.parametrize("pooling", ATTENTIONS)
def test_our_attention_computes_what_torchvisions_computes_bit_for_bit(
    pooling: str, relative: bool, residual: bool, with_class: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    theirs = MultiscaleAttention(
        list(GRID), 10, 12, 3, **ATTENTIONS[pooling], residual_pool=residual, residual_with_cls_embed=with_class,
        rel_pos_embed=relative, dropout=0.3,
    ).to(dtype)  # fmt: skip
    windows = {k: tuple(v) or None for k, v in ATTENTIONS[pooling].items()}
    ours = modules_mvit.MultiscaleAttention(
        10, 12, 3, 4, GRID, theirs.scaler, residual, with_class, 0.3, **windows, eps=1e-5,
        offsets=(11, 11, 3) if relative else None,
    ).to(dtype)  # fmt: skip
    if relative:  # a table that is longer or shorter than the grid needs is interpolated
        short = nn.Parameter(torch.randn(len(theirs.rel_pos_w) - 4, 4, dtype=dtype))
        theirs.rel_pos_w = ours.rel_pos_w = short
        theirs.rel_pos_h = ours.rel_pos_h = nn.Parameter(torch.randn(len(theirs.rel_pos_h), 4, dtype=dtype))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 1 + 2 * 6 * 4, 10, dtype=dtype)
    for mode in (False, True):
        found = []
        for module in (theirs.train(mode), ours.train(mode)):
            torch.manual_seed(5)
            found.append(module(x, GRID)[0] if module is theirs else module(x))
        assert torch.equal(*found)


@pytest.mark.parametrize("absolute", [True, False])
def test_our_positions_are_torchvisions_bit_for_bit(absolute: bool) -> None:
    torch.manual_seed(0)
    theirs, ours = (
        PositionalEncoding(6, (3, 4), 2, not absolute),
        modules_mvit.MultiscalePositionalEncoding(6, (2, 3, 4), absolute),
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(3, 24, 6)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_rebuilt_mvit_equals_the_original_bit_for_bit(version: int, mode: str) -> None:
    torch.manual_seed(0)
    model = mvit(version, attention_dropout=0.1)
    x = torch.randn(4, *CLIP)
    rebuilt = Net2Net.from_module(copy.deepcopy(model), x).to_module()
    found = []
    for module in (model, rebuilt):
        torch.manual_seed(7)
        found.append(module.train(mode == "train")(x))
    assert torch.equal(*found)
    assert set(model.state_dict()) == set(rebuilt.state_dict())


@pytest.mark.parametrize(
    ("growth", "seen"),
    [
        ({"blocks.1.mlp.0": "+1"}, ["blocks.1.mlp.3"]),
        ({"**.mlp.0": "1.5x"}, ["blocks.2.mlp.0"]),
        ({"conv_proj": "2x"}, ["conv_proj", "pos_encoding", "blocks.0.attn"]),
        ({"blocks.1.attn": "3x"}, ["blocks.1.attn", "blocks.2.attn", "head.1"]),
        ({"**": "2x"}, ["blocks.0.attn", "blocks.1.project", "blocks.2.norm2"]),
    ],
)
@pytest.mark.parametrize("split", ["ownership", "equal"])
def test_a_wider_mvit_computes_the_same(
    teacher: Teacher, growth: Mapping[str, str], seen: list[str], split: Any
) -> None:
    student = teacher.net.widen(growth, split=split, where_possible="**" in growth)
    check_growth(teacher, student, [n for n in seen if n in student.graph.by_name])


def test_heads_follow_the_stream_and_nothing_inside_them_changes(teacher: Teacher) -> None:
    student = teacher.net.widen({"blocks.2.attn": "2x"})
    before, after = (net.graph.by_name["blocks.2.attn"].op for net in (teacher.net, student))
    kept: Any = {
        k: (v.shape, after.tensors()[k].shape) for k, v in before.tensors().items() if "pool" in k or "rel" in k
    }
    assert all(a == b for a, b in kept.values())
    assert (after.num_heads, after.head_dim) == (2 * before.num_heads, before.head_dim)  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", ["qkv.weight", "project.0.weight"])
def test_scrambling_one_head_is_seen(teacher: Teacher, part: str) -> None:
    module = teacher.net.widen({"blocks.1.attn": "2x"}, split="equal").to_module(dtype=torch.float64)
    weight = module.get_parameter(f"blocks.1.attn.{part}")
    with torch.no_grad():
        weight[:4] = torch.randn_like(weight[:4])
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) > 1e-6


def test_a_stream_behind_layer_norms_grows_by_whole_factors_only(teacher: Teacher) -> None:
    with pytest.raises(GrowthRefusedError, match="8 at a time") as refused:
        teacher.net.widen({"blocks.2.attn": "+4"})
    assert "blocks.2.attn=16" in str(refused.value.hint)


def test_a_stream_that_nothing_pools_grows_head_by_head() -> None:
    torch.manual_seed(0)
    model: Any = mvit(1, width=8)
    model.blocks = nn.ModuleList(MultiscaleBlock((2, 8, 8), kept, **V1, dropout=0.0) for kept in [_PLAIN] * 2)
    model.norm, model.head[1] = nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 5)
    teacher = Teacher.of(model, [CLIP])
    student = teacher.net.widen({"conv_proj": 12}, split="random")
    assert student.graph.by_name["blocks.1.attn"].op.num_heads == 3  # type: ignore[attr-defined]
    check_growth(teacher, student, ["conv_proj", "pos_encoding", "blocks.0.attn", "blocks.1.mlp.3", "head.1"])


def test_blocks_are_repeated_silently(teacher: Teacher) -> None:
    assert repeatable_blocks(teacher.net.graph)[-1] == "blocks.2"
    student = teacher.net.deepen(["blocks.2"], count=2)
    new = [n for n in new_layers(teacher.net, student) if n.endswith("attn")]
    assert new == ["blocks.3.attn", "blocks.4.attn"]
    assert all(not student.tensor(f"{n}.project.0.weight").any() for n in new)
    check_growth(teacher, student, new)


@pytest.mark.parametrize("version", [1, 2])
def test_an_mvit_grows_into_a_wider_and_deeper_one_of_its_class(version: int) -> None:
    torch.manual_seed(0)
    small, big = (sensitive(m, *random_inputs([CLIP], 8)) for m in (mvit(version), mvit(version, width=8, depth=3)))
    inputs = random_inputs([CLIP], 4)
    student = Net2Net.from_module(small, inputs[0]).grow(Net2Net.from_module(big, inputs[0]).graph)
    big.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in big.state_dict()}, strict=True)
    for mode in ("eval", "train"):
        assert error(outputs(small, inputs, mode), outputs(big, inputs, mode)) <= 1e-12


def test_the_file_that_is_exported_computes_the_same(teacher: Teacher) -> None:
    student = teacher.net.widen({"blocks.2.attn": "2x", "conv_proj": "2x"})
    namespace: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), namespace)
    module = namespace["Student"]().double()
    module.load_state_dict(student.to_module().state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= 1e-12


def test_another_way_of_pooling_is_refused() -> None:
    model = mvit(2)
    model.get_submodule("blocks.0.attn.pool_q").pool = nn.Conv3d(4, 4, 3, padding=1)
    with pytest.raises(TraceError, match="its pooling is not torchvision's"):
        Net2Net.from_module(model, torch.zeros(2, *CLIP))


def test_attention_whose_dropout_does_not_follow_the_network_is_refused() -> None:
    model = mvit(2, attention_dropout=0.1)
    attention = model.get_submodule("blocks.0.attn")
    attention.train = lambda mode=True: attention  # type: ignore[method-assign]
    attention.training = False
    with pytest.raises(TraceError, match=r"`blocks\.0\.attn` stays in evaluation mode"):
        Net2Net.from_module(model, torch.zeros(2, *CLIP))


NECESSARY = (r"its channels only grow \d+ at a time", r"it is the network's output `out`")
"""Reasons for which widening is refused: layer norms of the stream, and what makes the outputs."""


@pytest.mark.slow
def test_every_layer_grows_exactly_or_is_refused_for_a_necessary_reason(teacher: Teacher) -> None:
    attention = [n for n in teacher.weighted if teacher.net.graph.by_name[n].op.name.endswith("Attention")]
    exact = 0
    for layer, width in product([*teacher.growable, *attention], WIDTHS):
        try:
            student = teacher.net.widen({layer: width}, split="equal")
        except GrowthRefusedError as refusal:
            why = cause(teacher.net, refusal)
        else:
            check_growth(teacher, student, [layer])
            exact += 1
            continue
        assert any(re.fullmatch(pattern, why) for pattern in NECESSARY), f"{layer}={width}: {why}"
    assert exact >= len(teacher.growable)
    for block in repeatable_blocks(teacher.net.graph):
        check_growth(teacher, teacher.net.deepen([block]), [])
    for layer in (n for n in teacher.growable if n.endswith(("mlp_layer.1", "mlp.0"))):
        student = teacher.net.deepen([layer])
        check_growth(teacher, student, new_layers(teacher.net, student))
