"""Networks over text, audio and other sequences: embeddings, tied heads, recurrent layers, RMSNorm."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from channels.sketch import chain, make
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

from net2net_cli import Net2Net
from net2net_cli.architecture.cost import multiply_adds
from net2net_cli.architecture.depth import depth
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import GrowthRefusedError, SpecError
from net2net_cli.growth.plan import COPYING, SPLITS
from zoo.growing import TOLERANCE, WIDTHS, Teacher, cause, check_growth, error, outputs
from zoo.test_zoo import shortened

WORDS, STEPS = 23, 9


def tokens(count: int = 6, *, seed: int = 0) -> Tensor:
    return torch.randint(0, WORDS, (count, STEPS), generator=torch.Generator().manual_seed(seed))


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TextClassifier(nn.Module):
    """A bidirectional LSTM, pooled over time by learned attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.hidden = nn.Linear(10, 4)
        self.score = nn.Linear(4, 1, bias=False)
        self.fc = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(x))
        weights = torch.softmax(self.score(torch.tanh(self.hidden(states))), dim=1)
        out: Tensor = self.fc((weights * states).sum(1))
        return out


class FinalStates(nn.Module):
    """The last layer's final states, forward and backward, as most tutorials join them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 4)
        self.rnn = nn.GRU(4, 7, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.rnn(self.embed(x))
        out: Tensor = self.fc(torch.cat([h[-2], h[-1]], dim=1))
        return out


class TimeFirst(nn.Module):
    """No `batch_first`, no biases, states that start at zero and say so, one hidden unit at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.LSTM(1, 6, bias=False)
        self.narrow = nn.LSTM(6, 1)
        self.fc = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        start = torch.zeros(1, x.shape[1], 6, dtype=x.dtype)
        states, _ = self.wide(x, (start, torch.zeros_like(start)))
        _, (h, _) = self.narrow(states)
        out: Tensor = self.fc(h.squeeze(0))
        return out


class LanguageModel(nn.Module):
    """A GRU whose output layer is tied to its embedding, behind a layer norm."""

    def __init__(self, width: int = 6, hidden: int = 7) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.proj = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, WORDS)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.proj(self.gru(x)[0])
        out: Tensor = self.head(self.drop(self.norm(x)))
        return out


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Llama(nn.Module):
    """A block with norms written by hand, attention by matrix products, SwiGLU; a tied head behind `nn.RMSNorm`."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(WORDS, dim)
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(dim, 11, bias=False), nn.Linear(dim, 11, bias=False)
        self.down = nn.Linear(11, dim, bias=False)
        self.norm = nn.RMSNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm1(x)
        q, k, v = (f(y).view(y.shape[0], STEPS, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(4), dim=-1)
        x = x + self.o((scores @ v).transpose(1, 2).flatten(2))
        y = self.norm2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return F.linear(self.norm(x), self.embed.weight)


class Audio(nn.Module):
    """Convolutions over one channel of samples, a GRU and a plain recurrent layer over their frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv1d(1, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4)
        self.conv2 = nn.Conv1d(4, 5, 3, stride=2, padding=1)
        self.gru = nn.GRU(5, 5, batch_first=True)
        self.rnn = nn.RNN(5, 6, batch_first=True, nonlinearity="relu")
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.bn(self.conv1(x)))))
        states, _ = self.rnn(self.gru(x.transpose(1, 2))[0])
        out: Tensor = self.fc(states[:, -1])
        return out


class Siamese(nn.Module):
    """Two sentences through one embedding and one LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 3)
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def encoded(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embed(x))
        found: Tensor = h[-1]
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left, right = self.encoded(a), self.encoded(b)
        out: Tensor = self.fc(torch.cat([(left - right).abs(), left * right], dim=1))
        return out


class TokensAndNumbers(nn.Module):
    """An embedding of width 1 beside numbers, with positions in a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(WORDS, 1), nn.Embedding(STEPS, 1)
        self.register_buffer("places", torch.arange(STEPS))
        self.numbers = nn.Linear(2, 3)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        words = self.embed(x) + self.place(self.places)
        states, _ = self.lstm(torch.cat([words, self.numbers(y)], dim=2))
        out: Tensor = self.fc(states.mean(1))
        return out


class Translator(nn.Module):
    """The decoder starts with the states in which the encoder ended (Sutskever et al. 2014, arXiv:1409.3215)."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, 3), nn.Embedding(WORDS, 4)
        self.encoder = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.fc = nn.Linear(5, 6)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, states = self.encoder(self.source(source))
        found, _ = self.decoder(self.target(target), states)
        out: Tensor = self.fc(found)
        return out


class Bridged(nn.Module):
    """Both directions of an encoder make what the decoder starts with; cell states are read for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(2, 4, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(8, 5)
        self.decoder = nn.GRU(2, 5, batch_first=True)
        self.first = nn.Parameter(torch.randn(1, 1, 5))
        self.fc = nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, cell) = self.encoder(x)
        start = self.bridge(torch.cat([hidden[0], hidden[1]], 1)).tanh().unsqueeze(0) + self.first
        states, last = self.decoder(x, start)
        out: Tensor = self.fc(torch.cat([states.amax(1) * last[0], cell.transpose(0, 1).flatten(1)], 1))
        return out


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "translator": (Translator, (tokens(), tokens(seed=1))),
    "bridged": (Bridged, (signals(STEPS, 2),)),
    "text classifier": (TextClassifier, (tokens(),)),
    "final states": (FinalStates, (tokens(),)),
    "time first": (TimeFirst, (signals(STEPS, 1),)),
    "language model": (LanguageModel, (tokens(),)),
    "llama": (Llama, (tokens(),)),
    "audio": (Audio, (signals(1, 40),)),
    "siamese": (Siamese, (tokens(), tokens(seed=1))),
    "tokens and numbers": (TokensAndNumbers, (tokens(), signals(STEPS, 2))),
}

GROW = ("Conv", "Linear", "Embedding", "LSTM", "GRU", "RNN")

OUTPUT = {"fc": "it is the network's output `out`"}
BY_SIX = dict.fromkeys(
    ("=+1", "=1.5x"),
    "its channels only grow 6 at a time: a norm averages over them, and `gru` does not keep the mean over them",
)
BY_EIGHT = dict.fromkeys(
    ("=+1", "=1.5x"),
    "its channels only grow 8 at a time: a norm averages over them, and `pow` does not keep the mean over them",
)

REFUSED: dict[str, dict[str, str]] = {
    **dict.fromkeys(("translator", "bridged"), OUTPUT),
    **dict.fromkeys(("final states", "time first", "audio", "siamese", "tokens and numbers"), OUTPUT),
    "text classifier": OUTPUT | {"score": "`mul` stretches its one slice over the other operand"},
    "language model": {
        **{f"{layer}{width}": why for layer in ("embed", "proj") for width, why in BY_SIX.items()},
        "head": "`embed` looks up its rows by number",
    },
    "llama": {
        **{f"{layer}{width}": why for layer in ("embed", "o", "down") for width, why in BY_EIGHT.items()},
        "v=+1": "its channels only grow 4 at a time",
    },
}

PASSED_OVER = {"llama": ("q", "k")}
"""Layers whose growth is another test's: sizes of heads."""


@cache
def teacher(name: str) -> Teacher:
    make, inputs = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Teacher.on(make(), inputs)


def growable(name: str) -> list[str]:
    graph = teacher(name).net.graph
    able = [layer.name for layer in graph.layers if layer.own_tensors() and layer.op.name.startswith(GROW)]
    return [layer for layer in able if layer not in PASSED_OVER.get(name, ())]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_widened_exactly_or_refused_for_the_reason_that_is_known(name: str) -> None:
    one = teacher(name)
    refused: dict[str, dict[str, str]] = {}
    for layer in growable(name):
        for width in WIDTHS:
            for split in COPYING:
                try:
                    student = one.net.widen({layer: width}, split=split)
                except GrowthRefusedError as refusal:
                    refused.setdefault(layer, {})[width] = cause(one.net, refusal)
                    continue
                check_growth(one, student, [layer] if split == "ownership" else [])
    assert shortened(refused) == REFUSED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_grow_together_and_their_copies_grow_again(name: str) -> None:
    one = teacher(name)
    student = one.net.widen({"**": "2x"}, where_possible=True, seed=1)
    again = student.widen({"**": "2x"}, where_possible=True, split="random", seed=2)
    check_growth(one, again, ["embed"] if "embed" in one.net.graph.by_name else [])
    assert again.tensor_info("fc.weight" if name not in ("language model", "llama") else "embed.weight").shape[0] > 1


def test_seven_hidden_units_become_ten_in_every_layer_and_direction() -> None:
    one = teacher("final states")
    for split in SPLITS:
        student = one.net.widen({"rnn": 10}, split=split)
        check_growth(one, student, ["rnn"])
    assert student.tensor_info("rnn.weight_hh_l0").shape == (30, 10)
    assert student.tensor_info("rnn.weight_ih_l1_reverse").shape == (30, 20)


def test_states_are_handed_on_through_what_was_grown_and_exported() -> None:
    one = teacher("translator")
    student = one.net.widen({"encoder": "+2", "source": "2x"})
    assert student.tensor_info("decoder.weight_hh_l1").shape == (28, 7)
    scope: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), scope)
    module = scope["Student"]().double()
    module.load_state_dict(student.to_module().state_dict(), strict=True)
    for mode in ("eval", "train"):
        assert error(one.expected[mode], outputs(module, one.inputs, mode)) <= TOLERANCE
    again = Net2Net.from_module(student.to_module(), one.inputs)
    check_growth(one, again.widen({"encoder": "2x"}), ["encoder", "decoder"])


def test_states_are_measured_by_the_steps_of_the_input() -> None:
    """Four gates of four units over three inputs, and over four units three times; four steps, two layers."""
    plain, kept = (chain((4, 3), rnn=make("LSTM", 3, 4, 2, True, True, 0.0, False, states=s)) for s in (None, True))
    assert kept.shapes["rnn"][1:] == (8, 4)
    assert multiply_adds(kept) == multiply_adds(plain) == 4 * 4 * (4 * 3 + 3 * 4 * 4)
    assert depth(kept) == depth(plain) == 5


def test_a_language_model_grows_into_a_wider_one_of_its_class_and_stays_tied() -> None:
    one, target = teacher("language model"), LanguageModel(12, 11).double().eval()
    student = one.net.grow(Net2Net.from_module(target, tokens()).graph)
    state = {name: torch.from_numpy(student.tensor(name).copy()) for name in target.state_dict()}
    target.load_state_dict(state, strict=True)
    assert target.head.weight is target.embed.weight
    assert error(one.expected["eval"], [target(tokens()).detach()]) <= TOLERANCE


def test_a_target_whose_head_is_not_tied_is_refused() -> None:
    target = LanguageModel(12, 11)
    target.head.weight = nn.Parameter(target.head.weight.detach().clone())
    graph = Net2Net.from_module(target, tokens()).graph
    with pytest.raises(GrowthRefusedError, match="`head` is tied to another layer in one of the two networks alone"):
        teacher("language model").net.grow(graph)
    with pytest.raises(SpecError, match="`head` shares the tensor `weight` of `embed` in the teacher, and not"):
        teacher("language model").net.widen(like=graph)


@pytest.mark.parametrize(
    ("name", "layer", "why"),
    [
        ("text classifier", "lstm", "neither a convolution nor a linear layer, but `LSTM`"),
        ("text classifier", "embed", "neither a convolution nor a linear layer, but `Embedding`"),
        ("language model", "head", "output"),
        ("language model", "proj", "`add` (add) comes before any activation"),
    ],
)
def test_layers_that_nothing_can_be_inserted_behind_say_why(name: str, layer: str, why: str) -> None:
    with pytest.raises(GrowthRefusedError) as refused:
        teacher(name).net.deepen([layer])
    assert why in refused.value.message


def test_random_padding_has_the_shapes_of_widening() -> None:
    net = teacher("language model").net
    wide, padded = net.widen({"embed": "2x", "gru": "+1"}), net.random_pad({"embed": "2x", "gru": "+1"})
    assert wide.graph == padded.graph
    np.testing.assert_array_equal(padded.tensor("norm.weight")[::2], net.tensor("norm.weight"))
    assert padded.to_module()(tokens()).isfinite().all()


def test_scrambling_one_hidden_unit_of_a_copy_is_seen() -> None:
    one = teacher("final states")
    module = one.net.widen({"rnn": "2x"}).to_module()
    with torch.no_grad():
        module.get_parameter("rnn.weight_hh_l1_reverse")[3] += 0.5
    assert error(one.expected["eval"], [module.eval()(tokens()).detach()]) > 1e-6


class Completion(nn.Module):
    """Two sentences through one norm and one tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 4)
        self.norm = nn.RMSNorm(4)
        self.head = nn.Linear(4, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.norm(self.embed(a))), self.head(self.norm(self.embed(b)).mean(1))


def test_a_norm_and_a_tied_head_that_are_used_twice_take_the_factor_once() -> None:
    torch.manual_seed(0)
    one = Teacher.on(Completion(), (tokens(), tokens(seed=1)))
    check_growth(one, one.net.widen({"embed": "3x"}), ["embed", "norm"])


class ReadAsAMatrix(nn.Module):
    """An embedding of width 1 whose table is the last layer's weight, with a linear layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 1)
        self.proj = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.proj(self.embed(x))) @ self.embed.weight.T
        return out


def test_without_a_norm_a_linear_layer_makes_room_for_any_width_of_a_tied_embedding() -> None:
    torch.manual_seed(0)
    one = Teacher.on(ReadAsAMatrix(), (tokens(),))
    for split in COPYING:
        student = one.net.widen({"embed": 3}, split=split)
        check_growth(one, student, ["embed", "proj"])
    wider = student.widen({"embed": "+1"}, seed=3)  # some channels have two copies, others one
    check_growth(one, wider, ["embed", "proj"])


class Gated(nn.Module):
    """A block of SwiGLU behind an RMS norm (arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-3)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        branch: Tensor = self.down(F.silu(self.gate(y)) * self.up(y))
        return x + branch


@pytest.mark.parametrize("width", ["+1", "1.5x", "25"])
def test_streams_behind_rms_norms_grow_to_any_width_with_zeros_behind_the_copies(width: str) -> None:
    torch.manual_seed(0)
    stream = nn.Sequential(nn.Linear(3, 10), Gated(10, 12), Gated(10, 12), nn.RMSNorm(10), nn.Linear(10, 4))
    teacher = Teacher.of(stream, [(5, 3)])
    student = teacher.net.widen({"0": width})
    check_growth(teacher, student, ["0", "1.down", "2.gate", "4"])
    assert not student.tensor("2.down.weight")[10 * (student.graph.shapes["0"][-1] // 10) :].any()  # type: ignore[operator]


class Sandwich(nn.Module):
    """A recurrent layer on a residual stream, as in SEANet (Défossez et al. 2022, arXiv:2210.13438)."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.before, self.block, self.after = nn.Linear(3, 6), Residual(recurrent), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.after(self.block(self.before(x)))
        return found


class Started(nn.Module):
    """A recurrent module that starts with what it reads, or hands on what its first layer ends with."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn, self.kind = nn.GRU(6, 6, 2, batch_first=True), kind

    def forward(self, x: Tensor) -> tuple[Tensor]:
        if self.kind == "started":
            return (self.rnn(x, x[:, :2].transpose(0, 1))[0],)
        return (self.rnn(x)[1][0].unsqueeze(1).expand(-1, x.shape[1], -1),)


@pytest.mark.parametrize(
    ("kind", "why"), [("started", "starts with states that it is given"), ("lower", "returns states of layers below")]
)
def test_states_that_no_weight_of_the_last_layer_silences_keep_a_block_from_being_repeated(kind: str, why: str) -> None:
    torch.manual_seed(0)
    one = Teacher.of(Sandwich(Started(kind)), [(5, 3)])
    with pytest.raises(GrowthRefusedError, match=why):
        one.net.deepen(["block"])


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.inner = recurrent

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.inner(x)[0]
        return found


@pytest.mark.parametrize(
    "recurrent",
    [
        nn.LSTM(6, 6, num_layers=2, batch_first=True),
        nn.LSTM(6, 3, bias=False, batch_first=True, bidirectional=True),
        nn.GRU(6, 6, batch_first=True),
        nn.RNN(6, 6, batch_first=True),
    ],
)
def test_a_recurrent_layer_on_a_stream_is_repeated_silently_and_its_copy_learns(recurrent: nn.Module) -> None:
    """Of states that start at zero, the last layer's stay there where its weights are zero; tanh has a slope there."""
    one = Teacher.of(Sandwich(recurrent), [(5, 3)])
    student = one.net.deepen(["block"])
    (twin,) = {name for name in student.graph.by_name if name not in one.net.graph.by_name and name.endswith("inner")}
    check_growth(one, student, [twin])
    module = student.to_module(dtype=torch.float64)
    module(*one.inputs).square().sum().backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if n.startswith(f"{twin}.weight_ih")}
    last = gradients[max(gradients)]
    assert last is not None
    assert last.abs().max() > 0


def test_a_recurrent_layer_that_ends_in_relu_is_not_repeated() -> None:
    one = Teacher.of(Sandwich(nn.RNN(6, 6, nonlinearity="relu", batch_first=True)), [(5, 3)])
    with pytest.raises(GrowthRefusedError, match="would never learn"):
        one.net.deepen(["block"])
