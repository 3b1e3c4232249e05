"""The checks of the zoo can see: wrong students fail them, and a layer that does not matter is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError
from zoo.growing import Teacher, cause, check_growth, error, outputs, random_inputs, sensitive


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.out = nn.Linear(4, 3)
        nn.init.zeros_(self.out.weight)  # as torchvision's ViT starts

    def forward(self, x: Tensor) -> Any:
        return self.out(self.drop(torch.relu(self.bn(self.conv(x))).mean((2, 3))))


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    return Teacher.of(Small(), [(3, 6, 6)])


def rebuilt(student: Net2Net, **changed: np.ndarray) -> Net2Net:
    tensors = {n: student.tensor(n) for n, *_ in student.graph.tensors()}
    return Net2Net.from_tensors(student.graph, tensors | {k.replace("__", "."): v for k, v in changed.items()})


def test_a_sensitive_model_has_measured_statistics_and_no_silent_layer() -> None:
    torch.manual_seed(0)
    x = random_inputs([(3, 6, 6)], 8)
    model = sensitive(Small(), *x)
    assert isinstance(model, Small)
    with torch.no_grad():
        entering = model.conv(x[0])
    mean, variance = entering.mean((0, 2, 3)), entering.var((0, 2, 3))
    measured_mean, measured_variance = model.bn.running_mean, model.bn.running_var
    assert measured_mean is not None
    assert measured_variance is not None
    assert not torch.equal(measured_mean, mean)
    assert float((measured_mean - mean).abs().max()) <= 0.1 * float(mean.std()) + 1e-9
    ratio = measured_variance / variance
    assert 0.7 <= float(ratio.min()) <= float(ratio.max()) <= 1.4
    assert float(model.out.weight.detach().abs().max()) > 0.01
    assert model.bn.momentum == 0.1
    assert next(model.parameters()).dtype == torch.float64


def test_an_exact_student_passes(teacher: Teacher) -> None:
    check_growth(teacher, teacher.net.widen({"conv": 7}), ["conv"])


def test_one_changed_number_fails(teacher: Teacher) -> None:
    student = teacher.net.widen({"conv": 7})
    weight = student.tensor("conv.weight").copy()
    weight[3, 1, 1, 1] += 1e-6
    with pytest.raises(AssertionError, match="eval mode: off by"):
        check_growth(teacher, rebuilt(student, conv__weight=weight), ["conv"])


def test_running_statistics_that_were_not_gathered_fail_in_eval_mode(teacher: Teacher) -> None:
    student = teacher.net.widen({"conv": 7})
    broken = rebuilt(student, bn__running_mean=np.zeros(7), bn__running_var=np.ones(7))
    with pytest.raises(AssertionError, match="eval mode: off by"):
        check_growth(teacher, broken, ["conv"])


def test_an_inserted_norm_with_wrong_statistics_passes_in_eval_mode_and_fails_in_train_mode(teacher: Teacher) -> None:
    student = teacher.net.deepen(["conv"])
    check_growth(teacher, student, ["conv_deeper1"], train=False)
    with pytest.raises(AssertionError, match="train mode: off by"):
        check_growth(teacher, student, ["conv_deeper1"])


def test_a_layer_that_does_not_matter_is_reported_as_insensitive(teacher: Teacher) -> None:
    silent = rebuilt(teacher.net.widen({"conv": 7}), out__weight=np.zeros((3, 7)))
    torch.manual_seed(0)
    model = Small().double().eval()
    expected = {mode: outputs(model, teacher.inputs, mode) for mode in ("eval", "train")}
    zero = {mode: [t - t + torch.arange(3.0) for t in made] for mode, made in expected.items()}
    with pytest.raises(AssertionError, match="insensitive"):
        check_growth(
            Teacher(model, teacher.net, teacher.inputs, zero),
            rebuilt(silent, out__bias=np.arange(3.0)),
            ["conv"],
        )


def test_dropout_is_at_zero_in_train_mode_and_nothing_is_left_changed(teacher: Teacher) -> None:
    model = teacher.module
    assert isinstance(model, Small)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    first, second = (outputs(model, teacher.inputs, "train") for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert model.drop.p == 0.5
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_an_error_is_in_standard_deviations_of_the_teachers_output_and_nan_is_infinite() -> None:
    t = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    assert error([t], [t + torch.tensor([0.0, 1.0])]) == pytest.approx(1 / float(t.std()))
    assert error([t], [t * float("nan")]) == float("inf")


def test_a_cause_names_weighted_layers_by_name_and_others_by_op(teacher: Teacher) -> None:
    refusal = GrowthRefusedError("`a` cannot be widened: `conv` and `mean` stop it")
    assert cause(teacher.net, refusal) == "`conv` and `mean` stop it"
    assert cause(teacher.net, GrowthRefusedError("`a` cannot: `relu` stops it")) == "`ReLU` stops it"
