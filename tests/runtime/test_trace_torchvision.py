"""torchvision's networks, rebuilt from their specs, compute bit for bit what they did, in both modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from net2net_cli.runtime.trace import unused_tensors
from runtime.tracing import assert_same, graph_of, rebuilt, same_tensors

SIZES = {
    "alexnet": 80,
    "vgg11_bn": 32,
    "inception_v3": 128,
    "mobilenet_v2": 32,
    "squeezenet1_0": 48,
    "resnet18": 32,
    "mobilenet_v3_small": 32,
}

QUICK = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_0"]  # GoogLeNet has a test of its own
SLOW = [
    *("alexnet", "vgg11_bn", "resnext50_32x4d", "wide_resnet50_2", "inception_v3", "densenet121", "mobilenet_v2"),
    *("mnasnet0_5", "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny"),
    *("swin_t", "swin_v2_t"),
]


def network(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False
    model: nn.Module = getattr(torchvision.models, name)(weights=None, **arguments)
    if name == "inception_v3":
        model.AuxLogits.conv1.conv.padding = (2, 2)  # type: ignore[union-attr]  # lets images be smaller than 299
    return model


def image(name: str) -> torch.Tensor:
    size = SIZES.get(name, 64)
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_rebuilt_network_is_the_original(name: str) -> None:
    model = network(name)
    graph = assert_same(model, image(name))
    assert unused_tensors(model, graph) == []
    assert {tensor for tensor, *_ in graph.tensors()} == set(model.state_dict())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("googlenet", {"logits": "out", "aux_logits2": "aux_logits2", "aux_logits1": "aux_logits1"}),
        pytest.param("inception_v3", {"logits": "out", "aux_logits": "aux_logits"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("transform_input", [False, True])
def test_auxiliary_heads_belong_to_training(name: str, fields: dict[str, str], transform_input: bool) -> None:
    model = network(name, transform_input=transform_input)
    graph = assert_same(model, image(name))
    tuple_name = {"googlenet": "GoogLeNetOutputs", "inception_v3": "InceptionOutputs"}[name]
    assert graph.returns == {"eval": "out", "train": {"namedtuple": tuple_name, "fields": fields}}
    assert {layer.name.split(".")[0] for layer in graph.layers if layer.when == "train"} <= {
        "aux1",
        "aux2",
        "AuxLogits",
    }
    assert type(model.train()(image(name))).__name__ == tuple_name


def test_auxiliary_heads_that_are_switched_off_are_not_there() -> None:
    model = network("googlenet", aux_logits=False)
    graph = graph_of(model, image("googlenet"))
    assert all(layer.when == "always" for layer in graph.layers)
    assert graph.returns["train"] == "out"


def test_layers_of_resnet18_bear_module_paths_and_plain_names() -> None:
    graph = graph_of(network("resnet18"), torch.zeros(1, 3, 64, 64))
    names = [layer.name for layer in graph.layers]
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert names[4:12] == [f"layer1.0.{n}" for n in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_1")] + [
        "layer1.1.conv1"
    ]
    assert names[-3:] == ["avgpool", "flatten", "fc"]
    assert graph.by_name["layer1.0.add"].inputs == ("layer1.0.bn2", "maxpool")
    assert graph.by_name["flatten"].op.pattern == "n c h w -> n (c h w)"  # type: ignore[attr-defined]


def test_channel_shuffle_of_shufflenet_is_one_pattern() -> None:
    graph = graph_of(network("shufflenet_v2_x0_5"), torch.zeros(1, 3, 64, 64))
    shuffles = [layer.op for layer in graph.layers if layer.op.name == "rearrange"]
    assert {op.pattern for op in shuffles} == {"n (g c) h w -> n (c g) h w"}  # type: ignore[attr-defined]
    assert all(op.axes == {"g": 2} for op in shuffles)  # type: ignore[attr-defined]


def test_comparison_sees_a_single_changed_weight() -> None:
    model = network("mobilenet_v3_small")
    graph = graph_of(model, image("mobilenet_v3_small"))
    changed = rebuilt(graph, model)
    with torch.no_grad():
        changed.state_dict()["classifier.3.weight"][0, 0] += 1
    assert not same_tensors(model, changed, (image("mobilenet_v3_small"),), training=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [
        ("segmentation", "fcn_resnet50", (3, 64, 64)),
        ("segmentation", "deeplabv3_mobilenet_v3_large", (3, 64, 64)),
        ("segmentation", "lraspp_mobilenet_v3_large", (3, 64, 64)),
        ("video", "r3d_18", (3, 4, 32, 32)),
        ("video", "swin3d_t", (3, 8, 64, 64)),
    ],
)
def test_segmentation_and_video_networks(family: str, name: str, shape: tuple[int, ...]) -> None:
    backbone = {"weights_backbone": None} if family == "segmentation" else {}
    torch.manual_seed(0)
    model = getattr(getattr(torchvision.models, family), name)(weights=None, **backbone)
    assert_same(model, torch.randn(2, *shape))
