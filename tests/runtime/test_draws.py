"""In training a student drops what its teacher drops, wherever it is known what corresponds."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import ops

from net2net_cli import Net2Net
from net2net_cli.channels.values import Slices, Value, chained
from net2net_cli.networks import small_resnet
from net2net_cli.runtime.build import named_layers
from net2net_cli.runtime.compare import Comparison, compare
from net2net_cli.runtime.draws import Draws, drawn, mask_shape, own_axes, quiet, shared
from net2net_cli.runtime.modules import ScaledDotProductAttention, StochasticDepth
from net2net_cli.runtime.running import flattened


class Net(nn.Module):
    """Every kind of dropout whose masks can be shared, and a batch norm."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.drop1 = nn.Dropout2d(p)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.branch = ops.StochasticDepth(p, "row")
        self.conv3 = nn.Conv2d(6, 4, 3)
        self.drop2 = nn.Dropout(p)
        self.fc1 = nn.Linear(4 * 16, 10)
        self.drop3 = nn.Dropout(p)
        self.fc2 = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop1(self.bn1(self.conv1(x)).relu())
        x = x + self.branch(self.conv2(x).relu())
        x = self.drop2(self.conv3(x).relu().flatten(1))
        y: Tensor = self.fc2(self.drop3(self.fc1(x).relu()))
        return y


def grown(split: Any = "random") -> tuple[Net2Net, Net2Net, dict[str, Value]]:
    torch.manual_seed(0)
    teacher = Net2Net.from_module(Net(), torch.randn(2, 3, 6, 6))
    wide = teacher.widen({"conv1": 9, "conv3": "2x", "fc1": 17}, split=split)
    return teacher, wide, chained([plan.values for plan in wide.plans], teacher.graph)


def trained(teacher: Net2Net, student: Net2Net, values: dict[str, Value] | None) -> Comparison:
    inputs = [(torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(i)),) for i in range(2)]
    return compare(teacher.to_module(), student.to_module(), inputs, mode="train", values=values)


def test_a_wider_student_agrees_with_dropout_on() -> None:
    teacher, student, values = grown()
    found = trained(teacher, student, values)
    assert found.passed, found.error
    assert not found.notes
    assert [output.name for output in found.outputs] == ["out", "grad(x)"]


def test_so_does_one_with_new_channels() -> None:
    teacher, student, values = grown("fresh")
    found = trained(teacher, student, values)
    assert found.passed, found.error
    assert not found.notes


def test_the_masks_do_drop() -> None:
    teacher, student, values = grown()
    plain = trained(teacher, teacher, None).outputs[0]
    dropped = trained(teacher, student, values).outputs[0]
    assert abs(plain.teacher_value - dropped.teacher_value) > 1e-3


@pytest.mark.parametrize("layer", ["drop1", "drop2", "drop3"])
def test_masks_at_the_wrong_slices_are_noticed(layer: str) -> None:
    teacher, student, values = grown()
    axes = values[layer].axes
    at = next(i for i, slices in enumerate(axes) if slices is not None)
    slices = axes[at]
    assert slices is not None
    rolled = Slices(np.roll(slices.position, 1), slices.size)
    values[layer] = Value(layer, tuple(rolled if i == at else old for i, old in enumerate(axes)))
    assert not trained(teacher, student, values).passed


def test_without_knowledge_nothing_is_drawn_and_the_report_says_so() -> None:
    teacher, student, _ = grown()
    found = trained(teacher, student, None)
    assert found.passed
    assert found.notes == (
        "nothing is drawn at random in `drop1`, `branch`, `drop2` and 1 more: "
        "draws that both networks share are not known there",
    )


def test_layers_that_are_known_draw_and_the_others_do_not() -> None:
    teacher, student, values = grown()
    del values["drop2"]
    found = trained(teacher, student, values)
    assert found.passed
    assert found.notes == ("nothing is drawn at random in `drop2`: draws that both networks share are not known there",)


def test_only_dropout_of_one_kind_is_shared() -> None:
    teacher, student, values = grown()
    both = (teacher.to_module(), student.to_module())
    assert sorted(shared(both[0], both[1], values)) == ["branch", "drop1", "drop2", "drop3"]
    others = {"fc1": Value("drop3", (None, None)), "drop1": Value("drop3", (None, None))}
    assert shared(both[0], both[1], others) == {}
    mean = Value("drop3", (None, Slices(np.array([*range(10), -1]), 10)))
    assert shared(both[0], both[1], {"drop3": mean}) == {}
    assert shared(Net(), Net(), values) == {}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Dropout(0.5), (4, 3, 2, 2)),
        (nn.Dropout2d(0.5), (4, 3, 1, 1)),
        (StochasticDepth(0.5, "row"), (4, 1, 1, 1)),
        (StochasticDepth(0.5, "batch"), (1, 1, 1, 1)),
    ],
)
def test_one_number_is_drawn_for_what_is_dropped_as_a_whole(module: nn.Module, expected: tuple[int, ...]) -> None:
    assert mask_shape(own_axes(module), torch.Size((4, 3, 2, 2))) == expected


def test_a_student_gets_the_numbers_of_the_slices_that_it_copies() -> None:
    position = np.array([2, 0, 0, 1])
    shape = torch.Size((5, 3))
    own = drawn(Value("drop", ()), 0, shape)
    wide = drawn(Value("drop", (None, Slices(position, 3, np.array([2.0, 1.0, 1.0, 1.0])))), 0, shape)
    assert torch.equal(wide, own[:, position])
    assert not torch.equal(drawn(Value("drop", ()), 1, shape), own)
    assert not torch.equal(drawn(Value("other", ()), 0, shape), own)


def test_a_copy_goes_when_it_is_let_go() -> None:
    _, student, values = grown()
    network = student.to_module()
    kept = {name: value for name, value in values.items() if name.startswith("drop")}
    draws = Draws(kept)
    draws.prepare(network)
    gone = weakref.ref(named_layers(network)["drop1"])  # type: ignore[arg-type]
    gc.disable()
    try:
        del network
        assert gone() is None
    finally:
        gc.enable()


def test_dropped_values_are_zero_and_the_rest_is_scaled_up() -> None:
    network = Net2Net.from_module(nn.Sequential(nn.Dropout(0.75)), torch.zeros(2, 5)).to_module()
    Draws({"0": Value("0", (None, None))}).prepare(network)
    made = network(torch.ones(1000, 5))
    assert sorted(made.unique().tolist()) == [0.0, 4.0]
    assert (made == 0).double().mean() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 5000) ** 0.5)


def test_everything_else_that_draws_is_switched_off() -> None:
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
            "product": ScaledDotProductAttention(0.5, False, None, False),
            "lstm": nn.LSTM(4, 4, num_layers=2, dropout=0.5),
            "alpha": nn.AlphaDropout(0.5),
            "slope": nn.RReLU(),
            "none": nn.Dropout(0.0),
        }
    ).train()
    draws = Draws()
    draws.prepare(model)
    assert draws.off == ["attention", "product", "lstm", "alpha", "slope"]
    x = torch.randn(3, 5, 4)
    for name, inputs in {
        "attention": (x, x, x),
        "product": (x, x, x),
        "lstm": (x,),
        "alpha": (x,),
        "slope": (x,),
    }.items():
        first, second = (flattened(model[name](*inputs)) for _ in range(2))
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_network_without_dropout_agrees_in_training_too() -> None:
    model = small_resnet()
    shape = (3, *next(m.weight.shape[1:2] for m in model.modules() if isinstance(m, nn.Conv2d)), 16, 16)
    teacher = Net2Net.from_module(model, torch.zeros(shape))
    student = teacher.widen({"**": "1.5x"}, where_possible=True)
    found = compare(teacher.to_module(), student.to_module(), [(torch.randn(shape),)], mode="train")
    assert found.passed, found.error
    quiet(model)


def test_files_say_by_their_lineage_what_corresponds(tmp_path: Path) -> None:
    teacher, student, _ = grown()
    teacher.save(tmp_path / "t.safetensors")
    first = Net2Net.load(tmp_path / "t.safetensors")
    first.widen({"conv1": 9, "fc1": 17}).save(tmp_path / "s.safetensors")
    second = Net2Net.load(tmp_path / "s.safetensors")
    found = second.verify(first, level="train")
    assert found.passed, found.error
    assert not found.notes
    assert student.verify(teacher, level="train").notes == ()
    tensors = {name: second.tensor(name).copy() for name, *_ in second.graph.tensors()}
    stranger = Net2Net.from_tensors(second.graph, tensors).verify(first, level="train")
    assert stranger.passed, stranger.error
    assert stranger.notes[0].startswith("nothing is drawn at random in `drop1`, `branch`, `drop2` and 1 more")
