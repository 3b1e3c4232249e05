"""New channels in real networks: both modes are exact, nothing sees them, and they learn what copies would not."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError
from net2net_cli.growth.describe import describe
from net2net_cli.networks import small_resnet
from zoo import test_attention, test_sequences, test_zoo
from zoo.attentions import SPELLINGS
from zoo.growing import TOLERANCE, WIDTHS, Teacher, check_growth, error, outputs
from zoo.networks import ENTRIES
from zoo.test_values import claims, values

AVERAGES = (
    r"`[\w.]+` takes the (mean|largest|smallest|variance)( of squares)? (over|of) it|`\w+` takes statistics over it"
)
UNDEFINED = r"`\w+` is not defined for every number"
SEEN = re.compile(rf"new channels \(`--split fresh`\) cannot be exact: ({AVERAGES}|{UNDEFINED}|`\w+` reads them by .*)")


def grown(one: Teacher, layer: str, width: str) -> Net2Net | str | None:
    """The student with new channels, or why they would be seen; None where copies cannot grow either."""
    try:
        one.net.widen({layer: width})
    except GrowthRefusedError:
        return None
    try:
        return one.net.widen({layer: width}, split="fresh")
    except GrowthRefusedError as refused:
        return refused.message


def check_layers(one: Teacher, layers: list[str], widths: tuple[str, ...] = WIDTHS) -> int:
    told = {info.name: info.not_fresh for info in describe(one.net.graph)}
    count = 0
    for layer, student in ((layer, grown(one, layer, width)) for layer in layers for width in widths):
        if isinstance(student, str):
            assert SEEN.fullmatch(student), student
            assert told[layer] is not None, f"`inspect` does not know that {student}"
        elif student is not None:
            check_growth(one, student, [layer])
            count += 1
    return count


NONE = {"Normalized", "SpatialAttention", "LargestChannel"}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_layer_that_may_have_copies_has_new_channels_unless_an_op_sees_them(name: str) -> None:
    one = test_zoo.teacher(name)
    assert bool(check_layers(one, one.growable)) == (name not in NONE)


@pytest.mark.parametrize("name", test_sequences.NETWORKS)
def test_so_it_is_in_recurrent_networks_and_language_models(name: str) -> None:
    assert check_layers(test_sequences.teacher(name), test_sequences.growable(name)) > 2


@pytest.mark.parametrize("name", [name for name in SPELLINGS if name != "linear_attention"])
def test_new_heads_attend_and_nothing_reads_them(name: str) -> None:
    layers = list(SPELLINGS[name].widths)
    assert check_layers(test_attention.spelled(name), layers, ("1.5x", "2x")) == 2 * len(layers)


def test_query_heads_may_be_new_beside_keys_that_serve_them_and_keys_may_not() -> None:
    teacher = test_attention.grouped_teacher()
    check_growth(teacher, teacher.net.widen({"q": "2x"}, split="fresh"), ["q"])
    with pytest.raises(GrowthRefusedError, match="no longer finds the channels that it needs beside the new ones"):
        teacher.net.widen({"k": "2x"}, split="fresh")


@pytest.mark.parametrize("name", ["Dense", "Crossed", "OptionA", "UNet", "Res2", "DualPath"])
def test_all_layers_have_new_channels_at_once_and_these_have_copies_later(name: str) -> None:
    one = test_zoo.teacher(name)
    student = one.net.widen({"**": "1.5x"}, where_possible=True, seed=1, split="fresh")
    check_growth(one, student, [])
    again = student.widen({"**": "2x"}, where_possible=True, seed=2)
    for layer in one.growable:
        try:
            again = again.deepen([layer])
        except GrowthRefusedError:
            continue
    check_growth(one, again, [], train=False, tolerance=1e-9)


class Unit(nn.Module):
    """Every layer has one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1)
        self.fc, self.out = nn.Linear(4, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(torch.tanh(self.fc(self.b(torch.relu(self.bn(self.a(x)))).flatten(1))))
        return found


def test_one_channel_becomes_many() -> None:
    torch.manual_seed(0)
    one = Teacher.of(Unit(), [(1, 4, 4)])
    student = one.net.widen({"a": 7, "b": 2, "fc": 3}, split="fresh")
    check_growth(one, student, ["a", "b", "fc"])
    assert [student.tensor(f"{n}.weight").shape[:2] for n in ("a", "b", "fc", "out")] == [
        (7, 1),
        (2, 7),
        (3, 8),
        (1, 3),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_in_every_stored_type_the_student_computes_with_the_teachers_own_numbers(dtype: torch.dtype) -> None:
    one = test_zoo.teacher("Dense")
    low = one.net.to_module(dtype=dtype)
    net = Net2Net.from_module(low, tuple(x.to(dtype) for x in one.inputs))
    student = net.widen({"**": "1.5x"}, where_possible=True, split="fresh")
    exact = outputs(low.double(), one.inputs, "eval")
    assert error(exact, outputs(student.to_module(dtype=torch.float64), one.inputs, "eval")) <= 1e-12
    assert student.exactness == "exact"


@pytest.mark.parametrize("name", ["Dense", "Crossed", "Attention", "Multiplier", "OptionA"])
def test_whatever_new_channels_hold_the_outputs_stay(name: str) -> None:
    """Everything that was drawn is replaced by numbers a hundred times as large."""
    one = test_zoo.teacher(name)
    student = one.net.widen({"**": "2x"}, where_possible=True, split="fresh")
    plan = student.plans[-1]
    module = student.to_module(dtype=torch.float64)
    state = module.state_dict()
    changed = 0
    for tensor in plan.tensors.values():
        drawn = torch.zeros(tensor.shape, dtype=torch.bool)
        for axis in (m for m in tensor.axes if m.shares is None):
            shape = [-1 if i == axis.axis else 1 for i in range(len(tensor.shape))]
            drawn |= torch.from_numpy(axis.later[0]).reshape(shape)
        if drawn.any() and not tensor.name.endswith("running_var"):
            state[tensor.name][drawn] = 100 * torch.randn(int(drawn.sum()), dtype=torch.float64)
            changed += 1
    assert changed > 2
    module.load_state_dict(state)
    for mode in ("eval", "train"):
        assert error(one.expected[mode], outputs(module, one.inputs, mode)) <= 1e-9


@cache
def convolutions() -> tuple[Net2Net, Net2Net]:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.ReLU(), nn.Flatten()),
        nn.Linear(5 * 16, 3),
    )
    teacher = Net2Net.from_module(model.double(), torch.zeros(2, 3, 6, 6, dtype=torch.float64))
    return teacher, teacher.widen({"0": "2x", "3": "2x"}, split="fresh")


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """One step of training; the gradients that it took."""
    optimizer.zero_grad()
    x = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = nn.functional.cross_entropy(module(x), torch.arange(16) % 3)
    torch.autograd.backward(loss)
    optimizer.step()
    return {name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None}


def test_zeros_that_read_new_channels_learn_at_once_and_what_makes_these_from_the_second_step_on() -> None:
    teacher, student = convolutions()
    theirs = step(model := teacher.to_module().train(), torch.optim.SGD(model.parameters(), lr=0.1))
    module = student.to_module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    first, second = step(module, optimizer), step(module, optimizer)
    for made, read in (("0.weight", "3.weight"), ("3.weight", "6.weight")):
        (rows,) = (m for m in student.plans[-1].tensors[made].axes if m.shares is None)
        (columns,) = (m for m in student.plans[-1].tensors[read].axes if m.shares is not None)
        new, unread = rows.later[0], columns.later[0]
        assert (first[made][new] == 0).all()
        assert (np.abs(second[made][new]).reshape(int(new.sum()), -1).max(axis=1) > 0).all()
        kept = next((~m.later[0] for m in student.plans[-1].tensors[read].axes if m.shares is None), slice(None))
        assert np.abs(first[read][kept][:, unread]).max() > 0
        assert np.abs(first[read][kept][:, ~unread] - theirs[read]).max() <= 1e-14
    (rows,) = student.plans[-1].tensors["0.weight"].axes
    assert np.abs(first["0.weight"][~rows.later[0]] - theirs["0.weight"]).max() <= 1e-14


def test_new_channels_are_no_copies_and_do_not_become_any() -> None:
    teacher, student = convolutions()
    module = student.to_module().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(5):
        step(module, optimizer)
    weight = module.state_dict()["0.weight"].numpy().reshape(8, -1)
    assert (np.abs(weight[::2] - weight[1::2]).max(axis=1) > 0.1).all()
    assert (np.abs(teacher.tensor("0.weight") - student.tensor("0.weight")[::2]).max()) == 0


@pytest.mark.parametrize("name", ["Dense", "Flattened", "OptionA", "Attention", "Crossed"])
def test_claims_about_values_leave_out_what_is_new_and_are_true_of_the_rest(name: str) -> None:
    one = test_zoo.teacher(name)
    student = one.net.widen({"**": "2x"}, where_possible=True, split="fresh").widen(
        {"**": "1.5x"}, where_possible=True, split="random"
    )
    ours, theirs = values(one.net, one.inputs), values(student, one.inputs)
    left_out = 0
    for layer, claim in claims(student).items():
        expected, found = ours[claim.name].double(), theirs[layer].double()
        for axis, slices in enumerate(claim.axes):
            if slices is not None:
                known = np.ones(slices.position.size, dtype=bool) if slices.new is None else ~slices.new
                left_out += int((~known).sum())
                expected = expected.index_select(axis, torch.from_numpy(slices.position[known]))
                found = found.index_select(axis, torch.from_numpy(np.flatnonzero(known)))
        assert float((expected - found).abs().max()) <= 1e-11 * max(1.0, float(expected.abs().max())), layer
    assert left_out > 10


def test_a_student_grown_into_a_wider_and_deeper_class_with_new_channels_is_exact_in_both_modes() -> None:
    """New blocks are copies of their neighbours, whose new channels they do not share."""
    torch.manual_seed(0)
    one = Teacher.of(small_resnet(), [(1, 12, 12)])
    target = one.net.widen({"layer1.*.conv1": "2x", "conv1": "1.5x"}).deepen(["layer1.1", "layer3.1"])
    student = one.net.grow(target.graph, split="fresh")
    check_growth(one, student, ["layer1.1.conv1", "conv1"])
    shapes = {name: tuple(student.tensor(name).shape) for name, *_ in student.graph.tensors()}
    assert shapes == {name: slot.shape for name, _, _, slot in target.graph.tensors()}
    added = next(name for name in shapes if name.startswith("layer1.") and twin(name))
    assert not np.array_equal(student.tensor(added), student.tensor("layer1.1.conv1.weight"))


def twin(name: str) -> bool:
    """Whether it is the first convolution of a block that the teacher has not."""
    return name.endswith(".conv1.weight") and name.split(".")[1] not in ("0", "1")


def test_a_target_that_is_wider_and_has_larger_kernels_is_reached_exactly() -> None:
    """Zeros around a kernel are no copies, in the place of which something new might stand."""

    def net(width: int, kernel: int) -> nn.Sequential:
        first, second = (nn.Conv2d(*ends, kernel, padding=kernel // 2) for ends in ((3, width), (width, 5)))
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(5, 2, 1))

    torch.manual_seed(0)
    teacher = Teacher.of(net(4, 3), [(3, 7, 7)])
    wide = net(7, 5).double()
    student = teacher.net.grow(Net2Net.from_module(wide, teacher.inputs[0][:2]).graph, split="fresh")
    wide.load_state_dict(student.to_module(dtype=torch.float64).state_dict(), strict=True)
    assert error(teacher.expected["eval"], outputs(wide, teacher.inputs, "eval")) <= TOLERANCE
