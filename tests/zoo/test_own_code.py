"""Networks in which people write themselves what torch has layers for: steps, states, matrices, assignments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from net2net_cli import Net2Net
from net2net_cli.architecture.changes import changes
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError
from zoo.growing import TOLERANCE, Teacher, check_growth, error, outputs


class HandRNN(nn.Module):
    """A state that starts as zeros for as many samples as there are, and meets the input in one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.step, self.head = 7, nn.Linear(5 + 7, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), self.hidden).to(x.device)
        for t in range(x.size(1)):
            h = torch.tanh(self.step(torch.cat((x[:, t], h), 1)))
        found: Tensor = self.head(h)
        return found


class ConvLSTM(nn.Module):
    """Shi et al. 2015 (arXiv:1506.04214), without peepholes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.gates, self.head = 3, nn.Conv2d(2 + 3, 4 * 3, 3, padding=1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, steps, _, height, width = x.size()
        h = c = x.new_zeros(n, self.hidden, height, width)
        for t in range(steps):
            i, f, o, g = torch.split(self.gates(torch.cat([x[:, t], h], dim=1)), self.hidden, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        found: Tensor = self.head(h)
        return found


class Decoder(nn.Module):
    """An LSTM cell that is fed what it said before, starting from an encoder's last state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cell, self.head = nn.GRU(3, 6, batch_first=True), nn.LSTMCell(2, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x)[1][0]
        state, said = (h, torch.zeros_like(h)), x.new_zeros((x.shape[0], 2))
        every = []
        for _ in range(3):
            state = self.cell(said, state)
            said = self.head(state[0])
            every.append(said)
        return torch.stack(every, 1)


class Cells(nn.Module):
    """A GRU cell and a plain one that start by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.GRUCell(3, 5), nn.RNNCell(5, 4, bias=False, nonlinearity="relu")
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        low = high = None
        for t in range(x.shape[1]):
            low = self.below(x[:, t], low)
            high = self.above(low, high)
        found: Tensor = self.head(high)
        return found


class OwnMatrices(nn.Module):
    """Parameters that are multiplied by: from the right, from the left, and under another name than `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.U, self.b = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))
        self.V, self.W = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(torch.mm(x, self.U) + self.b)
        h = torch.relu(functional.linear(h, self.V) + h @ self.V.t())
        return h @ self.W


class Masked(nn.Module):
    """Weights that are masked, as those of an autoregressive network (Germain et al. 2015, arXiv:1502.03509)."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("mask", torch.tril(torch.ones(6, 4)))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(torch.relu(functional.linear(x, self.mask * self.first.weight, self.first.bias)))
        return found


class Shifted(nn.Module):
    """Some channels moved to the next step and some to the one before (Lin et al. 2019, arXiv:1811.08383)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.stem(x))
        moved = torch.zeros_like(h)
        moved[:, :-1, :2] = h[:, 1:, :2]
        moved[:, 1:, 2:4] = h[:, :-1, 2:4]
        moved[..., 4:] = h[..., 4:]
        found: Tensor = self.head(moved).mean(1)
        return found


CASES = {
    HandRNN: ((4, 5), ["step", "head"]),
    ConvLSTM: ((3, 2, 5, 4), ["gates", "head"]),
    Decoder: ((4, 3), ["encoder", "cell.weight_ih", "cell.weight_hh", "cell.bias_hh", "head"]),
    Cells: ((4, 3), ["below.weight_ih", "below.weight_hh", "above.weight_ih", "above.weight_hh", "head"]),
    OwnMatrices: ((4,), ["U", "b", "V", "W"]),
    Masked: ((4,), ["first.weight", "second"]),
    Shifted: ((4, 3), ["stem", "head"]),
}


def teacher_of(cls: type[nn.Module]) -> Teacher:
    torch.manual_seed(0)
    return Teacher.of(cls(), [CASES[cls][0]], batch=3)


@pytest.mark.parametrize("cls", CASES)
@pytest.mark.parametrize("split", ["ownership", "random", "equal"])
def test_all_that_may_grow_grows_exactly(cls: type[nn.Module], split: str) -> None:
    teacher = teacher_of(cls)
    student = teacher.net.widen({"**": "2x"}, split=split, where_possible=True)  # type: ignore[arg-type]
    before, after = ({one.name: one.op.tensors() for one in net.graph.layers} for net in (teacher.net, student))
    assert [name for name in CASES[cls][1] if before[name] == after[name]] == []
    check_growth(teacher, student, CASES[cls][1])
    student.verify(teacher.net, level="train", dtype="float64").raise_if_different()


@pytest.mark.parametrize(
    ("cls", "widths"),
    [
        (HandRNN, {"step": "+1"}),
        (ConvLSTM, {"gates": "16"}),
        (Decoder, {"cell.weight_ih": "28"}),
        (Cells, {"below.weight_ih": "18", "above.weight_hh": "+3"}),
        (OwnMatrices, {"U": "7"}),
        (OwnMatrices, {"V": "+2"}),
        (Masked, {"first.weight": "+1"}),
        (Shifted, {"stem": "+1"}),
    ],
)
def test_single_channels_grow_exactly(cls: type[nn.Module], widths: dict[str, str]) -> None:
    teacher = teacher_of(cls)
    check_growth(teacher, teacher.net.widen(widths), [next(iter(widths))])


@pytest.mark.parametrize("cls", CASES)
def test_students_survive_files_and_are_proved(cls: type[nn.Module], tmp_path: Path) -> None:
    teacher = teacher_of(cls)
    teacher.net.save(tmp_path / "teacher.safetensors")
    read = Net2Net.load(tmp_path / "teacher.safetensors")
    read.widen({"**": "2x"}, where_possible=True).save(tmp_path / "student.safetensors")
    student = Net2Net.load(tmp_path / "student.safetensors")
    student.prove(read).raise_if_different()
    check_growth(teacher, student, [])


@pytest.mark.parametrize("cls", CASES)
def test_the_source_of_a_student_computes_what_the_teacher_computes(cls: type[nn.Module]) -> None:
    teacher = teacher_of(cls)
    student = teacher.net.widen({"**": "2x"}, where_possible=True)
    space: dict[str, Any] = {"__name__": "student"}
    exec(compile(python_source(student.graph, class_name="Student"), "student.py", "exec"), space)
    module = space["Student"]().double()
    module.load_state_dict({n: torch.from_numpy(student.tensor(n)) for n, *_ in student.graph.tensors()})
    assert error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval")) <= TOLERANCE


@pytest.mark.parametrize(("layer", "width"), [("U", (6, 8)), ("V", (5, 7))])
def test_the_layer_that_got_wider_is_the_matrix_that_makes_the_channels(layer: str, width: tuple[int, int]) -> None:
    teacher = teacher_of(OwnMatrices)
    found = changes(teacher.net.graph, teacher.net.widen({layer: "+2"}).graph)
    assert {one.name: one.width for one in found if one.makes_channels and one.width[0] != one.width[1]} == {
        layer: width
    }


class Residual(nn.Module):
    """Blocks whose branches are made of matrices, and end in a bias of their own."""

    class Block(nn.Module):
        def __init__(self, width: int, inner: int) -> None:
            super().__init__()
            self.U, self.V = nn.Parameter(torch.rand(width, inner) - 0.5), nn.Parameter(torch.rand(width, inner) - 0.5)
            self.b = nn.Parameter(torch.rand(width))

        def forward(self, x: Tensor) -> Tensor:
            return x + functional.linear(torch.relu(x @ self.U), self.V, self.b)

    def __init__(self, width: int = 5, inner: int = 6, depth: int = 2) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, width), nn.Linear(width, 3)
        self.blocks = nn.Sequential(*(self.Block(width, inner) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(torch.relu(self.stem(x))))
        return found


def test_a_block_of_matrices_is_repeated_silently_and_learns() -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Residual(), [(4,)], batch=3)
    student = teacher.net.deepen(["blocks.0"])
    (new,) = {name.rpartition(".")[0] for name in (n for n, *_ in student.graph.tensors()) if "twin" in name}
    assert not student.tensor(f"{new}.V").any()
    assert not student.tensor(f"{new}.b").any()
    assert np.array_equal(student.tensor(f"{new}.U"), teacher.net.tensor("blocks.0.U"))
    check_growth(teacher, student, [f"{new}.V", f"{new}.b"])
    module = student.to_module(dtype=torch.float64)
    module(*teacher.inputs).square().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if name.startswith(new)}
    assert {name.rpartition(".")[2] for name, g in gradients.items() if g is not None and g.any()} == {"V", "b"}


def test_a_network_of_matrices_grows_into_a_wider_and_deeper_one_of_its_class() -> None:
    torch.manual_seed(0)
    teacher, target = Teacher.of(Residual(), [(4,)], batch=3), Residual(10, 9, 3).double()
    student = teacher.net.grow(Net2Net.from_module(target, torch.zeros(2, 4, dtype=torch.float64)).graph)
    target.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n, *_ in student.graph.tensors()})
    assert error(teacher.expected["eval"], outputs(target, teacher.inputs, "eval")) <= TOLERANCE


def test_a_matrix_that_is_read_over_both_axes_keeps_its_slices() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.W = nn.Linear(3, 4), nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.first(x))
            return torch.relu(h @ self.W) + torch.relu(h @ self.W.T)

    net = Net2Net.from_module(Both(), torch.zeros(2, 3))
    with pytest.raises(GrowthRefusedError, match="no weight can share out the copies"):
        net.widen({"first": "2x"})


def test_a_state_of_zeros_grows_into_that_of_a_bigger_network_of_its_class() -> None:
    torch.manual_seed(0)
    teacher, target = teacher_of(HandRNN), HandRNN()
    target.hidden, target.step, target.head = 9, nn.Linear(5 + 9, 9), nn.Linear(9, 3)
    student = teacher.net.grow(Net2Net.from_module(target.double(), torch.zeros(2, 4, 5, dtype=torch.float64)).graph)
    target.load_state_dict({n: torch.from_numpy(student.tensor(n).copy()) for n, *_ in student.graph.tensors()})
    assert error(teacher.expected["eval"], outputs(target, teacher.inputs, "eval")) <= TOLERANCE


class Normed(nn.Module):
    """Matrices that read and write a stream behind layer norms."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.embed, self.n, self.m, self.head = nn.Linear(3, 6), nn.LayerNorm(6), nn.LayerNorm(6), nn.Linear(6, 2)
        self.U = nn.Parameter(torch.randn(6, 8) if first == "x W" else torch.randn(8, 6))
        self.V = nn.Parameter(torch.randn(8, 6) if second == "x W" else torch.randn(6, 8))
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        inner = self.n(h) @ self.U if self.first == "x W" else functional.linear(self.n(h), self.U)
        inner = torch.relu(inner)
        h = h + (inner @ self.V if self.second == "x W" else functional.linear(inner, self.V))
        found: Tensor = self.head(self.m(h))
        return found


@pytest.mark.parametrize("first", ["x W", "x Wᵀ"])
@pytest.mark.parametrize("second", ["x W", "x Wᵀ"])
def test_streams_behind_layer_norms_get_a_tail_through_matrices_too(first: str, second: str) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(Normed(first, second), [(3,)], batch=3)
    check_growth(teacher, teacher.net.widen({"embed": "+1"}), ["embed", "U", "V"])


@pytest.mark.parametrize("cls", [HandRNN, Cells, OwnMatrices, Masked, Shifted])
def test_new_channels_are_exact(cls: type[nn.Module]) -> None:
    teacher = teacher_of(cls)
    layer = {HandRNN: "step", Cells: "above.weight_ih", OwnMatrices: "V", Masked: "first.weight", Shifted: "stem"}[cls]
    check_growth(teacher, teacher.net.widen({layer: "2x"}, split="fresh"), [])


def test_new_channels_meet_zeros_and_matrices_too() -> None:
    """New channels of a matrix are drawn, and read with zeros."""
    teacher = teacher_of(OwnMatrices)
    student = teacher.net.widen({"U": "+2"}, split="fresh")
    check_growth(teacher, student, [])
    unread = ~student.tensor("V").any(axis=0)
    assert unread.sum() == 2
    assert student.tensor("U")[:, unread].all()
