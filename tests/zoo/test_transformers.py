"""Vision transformers and ConvNeXt: attention by whole heads, layer norm by equal copies, blocks repeated silently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError, TraceError


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


def test_a_stream_behind_layer_norms_grows_by_whole_factors_only() -> None:
    with pytest.raises(GrowthRefusedError, match="24 at a time") as refused:
        Net2Net.from_module(awake(vit()), images()).widen({"conv_proj": "+8"})
    assert "conv_proj=48" in str(refused.value.hint)


def test_transformer_blocks_are_repeated_silently_bit_for_bit() -> None:
    teacher = awake(vit())
    block = "encoder.layers.encoder_layer_1"
    student = Net2Net.from_module(teacher, images()).deepen([block], count=2)
    assert error(teacher, student.to_module()) == 0.0
    assert not student.tensor(f"{block}_twin1.self_attention.out_proj.weight").any()
    assert student.tensor(f"{block}_twin1.self_attention.in_proj_weight").any()  # so that its last layer gets gradient


def test_a_transformer_grows_into_a_deeper_and_wider_one_of_its_class() -> None:
    teacher, target = awake(vit(2)), awake(vit(4, hidden=48, heads=6, mlp=100))
    student = Net2Net.from_module(teacher, images()).grow(Net2Net.from_module(target, images()).graph)
    target.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n in target.state_dict()}, strict=True)
    assert error(teacher, target) <= 1e-12


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
