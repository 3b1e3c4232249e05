"""What tracing must hold for every network: the spec says it all, and what is rebuilt from the spec is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.runtime.arrays import to_array
from net2net_cli.runtime.build import Network, build, load_weights
from net2net_cli.runtime.trace import trace


class Calls(nn.Module):
    """A network whose forward is one function, or module, of its input or of its input times a number."""

    def __init__(self, function: Callable[..., Any], times: float | None = None) -> None:
        super().__init__()
        self.function = function
        self.times = times

    def forward(self, x: Tensor) -> Any:
        return self.function(x if self.times is None else x * self.times)


def graph_of(model: nn.Module, *inputs: Tensor) -> Graph:
    return trace(model, inputs, name="network", source="test")


def ops_of(graph: Graph) -> list[str]:
    return [layer.op.name for layer in graph.layers]


def layer_of(graph: Graph, op: str) -> Layer:
    """The only layer with that op."""
    (found,) = (layer for layer in graph.layers if layer.op.name == op)
    return found


def rebuilt(graph: Graph, model: nn.Module) -> Network:
    """Built from the spec's text, with copies of the model's tensors."""
    network = build(from_json_text(to_json_text(graph), where="test"), trust_code=True)
    state = model.state_dict()
    load_weights(network, lambda name: to_array(state[name]))
    return network


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if value is None:
        return []
    parts = value.values() if isinstance(value, Mapping) else value
    return [tensor for part in parts for tensor in tensors_in(part)]


def run(model: nn.Module, inputs: tuple[Tensor, ...], *, training: bool) -> Any:
    model.train(training)
    torch.manual_seed(7)
    with torch.no_grad():
        return model(*inputs)


def same_tensors(model: nn.Module, network: nn.Module, inputs: tuple[Tensor, ...], *, training: bool) -> bool:
    """Whether both return the same bits."""
    found = [tensors_in(run(m, tuple(x.clone() for x in inputs), training=training)) for m in (model, network)]
    return len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


def assert_same(model: nn.Module, *inputs: Tensor) -> Graph:
    """Trace, write and read the spec, rebuild, compare bit for bit in both modes, and buffers after a training step."""
    graph = graph_of(model, *inputs)
    assert from_json_text(to_json_text(graph), where="test") == graph
    network = rebuilt(graph, model)
    for training in (False, True):
        assert same_tensors(model, network, inputs, training=training), f"training={training}"
    state = model.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    return graph
