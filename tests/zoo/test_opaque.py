"""Networks with parts that net2net does not know: all else grows exactly, and what touches these parts is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError, UntrustedCodeError
from zoo.growing import WIDTHS, Teacher, check_growth, new_layers, outputs, random_inputs, sensitive

TOKENS = (5, 6)


class FNetBlock(nn.Module):
    """Mixes tokens and features by the real part of a Fourier transform (FNet, arXiv:2105.03824)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        return self.norm2(x + self.mlp(x))  # type: ignore[no-any-return] # LayerNorm returns Any


class FNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.Sequential(FNetBlock(8, 12), FNetBlock(8, 12))
        self.pool = nn.Sequential(nn.Linear(8, 10), nn.Tanh())
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.embed(x)).mean(1)))  # type: ignore[no-any-return] # likewise


class Gate(nn.Module):
    """Decides by its data."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.scale(x)  # type: ignore[no-any-return] # likewise
        return x - self.scale(x)  # type: ignore[no-any-return] # likewise


class Mixed(nn.Module):
    """Known layers around a running sum, a bilinear layer and a gate; a convolution beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(5, 9, 3, padding=1), nn.BatchNorm1d(9), nn.ReLU(), nn.Conv1d(9, 4, 1))
        self.pair = nn.Bilinear(6, 6, 7)
        self.after = nn.Linear(7, 11)
        self.gate = Gate(11)
        self.last = nn.Linear(11, 13)
        self.head = nn.Linear(13, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cumsum(self.stem(x), dim=1)
        x = torch.relu(self.after(self.pair(x, x.flip(2))))
        return self.head(torch.relu(self.last(self.gate(x))).mean(1))  # type: ignore[no-any-return] # likewise


def teacher_of(model: nn.Module, *leaves: str) -> Teacher:
    """As `Teacher.of`, with leaves."""
    inputs = random_inputs([TOKENS], 4)
    model = sensitive(model, *inputs)
    net = Net2Net.from_module(copy.deepcopy(model), inputs, leaves=leaves)
    expected = {mode: outputs(model, inputs, mode) for mode in ("eval", "train")}
    return Teacher(model, net, inputs, expected)


@pytest.fixture(scope="module")
def fnet() -> Teacher:
    return teacher_of(FNet())


@pytest.fixture(scope="module")
def mixed() -> Teacher:
    return teacher_of(Mixed(), "gate")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("layer", ["blocks.0.mlp.0", "blocks.1.mlp.0", "pool.0"])
def test_layers_beside_a_fourier_transform_are_widened(fnet: Teacher, layer: str, width: str) -> None:
    check_growth(fnet, fnet.net.widen({layer: width}), [layer])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("layer", ["stem.0", "last"])
def test_layers_beside_what_is_not_known_are_widened(mixed: Teacher, layer: str, width: str) -> None:
    check_growth(mixed, mixed.net.widen({layer: width}), [layer])


def test_all_that_can_grow_grows_at_once(mixed: Teacher, fnet: Teacher) -> None:
    check_growth(mixed, mixed.net.widen({"**": "2x"}, where_possible=True), ["stem.0", "last"])
    check_growth(fnet, fnet.net.widen({"**": "+3"}, where_possible=True), ["blocks.0.mlp.0", "pool.0"])


@pytest.mark.parametrize("layer", ["last", "after"])
def test_new_layers_stand_behind_what_is_not_known(mixed: Teacher, layer: str) -> None:
    student = mixed.net.deepen([layer])
    check_growth(mixed, student, new_layers(mixed.net, student))


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        ("stem.3", "`cumsum` is `torch.cumsum`, which net2net does not know, so that its channels must stay"),
        ("after", "`gate` is `zoo.test_opaque.Gate`, which net2net does not know, so that its channels must stay"),
        ("pair", "it is `torch.nn.Bilinear`, which net2net does not know"),
        ("gate", "it is `zoo.test_opaque.Gate`, which net2net does not know"),
    ],
)
def test_what_touches_them_is_refused_with_their_names(mixed: Teacher, layer: str, cause: str) -> None:
    with pytest.raises(GrowthRefusedError) as refused:
        mixed.net.widen({layer: "2x"})
    assert refused.value.message == f"`{layer}` cannot be widened: {cause}"


def test_the_stream_that_a_fourier_transform_reads_stays(fnet: Teacher) -> None:
    for layer in ("embed", "blocks.0.mlp.2"):
        with pytest.raises(GrowthRefusedError):
            fnet.net.widen({layer: "2x"})
    with pytest.raises(GrowthRefusedError, match=r"`blocks\.0\.fft` is `torch\.fft\.fft`, which net2net does"):
        fnet.net.widen({"embed": "2x"})


def test_nothing_is_inserted_behind_them(mixed: Teacher) -> None:
    with pytest.raises(
        GrowthRefusedError, match=r"behind `pair`: it is neither .* but `torch\.nn\.Bilinear`, which net2net"
    ):
        mixed.net.deepen(["pair"])


def test_a_written_student_is_the_same_and_loads_into_the_original_class(mixed: Teacher, tmp_path: Path) -> None:
    student = mixed.net.widen({"last": "2x"})
    student.save(tmp_path / "s.safetensors")
    text = (tmp_path / "s.json").read_text()
    with pytest.raises(UntrustedCodeError):
        Net2Net.load(tmp_path / "s.safetensors").to_module()
    loaded = Net2Net.load(tmp_path / "s.safetensors", trust_code=True)
    check_growth(mixed, loaded, ["last"])
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.json").read_text() == text
    original = Mixed().double()
    original.last, original.head = nn.Linear(11, 26).double(), nn.Linear(26, 2).double()
    original.load_state_dict(loaded.to_module().state_dict(), strict=True)


class Repeated(nn.Module):
    """A residual block that holds what is not known: a module with weights and a function."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(Branch() for _ in range(blocks))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return] # likewise


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(8, 8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(torch.cumsum(self.pair(x, x), 1))  # type: ignore[no-any-return] # likewise


def test_blocks_that_hold_them_are_repeated_silently() -> None:
    teacher = teacher_of(Repeated(2))
    student = teacher.net.deepen(["blocks.1"])
    check_growth(teacher, student, [])
    assert not student.tensor("blocks.2.out.weight").any()
    assert student.tensor("blocks.2.pair.weight").shape == (8, 8, 8)
    Repeated(3).double().load_state_dict(student.to_module().state_dict(), strict=True)


def test_a_network_grows_into_a_deeper_one_that_holds_them() -> None:
    teacher = teacher_of(Repeated(2))
    target = Net2Net.from_module(Repeated(4), torch.zeros(2, *TOKENS))
    student = teacher.net.grow(target.graph)
    check_growth(teacher, student, [])
    Repeated(4).double().load_state_dict(student.to_module().state_dict(), strict=True)


def test_a_target_with_another_unknown_part_is_refused() -> None:
    class Other(Branch):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.out(torch.cumsum(self.pair(x, x), 2))  # type: ignore[no-any-return] # likewise

    other = Repeated(2)
    other.blocks[1] = Other()
    teacher = teacher_of(Repeated(2))
    with pytest.raises(GrowthRefusedError, match=r"`blocks.1.cumsum` \(opaque\) of the target does not fit"):
        teacher.net.grow(Net2Net.from_module(other, torch.zeros(2, *TOKENS)).graph)
