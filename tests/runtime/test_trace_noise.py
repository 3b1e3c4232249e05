"""Noise in a forward is rebuilt so that one seed draws the same, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from net2net_cli import Net2Net
from net2net_cli.errors import TraceError
from net2net_cli.runtime.importing import import_module_weights
from runtime.tracing import Calls, assert_same, graph_of, layer_of, ops_of

X = (3, 6)

Sampler = Callable[[Tensor, Tensor], Tensor]


class Autoencoder(nn.Module):
    """A variational one; it draws in training alone, or always."""

    def __init__(self, sample: Sampler, *, always: bool) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 10)
        self.mean = nn.Linear(10, 4)
        self.log_variance = nn.Linear(10, 4)
        self.decoder = nn.Linear(4, 6)
        self.sample = sample
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encoder(x).relu()
        mean = self.mean(hidden)
        if self.training or self.always:
            mean = self.sample(mean, torch.exp(0.5 * self.log_variance(hidden)))
        found: Tensor = self.decoder(mean)
        return found


SAMPLERS: dict[str, Sampler] = {
    "randn_like": lambda m, s: m + s * torch.randn_like(s),
    "add_": lambda m, s: torch.randn_like(m).mul_(s).add_(m),
    "sub": lambda m, s: m - s * torch.randn_like(m),
    "randn": lambda m, s: m + s * torch.randn(m.size()),
    "randn of sizes": lambda m, s: m + s * torch.randn(m.shape[0], 4, device=m.device, dtype=m.dtype),
    "randn_like of the same type": lambda m, s: m + s * torch.randn_like(s, dtype=m.dtype, device=m.device),
    "rand_like": lambda m, s: m + s * (torch.rand_like(s) - 0.5),
    "rand": lambda m, s: m + s * torch.rand(*m.shape),
    "normal_": lambda m, s: m + s * torch.empty_like(s).normal_(),
    "normal_ of new": lambda m, s: m + s * s.data.new(s.size()).normal_(0, 0.1),
    "normal_ of empty": lambda m, s: m + s * torch.empty(m.size(0), 4).normal_(std=2.0),
    "uniform_": lambda m, s: m + s * torch.zeros_like(s).uniform_(-1, 1),
    "normal": lambda m, s: torch.normal(m, s),
    "normal of a number": lambda m, s: m + torch.normal(0.5, s),
    "normal with a number": lambda m, s: torch.normal(m, 0.3),
    "normal of a size": lambda m, s: m + s * torch.normal(0.0, 0.5, m.shape),
    "rsample": lambda m, s: Normal(m, s).rsample(),
    "products around 1": lambda m, s: m * (1 + 0.1 * torch.randn_like(m)),
    "products with normal_": lambda m, s: m * torch.empty_like(m).normal_(1, 0.1),
    "noise that follows the value": lambda m, s: m + 0.1 * m * torch.randn_like(m),
    "noise around 1 in a sum": lambda m, s: m + s * torch.empty_like(m).normal_(1, 2),
    "two draws": lambda m, s: m + s * torch.randn_like(m) + 0.1 * torch.randn_like(m),
}


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_a_latent_variable_are_rebuilt(sampler: str, always: bool) -> None:
    graph = assert_same(Autoencoder(SAMPLERS[sampler], always=always), torch.randn(X))
    noise = [layer.op for layer in graph.layers if layer.op.name in ("Normal", "Uniform")]
    assert noise
    assert all(op.training_only is not always for op in noise)  # type: ignore[attr-defined]
    assert ("InTraining" in ops_of(graph)) is not always


def test_two_calls_draw_different_numbers_where_noise_is_always_drawn() -> None:
    """A check that noise takes part at all in what is compared above."""
    model = Autoencoder(SAMPLERS["randn_like"], always=True)
    network = Net2Net.from_module(model, torch.randn(X)).to_module().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network(torch.ones(X)), network(torch.ones(X)))


def test_what_only_training_draws_leaves_the_generator_alone_in_evaluation() -> None:
    network = Net2Net.from_module(Autoencoder(SAMPLERS["normal"], always=False), torch.randn(X)).to_module().eval()
    before = torch.get_rng_state()
    network(torch.ones(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_both_kinds_in_one_network() -> None:
    class Both(Autoencoder):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + 0.1 * torch.randn_like(x) if self.training else x)

    graph = assert_same(Both(SAMPLERS["randn_like"], always=True), torch.randn(X))
    assert [layer.op.training_only for layer in graph.layers if layer.op.name == "Normal"] == [True, False]  # type: ignore[attr-defined]


def test_two_draws_of_one_shape_are_two_values() -> None:
    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn_like(x) + x, torch.randn_like(x) - x

    assert ops_of(assert_same(Calls(both, 2.0), torch.randn(X))).count("Normal") == 2


def test_the_spec_says_what_is_drawn() -> None:
    graph = graph_of(Calls(lambda x: x + torch.empty_like(x).normal_(1, 2)), torch.randn(X))
    op: Any = layer_of(graph, "Normal").op
    assert (op.mean, op.std, op.training_only) == (1.0, 2.0, False)


def test_random_numbers_of_a_type_that_the_network_has_not_are_refused() -> None:
    with pytest.raises(TraceError, match="is none of the network's own"):
        graph_of(Calls(lambda x: x + torch.randn(x.shape, dtype=torch.float64), 2.0), torch.randn(X))
    with pytest.raises(TraceError, match="of another type than what it is given"):
        graph_of(Calls(lambda x: x + torch.randn_like(x, dtype=torch.float64), 2.0), torch.randn(X))


def test_draws_of_one_size_for_every_batch_are_refused_or_a_constant() -> None:
    with pytest.raises(TraceError, match="draws random numbers by itself"):
        graph_of(Calls(lambda x: x + torch.randn(6), 2.0), torch.randn(X))
    assert ops_of(assert_same(Calls(lambda x: x * _fixed(lambda: torch.randn(6)), 2.0), torch.randn(X))) == [
        *("mul", "constant", "mul")
    ]


def _fixed(draw: Callable[[], Tensor], seed: int = 0) -> Tensor:
    """Drawn under a seed of its own, as people make random projections."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw()


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize(
    "draw", [torch.randn_like, lambda x: torch.empty_like(x).normal_(), lambda x: torch.rand(x.shape)]
)
def test_what_is_drawn_behind_a_seed_of_the_forward_is_no_noise(draw: Any, seed: int) -> None:
    with pytest.raises(TraceError, match="draws behind a seed that `forward` sets"):
        graph_of(Calls(lambda x: x + _fixed(lambda: draw(x), seed), 2.0), torch.randn(X))


class Kept(nn.Module):
    """Draws once, when it is called for the first time."""

    def __init__(self, *, training: bool) -> None:
        super().__init__()
        self.fc, self.only_training = nn.Linear(6, 6), training
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        if self.only_training and not self.training:
            return x
        if self.kept is None:
            self.kept = torch.randn_like(x)
        return x + self.kept


@pytest.mark.parametrize("training", [True, False])
def test_numbers_that_are_drawn_once_and_kept_are_no_noise(training: bool) -> None:
    model = Kept(training=training)
    with pytest.raises(TraceError, match="does not return what the original returns"):
        Net2Net.from_module(model, torch.randn(X))
    assert model.kept is None


def test_a_tensor_that_is_filled_on_its_own_device_leaves_the_generator_alone() -> None:
    model = Recurrent()
    assert_same(model, torch.randn(4, 7, 5))


class Recurrent(nn.Module):
    """A GRU that starts with noise."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.gru(x, torch.zeros(1, x.size(0), 6).normal_())[0]
        return found


@pytest.mark.parametrize(
    "function",
    [lambda x: x * torch.rand_like(x), lambda x: x + torch.rand_like(x) - 0.5, lambda x: x / (1 + torch.randn_like(x))],
)
def test_other_noise_in_training_alone_is_refused_by_its_own_name(function: Callable[[Tensor], Tensor]) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.fc(function(x) if self.training else x)
            return found

    with pytest.raises(TraceError, match=r"randn?_like` draws random numbers in training alone"):
        graph_of(Noisy(), torch.randn(X))


def test_a_generator_of_its_own_is_refused() -> None:
    with pytest.raises(TraceError, match="generator"):
        graph_of(Calls(lambda x: x + torch.randn(x.shape, generator=torch.Generator()), 2.0), torch.randn(X))


def test_memory_that_was_never_filled_is_refused_still() -> None:
    with pytest.raises(TraceError, match="draws random numbers"):
        graph_of(Calls(lambda x: x + torch.empty_like(x), 2.0), torch.randn(X))


def test_checks_of_distributions_are_on_again_after_an_import() -> None:
    before = Distribution._extended_shape
    graph_of(Autoencoder(SAMPLERS["rsample"], always=True), torch.randn(X))
    assert Distribution._extended_shape is before
    with pytest.raises(ValueError, match="scale"):
        Normal(torch.zeros(2), -torch.ones(2))


class Unknown(nn.Module):
    """What it computes is not known, and may be random."""

    def __init__(self, *, random: bool) -> None:
        super().__init__()
        self.random = random

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) * torch.bernoulli(torch.full_like(x, 0.5)) if self.random else x.cumsum(1)


@pytest.mark.parametrize("random", [True, False])
def test_beside_noise_what_is_kept_as_it_is_must_not_be_random(random: bool) -> None:
    model = nn.Sequential(Autoencoder(SAMPLERS["randn_like"], always=True), Unknown(random=random))
    if not random:
        assert_same(model, torch.randn(X))
    example = (torch.randn(X),)

    def imported() -> Any:
        return import_module_weights(model, example, name="net", source="test", kwargs={}, leaves=("1",))

    if random:
        with pytest.raises(TraceError, match="draws random numbers in evaluation too"):
            imported()
    else:
        imported()
