"""A student with one number changed is caught, networks that compute the same pass, weak comparisons are called so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import InputError, MachineError, OutputsDifferError, UsageError
from net2net_cli.networks import small_resnet
from net2net_cli.runtime.build import build, load_weights
from net2net_cli.runtime.compare import Comparison, compare
from net2net_cli.runtime.machine import explained, full_precision, pick_device


def teacher() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def images(count: int = 6, seed: int = 0) -> list[tuple[Tensor, ...]]:
    x = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return [(part,) for part in torch.split(x, 4)]


def student(change: Callable[[Any], object] = lambda _: None) -> nn.Sequential:
    model = teacher()
    with torch.no_grad():
        change(model)
    return model


def found(change: Callable[[Any], object], **options: Any) -> Comparison:
    return compare(teacher(), student(change), images(), **options)


def test_the_same_network_passes_with_no_difference_at_all() -> None:
    comparison = found(lambda _: None)
    assert comparison.passed
    assert comparison.error == 0
    assert comparison.samples == 6
    assert (comparison.device, comparison.dtype, comparison.mode) == ("cpu", "float64", "eval")
    assert comparison.outputs[0].same_top == 1
    comparison.raise_if_different()


def test_permuted_hidden_channels_pass() -> None:
    order = torch.tensor([2, 0, 3, 1])

    def permute(model: Any) -> None:
        for tensor in (model[0].weight, model[0].bias, model[1].weight, model[1].bias):
            tensor.copy_(tensor[order].clone())
        model[4].weight.copy_(model[4].weight.view(5, 4, 4)[:, order].reshape(5, 16).clone())

    comparison = found(permute)
    assert comparison.passed
    assert 0 < comparison.error < 1e-13


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight by a millionth": lambda m: m[0].weight[1, 0, 1, 1].add_(1e-6),
    "the last bit of a bias": lambda m: m[4].bias[0].copy_(torch.nextafter(m[4].bias[0], torch.tensor(9.0))),
    "a running mean": lambda m: m[1].running_mean[0].add_(1e-3),
    "NaN in a weight": lambda m: m[4].weight[2, 3].fill_(math.nan),
    "infinity in a bias": lambda m: m[4].bias[2].fill_(math.inf),
    "permuted outputs": lambda m: (m[4].weight.copy_(m[4].weight.flip(0)), m[4].bias.copy_(m[4].bias.flip(0))),
    "one output more": lambda m: m.__setitem__(4, nn.Linear(16, 6)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_student_with_something_changed_fails(name: str) -> None:
    comparison = found(CHANGES[name])
    assert not comparison.passed
    with pytest.raises(OutputsDifferError):
        comparison.raise_if_different()


@pytest.mark.parametrize("name", list(CHANGES)[:3])
def test_its_smallest_tolerance_is_the_smallest_that_passes(name: str) -> None:
    tolerance = found(CHANGES[name]).smallest_tolerance
    assert found(CHANGES[name], tolerance=tolerance).passed
    assert not found(CHANGES[name], tolerance=tolerance * 0.999).passed


def test_the_numbers_are_those_of_their_definitions() -> None:
    comparison = found(lambda m: m[4].bias[3].add_(0.25))
    inputs = torch.cat([part[0] for part in images()]).double()
    expected = teacher().double().eval()(inputs)
    (output,) = comparison.outputs
    assert output.largest == pytest.approx(0.25, rel=1e-6)
    assert output.error == pytest.approx(0.25 / expected.std(correction=0).item(), rel=1e-6)
    assert output.relative == pytest.approx(0.25 * math.sqrt(6) / expected.norm().item(), rel=1e-6)
    assert output.place[1] == 3
    assert output.teacher_value == pytest.approx(expected[output.place].item())
    assert output.student_value == pytest.approx(output.teacher_value + 0.25)
    moved = expected + torch.tensor([0, 0, 0, 0.25, 0])
    assert output.same_top == (expected.argmax(1) == moved.argmax(1)).double().mean()


def test_the_message_names_place_and_values_and_the_hint_a_tolerance() -> None:
    with pytest.raises(OutputsDifferError) as caught:
        found(lambda m: m[4].bias[3].add_(1e-3)).raise_if_different()
    assert "standard deviations, 1e-12 are allowed: at [" in caught.value.message
    assert "of output `out`, teacher " in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("`--tolerance ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_alone_passes_in_every_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, other = small_resnet().double(), small_resnet().double()
    other.load_state_dict(model.state_dict())
    scale = 1.7  # of a channel before a ReLU, undone behind it: the same function, rounded otherwise
    with torch.no_grad():
        norms = [m for m in other.modules() if isinstance(m, nn.BatchNorm2d)]
        convolutions = [m for m in other.modules() if isinstance(m, nn.Conv2d)]
        for norm in norms[1:2]:
            norm.weight.mul_(scale)
            norm.bias.mul_(scale)
        convolutions[2].weight.div_(scale)
    shape = (3, convolutions[0].in_channels, 16, 16)
    comparison = compare(model, other, [(torch.randn(shape),)], dtype=dtype)
    assert comparison.error > 0
    assert comparison.passed, comparison.error


def test_neither_module_is_changed() -> None:
    model, other = teacher().train(), student()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    compare(model, other, images(), dtype=torch.bfloat16, mode="train")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_callers_random_numbers_and_switches_are_left_alone() -> None:
    models = (teacher(), teacher())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        compare(*models, [(torch.zeros(2, 1, 4, 4),)])
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(torch.rand(3), expected)


def test_float32_is_float32_inside() -> None:
    torch.backends.cudnn.benchmark = True
    try:
        with full_precision():
            assert not torch.backends.cudnn.benchmark
            if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False


class Several(NamedTuple):
    logits: Tensor
    aux: Tensor | None


class Head(nn.Module):
    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Any:
        return {"a": Several(x, None), "b": [x * 2, (x * 3 + self.shift,)]}


def test_nested_outputs_are_compared_by_name_and_the_worst_is_named() -> None:
    comparison = compare(Head(), Head(0.5), [(torch.randn(3, 4),)])
    assert [o.name for o in comparison.outputs] == ["a.logits", "b.0", "b.1.0"]
    assert [o.error == 0 for o in comparison.outputs] == [True, True, False]
    assert comparison.worst.name == "b.1.0"


def test_networks_with_different_outputs_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="the networks return different outputs"):
        compare(Head(), nn.Identity(), [(torch.randn(3, 4),)])


def test_rebuilt_networks_are_compared_by_the_names_of_their_outputs() -> None:
    linear: Any = REGISTRY["Linear"]
    layers = (Layer("fc", linear(4, 3, False), ("x",)),)
    returns: dict[Any, Any] = {"eval": {"tuple": ["logits"]}}
    graph = Graph("n", "s", (NetworkInput("x", (Batch(), 4)),), layers, {"logits": "fc"}, returns)
    networks = [build(graph), build(graph)]
    for network in networks:
        load_weights(network, lambda _: torch.eye(3, 4).numpy())
    comparison = compare(networks[0], networks[1], [(torch.randn(2, 4),)])
    assert comparison.passed
    assert comparison.worst.name == "logits"


class Constant(nn.Module):
    def __init__(self, *values: float) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64))

    def forward(self, x: Tensor) -> Any:
        return self.get_buffer("values").expand(len(x), -1)


@pytest.mark.parametrize(
    ("values", "scale", "warning"),
    [
        ((3.0, 3.0), 3.0, "the teacher's output `out` is constant: differences are measured by its magnitude"),
        ((0.0, 0.0), 1.0, "the teacher's output `out` is constant: differences are measured by its magnitude"),
        ((1.0, 3.0), 1.0, "the teacher's output `out` is the same for every input: agreement says little"),
    ],
)
def test_a_teacher_that_tells_little_is_reported(values: tuple[float, ...], scale: float, warning: str) -> None:
    comparison = compare(Constant(*values), Constant(*values), [(torch.randn(3, 4),)])
    assert comparison.warnings == (warning,)
    assert comparison.worst.scale == scale
    assert comparison.passed


def test_a_constant_output_must_still_agree() -> None:
    assert not compare(Constant(3.0, 3.0), Constant(3.0, 3.0 + 1e-6), [(torch.randn(3, 4),)]).passed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "NaN in a weight",
            "the outputs differ: NaN or infinite in one network alone: 6 elements are so in output `out`",
        ),
        ("one output more", "the outputs differ: output `out` has the shape [6, 5] in the teacher, [6, 6] in the"),
    ],
)
def test_a_difference_without_a_number_is_said_in_words(name: str, message: str) -> None:
    with pytest.raises(OutputsDifferError) as caught:
        found(CHANGES[name]).raise_if_different()
    assert caught.value.message.startswith(message)
    assert caught.value.hint == "`--locate` names the first layer that differs"


def test_where_nothing_is_a_number_the_hint_asks_for_other_inputs() -> None:
    with pytest.raises(OutputsDifferError, match="there is nothing to compare") as caught:
        compare(Constant(math.nan), Constant(math.nan), [(torch.randn(3, 4),)]).raise_if_different()
    assert caught.value.hint == "give inputs for which the networks return numbers: `--inputs`"


def test_a_difference_that_overflows_is_one() -> None:
    comparison = compare(Constant(1.7e308), Constant(-1.7e308), [(torch.randn(3, 4),)])
    assert not comparison.passed
    with pytest.raises(OutputsDifferError):
        comparison.raise_if_different()


def test_no_inputs_are_no_agreement() -> None:
    with pytest.raises(UsageError, match="no inputs"):
        compare(teacher(), teacher(), [])


def test_a_device_that_is_absent_is_named_with_the_reason() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="`cuda` cannot be used: ") as caught:
            pick_device("cuda")
        assert caught.value.hint is not None
        assert "`--device cpu`" in caught.value.hint
    with pytest.raises(MachineError, match="`gpu` is no device"):
        pick_device("gpu")


def test_a_build_without_cuda_is_told_from_a_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(MachineError, match="was built without CUDA"):
        pick_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(MachineError, match="no CUDA device or no driver was found"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "has not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "has not enough memory"),
        (MemoryError(), "has not enough memory"),
        (RuntimeError("CUDA error: no kernel image is available"), "failed: CUDA error"),
        (TypeError("Cannot convert a MPS Tensor to float64 dtype"), "failed: Cannot convert a MPS"),
        (RuntimeError("\"baddbmm\" not implemented for 'Half'"), "cannot run this network in this type"),
    ],
)
def test_failures_of_the_device_say_what_to_do(error: Exception, message: str) -> None:
    with pytest.raises(MachineError, match=message) as caught, explained(torch.device("cuda")):
        raise error
    assert caught.value.hint is not None


def test_other_failures_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        compare(teacher(), teacher(), [(torch.randn(2, 1, 9, 9),)])
