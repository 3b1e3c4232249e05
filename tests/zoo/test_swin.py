"""Swin transformers of images (v1 and v2) and videos: attention by whole heads, streams by whole factors, blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from runtime.tracing import assert_same
from torch import Tensor, nn
from torchvision.models import swin_transformer as images
from torchvision.models.video import swin_transformer as videos

from net2net_cli import Net2Net
from net2net_cli.architecture.cost import width
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError, TraceError
from zoo.growing import WIDTHS, Teacher, check_growth, error, new_layers, outputs

V2 = {"block": images.SwinTransformerBlockV2, "downsample_layer": images.PatchMergingV2}
SHAPES = {"v1": (3, 28, 28), "v2": (3, 28, 28), "3d": (3, 6, 28, 28)}
"""After patches of 4 there are 7 places a side, then 4: windows of 3 are padded in both stages, and shifted."""

STEM = {"v1": "features.0.0", "v2": "features.0.0", "3d": "patch_embed.proj"}
STAGES = {"v1": (1, 3), "v2": (1, 3), "3d": (0, 2)}
"""Where in `features` the blocks of the two stages are; between them places are merged."""


def swin(kind: str, **changes: Any) -> nn.Module:
    settings: dict[str, Any] = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "mlp_ratio": 2.0}
    settings |= {"stochastic_depth_prob": 0.1, "num_classes": 10} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module
        if kind == "3d":
            model = videos.SwinTransformer3d(patch_size=[2, 4, 4], window_size=[2, 3, 3], **settings)
        else:
            v2: Mapping[str, Any] = V2 if kind == "v2" else {}
            model = images.SwinTransformer(patch_size=[4, 4], window_size=[3, 3], **settings, **v2)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)
    return model


KEPT: dict[str, Teacher] = {}


def teacher(kind: str) -> Teacher:
    if kind not in KEPT:
        KEPT[kind] = Teacher.of(swin(kind), [SHAPES[kind]])
    return KEPT[kind]


def block(kind: str, stage: int, number: int) -> str:
    return f"features.{STAGES[kind][stage]}.{number}"


KINDS = pytest.mark.parametrize("kind", SHAPES)


@KINDS
def test_a_swin_transformer_is_rebuilt_bit_for_bit(kind: str) -> None:
    model = swin(kind, dropout=0.1, attention_dropout=0.2)
    graph = assert_same(model, torch.randn(2, *SHAPES[kind], generator=torch.Generator().manual_seed(1)))
    assert {name for name, *_ in graph.tensors()} == set(model.state_dict())


@KINDS
@pytest.mark.parametrize("amount", WIDTHS)
def test_the_mlps_of_a_swin_transformer_grow_by_any_amount(kind: str, amount: str) -> None:
    grown = [block(kind, stage, number) + ".mlp.0" for stage in (0, 1) for number in (0, 1)]
    check_growth(teacher(kind), teacher(kind).net.widen(dict.fromkeys(grown, amount)), grown)


@KINDS
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("stage", [0, 1])
def test_each_stage_of_a_swin_transformer_grows_by_whole_factors(kind: str, stage: int, factor: int) -> None:
    """Heads follow: twice as many of the same size; the other stage stays."""
    first = STEM[kind] if stage == 0 else f"features.{STAGES[kind][0] + 1}.reduction"
    student = teacher(kind).net.widen({first: f"{factor}x"})
    names = [f"{block(kind, s, n)}.attn" for s in (0, 1) for n in (0, 1)]
    heads = [student.graph.by_name[name].op.num_heads for name in names]  # type: ignore[attr-defined]
    assert heads == ([2 * factor, 2 * factor, 4, 4] if stage == 0 else [2, 2, 4 * factor, 4 * factor])
    check_growth(teacher(kind), student, [first, *names[2 * stage : 2 * stage + 2]])


@KINDS
def test_attention_named_itself_grows_its_stage(kind: str) -> None:
    name = block(kind, 0, 1) + ".attn"
    student = teacher(kind).net.widen({name: "2x"})
    assert student.graph.by_name[block(kind, 0, 0) + ".mlp.3"].op.out_features == 24  # type: ignore[attr-defined]
    check_growth(teacher(kind), student, [name])


@KINDS
def test_every_tensor_of_the_attention_is_seen(kind: str) -> None:
    """Replaced by noise one by one, all move the output, but for the bias of keys that v2 does not use."""
    student = teacher(kind).net.widen({STEM[kind]: "2x"}).to_module(dtype=torch.float64)
    prefix = block(kind, 0, 1) + ".attn."
    for name, parameter in student.named_parameters():
        if name.startswith(prefix):
            before = parameter.detach().clone()
            with torch.no_grad():
                parameter[-1] += 0.1 * torch.rand_like(parameter[-1])
            moved = error(teacher(kind).expected["eval"], outputs(student, teacher(kind).inputs, "eval"))
            assert moved > 1e-6, name
            parameter.detach().copy_(before)


@KINDS
def test_a_stream_behind_layer_norms_grows_by_whole_factors_only(kind: str) -> None:
    with pytest.raises(GrowthRefusedError, match="12 at a time") as refused:
        teacher(kind).net.widen({STEM[kind]: "+6"})
    assert f"{STEM[kind]}=24" in str(refused.value.hint)


@KINDS
@pytest.mark.parametrize("stage", [0, 1])
def test_swin_blocks_are_repeated_silently_bit_for_bit(kind: str, stage: int) -> None:
    """v1 is silenced by the last layer of each branch, v2 by the norm behind it."""
    name = block(kind, stage, 1)
    student = teacher(kind).net.deepen([name], count=2)
    module = student.to_module(dtype=torch.float64)
    for mode in ("eval", "train"):
        assert error(teacher(kind).expected[mode], outputs(module, teacher(kind).inputs, mode)) == 0.0
    first = name[:-1] + "2"
    silent = ("norm1", "norm2") if kind == "v2" else ("attn.proj", "mlp.3")
    assert not any(student.tensor(f"{first}.{layer}.{key}").any() for layer in silent for key in ("weight", "bias"))
    assert student.tensor(f"{first}.attn.qkv.weight").any()
    assert student.tensor(f"{first}.attn.relative_position_index").any()
    check_growth(teacher(kind), student, [n for n in new_layers(teacher(kind).net, student) if n.endswith(silent)])


@KINDS
def test_a_swin_transformer_grows_into_a_wider_and_deeper_one_of_its_class(kind: str) -> None:
    changes = {"embed_dim": 36, "depths": [3, 4], "num_heads": [6, 12], "mlp_ratio": 3.0, "attention_dropout": 0.1}
    target = swin(kind, **changes).double()
    spec = Net2Net.from_module(target, torch.zeros(2, *SHAPES[kind], dtype=torch.float64))
    student = teacher(kind).net.grow(spec.graph)
    target.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in target.state_dict()}, strict=True)
    assert error(teacher(kind).expected["eval"], outputs(target, teacher(kind).inputs, "eval")) <= 1e-12
    with torch.no_grad():
        target.get_parameter(block(kind, 1, 0) + ".attn.qkv.weight")[0] += 0.1
    assert error(teacher(kind).expected["eval"], outputs(target, teacher(kind).inputs, "eval")) > 1e-6


@KINDS
def test_heads_of_another_size_are_refused(kind: str) -> None:
    target = swin(kind, embed_dim=24, num_heads=[2, 8])
    spec = Net2Net.from_module(target, torch.zeros(2, *SHAPES[kind]))
    with pytest.raises(GrowthRefusedError, match=r"attn.*(target's shape|as wide as its heads)"):
        teacher(kind).net.grow(spec.graph)


class Alone(nn.Module):
    """Attention without a norm over the channels, between convolutions."""

    def __init__(self, attention: type[nn.Module]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 12, 1)
        self.attention = attention(12, [3, 4], [1, 2], 3)
        self.after = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attention(self.before(x).permute(0, 2, 3, 1))
        return self.after(found.permute(0, 3, 1, 2))  # type: ignore[no-any-return]


ATTENTION = pytest.mark.parametrize("attention", [images.ShiftedWindowAttention, images.ShiftedWindowAttentionV2])


@ATTENTION
@pytest.mark.parametrize("layer", ["before", "attention"])
def test_single_heads_are_added_where_no_norm_needs_equal_copies(attention: type[nn.Module], layer: str) -> None:
    alone = Teacher.of(Alone(attention), [(3, 7, 9)])
    student = alone.net.widen({layer: 20})
    op = student.graph.by_name["attention"].op
    assert (op.embed_dim, op.num_heads) == (20, 5)  # type: ignore[attr-defined]
    check_growth(alone, student, ["before", "attention", "after"])


@ATTENTION
def test_a_width_between_two_numbers_of_heads_is_refused_with_the_next_that_fits(attention: type[nn.Module]) -> None:
    alone = Teacher.of(Alone(attention), [(3, 7, 9)])
    with pytest.raises(GrowthRefusedError, match="cannot be widened to 13") as refused:
        alone.net.widen({"before": 13})
    assert "before=16" in str(refused.value.hint)


def test_places_in_windows_keep_their_sizes() -> None:
    """Channels that become places are frozen there."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 6, 1)
            self.attention = images.ShiftedWindowAttention(8, [3, 3], [1, 1], 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.attention(self.before(x))
            return found

    mixed = Net2Net.from_module(Mixed(), torch.zeros(2, 3, 6, 8))
    with pytest.raises(GrowthRefusedError, match="`attention` attends over it"):
        mixed.widen({"before": "2x"})


def test_a_shift_as_long_as_its_window_is_refused() -> None:
    attention = nn.Sequential(images.ShiftedWindowAttention(8, [3, 3], [3, 0], 2))
    with pytest.raises(TraceError, match="shifts must be less than its windows"):
        Net2Net.from_module(attention, torch.zeros(2, 6, 6, 8))


def test_attention_whose_dropout_does_not_follow_the_network_is_refused() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[0].eval()
            return self

    frozen = Frozen(images.ShiftedWindowAttention(8, [3, 3], [0, 0], 2, attention_dropout=0.1))
    with pytest.raises(TraceError, match="stays in evaluation mode"):
        Net2Net.from_module(frozen, torch.zeros(2, 6, 6, 8))


@KINDS
def test_the_widths_that_people_are_told_are_those_of_the_channels(kind: str) -> None:
    graph = teacher(kind).net.graph
    for layer, expected in {"norm1": 12, "attn": 12, "mlp.0": 24}.items():
        assert width(graph, graph.by_name[f"{block(kind, 0, 0)}.{layer}"]) == expected


@KINDS
def test_an_exported_swin_transformer_needs_torch_alone(kind: str) -> None:
    student = teacher(kind).net.widen({STEM[kind]: "2x"})
    source = python_source(student.graph, class_name="Student")
    imports = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert {name.partition(".")[0] for name in imports} == {"torch", "collections"}
    namespace: dict[str, Any] = {}
    exec(compile(source, "student.py", "exec"), namespace)
    module = namespace["Student"]().double()
    module.load_state_dict(student.to_module(dtype=torch.float64).state_dict(), strict=True)
    for mode in ("eval", "train"):
        assert error(teacher(kind).expected[mode], outputs(module, teacher(kind).inputs, mode)) <= 1e-12


@pytest.mark.parametrize("width", ["+6", "1.5x"])
def test_the_last_stage_which_norms_alone_read_grows_head_by_head(width: str) -> None:
    torch.manual_seed(0)
    last = images.SwinTransformer(
        patch_size=[4, 4], embed_dim=12, depths=[1, 2], num_heads=[2, 4], window_size=[3, 3], num_classes=5
    )
    teacher = Teacher.of(last, [(3, 28, 28)])
    student = teacher.net.widen({"features.2.reduction": width})
    check_growth(teacher, student, ["features.2.reduction", "features.3.1.attn", "features.3.0.mlp.3", "head"])
