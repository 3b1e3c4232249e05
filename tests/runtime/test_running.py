"""Networks run on a copy, in batches that fit, and in training mode with the gradients of their inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, NetworkInput
from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import MachineError, UsageError
from net2net_cli.runtime.build import build
from net2net_cli.runtime.compare import compare
from net2net_cli.runtime.modules import StochasticDepth
from net2net_cli.runtime.running import pieces, samples


class Small(nn.Module):
    """A device that holds so many samples at a time, and what it ran."""

    def __init__(self, room: int, *, error: Exception | None = None) -> None:
        super().__init__()
        self.room = room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.seen: list[int] = []

    def __deepcopy__(self, _: Any) -> Small:
        return self  # so that the test sees what the copy saw

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise self.error
        self.seen.append(len(x))
        return x * 2


def batches(*sizes: int) -> list[tuple[Tensor, ...]]:
    return [(torch.randn(size, 3, generator=torch.Generator().manual_seed(size)),) for size in sizes]


def test_batches_that_do_not_fit_are_split_in_halves_until_they_do() -> None:
    teacher, student = Small(3), Small(3)
    found = compare(teacher, student, batches(8, 5))
    assert found.passed
    assert found.samples == 13
    assert teacher.seen == student.seen == [2, 2, 2, 2, 2, 2, 1]
    assert found.notes == ("memory did not suffice for whole batches: 2 inputs were run at a time",)


def test_both_networks_see_the_same_batches_also_where_only_the_student_is_too_large() -> None:
    teacher, student = Small(100), Small(2)
    assert compare(teacher, student, batches(8)).passed
    assert teacher.seen == [8, 2, 2, 2, 2]
    assert student.seen == [2, 2, 2, 2]


def test_batches_that_fit_are_left_whole_without_a_word() -> None:
    teacher = Small(8)
    assert compare(teacher, teacher, batches(8, 3)).notes == ()
    assert teacher.seen == [8, 3, 8, 3]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    ],
)
def test_however_the_want_of_memory_is_spoken_of(error: Exception) -> None:
    teacher = Small(1, error=error)
    assert compare(teacher, teacher, batches(2)).passed


def test_a_single_sample_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(MachineError, match="`cpu` has not enough memory for this network"):
        compare(Small(0), Small(0), batches(4))


def test_in_training_mode_a_batch_is_not_split() -> None:
    with pytest.raises(MachineError, match="in training mode cannot be split") as caught:
        compare(Small(4), Small(4), batches(8), mode="train")
    assert caught.value.hint == "use a smaller `--batch`, or `--level outputs`"


def test_arguments_without_samples_go_with_every_piece_and_folded_samples_stay_together() -> None:
    inputs = (
        NetworkInput("x", (Batch(), 3)),
        NetworkInput("mask", (3,)),
        NetworkInput("pairs", (Batch(2), 3)),
        NetworkInput("steps", (7, Batch(), 3)),
    )
    network = build(Graph("n", "s", inputs, (), {"x": "x"}))
    given = (torch.rand(3, 3), torch.rand(3), torch.rand(6, 3), torch.rand(7, 3, 3))
    assert samples(network, given) == 3
    first, second = pieces(network, given, 2)
    assert [tuple(x.shape) for x in first] == [(2, 3), (3,), (4, 3), (7, 2, 3)]
    assert [tuple(x.shape) for x in second] == [(1, 3), (3,), (2, 3), (7, 1, 3)]
    for i, axis in ((0, 0), (2, 0), (3, 1)):
        assert torch.equal(torch.cat([first[i], second[i]], axis), given[i])
    assert list(pieces(network, given, 3)) == [given]


def test_gradients_of_the_inputs_are_compared_in_training() -> None:
    class Quadratic(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            # The same value for either factor, but not the same slope.
            flat = x.detach() * (1 - self.factor) + x * self.factor
            return flat.square() + index

    inputs = [(torch.randn(5, 3), torch.arange(3).expand(5, 3))]
    same = compare(Quadratic(1.0), Quadratic(1.0), inputs, mode="train")
    assert [output.name for output in same.outputs] == ["out", "grad(0)"]
    assert same.passed
    assert same.proves == "in training on these inputs, same outputs and gradients to rounding"
    found = compare(Quadratic(1.0), Quadratic(1.5), inputs, mode="train")
    assert found.outputs[0].error < 1e-12
    assert found.worst.name == "grad(0)"
    assert not found.passed
    assert found.worst.student_value == pytest.approx(1.5 * found.worst.teacher_value, rel=1e-9)
    assert found.worst.classes is None
    assert compare(Quadratic(1.0), Quadratic(1.5), inputs, mode="eval").passed


def test_gradients_wait_for_float64_and_the_report_says_so() -> None:
    model = nn.Linear(3, 2)
    found = compare(model, model, batches(4), mode="train", dtype=torch.float32)
    assert [output.name for output in found.outputs] == ["out"]
    assert found.notes[0].startswith("the gradients of the inputs were not compared, which takes float64")
    assert found.proves == "in training on these inputs, same outputs to rounding"


def test_a_network_may_change_its_input_in_place() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).relu()

    inputs = batches(4)
    before = inputs[0][0].clone()
    assert compare(InPlace(), InPlace(), inputs, mode="train").passed
    assert compare(InPlace(), InPlace(), inputs).passed
    assert torch.equal(inputs[0][0], before)


def test_an_output_without_gradient_has_none() -> None:
    class Best(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    found = compare(Best(), Best(), batches(4), mode="train")
    assert [output.name for output in found.outputs] == ["out"]
    assert found.notes[0].startswith("no gradients were compared")


def test_training_mode_takes_batch_statistics() -> None:
    def model(scale: float) -> nn.Sequential:
        torch.manual_seed(0)
        conv, norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        with torch.no_grad():
            conv.weight.mul_(scale)
            conv.bias.mul_(scale)  # type: ignore[union-attr]
            norm.eps *= scale**2
        return nn.Sequential(conv, norm, nn.Dropout(0.5), StochasticDepth(0.5, "row"), nn.RReLU())

    inputs = [(torch.randn(6, 1, 4, 4),)]
    assert compare(model(1.0), model(2.0), inputs, mode="train").passed  # batch norm takes the factor out
    assert not compare(model(1.0), model(2.0), inputs, mode="eval").passed


def test_one_value_in_a_channel_has_no_batch_statistics() -> None:
    model = nn.BatchNorm1d(3)
    with pytest.raises(UsageError, match="no statistics to train with") as caught:
        compare(model, model, batches(1), mode="train")
    assert caught.value.hint == "use `--batch 2` or more"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_weights_in_float32_and_multiplies_in_half(dtype: torch.dtype) -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Any:
            return {"x": x, "fc": self.fc(x), "weight": self.fc.weight}

    torch.manual_seed(0)
    model = Seen()
    found = compare(model, model, batches(4), dtype=dtype, autocast=True)
    assert found.autocast
    (x,) = batches(4)[0]
    exact = nn.functional.linear(x.double(), model.fc.weight.double(), model.fc.bias.double())
    made = {output.name: output for output in found.outputs}
    assert made["x"].teacher_value == x[0, 0].item()  # not rounded to half
    assert made["weight"].teacher_value == model.fc.weight[0, 0].item()
    off = abs(made["fc"].teacher_value - exact[0, 0].item())
    assert 0 < off < 4 * torch.finfo(dtype).eps * exact.abs().max().item()


def test_the_report_names_the_build_of_pytorch() -> None:
    machine = compare(nn.Identity(), nn.Identity(), batches(2)).machine
    assert (machine.device, machine.torch, machine.driver, machine.cuda) == ("cpu", torch.__version__, None, None)
    assert str(machine) == f"cpu, PyTorch {torch.__version__}"
