"""A number that is changed in a layer is found at that layer: the first one that differs, whatever grew before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Mode
from net2net_cli.channels.values import Value
from net2net_cli.correspondence import corresponding
from net2net_cli.runtime import locating
from net2net_cli.runtime.build import Network
from net2net_cli.runtime.locating import Located, histogram, layer_error, locate
from net2net_cli.runtime.running import Setting

TOLERANCE = 1e-12
NAN, INF = math.nan, math.inf


class Block(nn.Module):
    """A residual block with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(x + y)


class Layer(nn.Module):
    """A transformer's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.act, self.down = nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        out: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return out


class Mixed(nn.Module):
    """Convolutions, a gate whose halves are split, pixels flattened into tokens, attention; and pixels to a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 6, 3, padding=1), Block()
        self.gates, self.embed, self.layer = nn.Conv2d(6, 8, 1), nn.Linear(4, 8), Layer()
        self.norm, self.head, self.pixels = nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.block(torch.relu(self.stem(x)))
        a, b = self.gates(x).chunk(2, 1)
        tokens = self.layer(self.embed((a * torch.sigmoid(b)).flatten(2).transpose(1, 2)))
        return self.head(self.norm(tokens).mean(1)), self.pixels(x.flatten(1))


@cache
def teacher() -> Net2Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mixed().double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
        for name, buffer in model.named_buffers():
            if "running" in name:
                nn.init.uniform_(buffer, 0.6, 1.4)
    return Net2Net.from_module(model, torch.zeros(1, 3, 3, 3, dtype=torch.float64))


WIDE = {"stem": "1.5x", "block.conv1": "+3", "gates": "2x", "layer.up": "2x"}
GROWTHS: dict[str, Callable[[Net2Net], Net2Net]] = {
    "ownership": lambda net: net.widen(WIDE),
    "random": lambda net: net.widen(WIDE, split="random"),
    "equal": lambda net: net.widen(WIDE, split="equal"),
    "new channels": lambda net: net.widen(WIDE, split="fresh"),
    "new channels, then copies": lambda net: net.widen(WIDE, split="fresh").widen({"stem": "2x"}, split="random"),
    "scaled stream": lambda net: net.widen({"embed": "+4"}),
    "dirac": lambda net: net.deepen(["stem", "block.conv1"]),
    "pair": lambda net: net.deepen(["layer.up"]),
    "two pairs": lambda net: net.deepen(["layer.up"], count=2),
    "block": lambda net: net.deepen(["block", "layer"]),
    "one after the other": lambda net: (
        net.widen(WIDE, split="random").deepen(["block.conv1", "layer"]).widen({"embed": "+4", "stem": "2x"}, seed=1)
    ),
}


@cache
def student(growth: str) -> Net2Net:
    return GROWTHS[growth](teacher())


def tensors(net: Net2Net) -> dict[str, np.ndarray]:
    return {name: net.tensor(name).copy() for name, *_ in net.graph.tensors()}


def inputs(count: int = 2) -> tuple[Tensor, ...]:
    return (torch.randn(count, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),)


@cache
def values(growth: str) -> dict[str, Value]:
    """What the student's layers return: known from the growth alone."""
    return dict(corresponding(teacher(), student(growth)).values)


def module(net: Net2Net) -> Network:
    made = net.to_module()
    assert isinstance(made, Network)
    return made


@cache
def teachers_module() -> Network:
    return module(teacher())


def found(growth: str, changed: Net2Net, mode: Mode = "eval", tolerance: float = TOLERANCE) -> Located:
    """Where a changed student parts from the teacher."""
    setting = Setting(torch.device("cpu"), torch.float64, mode)
    return locate(teachers_module(), module(changed), values(growth), inputs(), setting, tolerance)


def first_to_tell(growth: str, layer: str) -> str:
    """The layer itself, or the first one behind it that returns what the teacher has."""
    graph, reached = student(growth).graph, {layer}
    for one in graph.layers:
        if one.name in reached or reached & set(one.inputs):
            if one.name in values(growth):
                return one.name
            reached.add(one.name)
    raise AssertionError(layer)


@pytest.mark.parametrize("growth", GROWTHS)
def test_a_student_that_computes_the_same_differs_nowhere(growth: str) -> None:
    result = found(growth, student(growth), tolerance=1e-7 if growth == "dirac" else TOLERANCE)
    assert result.culprits == ()
    assert all(layer.own is None for layer in result.layers)
    assert {layer.teacher for layer in result.layers} == set(teacher().graph.by_name)
    assert result.samples == 2


QUICK = ("equal", "new channels", "scaled stream", "pair", "one after the other")
EVERY = [pytest.param(growth, marks=() if growth in QUICK else pytest.mark.slow) for growth in GROWTHS]


@pytest.mark.parametrize("growth", EVERY)
def test_a_change_of_any_tensor_is_found_at_its_layer(growth: str) -> None:
    original, tolerance = tensors(student(growth)), 1e-7
    blind = set()
    for name in (name for name, *_, slot in student(growth).graph.tensors() if not slot.integer):
        changed = original | {name: original[name] * 1.25 + 0.25}
        culprits = found(growth, Net2Net.from_tensors(student(growth).graph, changed), tolerance=tolerance).culprits
        layer = next(owner.name for n, owner, *_ in student(growth).graph.tensors() if n == name)
        if culprits:
            assert [c.name for c in culprits] == [first_to_tell(growth, layer)], name
        else:
            blind.add(layer)
    # Behind them in a copy of a block is what makes it zero, whatever they return.
    assert all("_twin" in layer for layer in blind), blind


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_two_changes_are_both_named_and_what_inherits_them_is_not(mode: Mode) -> None:
    changed = tensors(student("random"))
    changed["block.conv1.weight"][0, 0, 1, 1] += 1.0
    changed["layer.up.bias"][2] += 1.0
    result = found("random", Net2Net.from_tensors(student("random").graph, changed), mode)
    assert [layer.name for layer in result.culprits] == ["block.conv1", "layer.up"]
    inherited = [layer.name for layer in result.layers if layer.error > 1e-6]
    assert "head" in inherited
    assert len(inherited) > 10


def test_a_zero_that_is_none_is_found_where_it_lets_new_channels_in_and_what_these_hold_is_not() -> None:
    grown = student("new channels")
    drawn, read = tensors(grown), tensors(grown)
    (rows,) = grown.plans[-1].tensors["block.conv1.weight"].axes[:1]
    drawn["block.conv1.weight"][rows.later[0]] *= 2.0
    assert found("new channels", Net2Net.from_tensors(grown.graph, drawn)).culprits == ()
    columns = next(m for m in grown.plans[-1].tensors["block.conv2.weight"].axes if m.shares is not None)
    read["block.conv2.weight"][0, columns.later[0]] = 0.01
    result = found("new channels", Net2Net.from_tensors(grown.graph, read))
    assert [layer.name for layer in result.culprits] == ["block.conv2"]


def test_channels_that_are_exchanged_are_found_where_they_are_made() -> None:
    changed = tensors(student("ownership"))
    for name in ("block.conv1.weight", "block.conv1.bias"):
        changed[name][[0, -1]] = changed[name][[-1, 0]]
    result = found("ownership", Net2Net.from_tensors(student("ownership").graph, changed))
    # The batch norm behind it has other statistics for them, but it does with them what the teacher's does.
    assert [layer.name for layer in result.culprits] == ["block.conv1"]


def test_another_eps_is_found_at_the_norm() -> None:
    graph = student("ownership").graph
    layers = tuple(
        dataclasses.replace(one, op=dataclasses.replace(one.op, eps=0.01)) if one.name == "block.bn2" else one  # type: ignore[type-var]
        for one in graph.layers
    )
    changed = Net2Net.from_tensors(dataclasses.replace(graph, layers=layers), tensors(student("ownership")))
    assert [layer.name for layer in found("ownership", changed).culprits] == ["block.bn2"]


def test_a_bias_that_is_lost_is_found_and_so_is_the_place_where_it_shows_most() -> None:
    changed = tensors(student("equal"))
    lost = changed["pixels.bias"].copy()
    changed["pixels.bias"][:] = 0.0
    (culprit,) = found("equal", Net2Net.from_tensors(student("equal").graph, changed)).culprits
    assert culprit.name == "pixels"
    assert culprit.place[1] == int(np.abs(lost).argmax())
    assert culprit.expected - culprit.found == pytest.approx(lost[culprit.place[1]])
    assert culprit.largest == pytest.approx(np.abs(lost).max())


def test_values_that_are_compared_some_at_a_time_have_the_same_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tensors(student("one after the other"))
    changed["block.conv2.weight"][0] += 1.0
    net = Net2Net.from_tensors(student("one after the other").graph, changed)
    at_once = found("one after the other", net, tolerance=1e-7)
    monkeypatch.setattr(locating, "BUDGET", 2000)
    in_pieces = found("one after the other", net, tolerance=1e-7)
    assert [layer.name for layer in in_pieces.culprits] == ["block.conv2"]
    assert [(layer.name, layer.error) for layer in in_pieces.layers] == [(n.name, n.error) for n in at_once.layers]


def test_an_error_is_measured_in_standard_deviations() -> None:
    expected = torch.tensor([1.0, 3.0])  # their standard deviation is 1
    result = layer_error("a", "b", expected, torch.tensor([1.0, 3.5]))
    assert (result.error, result.largest, result.place, result.expected, result.found) == (0.5, 0.5, (1,), 3.0, 3.5)


def test_what_hardly_varies_is_measured_by_a_hundredth_of_its_size() -> None:
    expected = torch.tensor([100.0, 100.0 + 1e-9], dtype=torch.float64)
    assert layer_error("a", "a", expected, expected + 1e-3).error == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("expected", "given", "error"),
    [
        ([-INF, 1.0, 3.0], [-INF, 1.0, 3.0], 0.0),
        ([NAN, 1.0, 3.0], [NAN, 1.0, 3.0], 0.0),
        ([INF, 1.0, 3.0], [-INF, 1.0, 3.0], INF),
        ([1.0, 1.0, 3.0], [NAN, 1.0, 3.0], INF),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 2.0], 2.0),
        ([0.0], [0.0, 0.0], INF),
        ([], [], 0.0),
    ],
)
def test_infinities_that_both_have_are_no_difference(expected: list[float], given: list[float], error: float) -> None:
    assert layer_error("a", "a", torch.tensor(expected), torch.tensor(given)).error == error


def test_integers_masks_and_complex_numbers_are_compared_too() -> None:
    assert layer_error("a", "a", torch.tensor([True, False]), torch.tensor([True, True])).largest == 1.0
    assert layer_error("a", "a", torch.tensor([3, 4]), torch.tensor([3, 4])).error == 0.0
    assert layer_error("a", "a", torch.tensor([3 + 4j]), torch.tensor([3 + 2j])).largest == 2.0
    assert histogram("out", torch.tensor([3 + 4j, 1j]), torch.tensor([3 + 2j, 1j])).equal == 3


def test_a_histogram_counts_every_element_once() -> None:
    expected = torch.arange(96, dtype=torch.float64)
    shifted = expected.clone()
    shifted[:2] += torch.tensor([1e-3, 1e-7], dtype=torch.float64)
    result = histogram("out", expected, shifted)
    assert result.teacher == (2,) * locating.BINS
    assert sum(result.student) == 96
    assert result.equal == 94
    assert sum(result.apart) == 2
    assert result.apart_edges[0] <= -7 < -3 <= result.apart_edges[-1]
    assert histogram("out", expected, expected).equal == 96
    lost = histogram("out", expected, torch.full_like(expected, NAN))
    assert (lost.equal, lost.elements, sum(lost.apart)) == (0, 96, 0)
