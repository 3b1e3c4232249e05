"""MaxViT: its attention bit for bit, and every part of it grown exactly."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.maxvit import MaxVit, RelativePositionalMultiHeadAttention

from net2net_cli import Net2Net
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.describe import repeatable_blocks
from net2net_cli.runtime import modules_maxvit
from zoo.growing import WIDTHS, Teacher, cause, check_growth, error, new_layers, outputs, random_inputs, sensitive


def maxvit(channels: tuple[int, int] = (8, 12), layers: tuple[int, int] = (1, 2), **more: Any) -> nn.Module:
    settings: dict[str, Any] = {
        "input_size": (32, 32),
        "stem_channels": 8,
        "partition_size": 2,
        "block_channels": list(channels),
        "block_layers": list(layers),
        "head_dim": 4,
        "stochastic_depth_prob": 0.2,
        "num_classes": 5,
    }
    model: nn.Module = MaxVit(**settings | more)
    return model


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Teacher.of(maxvit(), [(3, 32, 32)])


WINDOW = "blocks.1.layers.1.layers.window_attention"
BLOCKS = ["blocks.1.layers.1", WINDOW, WINDOW.replace("window", "grid")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_attention_computes_what_torchvisions_computes_bit_for_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = RelativePositionalMultiHeadAttention(12, 4, 9).to(dtype)
    ours = modules_maxvit.RelativePositionalMultiHeadAttention(12, 4, 3, 3, 12**-0.5).to(dtype)
    assert torch.equal(ours.relative_position_index, theirs.relative_position_index)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 5, 9, 12, dtype=dtype)
    assert torch.equal(ours(x), theirs(x))
    grads = [torch.autograd.grad(m(x).square().sum(), list(m.parameters())) for m in (theirs, ours)]
    named = [dict(zip(dict(m.named_parameters()), g, strict=True)) for m, g in zip((theirs, ours), grads, strict=True)]
    assert all(torch.allclose(named[0][n], named[1][n], rtol=1e-5) for n in named[0])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_rebuilt_maxvit_equals_the_original_bit_for_bit(mode: str) -> None:
    torch.manual_seed(0)
    model = maxvit()
    x = torch.randn(4, 3, 32, 32)
    rebuilt = Net2Net.from_module(copy.deepcopy(model), x).to_module()
    found = []
    for module in (model, rebuilt):
        torch.manual_seed(7)
        found.append(module.train(mode == "train")(x))
    assert torch.equal(*found)
    assert model.state_dict().keys() == rebuilt.state_dict().keys()


@pytest.mark.parametrize(
    ("growth", "seen"),
    [
        ({f"{WINDOW}.mlp_layer.1": "+1"}, [f"{WINDOW}.mlp_layer.3"]),
        ({"**.mlp_layer.1": "1.5x"}, [f"{WINDOW}.mlp_layer.1"]),
        (
            {"blocks.1.layers.0.layers.MBconv.layers.conv_a.0": "+1"},
            ["blocks.1.layers.0.layers.MBconv.layers.conv_b.0"],
        ),
        (
            {"**.MBconv.layers.squeeze_excitation.fc1": "2x"},
            ["blocks.0.layers.0.layers.MBconv.layers.squeeze_excitation.fc2"],
        ),
        ({"stem.1.0": "+3"}, ["stem.1.0"]),
        ({"stem.0.0": "1.5x"}, ["stem.0.0"]),
        ({"classifier.3": "+1"}, ["classifier.5"]),
        ({f"{WINDOW}.attn_layer.1": "2x"}, [f"{WINDOW}.attn_layer.1", "classifier.2"]),
        ({f"{WINDOW}.mlp_layer.3": "3x"}, [f"{WINDOW}.attn_layer.1", f"{WINDOW}.attn_layer.0"]),
    ],
)
@pytest.mark.parametrize("split", ["ownership", "equal"])
def test_a_wider_maxvit_computes_the_same(
    teacher: Teacher, growth: Mapping[str, str], seen: list[str], split: Any
) -> None:
    check_growth(teacher, teacher.net.widen(growth, split=split), seen)


def test_heads_and_their_biases_follow_the_stream(teacher: Teacher) -> None:
    student = teacher.net.widen({f"{WINDOW}.mlp_layer.3": "2x"})
    op: Any = student.graph.by_name[f"{WINDOW}.attn_layer.1"].op
    before: Any = teacher.net.graph.by_name[f"{WINDOW}.attn_layer.1"].op
    assert (op.embed_dim, op.num_heads, op.head_dim, op.key_scale) == (24, 6, 4, before.key_scale)
    assert student.tensor(f"{WINDOW}.attn_layer.1.relative_position_bias_table").shape == (9, 6)


def test_scrambling_one_head_is_seen(teacher: Teacher) -> None:
    module = teacher.net.widen({f"{WINDOW}.attn_layer.1": "2x"}).to_module(dtype=torch.float64)
    weight = module.get_parameter(f"{WINDOW}.attn_layer.1.to_qkv.weight")
    table = module.get_parameter(f"{WINDOW}.attn_layer.1.relative_position_bias_table")
    for tensor, part in ((weight, (slice(0, 4),)), (table, (slice(None), 1))):
        with torch.no_grad():
            kept = tensor[part].clone()
            tensor[part] = torch.randn_like(kept)
            assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) > 1e-8
            tensor[part] = kept


def test_a_stream_behind_layer_norms_grows_by_whole_factors_only(teacher: Teacher) -> None:
    with pytest.raises(GrowthRefusedError, match="12 at a time") as refused:
        teacher.net.widen({f"{WINDOW}.attn_layer.1": "+4"})
    assert f"{WINDOW}.attn_layer.1=24" in str(refused.value.hint)


def test_blocks_that_can_be_repeated_are_all_that_keep_their_stream(teacher: Teacher) -> None:
    found = repeatable_blocks(teacher.net.graph)
    assert set(BLOCKS) <= set(found)
    assert "blocks.1.layers.0" not in found


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_are_repeated_silently(teacher: Teacher, block: str) -> None:
    student = teacher.net.deepen([block], count=2)
    new = new_layers(teacher.net, student)
    attention = [n for n in new if n.endswith(".attn_layer.1")]
    assert len(attention) == (4 if block == BLOCKS[0] else 2)
    assert all(not student.tensor(f"{n}.merge.weight").any() for n in attention)
    assert all(student.tensor(f"{n}.to_qkv.weight").any() for n in attention)  # so that the last layer gets gradient
    check_growth(teacher, student, [n for n in attention if "window" in n])


@pytest.mark.parametrize(
    ("teacher_layers", "layers", "split"), [((1, 2), (1, 3), "ownership"), ((1, 1), (1, 2), "random")]
)
def test_a_maxvit_grows_into_a_wider_and_deeper_one_of_its_class(
    teacher_layers: tuple[int, int], layers: tuple[int, int], split: Any
) -> None:
    """In torchvision's class the keys' scale is width^-1/2: the keys' rows make up for it."""
    torch.manual_seed(0)
    shapes = [(3, 32, 32)]
    small = sensitive(maxvit(layers=teacher_layers), *random_inputs(shapes, 8, seed=2))
    big = sensitive(maxvit((8, 24), layers, stem_channels=16), *random_inputs(shapes, 8, seed=2))
    index = f"{WINDOW}.attn_layer.1.relative_position_index"
    index_before = big.state_dict()[index].clone()
    inputs = random_inputs(shapes, 4)
    student = Net2Net.from_module(small, inputs[0]).grow(Net2Net.from_module(big, inputs[0]).graph, split=split)
    big.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in big.state_dict()}, strict=True)
    for mode in ("eval", "train"):
        assert error(outputs(small, inputs, mode), outputs(big, inputs, mode)) <= 1e-12
    assert torch.equal(big.state_dict()[index], index_before)
    grown: Any = student.graph.by_name[f"{WINDOW}.attn_layer.1"].op
    assert math.isclose(grown.key_scale, 24**-0.5)


def test_a_wider_maxvit_of_the_targets_widths_loads_into_its_class() -> None:
    torch.manual_seed(0)
    small, big = (sensitive(maxvit(c), *random_inputs([(3, 32, 32)], 8)) for c in ((8, 12), (8, 36)))
    inputs = random_inputs([(3, 32, 32)], 4)
    target = Net2Net.from_module(big, inputs[0]).graph
    student = Net2Net.from_module(small, inputs[0]).widen(like=target)
    assert student.rounds  # the keys' rows times the square root of 3
    big.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in big.state_dict()}, strict=True)
    for module in (big, student.to_module(dtype=torch.float64)):
        assert error(outputs(small, inputs, "eval"), outputs(module, inputs, "eval")) <= 1e-12


def test_the_file_that_is_exported_computes_the_same(teacher: Teacher) -> None:
    student = teacher.net.widen({f"{WINDOW}.attn_layer.1": "2x"})
    namespace: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), namespace)
    module = namespace["Student"]().double()
    module.load_state_dict(student.to_module().state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= 1e-12


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
