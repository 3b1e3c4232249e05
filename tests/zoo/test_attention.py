"""Attention as people write it, and PyTorch's own transformer layers: wider by whole heads, repeated silently."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

from net2net_cli import Net2Net
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError
from zoo.attentions import (
    GROUPED,
    HEADS,
    SHAPES,
    SIZE,
    SPELLINGS,
    WIDTH,
    Attends,
    Spelling,
    grouped,
    heads_before_batch,
)
from zoo.growing import Teacher, check_growth, error, new_layers, random_inputs


@cache
def spelled(name: str) -> Teacher:
    return Teacher.of(SPELLINGS[name].network(), SHAPES)


def widths(net: Net2Net, *layers: str) -> list[int]:
    return [net.tensor(f"{layer}.weight").shape[0] for layer in layers]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("layer", [0, -1])
def test_heads_grow_whatever_attention_looks_like(name: str, layer: int) -> None:
    """Not their size, over which queries meet keys, nor the three of `(three h d)`."""
    teacher, spelling = spelled(name), SPELLINGS[name]
    names = list(spelling.widths)
    for times, heads in (("2x", HEADS), ("1.5x", HEADS // 2)):
        student = teacher.net.widen({names[layer]: times})
        check_growth(teacher, student, [*names, "proj"])
        assert widths(student, *names) == [w + w * heads // HEADS for w in spelling.widths.values()]
        assert student.tensor("proj.weight").shape == (WIDTH, WIDTH + SIZE * heads)


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_width_that_is_no_number_of_heads_is_refused_with_the_next_that_is(name: str) -> None:
    spelling = SPELLINGS[name]
    layer, width = next(iter(spelling.widths.items()))
    with pytest.raises(
        GrowthRefusedError, match=rf"only grow {spelling.unit} at a time|needs 3 sections of equal size"
    ) as refused:
        spelled(name).net.widen({layer: "+1"})
    assert f"`{layer}={width + spelling.unit}`" in str(refused.value.hint)


@pytest.mark.parametrize("name", ["timm", "einsum", "bmm", "masked", "repeated"])
def test_the_stream_around_attention_grows_by_whole_factors(name: str) -> None:
    teacher = spelled(name)
    check_growth(teacher, teacher.net.widen({"embed": "2x"}), ["embed", "proj", "norm"])


def test_a_bias_for_each_head_is_copied_with_it() -> None:
    student = spelled("biased").net.widen({"q": "+12"})
    assert student.tensor("bias").shape == (1, HEADS + 2, 5, 5)


def test_heads_folded_in_before_the_batch_keep_their_number_and_say_why() -> None:
    teacher = Teacher.of(Spelling(heads_before_batch).network(), SHAPES)
    with pytest.raises(GrowthRefusedError, match=r"`q` cannot be widened: .* merges it with the batch"):
        teacher.net.widen({"q": "2x"})


def test_channels_folded_into_the_batch_of_a_convolution_keep_their_number_and_say_why() -> None:
    class PerChannel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.conv, self.out = nn.Linear(7, 4), nn.Conv1d(1, 3, 2), nn.Linear(48, 2)

        def forward(self, x: Tensor) -> Any:
            n, t, _ = x.shape
            x = self.embed(x).transpose(1, 2).reshape(n * 4, 1, t)
            return self.out(self.conv(x).reshape(n, -1))

    with pytest.raises(GrowthRefusedError, match="`conv` takes it for samples of the batch"):
        Net2Net.from_module(PerChannel(), torch.zeros(2, 5, 7)).widen({"embed": "2x"})


def grouped_teacher(heads: int = HEADS) -> Teacher:
    class Grouped(Attends):
        def __init__(self) -> None:
            super().__init__(grouped, {**GROUPED, "q": heads * SIZE}, {})
            self.heads = heads
            self.proj = nn.Linear(heads * SIZE, WIDTH)

    torch.manual_seed(0)
    return Teacher.of(Grouped(), SHAPES)


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ({"q": "2x"}, [48, 12, 12]),  # copies inside each group of heads that read one key
        ({"q": "+12"}, [36, 12, 12]),
        ({"k": "2x"}, [24, 24, 24]),  # each key's two readers part
        ({"q": "3x", "v": "3x"}, [72, 36, 36]),
    ],
)
def test_query_heads_that_share_keys_grow_beside_those_they_copy(growth: dict[str, str], expected: list[int]) -> None:
    teacher = grouped_teacher()
    student = teacher.net.widen(growth)
    assert widths(student, "q", "k", "v") == expected
    check_growth(teacher, student, ["q", "k", "v", "proj"])


def test_keys_whose_readers_cannot_be_shared_out_evenly_are_refused() -> None:
    teacher = grouped_teacher(6)
    with pytest.raises(GrowthRefusedError, match="gives 4 slices to 6 others"):
        teacher.net.widen({"k": "2x"})
    check_growth(teacher, teacher.net.widen({"k": "3x"}), ["q", "k", "v"])


class Encoder(nn.Module):
    def __init__(self, mask: Any = None, *, heads: int = 4, **how: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, heads, 40, 0.1, **how)
        self.embed, self.out = nn.Linear(7, 24), nn.Linear(24, 6)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(24), enable_nested_tensor=False)
        self.batch_first = layer.self_attn.batch_first
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1), self.mask)
        return self.out(x if self.batch_first else x.transpose(0, 1))


class Translator(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(7, 24), nn.Linear(6, 24)
        self.net = nn.Transformer(24, 4, 2, 2, 40, 0.1, **how)
        self.out = nn.Linear(24, 6)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(4))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        x, y = self.source(x), self.target(y)
        if not self.net.batch_first:
            x, y = x.transpose(0, 1), y.transpose(0, 1)
        y = self.net(x, y, tgt_mask=self.mask)
        return self.out(y if self.net.batch_first else y.transpose(0, 1))


BOOL = torch.ones(5, 5).triu(1).bool()
BOTH = [(5, 7), (4, 6)]
ORDERS = [{"norm_first": first, "batch_first": batch} for first in (False, True) for batch in (False, True)]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("how", ORDERS, ids=str)
def test_an_encoder_grows_in_its_mlps_its_heads_and_its_stream(how: dict[str, bool], activation: str) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Encoder(activation=activation, **how), SHAPES)
    for growth, grown in (
        ({"encoder.layers.0.linear1": "+1"}, ["encoder.layers.0.linear1", "encoder.layers.0.linear2"]),
        ({"encoder.layers.*.linear1": "1.5x"}, ["encoder.layers.1.linear1"]),
        ({"embed": "2x"}, ["embed", "encoder.layers.0.self_attn", "encoder.layers.1.norm2"]),
        ({"encoder.layers.1.self_attn": "2x"}, ["encoder.layers.0.self_attn"]),
    ):
        check_growth(teacher, teacher.net.widen(growth), grown)


@pytest.mark.parametrize("mask", [BOOL, nn.Transformer.generate_square_subsequent_mask(5)], ids=["yes-no", "numbers"])
@pytest.mark.parametrize("how", ORDERS, ids=str)
def test_an_encoder_with_a_mask_grows(how: dict[str, bool], mask: Tensor) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Encoder(mask.clone(), **how), SHAPES)
    check_growth(teacher, teacher.net.widen({"embed": "2x", "encoder.layers.0.linear1": "+3"}), ["embed"])


def test_an_encoder_under_a_mask_that_forward_makes_grows() -> None:
    class Made(Encoder):
        def forward(self, x: Tensor) -> Any:
            causal = nn.Transformer.generate_square_subsequent_mask(x.size(1))
            return self.out(self.encoder(self.embed(x).transpose(0, 1), causal, is_causal=True).transpose(0, 1))

    torch.manual_seed(0)
    teacher = Teacher.of(Made(), SHAPES)
    check_growth(teacher, teacher.net.widen({"embed": "2x"}), ["embed", "encoder.layers.1.self_attn"])


def test_an_encoder_without_biases_and_with_an_odd_number_of_heads_grows() -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Encoder(heads=3, bias=False), SHAPES)
    check_growth(teacher, teacher.net.widen({"embed": "2x"}), ["embed", "encoder.layers.0.self_attn"])


@pytest.mark.parametrize("how", ORDERS, ids=str)
def test_encoder_and_decoder_grow_together_through_cross_attention(how: dict[str, bool]) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Translator(**how), BOTH)
    student = teacher.net.widen({"source": "2x", "net.decoder.layers.0.linear1": "+1"})
    assert widths(student, "source", "target") == [48, 48]
    check_growth(teacher, student, ["source", "target", "net.decoder.layers.1.multihead_attn"])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("block", ["net.encoder.layers.0", "net.decoder.layers.1"])
def test_pre_norm_layers_are_repeated_silently(block: str, batch_first: bool) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Translator(norm_first=True, batch_first=batch_first), BOTH)
    student = teacher.net.deepen([block], count=2)
    check_growth(teacher, student, [])
    added = new_layers(teacher.net, student)
    assert sum(name.endswith("self_attn") for name in added) == 2
    silent = [name for name in added if name.endswith(("_attn", "linear2"))]
    last = ("out_proj.weight", "out_proj.bias") if silent[0].endswith("_attn") else ("weight", "bias")
    assert all(not student.tensor(f"{silent[0]}.{key}").any() for key in last)


@pytest.mark.parametrize("block", ["net.encoder.layers.0", "net.decoder.layers.1"])
def test_post_norm_layers_are_not_repeated_because_the_norm_would_act_twice(block: str) -> None:
    torch.manual_seed(0)
    net = Net2Net.from_module(Translator(norm_first=False).double(), random_inputs(BOTH, 2))
    with pytest.raises(GrowthRefusedError, match=r"norm[23]`, a LayerNorm behind the addition \(post-norm\)"):
        net.deepen([block])


class Crossed(nn.Module):
    """Queries, keys and values of three widths."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(7, 24), nn.Linear(6, 16), nn.Linear(6, 20)
        self.attention = nn.MultiheadAttention(24, 4, 0.1, kdim=16, vdim=20, batch_first=True, **how)
        self.norm, self.out = nn.LayerNorm(24), nn.Linear(24, 6)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        x = self.q(x)
        return self.out(self.norm(x + self.attention(x, self.k(y), self.v(y), need_weights=False)[0]))


@pytest.mark.parametrize("how", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"bias": False}], ids=str)
def test_keys_and_values_of_other_widths_grow_by_any_amount(how: dict[str, bool]) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Crossed(**how), BOTH)
    for growth, shape in (
        ({"k": "+1"}, (24, 17)),
        ({"k": "24", "v": "24"}, (24, 24)),  # all three widths are equal now, and their weights stay apart
        ({"q": "2x"}, (48, 16)),
        ({"attention": "3x", "v": "1.5x"}, (72, 16)),
    ):
        student = teacher.net.widen(growth)
        assert student.tensor("attention.k_proj_weight").shape == shape
        check_growth(teacher, student, ["attention", "k", "v"])


def exported(net: Net2Net) -> nn.Module:
    """The module in the exported file, with the network's tensors loaded strictly."""
    names: dict[str, Any] = {}
    exec(compile(python_source(net.graph, class_name="Student"), "student.py", "exec"), names)
    module: nn.Module = names["Student"]().double()
    module.load_state_dict(net.to_module(dtype=torch.float64).state_dict(), strict=True)
    return module.eval()


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_exported_student_of_every_spelling_computes_what_its_teacher_does(name: str) -> None:
    teacher = spelled(name)
    module = exported(teacher.net.widen({next(iter(SPELLINGS[name].widths)): "2x"}))
    with torch.no_grad():
        assert error(teacher.expected["eval"], [module(*teacher.inputs)]) <= 1e-12


@pytest.mark.parametrize("make", [lambda: Translator(norm_first=True), Crossed, lambda: Encoder(BOOL.clone())])
def test_the_exported_student_of_every_layer_of_torch_computes_what_its_teacher_does(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    teacher = Teacher.of(model, SHAPES if isinstance(model, Encoder) else BOTH)
    first = next(name for name in ("source", "q", "embed") if hasattr(model, name))
    module = exported(teacher.net.widen({first: "2x"}))
    with torch.no_grad():
        assert error(teacher.expected["eval"], [module(*teacher.inputs)]) <= 1e-12


def test_padded_keys_are_hidden_from_the_student_too() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Linear(7, 24), nn.Linear(24, 6)
            self.attention = nn.MultiheadAttention(24, 4, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            hidden = x[:, :, 0] > 0.8
            x = self.embed(x)
            return self.out(x + self.attention(x, x, x, key_padding_mask=hidden)[0])

    torch.manual_seed(0)
    teacher = Teacher.of(Padded(), SHAPES)
    check_growth(teacher, teacher.net.widen({"embed": "2x"}), ["embed", "attention"])


def test_a_student_of_a_hand_written_transformer_trains_its_new_heads() -> None:
    """The copies' gradients differ, so that they part."""
    teacher = spelled("timm")
    module = copy.deepcopy(teacher.net.widen({"qkv": "2x"}).to_module(dtype=torch.float64)).train()
    loss = F.mse_loss(module(*teacher.inputs), torch.zeros_like(teacher.expected["eval"][0]))
    (gradient,) = torch.autograd.grad(loss, [module.get_parameter("qkv.weight")])
    heads = gradient.reshape(3, HEADS, 2, SIZE, WIDTH)[2]  # of each teacher's head the two copies, side by side
    assert all((a - b).abs().max() > 1e-6 for a, b in heads)
