"""Vision transformers and ConvNeXt: attention by whole heads, layer norm by equal copies, blocks repeated silently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError, TraceError, UsageError
from net2net_cli.growth.plan import COPYING, Split


def vit(layers: int = 3, *, hidden: int = 24, heads: int = 3, mlp: int = 40) -> nn.Module:
    made: nn.Module = models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=hidden,
        mlp_dim=mlp,
        num_classes=10,
    )
    return made


def convnext() -> nn.Module:
    blocks = [models.convnext.CNBlockConfig(16, 24, 2), models.convnext.CNBlockConfig(24, None, 2)]
    made: nn.Module = models.ConvNeXt(blocks, num_classes=10)
    return made


def awake(model: nn.Module) -> nn.Module:
    """No zero head and no layer scale of 1e-6, behind which a wrong layer would not be seen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if float(parameter.detach().abs().max()) < 1e-3:
            nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.double().eval()


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(images())
    return found


def error(teacher: nn.Module, student: nn.Module) -> float:
    expected = outputs(teacher)
    return float((outputs(student) - expected).abs().max() / expected.std())


@pytest.mark.parametrize(
    ("layers", "heads"),
    [
        ({"encoder.layers.encoder_layer_0.mlp.0": "+1"}, 3),
        ({"encoder.layers.*.mlp.0": "1.5x"}, 3),
        ({"conv_proj": "2x"}, 6),
        ({"encoder.layers.encoder_layer_1.self_attention": "3x"}, 9),
        ({"encoder.layers.encoder_layer_1.self_attention:heads": "2x"}, 6),
        ({"conv_proj": "+8"}, 4),
        ({"conv_proj": "56"}, 7),
        ({"**.self_attention:heads": "5"}, 5),
    ],
)
def test_a_wider_vision_transformer_computes_the_same(layers: dict[str, str], heads: int) -> None:
    teacher = awake(vit())
    student = Net2Net.from_module(teacher, images()).widen(layers)
    attention = student.graph.by_name["encoder.layers.encoder_layer_2.self_attention"].op
    assert attention.num_heads == heads  # type: ignore[attr-defined]
    assert error(teacher, student.to_module()) <= 1e-12


def test_scrambling_one_head_of_the_student_is_seen() -> None:
    teacher = awake(vit())
    student = Net2Net.from_module(teacher, images()).widen({"conv_proj": "2x"}).to_module()
    weight = student.get_parameter("encoder.layers.encoder_layer_0.self_attention.in_proj_weight")
    with torch.no_grad():
        weight[:8] = torch.randn_like(weight[:8])
    assert error(teacher, student) > 1e-6


def test_a_stream_grows_by_whole_heads() -> None:
    with pytest.raises(GrowthRefusedError, match="as wide as its heads of 8 are together") as refused:
        Net2Net.from_module(awake(vit()), images()).widen({"conv_proj": "+1"})
    assert "conv_proj=32" in str(refused.value.hint)


def test_a_width_that_a_layer_has_not_is_named_with_those_it_has() -> None:
    net = Net2Net.from_module(awake(vit()), images())
    with pytest.raises(UsageError, match="no width named `hats`") as refused:
        net.widen({"encoder.layers.encoder_layer_0.self_attention:hats": "2x"})
    assert "self_attention:heads" in str(refused.value.hint)
    with pytest.raises(UsageError, match="matches no layer with a width named `hats`"):
        net.widen({"**:hats": "2x"})


@pytest.mark.parametrize("split", COPYING)
def test_a_wider_stream_computes_the_same_in_single_precision_as_stored(split: Split) -> None:
    teacher = awake(vit())
    student = Net2Net.from_module(teacher.float(), images().float()).widen({"conv_proj": "+16"}, split=split)
    assert student.exactness == "scaled"
    assert error(teacher.double(), student.to_module(dtype=torch.float64)) <= 5e-7


@pytest.mark.parametrize("split", COPYING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_of_a_stream_are_exact_in_every_stored_type(split: Split, dtype: torch.dtype) -> None:
    teacher = awake(vit()).to(dtype)
    student = Net2Net.from_module(teacher, images().to(dtype)).widen({"conv_proj": "3x", "**.0": "+7"}, split=split)
    assert not student.rounds
    assert error(teacher.double(), student.to_module(dtype=torch.float64)) <= 1e-12


def test_every_new_slice_of_a_wider_stream_learns_from_the_first_step_on() -> None:
    student = Net2Net.from_module(awake(vit()), images()).widen({"conv_proj": "+8"}).to_module().train()
    student(images()).square().sum().backward()
    for name, parameter in student.named_parameters():
        if parameter.shape[0] == 32 and parameter.ndim > 1:
            assert parameter.grad is not None
            assert parameter.grad[24:].flatten(1).norm(dim=1).min() > 1e-9, name


def test_random_padding_takes_the_widths_of_a_wider_stream_and_leaves_the_teachers_numbers_as_they_are() -> None:
    net = Net2Net.from_module(awake(vit()), images())
    padded = net.random_pad({"conv_proj": "+8"})
    for name in ("conv_proj.weight", "encoder.layers.encoder_layer_0.mlp.0.weight"):
        kept = tuple(slice(0, n) for n in net.tensor(name).shape)
        assert (padded.tensor(name)[kept] == net.tensor(name)).all()


def test_transformer_blocks_are_repeated_silently_bit_for_bit() -> None:
    teacher = awake(vit())
    block = "encoder.layers.encoder_layer_1"
    student = Net2Net.from_module(teacher, images()).deepen([block], count=2)
    assert error(teacher, student.to_module()) == 0.0
    assert not student.tensor(f"{block}_twin1.self_attention.out_proj.weight").any()
    assert student.tensor(f"{block}_twin1.self_attention.in_proj_weight").any()  # so that its last layer gets gradient


@pytest.mark.parametrize(("hidden", "heads"), [(48, 6), (40, 5)])
def test_a_transformer_grows_into_a_deeper_and_wider_one_of_its_class(hidden: int, heads: int) -> None:
    teacher, target = awake(vit(2)), awake(vit(4, hidden=hidden, heads=heads, mlp=100))
    student = Net2Net.from_module(teacher, images()).grow(Net2Net.from_module(target, images()).graph)
    target.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in target.state_dict()}, strict=True)
    assert error(teacher, target) <= 1e-12


def test_in_a_silent_twin_its_last_layers_learn_first_and_all_others_from_the_second_step_on() -> None:
    block = "encoder.layers.encoder_layer_1"
    student = Net2Net.from_module(awake(vit()), images()).deepen([block]).to_module().train()
    twin = {n: p for n, p in student.named_parameters() if n.startswith(f"{block}_twin1.")}
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)

    def learning() -> set[str]:
        optimizer.zero_grad()
        (student(images()) - 1.0).square().sum().backward()
        return {n.rpartition("_twin1.")[2] for n, p in twin.items() if p.grad is not None and p.grad.any()}

    last = {"self_attention.out_proj.weight", "self_attention.out_proj.bias", "mlp.3.weight", "mlp.3.bias"}
    assert learning() == last
    optimizer.step()
    assert len(learning()) == len(twin)


def test_a_target_with_heads_of_another_size_is_refused_though_all_shapes_fit() -> None:
    target = Net2Net.from_module(awake(vit(2, hidden=48, heads=4)), images())
    with pytest.raises(GrowthRefusedError, match="would have num_heads 6, and has 4 in the target"):
        Net2Net.from_module(awake(vit(2)), images()).grow(target.graph)


@pytest.mark.parametrize("growth", [{"features.1.0.block.3": "+3"}, {"features.0.0": "2x"}, {"features.2.1": "3x"}])
def test_a_wider_convnext_computes_the_same(growth: dict[str, str]) -> None:
    teacher = awake(convnext())
    assert error(teacher, Net2Net.from_module(teacher, images()).widen(growth).to_module()) <= 1e-12


def test_a_convnext_block_is_repeated_silently() -> None:
    teacher = awake(convnext())
    assert error(teacher, Net2Net.from_module(teacher, images()).deepen(["features.3.1"]).to_module()) <= 1e-12


def test_attention_weights_that_are_read_are_refused() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            output, weights = self.attention(x, x, x)
            return torch.matmul(weights, output)

    with pytest.raises(TraceError, match="returns more than its output"):
        Net2Net.from_module(Reads(), torch.zeros(2, 5, 8))
