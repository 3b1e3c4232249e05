"""Training state grows as its own history would have been: by the chain rule, and by what an optimizer then does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from zoo.growing import sensitive

from net2net_cli import Net2Net
from net2net_cli.growth.training_state import StepFactors, grown_state, hand_off, step_factors

FOLLOWED = 1e-12
"""Of the standard deviation of the outputs, after thirty steps in float64."""


class Convolutions(nn.Module):
    """Plain, depthwise, and behind a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.b = nn.Conv2d(7, 5, 3)
        self.c = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        y = torch.relu(self.deep(torch.relu(self.bn(self.a(x)))))
        return self.c(torch.relu(self.b(torch.cat([x, y], 1))).mean((2, 3)))


class Chain(nn.Module):
    """Every tensor's slices have equally many copies, as one learning rate for each needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b, self.c = nn.Conv2d(4, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.c(nn.functional.gelu(self.b(torch.relu(self.bn(self.a(x))))).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.inner, self.outer, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.outer(torch.tanh(self.inner(x)))).mean(1))


class Groups(nn.Module):
    """The second axis of a transposed convolution holds its own channels, of each group in a section of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.c = nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.c(torch.relu(self.up(torch.relu(self.a(x)))).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


NETWORKS = {
    "convolutions": (Convolutions, (3, 6, 6), {"a": "2x", "b": "3x"}),
    "chain": (Chain, (3, 6, 6), {"a": "2x", "b": "3x"}),
    "some channels only": (Convolutions, (3, 6, 6), {"a": "+1", "b": "+2"}),
    "tokens": (Tokens, (5, 4), {"embed": "2x", "inner": "+3"}),
    "groups with copies of different channels": (Groups, (3, 3, 3), {"a": "+2", "up": "+4"}),
    "recurrent": (Recurrent, (5, 4), {"lstm": "2x"}),
}


def made(name: str) -> tuple[nn.Module, tuple[int, ...], dict[str, str]]:
    make, shape, widths = NETWORKS[name]
    torch.manual_seed(0)
    return sensitive(make(), torch.randn(8, *shape, dtype=torch.float64)), shape, widths


def backward(model: Any, shape: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """Gradients of one loss in training mode."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, *shape, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (16,), generator=generator)
    model.train().zero_grad()
    loss: Any = nn.functional.cross_entropy(model(x), target)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_grown_momentum_is_the_average_of_the_students_own_gradients(name: str) -> None:
    model, shape, widths = made(name)
    student = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64)).widen(widths, split="equal")
    theirs, ours = backward(model, shape, 1), backward(student.to_module(), shape, 1)
    for parameter, own in ours.items():
        grown = grown_state(student.plans[-1], parameter, "momentum", theirs[parameter].numpy())
        squared = grown_state(student.plans[-1], parameter, "second moment", theirs[parameter].square().numpy())
        assert grown is not None
        assert squared is not None
        scale = float(own.abs().max())
        assert np.abs(grown - own.numpy()).max() <= 1e-12 * scale, parameter
        assert np.abs(squared - own.square().numpy()).max() <= 1e-12 * scale**2, parameter


@pytest.mark.parametrize("split", ["ownership", "random"])
def test_with_shares_that_differ_from_row_to_row_the_momentum_of_all_copies_together_is_the_teachers(
    split: Any,
) -> None:
    model, shape, _ = made("convolutions")
    student = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64)).widen({"b": "2x"}, split=split)
    plan = student.plans[-1]
    own, theirs = backward(student.to_module(), shape, 1)["b.weight"], backward(model, shape, 1)["b.weight"].numpy()
    grown = grown_state(plan, "b.weight", "momentum", theirs)
    assert grown is not None
    position = plan.tensors["b.weight"].axes[0].position[0]
    for channel in range(5):
        copies = position == channel
        assert np.allclose(grown[copies].sum(0), theirs[channel], rtol=0, atol=1e-14)
        assert np.allclose(own[copies].sum(0), theirs[channel], rtol=0, atol=1e-12)


def test_second_moments_of_random_shares_are_their_mean_square() -> None:
    model, shape, _ = made("convolutions")
    net = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64))
    plan = net.widen({"b": "3x"}, split="random").plans[-1]
    grown = grown_state(plan, "b.bias", "second moment", np.ones(5))
    assert grown is not None
    draws = 0.5 + np.random.default_rng(0).random((200_000, 3))
    expected = np.mean((draws / draws.sum(1, keepdims=True)) ** 2)
    assert np.allclose(grown, expected, rtol=0.02)


def sgd(groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-3)


def adam(groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.05, eps=0.0)


QUANTITIES: dict[str, Any] = {"momentum_buffer": "momentum", "exp_avg": "momentum", "exp_avg_sq": "second moment"}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, shape: tuple[int, ...], seeds: range) -> None:
    for seed in seeds:
        backward(model, shape, seed)
        optimizer.step()


@pytest.mark.parametrize(("rule", "make"), [("sgd", sgd), ("adam", adam)])
@pytest.mark.parametrize("name", ["chain", "recurrent"])
def test_a_student_with_grown_state_and_factors_follows_its_teachers_own_further_training(
    name: str, rule: str, make: Callable[..., torch.optim.Optimizer]
) -> None:
    model, shape, widths = made(name)
    optimizer = make([{"params": [p]} for p in model.parameters()])
    train(model, optimizer, shape, range(20))
    grown = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64)).widen(widths, split="equal")
    plan, student = grown.plans[-1], grown.to_module()
    base = optimizer.param_groups[0]
    groups = []
    for parameter, p in student.named_parameters():
        factor = getattr(step_factors(plan, parameter), rule)
        groups.append({"params": [p], "lr": base["lr"] * factor, "weight_decay": base["weight_decay"] / factor})
    own = make(groups)
    theirs = dict(model.named_parameters())
    for parameter, p in student.named_parameters():
        for key, value in optimizer.state[theirs[parameter]].items():
            state = grown_state(plan, parameter, QUANTITIES[key], value.numpy()) if key in QUANTITIES else None
            own.state[p][key] = value.clone() if state is None else torch.from_numpy(state)
    train(model, optimizer, shape, range(20, 50))
    train(student, own, shape, range(20, 50))
    x = torch.randn(32, *shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    with torch.no_grad():
        expected, found = model.eval()(x), student.eval()(x)
    assert float((expected - found).abs().max() / expected.std()) <= FOLLOWED


def test_new_layers_and_pairs_begin_without_state() -> None:
    net = Net2Net.from_module(
        nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)), torch.zeros(2, 3)
    )
    plan = net.deepen(["0"]).plans[-1]  # what reads the pair reads it with its weights, and with their negatives
    kept = {
        name
        for name, tensor in plan.tensors.items()
        if grown_state(plan, name, "momentum", np.ones(net.tensor(tensor.source or "0.weight").shape)) is not None
    }
    assert kept == {"0.weight", "0.bias", "2.bias", "4.weight", "4.bias"}


def test_the_hand_off_names_new_parameters_factors_and_copies() -> None:
    model, shape, _ = made("convolutions")
    net = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64))
    student = net.widen({"b": 10}).deepen(["b"]).widen({"b": 15})
    told = hand_off(student.plans)["parameters"]
    new = {name for name, one in told.items() if one["new"]}
    assert new == {name for name, *_ in student.graph.tensors()} - {name for name, *_ in net.graph.tensors()}
    assert told["b.weight"]["lr_factor"] == {"adam": 1.0, "sgd": 3.0}
    assert told["b.weight"]["copies"] == {"0": [sorted(told["b.weight"]["copies"]["0"][0])]}
    weight, teacher = student.tensor("b.weight"), net.tensor("b.weight")
    assert np.array_equal(weight, teacher[told["b.weight"]["copies"]["0"][0]])
    assert "a.weight" not in told
    assert set(told["c.weight"]["copies"]) == {"1"}
    assert told["c.weight"]["lr_factor"]["adam"] == 0.5  # between them stands the new layer, which stayed as it was


def test_a_tied_output_layer_has_the_gradients_that_its_teachers_say() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Embedding(7, 4), nn.LayerNorm(4)
            self.inner, self.outer, self.head = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Any:
            x = self.embed(x)
            return self.head(self.norm(x + self.outer(torch.tanh(self.inner(x))))).mean(1)

    torch.manual_seed(0)
    model, tokens = Tied().double(), torch.randint(0, 7, (8, 3))
    student = Net2Net.from_module(model, tokens).widen({"embed": "2x"}, split="equal")
    found = []
    for module in (model, student.to_module()):
        loss: Any = nn.functional.cross_entropy(module(tokens), torch.arange(8) % 7)
        loss.backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    theirs, ours = found
    for name, own in ours.items():
        grown = grown_state(student.plans[-1], name, "momentum", theirs[name].numpy())
        assert grown is not None
        assert np.abs(grown - own.numpy()).max() <= 1e-12 * float(own.abs().max()), name


FRESH = [name for name in NETWORKS if name != "tokens"]


@pytest.mark.parametrize("name", FRESH)
def test_beside_new_channels_the_state_is_the_teachers_and_theirs_is_zero(name: str) -> None:
    model, shape, widths = made(name)
    net = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64))
    student = net.widen(widths, split="fresh")
    theirs, ours = backward(model, shape, 1), backward(student.to_module(), shape, 1)
    for parameter, own in ours.items():
        grown = grown_state(student.plans[-1], parameter, "momentum", theirs[parameter].numpy())
        squared = grown_state(student.plans[-1], parameter, "second moment", theirs[parameter].square().numpy())
        assert grown is not None
        assert squared is not None
        kept = np.ones(own.shape, dtype=bool)
        for axis in student.plans[-1].tensors[parameter].axes:
            for section, rows in enumerate(np.split(np.arange(own.shape[0]), len(axis.position))):
                along = [-1 if i == axis.axis else 1 for i in range(own.ndim)]
                new = axis.later[section].reshape(along)
                kept[rows] &= ~(new if axis.axis else new[rows])
        scale = float(own.abs().max()) or 1.0
        assert np.abs(grown - own.numpy())[kept].max() <= 1e-12 * scale, parameter
        assert np.abs(squared - own.square().numpy())[kept].max() <= 1e-12 * scale**2, parameter
        assert kept.sum() == theirs[parameter].numel()
        assert (grown[~kept] == 0).all()
        assert (squared[~kept] == 0).all()
        assert step_factors(student.plans[-1], parameter) == StepFactors()


@pytest.mark.parametrize(("rule", "make"), [("sgd", sgd), ("adam", adam)])
def test_with_new_channels_the_first_step_moves_the_teachers_weights_as_its_own_would(
    rule: str, make: Callable[..., torch.optim.Optimizer]
) -> None:
    model, shape, widths = made("some channels only")
    optimizer = make([{"params": [p]} for p in model.parameters()])
    train(model, optimizer, shape, range(20))
    net = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64))
    grown = net.widen(widths, split="fresh")
    plan, student = grown.plans[-1], grown.to_module()
    own = make([{"params": [p]} for p in student.parameters()])
    theirs = dict(model.named_parameters())
    for parameter, p in student.named_parameters():
        for key, value in optimizer.state[theirs[parameter]].items():
            state = grown_state(plan, parameter, QUANTITIES[key], value.numpy()) if key in QUANTITIES else None
            own.state[p][key] = value.clone() if state is None else torch.from_numpy(state)
    train(student, own, shape, range(20, 21))
    train(model, optimizer, shape, range(20, 21))
    for parameter, p in student.named_parameters():
        found = p.detach().numpy()
        for axis in plan.tensors[parameter].axes:
            found = np.compress(~axis.later[0], found, axis.axis)
        assert np.abs(found - theirs[parameter].detach().numpy()).max() <= 1e-12, (rule, parameter)


def test_the_hand_off_says_which_slices_are_new() -> None:
    model, shape, _ = made("convolutions")
    net = Net2Net.from_module(model, torch.zeros(2, *shape, dtype=torch.float64))
    told = hand_off(net.widen({"b": 10}, split="fresh").plans)["parameters"]
    both = [number for channel in range(5) for number in (channel, -1)]
    assert told["b.weight"] == {"new": False, "lr_factor": {"adam": 1.0, "sgd": 1.0}, "copies": {"0": [both]}}
    assert told["c.weight"] == {"new": False, "lr_factor": {"adam": 1.0, "sgd": 1.0}, "copies": {"1": [both]}}
    later = hand_off(net.widen({"b": 10}, split="fresh").widen({"b": "2x"}, split="equal").plans)["parameters"]
    assert later["b.weight"]["copies"] == {"0": [[number for number in both for _ in range(2)]]}
    assert later["b.weight"]["lr_factor"] == {"adam": 1.0, "sgd": 2.0}
