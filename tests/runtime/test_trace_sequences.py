"""Embeddings, recurrent layers, RMSNorm and tied weights are traced and rebuilt, or refused with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Tie
from net2net_cli.architecture.python_source import python_source
from net2net_cli.errors import CheckpointError, TraceError
from net2net_cli.runtime import adapters
from net2net_cli.runtime.importing import import_module_weights, load_into
from runtime.tracing import assert_same, graph_of, layer_of, ops_of

SIGNAL = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 9, (4, 7), generator=torch.Generator().manual_seed(0))


class Holds(nn.Module):
    """Some modules, and a forward that uses them."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def refusal(function: Callable[..., Any], example: Tensor, **modules: nn.Module) -> TraceError:
    with pytest.raises(TraceError) as caught:
        graph_of(Holds(function, **modules), example)
    return caught.value


def lstm(layers: int = 1, **how: Any) -> nn.LSTM:
    return nn.LSTM(5, 6, layers, batch_first=True, **how)


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("how", [{}, {"bidirectional": True}, {"num_layers": 3, "dropout": 0.4}, {"bias": False}])
def test_recurrent_layers_are_rebuilt_bit_for_bit_in_both_modes(cls: Any, how: dict[str, Any]) -> None:
    graph = assert_same(Holds(lambda m, x: m.rnn(x)[0], rnn=cls(5, 6, batch_first=True, **how)), SIGNAL)
    assert ops_of(graph) == [cls.__name__]
    assert graph_of(Holds(lambda m, x: m.rnn(x.transpose(0, 1))[0], rnn=cls(5, 6, **how)), SIGNAL)


@pytest.mark.parametrize(
    ("read", "module"),
    [
        (lambda h: h[-1], lstm(2)),
        (lambda h: h.squeeze(0), lstm()),
        (lambda h: h[0], lstm()),
        (lambda h: torch.cat([h[-2], h[-1]], 1), lstm(2, bidirectional=True)),
        (lambda h: h[-2:].transpose(0, 1).flatten(1), lstm(2, bidirectional=True)),
        (lambda h: h[-1, :, 2:], lstm(bidirectional=True)),
        (lambda h: torch.cat(tuple(h), 1), lstm(bidirectional=True)),
        (lambda h: h.view(1, 2, h.shape[1], 6)[0, 1], lstm(bidirectional=True)),
        (lambda h: h.permute(1, 0, 2), lstm(bidirectional=True)),
    ],
)
def test_final_states_of_the_last_layer_are_slices_of_the_output(read: Callable[..., Any], module: nn.LSTM) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        _, (h, _) = m.lstm(x)
        return read(h)

    assert_same(Holds(forward, lstm=module), SIGNAL)


def test_final_states_may_be_returned() -> None:
    assert_same(Holds(lambda m, x: m.gru(x), gru=nn.GRU(5, 6, batch_first=True, bidirectional=True)), SIGNAL)


@pytest.mark.parametrize(
    ("read", "module"),
    [
        (lambda h, c: c[-1], lstm()),
        (lambda h, c: torch.cat([h[-1], c[-1]], 1), lstm(2)),
        (lambda h, c: c.permute(1, 0, 2).flatten(1), lstm(3, bidirectional=True)),
        (lambda h, c: h[0] - c[1], lstm(2)),
        (lambda h, c: h.mean(2), lstm(2)),
        (lambda h, c: h[:2].sum(0), lstm(2, bidirectional=True)),
        (lambda h, c: (h, c), lstm(2, bidirectional=True)),
        (lambda h, c: h[1] * c[0], nn.LSTM(5, 6, 2, bidirectional=True, dropout=0.3)),
    ],
)
def test_other_final_states_are_read_where_they_are_needed(read: Callable[..., Any], module: nn.LSTM) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        y, (h, c) = m.lstm(x if module.batch_first else x.transpose(0, 1))
        return y.tanh(), read(h, c)

    op: Any = layer_of(assert_same(Holds(forward, lstm=module), SIGNAL), "LSTM").op
    assert op.states


@pytest.mark.parametrize(
    "read",
    [
        lambda r: r[0],
        lambda r: r[0][:, -1, :6] + r[1][0][-1],
        lambda r: r[1][0][-2:].sum(0),
        lambda r: (r[0], r[1][0][-1]),
    ],
)
def test_states_that_are_not_read_are_not_returned(read: Callable[..., Any]) -> None:
    module = lstm(2, bidirectional=True)
    op: Any = layer_of(assert_same(Holds(lambda m, x: read(m.rnn(x)), rnn=module), SIGNAL), "LSTM").op
    assert not op.states


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_one_layer_goes_on_where_another_ended(cls: Any, layers: int, both: bool) -> None:
    how = {"num_layers": layers, "bidirectional": both, "batch_first": True}
    model = Holds(
        lambda m, x: m.decoder(x[:, :3], m.encoder(x)[1])[0], encoder=cls(5, 6, **how), decoder=cls(5, 6, **how)
    )
    assert_same(model, SIGNAL)


def test_initial_states_may_be_learned_or_computed() -> None:
    model = Holds(
        lambda m, x: m.gru(x, m.start.expand(-1, len(x), -1).contiguous())[0], gru=nn.GRU(5, 6, batch_first=True)
    )
    model.register_parameter("start", nn.Parameter(torch.randn(1, 1, 6)))
    assert_same(model, SIGNAL)
    both = Holds(
        lambda m, x: m.rnn(x, (m.fc(x[:, 0])[None], x.new_zeros(1, len(x), 6)))[0], rnn=lstm(), fc=nn.Linear(5, 6)
    )
    assert_same(both, SIGNAL)


def test_initial_states_that_are_zero_are_what_a_layer_starts_with() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        h = torch.zeros(1, x.size(0), 6).to(x.device)
        return m.lstm(x, (h, torch.zeros_like(h)))[0][:, -1]

    assert ops_of(assert_same(Holds(forward, lstm=lstm()), SIGNAL)) == ["LSTM", "select"]


@pytest.mark.parametrize(
    ("forward", "module", "message"),
    [
        (lambda m, x: m.rnn(x)[0], lstm(proj_size=3), "`proj_size` is not supported"),
        (lambda m, x: m.rnn(x)[0], nn.LSTM(5, 6), "runs along the batch axis"),
    ],
)
def test_what_a_recurrent_layer_cannot_say_is_refused(
    forward: Callable[..., Any], module: nn.Module, message: str
) -> None:
    assert message in refusal(forward, SIGNAL, rnn=module).message


def test_embeddings_are_rebuilt_as_modules_and_as_functions() -> None:
    table = nn.Embedding(9, 4, padding_idx=-1, sparse=True)
    assert_same(Holds(lambda m, x: m.table(x), table=table), TOKENS)
    function = Holds(lambda m, x: F.embedding(x, m.table.weight, padding_idx=-1, sparse=True), table=table)
    assert (
        assert_same(function, TOKENS).layers[0].op
        == graph_of(Holds(lambda m, x: m.table(x), table=table), TOKENS).layers[0].op
    )


def test_positions_in_a_buffer_are_looked_up() -> None:
    model = Holds(lambda m, x: m.table(x) + m.places(m.numbers), table=nn.Embedding(9, 4), places=nn.Embedding(7, 4))
    model.register_buffer("numbers", torch.arange(7))
    assert_same(model, TOKENS)


def test_embeddings_that_change_when_they_are_read_are_kept_as_they_are() -> None:
    model = Holds(lambda m, x: m.table(x), table=nn.Embedding(9, 4, max_norm=1.0))
    assert Net2Net.from_module(model, TOKENS).graph.by_name["table"].op.name == "opaque"


def test_an_embedding_that_is_given_no_integers_says_how_to_give_them() -> None:
    error = refusal(lambda m, x: m.table(x), torch.zeros(2, 7), table=nn.Embedding(9, 4))
    assert "--input 16:int64" in str(error.hint)


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norms_are_rebuilt(eps: float | None) -> None:
    assert_same(Holds(lambda m, x: m.norm(x), norm=nn.RMSNorm(5, eps=eps)), SIGNAL)
    assert_same(Holds(lambda m, x: F.rms_norm(x, (5,), m.norm.weight, eps), norm=nn.RMSNorm(5)), SIGNAL)
    assert_same(Holds(lambda m, x: F.rms_norm(x, (7, 5)), spare=nn.Identity()), SIGNAL)


def tied(*, bias: bool = False) -> nn.Module:
    model: Any = Holds(
        lambda m, x: m.head(m.norm(m.embed(x))),
        embed=nn.Embedding(9, 4),
        norm=nn.LayerNorm(4),
        head=nn.Linear(4, 9, bias=bias),
    )
    model.head.weight = model.embed.weight
    made: nn.Module = model
    return made


@pytest.mark.parametrize("bias", [False, True])
def test_a_tied_head_is_one_tensor_in_the_spec_in_the_file_and_in_the_module(tmp_path: Path, bias: bool) -> None:
    model = tied(bias=bias)
    net = Net2Net.from_module(model, TOKENS)
    assert net.graph.by_name["head"].tied == (Tie("weight", "embed", "weight"),)
    assert "head.weight" not in {name for name, *_ in net.graph.tensors()}
    net.save(tmp_path / "teacher.safetensors")
    assert "head.weight" not in load_file(tmp_path / "teacher.safetensors")
    module: Any = Net2Net.load(tmp_path / "teacher.safetensors").to_module()
    assert module.head.weight is module.embed.weight
    assert list(module.state_dict()) == list(model.state_dict())
    missing, unexpected = load_model(tied(bias=bias), tmp_path / "teacher.safetensors", strict=True)
    assert not missing
    assert not unexpected


@pytest.mark.parametrize("product", [lambda m, y: F.linear(y, m.embed.weight), lambda m, y: y @ m.embed.weight.T])
def test_an_embedding_that_is_read_as_a_matrix_is_tied_and_adds_no_tensor(product: Callable[..., Any]) -> None:
    model = Holds(lambda m, x: product(m, m.norm(m.embed(x))), embed=nn.Embedding(9, 4), norm=nn.LayerNorm(4))
    graph = assert_same(model, TOKENS)
    assert graph.layers[-1].op.name == "linear"
    assert [name for name, *_ in graph.tensors()] == ["embed.weight", "norm.weight", "norm.bias"]


def test_modules_may_share_some_of_their_tensors() -> None:
    model: Any = Holds(lambda m, x: m.b(m.a(x)), a=nn.Linear(5, 5), b=nn.Linear(5, 5))
    model.b.weight = model.a.weight
    graph = assert_same(model, SIGNAL)
    assert graph.by_name["b"].tied == (Tie("weight", "a", "weight"),)
    assert "b.bias" in {name for name, *_ in graph.tensors()}


def test_weights_from_a_file_leave_tied_tensors_tied(tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_model(tied(), str(tmp_path / "w.safetensors"))
    torch.save({k: v for k, v in tied().state_dict().items() if k != "head.weight"}, tmp_path / "w.pt")
    for path in (tmp_path / "w.safetensors", tmp_path / "w.pt"):
        model: Any = tied()
        load_into(model, path)
        assert model.head.weight is model.embed.weight
        assert import_module_weights(model, (TOKENS,), name="tied", source="").aliases == {
            "head.weight": "embed.weight"
        }


def test_weights_that_were_trained_apart_are_not_tied_without_a_word(tmp_path: Path) -> None:
    state = tied().state_dict()
    torch.save(state | {"head.weight": state["head.weight"] + 1}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="are one tensor in the network, and two different ones"):
        load_into(tied(), tmp_path / "w.pt")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_results_without_values_have_the_shapes_of_real_ones(cls: Any, bidirectional: bool) -> None:
    for batch_first in (False, True):
        module = cls(5, 6, 2, batch_first=batch_first, bidirectional=bidirectional)
        pairs = (adapters.results_of_recurrent(module, SIGNAL), module(SIGNAL))
        shapes = [[t.shape for t in (r[0], *(r[1] if isinstance(r[1], tuple) else r[1:]))] for r in pairs]
        assert shapes[0] == shapes[1]
        names = [module._parameters[name] for name in module._flat_weights_names]
        assert all(a is b for a, b in zip(module._flat_weights, names, strict=True))


def test_ties_inside_containers_are_exported(tmp_path: Path) -> None:
    inner: Any = nn.ModuleDict({"text": nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4)), "out": nn.Linear(4, 9)})
    inner["out"].weight = inner["text"][0].weight
    model = Holds(lambda m, x: m.net["out"](m.net["text"](x)), net=inner)
    student = Net2Net.from_module(model.double(), TOKENS).widen({"net.text.0": "2x"})
    student.save(tmp_path / "student.safetensors")
    namespace: dict[str, Any] = {}
    exec(python_source(student.graph, class_name="Student"), namespace)
    network = namespace["Student"]().double()
    load_model(network, tmp_path / "student.safetensors", strict=True)
    assert network.get_parameter("net.out.weight") is network.get_parameter("net.text.0.weight")
    torch.testing.assert_close(network(TOKENS), model(TOKENS), rtol=0, atol=1e-12)
