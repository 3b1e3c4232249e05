"""What is not known is kept as it is: traced, written, made again and run to the same bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.python_source import python_source
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.errors import InputError, TraceError, UntrustedCodeError, UsageError
from net2net_cli.runtime.build import build
from net2net_cli.runtime.made_again import Source
from net2net_cli.runtime.trace import traced
from runtime.tracing import Calls, assert_same, graph_of, layer_of, ops_of

X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def opaque_of(graph: Graph) -> list[Opaque]:
    return [layer.op for layer in graph.layers if isinstance(layer.op, Opaque)]


@pytest.mark.parametrize(
    ("function", "rebuild"),
    [
        (lambda x: torch.cumsum(x, 1), ["torch:cumsum"]),
        (lambda x: torch.cumsum(x, dim=-1), ["torch:cumsum"]),
        (lambda x: x.cumprod(2), ["torch:Tensor.cumprod"]),
        (lambda x: torch.fft.fft2(x).real, ["torch.fft:fft2", "builtins:getattr"]),
        (lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), n=4, dim=1), ["torch.fft:rfft", "torch.fft:irfft"]),
        (lambda x: torch.rot90(x, 1, (1, 2)).mT, ["torch:rot90"]),
        (lambda x: torch.sort(x, 1)[0], ["torch:sort"]),
        (lambda x: torch.sort(x, 1).indices, ["torch:sort"]),
        (lambda x: torch.argsort(x, 1), ["torch:argsort"]),
        (lambda x: torch.add(x, x, alpha=2), ["torch:add"]),
        (lambda x: torch.nn.functional.logsigmoid(x.cummax(1).values), ["torch:Tensor.cummax"]),
    ],
)
def test_functions_are_kept_and_run_again_bit_for_bit(function: Callable[[Tensor], Tensor], rebuild: list[str]) -> None:
    found = [op.rebuild for op in opaque_of(assert_same(Calls(function, 1.5), X))]
    assert found[: len(rebuild)] == rebuild


class Standardised(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, self.weight - self.weight.mean(dim=(1, 2), keepdim=True), self.bias)


class Rows(nn.Linear):
    """Weights standardised by a batch norm without statistics, as NFNets have them (arXiv:2102.06171)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = nn.functional.batch_norm(self.weight[None], None, None, training=True)[0]
        return nn.functional.linear(x, weight, self.bias)


@pytest.mark.parametrize(
    ("layer", "rebuild"),
    [(Standardised(4, 5, 3), "torch.nn.functional:conv1d"), (Rows(6, 5), "torch.nn.functional:batch_norm")],
)
def test_a_call_with_computed_weights_is_kept_and_what_is_around_it_grows(layer: nn.Module, rebuild: str) -> None:
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))
    model(X)
    assert [op.rebuild for op in opaque_of(assert_same(model, X))] == [rebuild]
    student = Net2Net.from_module(model, X).widen({"3": "+1"})
    assert student.to_module()(X).allclose(model(X), atol=1e-6)


def test_both_results_of_a_function_may_be_read() -> None:
    graph = assert_same(Calls(lambda x: (lambda s: s[0] * s[1])(torch.sort(x, 1))), X)
    assert [op.output for op in opaque_of(graph)] == [0, 1]


def test_the_gradient_through_a_kept_call_is_that_of_the_original() -> None:
    model = Calls(lambda x: torch.cumsum(x, 1) * x.detach())
    network = build(graph_of(model, X), trust_code=True)
    gradients = []
    for run in (model, network):
        x = X.clone().requires_grad_()
        run(x).sum().backward()
        gradients.append(x.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.equal(*gradients)  # type: ignore[arg-type]


class Picks(nn.Module):
    """Indexes by a buffer of places, along the second and the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Tensor
        self.register_buffer("places", torch.tensor([0, 2, 2, 1]))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.places, 1:5] + x[:, :, self.places][:, [3, 1, 0, 2], :4]


def test_indices_that_are_tensors_or_lists_are_kept() -> None:
    graph = assert_same(Picks(), X)
    assert [op.rebuild for op in opaque_of(graph)] == ["operator:getitem"] * 3
    assert opaque_of(graph)[0].spoken == "torch.Tensor.__getitem__"
    written = python_source(graph, class_name="Picks")
    assert "[:, self.places, 1:5]" in written
    assert "[:, [3, 1, 0, 2], :4]" in written


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(6, 6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pair(x, x * 2)
        return out


def test_a_module_of_torch_is_made_by_its_own_class() -> None:
    graph = assert_same(Pair(), X)
    (op,) = opaque_of(graph)
    assert op.rebuild == "torch.nn:Bilinear"
    assert dict(op.made_with) == {"in1_features": 6, "in2_features": 6, "out_features": 5, "bias": False}
    assert dict(op.parameters) == {"weight": (5, 6, 6)}
    assert op.output_shape == ("n", 4, 5)
    assert layer_of(graph, "opaque").name == "pair"


def test_a_module_that_is_called_twice_has_one_set_of_weights() -> None:
    class Twice(Pair):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.pair(x, x) + self.pair(x, x * 2) + self.pair(x * 2, x)
            return out

    graph = graph_of(Twice(), X)
    assert [layer.weights_of for layer in graph.layers if isinstance(layer.op, Opaque)] == [None, "pair", "pair"]
    assert_same(Twice(), X)


class Gate(nn.Module):
    """Decides by its data; made again by its class, since it keeps its arguments."""

    def __init__(self, width: int, threshold: float = 0.0) -> None:
        super().__init__()
        self.width, self.threshold = width, threshold
        self.scale = nn.Linear(width, width)
        self.count: Tensor
        self.shift: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shift", torch.full((width,), threshold), persistent=False)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count += 1
        if x.sum() > self.threshold:
            return self.drop(self.scale(x)) + self.shift  # type: ignore[no-any-return] # Dropout returns Any
        return -x


class Gated(nn.Module):
    def __init__(self, threshold: float = 0.25) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.gates = nn.ModuleList([Gate(8, threshold), Gate(8, threshold)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for gate in self.gates:
            x = gate(x)
        return x


class Forgetful(nn.Module):
    """Decides by its data, and does not keep what it was made with."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.mean() > 0 else x


class Holder(nn.Module):
    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.body = Forgetful(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * 2  # type: ignore[no-any-return] # a module returns Any


def test_a_network_that_decides_by_its_data_says_what_can_be_done() -> None:
    with pytest.raises(TraceError) as caught:
        graph_of(Gated(), X)
    line = Gate.forward.__code__.co_firstlineno + 3
    assert f"{__file__}:{line}, in module `gates.0` of class `Gate`: `if x.sum() > self.threshold:`" in str(
        caught.value
    )
    hint = str(caught.value.hint)
    assert "`--leaf gates.0` keeps this module as it is" in hint
    assert "import a submodule" in hint


@pytest.mark.parametrize("leaves", [["gates.0", "gates.1"], ["gates.*"], ["**.1", "gates.0"]])
def test_leaves_are_kept_whatever_they_do(leaves: list[str]) -> None:
    model = Gated()
    net = Net2Net.from_module(model, X, leaves=leaves)
    assert [op.rebuild for op in opaque_of(net.graph)] == [f"{__name__}:Gate"] * 2
    again = net.to_module()
    assert set(again.state_dict()) == set(model.state_dict())
    for training in (False, True):
        for sign in (1, -1):  # both ways of the branch
            outputs = []
            for network in (model, again):
                torch.manual_seed(3)
                outputs.append(network.train(training)(sign * X))
            assert torch.equal(*outputs)
    assert int(again.state_dict()["gates.0.count"]) == int(model.state_dict()["gates.0.count"]) > 0
    assert len(net.warnings) == 1
    assert "`gates.0`, `gates.1`" in net.warnings[0]


def test_a_module_that_forgets_how_it_was_made_is_taken_from_the_networks_source() -> None:
    with pytest.raises(TraceError) as caught:
        Net2Net.from_module(Holder(), X, leaves=["body"])
    assert "the `size` that it was made with is not known, and where the network comes from was not said" in str(
        caught.value
    )
    assert "source=" in str(caught.value.hint)
    net = Net2Net.from_module(Holder(), X, leaves=["body"], source=f"{__name__}:Holder")
    (op,) = opaque_of(net.graph)
    assert (op.rebuild, op.submodule, dict(op.made_with)) == (f"{__name__}:Holder", "body", {})


def test_a_source_that_makes_another_module_is_refused() -> None:
    with pytest.raises(TraceError, match=r"its tensor `inner.bias` has the shape \[7\] in what it makes, and .* \[6\]"):
        Net2Net.from_module(Holder(), X, leaves=["body"], source=f"{__name__}:Holder", kwargs={"size": 7})


def test_a_module_that_was_changed_after_it_was_made_is_refused() -> None:
    model = Gated()
    vars(model.gates[0].get_submodule("drop"))["p"] = 0.9
    with pytest.raises(TraceError, match="makes another module \\(its attribute `p` of `drop` differs\\)"):
        Net2Net.from_module(model, X, leaves=["gates.*"])


class Hides(nn.Module):
    """Keeps its argument where no attribute of its name holds it."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.passes: Callable[[Tensor], bool] = lambda x: bool(x.sum() > threshold)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.passes(x) else -x


def test_what_a_closure_holds_is_compared_too() -> None:
    with pytest.raises(TraceError, match="its attribute `passes` differs"):
        Net2Net.from_module(nn.Sequential(nn.Linear(6, 6), Hides(0.5)), X, leaves=["1"])
    assert Net2Net.from_module(nn.Sequential(nn.Linear(6, 6), Hides()), X, leaves=["1"]).to_module()(X).shape == X.shape


def test_tensors_that_are_tied_within_a_kept_module_stay_tied() -> None:
    model = TiedHolder()
    net = Net2Net.from_module(model, X, leaves=["tied"])
    again = net.to_module()
    assert set(again.state_dict()) == set(model.state_dict())
    assert again.get_parameter("tied.a.weight") is again.get_parameter("tied.b.weight")
    assert sum(p.numel() for p in again.parameters()) == 36


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) if x.sum() > 0 else self.a(x)  # type: ignore[no-any-return] # Linear returns Any


class TiedHolder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tied = Tied()

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(x) * 2  # type: ignore[no-any-return] # a module returns Any


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(x.shape) if x.ndim else x


def test_a_leaf_that_is_random_in_evaluation_is_refused() -> None:
    with pytest.raises(TraceError, match="draws random numbers"):
        Net2Net.from_module(nn.Sequential(nn.Linear(6, 6), Noisy()), X, leaves=["1"])


class Several(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x, x * 2) if x.sum() > 0 else (-x, x)


def test_of_several_results_of_a_leaf_the_first_may_be_read() -> None:
    class First(nn.Module):
        def __init__(self, i: int) -> None:
            super().__init__()
            self.several, self.i = Several(), i

        def forward(self, x: Tensor) -> Tensor:
            return self.several(x)[self.i] * 3  # type: ignore[no-any-return] # a module returns Any

    (op,) = opaque_of(Net2Net.from_module(First(0), X, leaves=["several"]).graph)
    assert op.output == 0
    with pytest.raises(TraceError, match="module `several` returns more than its output, and the rest is read"):
        Net2Net.from_module(First(1), X, leaves=["several"])


def test_a_leaf_that_is_no_module_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"`gate\.0` names no module") as caught:
        Net2Net.from_module(Gated(), X, leaves=["gate.0"])
    assert "`gates.0`" in str(caught.value.hint)


def test_a_leaf_with_hooks_is_refused() -> None:
    model = Gated()
    model.gates[0].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(
        TraceError, match=r"module `gates\.0` of class .* cannot be kept as it is: it has hooks"
    ) as caught:
        Net2Net.from_module(model, X, leaves=["gates.*"])
    assert "any part of the network" in str(caught.value.hint)


class Projected(nn.Module):
    """A spec has no LSTM with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, proj_size=3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0] * 2  # type: ignore[no-any-return] # a module returns Any


def test_a_recurrent_module_that_is_not_known_is_kept_with_its_weights() -> None:
    model = Projected()
    again = Net2Net.from_module(model, X, source=f"{__name__}:Projected").to_module()
    assert torch.equal(again(X), model(X))
    assert set(again.state_dict()) == set(model.state_dict())


class Dictionary(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": x if x.sum() > 0 else -x}


class ReadsByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Dictionary()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)["out"]  # type: ignore[no-any-return] # a module returns Any


def test_a_leaf_that_returns_a_dictionary_is_refused() -> None:
    with pytest.raises(TraceError, match="it returns a `dict`, and not a tensor"):
        Net2Net.from_module(ReadsByName(), X, leaves=["inner"])


def test_a_class_that_nobody_can_import_is_refused() -> None:
    class Local(Forgetful):
        pass

    with pytest.raises(TraceError, match=r"`.*Local` cannot be imported by its name"):
        Net2Net.from_module(nn.Sequential(Local(6)), X, leaves=["0"])


def test_notes_name_the_line_and_count_the_modules() -> None:
    model = nn.Sequential(*(Calls(lambda x: torch.cumsum(x, 1)) for _ in range(2)), Pair())
    notes = traced(model, (X,), name="n", source=Source()).notes
    assert len(notes) == 2
    assert notes[0].startswith(f"`torch.cumsum` ({Path(__file__).name}:")
    assert notes[0].endswith("is not known: kept as it is, and what touches it cannot grow")
    assert notes[1].startswith(f"`2.pair` (torch.nn.Bilinear, {Path(__file__).name}:")


def test_nothing_is_imported_before_it_is_trusted(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\ndef act(x): return x\n")
    text = to_json_text(graph_of(Calls(lambda x: torch.cumsum(x, 1)), X)).replace("torch:cumsum", f"{trap}:act")
    graph = from_json_text(text.replace(', "args": [{"input": 0}, 1]', ', "args": [{"input": 0}]'), where="test")
    with pytest.raises(UntrustedCodeError, match=r"trap\.py:act"):
        build(graph)
    assert not (tmp_path / "sprung").exists()
    build(graph, trust_code=True)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("rebuild", "message"),
    [
        ("no_such_module_here:act", "there is no module `no_such_module_here`"),
        ("torch:no_such_function", "`torch` has no `no_such_function`"),
        ("torch:pi", "`torch:pi` is no callable"),
        ("no/such/file.py:act", "there is no file `no/such/file.py`"),
    ],
)
def test_code_that_is_not_there_is_told_with_its_layer(rebuild: str, message: str) -> None:
    graph = graph_of(Calls(lambda x: torch.cumsum(x, 1)), X)
    text = to_json_text(graph).replace("torch:cumsum", rebuild)
    with pytest.raises(InputError) as caught:
        build(from_json_text(text, where="test"), trust_code=True)
    assert f"layer `cumsum` cannot be rebuilt by `{rebuild}`: {message}" in str(caught.value)
    assert "present folder" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ('[{"input": 0}, 9]', "layer `cumsum` failed when `torch:cumsum` was run: IndexError: Dimension out of range"),
        (
            '[{"input": 0}, "x"]',
            "layer `cumsum` failed when `torch:cumsum` was run: (TypeError: cumsum|RuntimeError: Name 'x')",
        ),
    ],
)
def test_code_that_fails_is_told_with_its_layer(args: str, message: str) -> None:
    text = to_json_text(graph_of(Calls(lambda x: torch.cumsum(x, 1)), X)).replace('[{"input": 0}, 1]', args)
    network = build(from_json_text(text, where="test"), trust_code=True)
    with pytest.raises(InputError) as caught:
        network(X)
    assert re.search(message, str(caught.value))  # versions of torch say it in two ways


def test_code_that_returns_something_else_is_told_with_its_layer() -> None:
    text = to_json_text(graph_of(Calls(lambda x: torch.cumsum(x, 1)), X))
    for change, message in (
        (("torch:cumsum", "torch:sort"), "layer `cumsum` returned a `sort`; its spec says n×4×6 of `torch:sort`"),
        (("torch:cumsum", "torch:squeeze"), None),
        (("torch:cumsum", "torch:mean"), r"layer `cumsum` returned a tensor of shape [2, 6]"),
    ):
        network = build(from_json_text(text.replace(*change), where="test"), trust_code=True)
        if message is None:
            assert torch.equal(network(X), X)
            continue
        with pytest.raises(InputError) as caught:
            network(X)
        assert message in str(caught.value)


def test_an_opaque_layer_makes_no_op_of_what_is_known() -> None:
    assert "opaque" not in ops_of(assert_same(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.LayerNorm(6)), X))
