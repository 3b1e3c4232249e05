"""Small networks that once came out wrong, or broke off; each test's name is what holds now."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.batch_norm import BatchNormStart
from zoo.growing import Teacher, check_growth


class StridedOverChannels(nn.Module):
    """Turned channels are an axis that is slid over, and has another size behind."""

    def __init__(self, middle: nn.Module, length: int) -> None:
        super().__init__()
        self.conv, self.middle = nn.Conv2d(3, 7, 1), middle
        self.last, self.out = nn.Conv1d(20, 6, 1), nn.Linear(6 * length, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.middle(self.conv(x).flatten(2).transpose(1, 2))
        return self.out(F.relu(self.last(x)).flatten(1))


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return F.pad(x, (1, 1), mode="reflect")


@pytest.mark.parametrize(
    ("middle", "length"),
    [
        (nn.Conv1d(20, 20, 3, stride=2), 3),
        (nn.MaxPool1d(3), 2),
        (nn.Upsample(scale_factor=2), 14),
        (nn.AdaptiveAvgPool1d(4), 4),
        (Padded(), 9),
    ],
    ids=["convolution", "pool", "upsampling", "adaptive pool", "reflected padding"],
)
def test_layers_are_widened_behind_an_axis_of_channels_that_changed_its_size(middle: nn.Module, length: int) -> None:
    teacher = Teacher.of(StridedOverChannels(middle, length), [(3, 4, 5)])
    check_growth(teacher, teacher.net.widen({"last": "2x"}), ["last"])


class SizeTakenFromChannels(nn.Module):
    """The width of one layer is the length to which the other's output is resampled, or stretched."""

    def __init__(self, *, stretched: bool) -> None:
        super().__init__()
        self.stretched = stretched
        self.a, self.b, self.out = nn.Conv1d(2, 5, 1), nn.Conv1d(2, 4, 1), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Any:
        a, b = self.a(x), F.relu(self.b(x))
        if self.stretched:
            return self.out(b.mean(2, keepdim=True).expand(-1, -1, a.shape[1]).flatten(1)) + a.mean((1, 2))[:, None]
        return self.out(F.interpolate(b, size=a.shape[1]).flatten(1)) + a.mean((1, 2))[:, None]


@pytest.mark.parametrize("stretched", [False, True], ids=["resampled", "stretched"])
def test_a_layer_keeps_the_width_that_another_takes_for_a_size_and_the_other_grows(stretched: bool) -> None:
    teacher = Teacher.of(SizeTakenFromChannels(stretched=stretched), [(2, 6)])
    check_growth(teacher, teacher.net.widen({"b": "2x"}), ["b"])
    with pytest.raises(GrowthRefusedError, match="takes another tensor's size from it"):
        teacher.net.widen({"a": "2x"})


class NormOverTokens(nn.Module):
    """`BatchNorm1d` behind a linear layer on tokens has statistics for each token, not for each channel."""

    def __init__(self, activation: nn.Module, tokens: int) -> None:
        super().__init__()
        self.linear, self.norm, self.activation = nn.Linear(6, 4), nn.BatchNorm1d(tokens), activation
        self.out = nn.Linear(4 * tokens, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.activation(self.norm(self.linear(x))).flatten(1))


@pytest.mark.parametrize("start", ["estimate", "identity"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU(), nn.LeakyReLU(0.1)], ids=["ReLU", "SiLU", "LeakyReLU"])
@pytest.mark.parametrize("tokens", [4, 5])
def test_a_layer_behind_a_batch_norm_of_tokens_is_inserted_with_a_norm_of_tokens(
    activation: nn.Module, tokens: int, start: BatchNormStart
) -> None:
    teacher = Teacher.of(NormOverTokens(activation, tokens), [(tokens, 6)])
    student = teacher.net.deepen(["linear"], batch_norm=start)
    check_growth(teacher, student, ["linear_deeper1", "linear_deeper1_bn"], train=False, tolerance=1e-9)


class DepthwiseTwice(nn.Module):
    """Used on the network's input, whose channels cannot grow, and again on what that gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(5, 5, 1, groups=5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.conv(F.relu(self.conv(x))).mean((2, 3)))


def test_a_depthwise_layer_that_also_reads_the_input_is_not_widened_at_its_second_use_alone() -> None:
    teacher = Teacher.of(DepthwiseTwice(), [(5, 4, 4)])
    with pytest.raises(GrowthRefusedError, match="uses the same weights"):
        teacher.net.widen({"conv": "2x"})


class TransposedDepthwiseBesides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv1d(2, 3, 1), nn.ConvTranspose1d(3, 6, 2, groups=3)
        self.again, self.beside = nn.ConvTranspose1d(6, 12, 2, groups=6), nn.Conv1d(2, 5, 1)
        self.out, self.out_beside = nn.Conv1d(12, 3, 1), nn.Conv1d(5, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.out(self.again(self.up(self.conv(x)))), self.out_beside(F.relu(self.beside(x)))


def test_depthwise_layers_that_do_not_grow_leave_others_to_grow() -> None:
    teacher = Teacher.of(TransposedDepthwiseBesides(), [(2, 6)])
    check_growth(teacher, teacher.net.widen({"beside": "2x"}), ["beside"])


class ReadInSections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.left, self.right = nn.Conv1d(2, 8, 1), nn.Conv1d(3, 4, 1), nn.Conv1d(5, 4, 1)
        self.out = nn.Conv1d(4, 3, 1)

    def forward(self, x: Tensor) -> Any:
        a, b = torch.split(F.relu(self.conv(x)), [3, 5], dim=1)
        return self.out(F.relu(self.left(a) + self.right(b)))


@pytest.mark.parametrize("seed", range(4))
def test_a_target_decides_how_much_each_section_of_a_layer_grows(seed: int) -> None:
    teacher = Teacher.of(ReadInSections(), [(2, 6)])
    target = teacher.net.widen({"conv": 12}, seed=seed)
    student = teacher.net.widen(like=target.graph, seed=9)
    assert [s.shape for *_, s in student.graph.tensors()] == [s.shape for *_, s in target.graph.tensors()]
    check_growth(teacher, student, ["conv", "left"])


def test_a_pair_behind_a_layer_is_not_left_to_a_reader_of_another_axis() -> None:
    over_length = nn.Sequential(nn.Conv1d(5, 7, 3, padding=1), nn.GELU(), nn.Linear(6, 4))
    over_tokens = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Conv1d(5, 4, 1))
    for model in (over_length, over_tokens):
        teacher = Teacher.of(model, [(5, 6)])
        check_growth(teacher, teacher.net.deepen(["0"]), ["0_deeper1", "0_deeper1_join"])


class NormOfAllChannels(nn.Module):
    """Copies of the whole would lie across the sections of the grouped convolutions."""

    def __init__(self, groups: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv1d(2, 4, 3), nn.Conv1d(4, width, 1, groups=2)
        self.norm, self.last = nn.GroupNorm(groups, width), nn.Conv1d(width, 4, 3, groups=2)
        self.out = nn.Conv1d(4, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(F.relu(self.last(self.norm(self.conv(F.relu(self.stem(x)))))))


def test_a_norm_of_all_channels_stays_one_between_grouped_convolutions() -> None:
    teacher = Teacher.of(NormOfAllChannels(), [(2, 9)])
    student = teacher.net.widen({"conv": "2x"})
    check_growth(teacher, student, ["conv", "last", "norm"])
    assert getattr(student.graph.by_name["norm"].op, "num_groups", None) == 1
    target = Teacher.of(NormOfAllChannels(width=16), [(2, 9)]).net.graph
    check_growth(teacher, teacher.net.widen(like=target), ["conv", "last", "norm"])


def test_a_target_whose_norm_has_other_groups_than_the_student_would_have_is_refused() -> None:
    teacher = Teacher.of(NormOfAllChannels(groups=2), [(2, 9)])
    target = Teacher.of(NormOfAllChannels(groups=2, width=16), [(2, 9)]).net.graph
    with pytest.raises(GrowthRefusedError, match="`norm` would have num_groups 4, and has 2 in the target"):
        teacher.net.widen(like=target)


class NormOverTurnedChannels(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv1d(2, 5, 1), norm, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.tanh(self.norm(self.conv(x).transpose(1, 2))))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(3, 6), nn.InstanceNorm1d(6), nn.BatchNorm1d(6, track_running_stats=False)]
)
def test_norms_take_statistics_over_channels_with_equally_many_copies(norm: nn.Module) -> None:
    teacher = Teacher.of(NormOverTurnedChannels(norm), [(2, 6)])
    check_growth(teacher, teacher.net.widen({"conv": "3x"}), ["conv"])
    with pytest.raises(GrowthRefusedError):
        teacher.net.widen({"conv": "+1"})


def test_nothing_is_inserted_behind_a_leaky_relu_that_forgets_the_sign() -> None:
    teacher = Teacher.of(nn.Sequential(nn.Linear(4, 5), nn.LeakyReLU(-1.0), nn.Linear(5, 3)), [(4,)])
    with pytest.raises(GrowthRefusedError, match="no layer before a LeakyReLU"):
        teacher.net.deepen(["0"])
