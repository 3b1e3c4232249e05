"""A graph becomes a `torch.nn.Module` again: same names of tensors, same behaviour in both modes, same return value."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph, Layer, Mode, Structure, tensor_name
from net2net_cli.architecture.ops import Call
from net2net_cli.architecture.ops.opaque import THE_MODULE, Opaque
from net2net_cli.architecture.returns import layers_of, output_names, structure_of
from net2net_cli.architecture.trust import check_trust
from net2net_cli.errors import CheckpointError, SpecError
from net2net_cli.runtime import modules
from net2net_cli.runtime.arrays import to_tensor
from net2net_cli.runtime.calls import evaluate, made_around, module_class
from net2net_cli.runtime.machine import is_of_the_device
from net2net_cli.runtime.opaque import Workshop, check_result, find_code, told


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer as it is run: by the module or tensor at `path`, or by `call`; then the values in `release` go.

    An opaque layer has a `call` of the function in `code`, or of its module.
    """

    name: str
    inputs: tuple[str, ...]
    path: tuple[str, ...]
    call: Call | None
    release: tuple[str, ...]
    code: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one mode runs, and what it returns."""

    steps: tuple[_Step, ...]
    returns: Structure


class Network(nn.Module):
    """A network rebuilt from its graph; made by `build`.

    It has no public attributes beside those of `nn.Module`, so that every submodule of the user's has its own name.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._paths: dict[str, tuple[str, ...]] = {}
        self._plans: dict[str, _Plan] = {}

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """What the original returns; inputs in the graph's order or by their names."""
        values = _bind(self._graph, inputs, named)
        for _ in _run(self, values):
            pass
        return _assemble(self._plans[_mode(self)].returns, self._graph.outputs, values)

    def extra_repr(self) -> str:
        """Where it comes from, for `print`."""
        return self._graph.source


def build(graph: Graph, *, trust_code: bool = False) -> Network:
    """The network without values: its tensors are on the `meta` device until a state dict is loaded.

    `state_dict()` has the names of `graph.tensors()`, and those of tied tensors. Load with `load_weights`, or with
    `load_state_dict(state, assign=True)`.

    Args:
        graph: the network.
        trust_code: whether the code that opaque layers name may be imported and run.

    Raises:
        SpecError: a layer cannot be built, or its name cannot be that of a submodule.
        UntrustedCodeError: there are opaque layers, and they are not trusted.
        InputError: the code of an opaque layer is not there, or makes something else.

    """
    check_trust(graph, trusted=trust_code)
    network, workshop = Network(graph), Workshop()
    with torch.device("meta"):
        placed = [layer for layer in graph.layers if layer.weights_of is None]
        placed = [layer for layer in placed if layer.op.is_module or layer.own_tensors()]
        for layer in sorted(placed, key=lambda layer: (layer.name.count("."), not layer.op.tensors())):
            network._paths[layer.name] = _place(network, layer, workshop)
    for layer in graph.layers:
        _tie(network, layer)
    for layer in graph.layers:
        if layer.weights_of in network._paths:  # products with another layer's weights have no place of their own
            network._paths[layer.name] = network._paths[layer.weights_of]
    modes: tuple[Mode, ...] = ("eval", "train")
    network._plans = {mode: _plan(graph, mode, network._paths) for mode in modes}
    return network


def _tie(network: Network, layer: Layer) -> None:
    """Give a layer the tensors that it shares with other layers."""
    if layer.weights_of is not None:
        return
    for tie in layer.tied:
        home = (*network._paths[tie.layer], *tie.of.split(".")) if tie.of else network._paths[tie.layer]
        if layer.op.arity == 0:
            network._paths[layer.name] = home
        elif layer.op.is_module:
            *outer, last = (*network._paths[layer.name], *tie.slot.split("."))
            setattr(network.get_submodule(".".join(outer)), last, _at(network, home))


def _place(network: Network, layer: Layer, workshop: Workshop) -> tuple[str, ...]:
    """Put a layer's module or tensor where its name says; returns the path at which it stands."""
    *outer, last = layer.name.split(".")
    container: nn.Module = network
    for part in outer:
        if part not in container._modules:
            _check_free(container, part, layer)
            container.add_module(part, nn.Module())
        container = container.get_submodule(part)
    if not layer.op.is_module:
        _check_free(container, last, layer)
        _register(container, last, layer)
        return (*outer, last)
    while hasattr(container, last) and not layer.op.tensors():
        last += "_"  # the name of a layer without tensors is free
    _check_free(container, last, layer)
    container.add_module(last, _module(layer, workshop))
    return (*outer, last)


def _check_free(container: nn.Module, name: str, layer: Layer) -> None:
    if hasattr(container, name):
        raise SpecError(
            f"layer `{layer.name}` cannot be built: `{name}` is taken by another layer or by `torch.nn.Module` itself",
            "rename the layer, and its tensors in the checkpoint",
        )


def _module(layer: Layer, workshop: Workshop) -> nn.Module:
    if isinstance(layer.op, Opaque):
        with torch.device("cpu"):  # constructors may compute with the tensors that they make
            return workshop.module(layer)
    assert layer.op.module is not None
    try:
        return made_around(module_class(layer.op.module)(**layer.op.module_arguments()), layer.op.around)
    except (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError) as wrong:
        raise SpecError(
            f"layer `{layer.name}` ({layer.op.name}) cannot be built: {wrong}", "correct its attributes in the spec"
        ) from None


def _register(container: nn.Module, name: str, layer: Layer) -> None:
    ((_, slot),) = layer.op.tensors().items()
    dtype = getattr(layer.op, "dtype", None)
    value = torch.empty(slot.shape, dtype=getattr(torch, dtype) if dtype else None)
    if slot.kind == "parameter":
        container.register_parameter(name, nn.Parameter(value))
    else:
        container.register_buffer(name, value)


def _plan(graph: Graph, mode: Mode, paths: Mapping[str, tuple[str, ...]]) -> _Plan:
    layers, returns = layers_of(graph, mode), structure_of(graph, mode)
    kept = {graph.outputs[name] for name in output_names(returns)}
    last_reader = {
        value: layer.name for layer in layers for value in (layer.name, *layer.inputs, *layer.op.references())
    }
    release: dict[str, list[str]] = {layer.name: [] for layer in layers}
    for value, reader in last_reader.items():
        if value not in kept:
            release[reader].append(value)
    return _Plan(tuple(_step(graph, layer, paths, tuple(release[layer.name])) for layer in layers), returns)


def _step(graph: Graph, layer: Layer, paths: Mapping[str, tuple[str, ...]], release: tuple[str, ...]) -> _Step:
    path = paths.get(layer.name, ())
    if path and not isinstance(layer.op, Opaque):
        return _Step(layer.name, layer.inputs, path, None, release)
    call = layer.op.call(tuple(graph.shapes[name] for name in layer.inputs))
    code = {layer.op.rebuild: find_code(layer)} if isinstance(layer.op, Opaque) and not path else {}
    return _Step(layer.name, layer.inputs, path, call, release, code)


def _mode(network: nn.Module) -> Mode:
    return "train" if network.training else "eval"


def _bind(graph: Graph, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of the network's inputs by name."""
    names = [i.name for i in graph.inputs]
    given = dict(zip(names, inputs, strict=False)) | dict(named)
    if len(inputs) + len(named) != len(names) or set(given) != set(names):
        found = [f"{len(inputs)} by place", *named]
        raise TypeError(f"the network takes {', '.join(names)}; given were {', '.join(found)}")
    return given


Instead: TypeAlias = Callable[[str, Tensor], Tensor]
"""Given a layer's name and what it returned: what its readers get."""


def _run(
    network: Network, values: dict[str, Tensor], instead: Instead = lambda _, made: made
) -> Iterator[tuple[str, Tensor]]:
    """Run all layers of the mode, each value yielded as it is made; `values` is left with what is returned."""
    for step in network._plans[_mode(network)].steps:
        inputs = [values[name] for name in step.inputs]
        if step.call is not None:
            made = _called(network, step, inputs, values)
        else:
            found = _at(network, step.path)
            made = found(*inputs) if isinstance(found, nn.Module) else found
        values[step.name] = instead(step.name, made)
        yield step.name, made
        for name in step.release:
            del values[name]


def _told(
    network: Network, values: dict[str, Tensor], instead: Instead = lambda _, made: made
) -> Iterator[tuple[str, Tensor]]:
    """Likewise; where a layer cannot run it is named, because its attributes may come from a file that was edited."""
    running = _run(network, values, instead)
    for step in network._plans[_mode(network)].steps:
        try:
            made = next(running)
        except (ValueError, TypeError, IndexError, RuntimeError) as wrong:
            if is_of_the_device(wrong):
                raise
            layer = network._graph.by_name[step.name]
            said = str(wrong).partition("\n")[0]
            raise SpecError(
                f"layer `{layer.name}` ({layer.op.name}) cannot be run: {said}",
                "if its spec was not edited, please report this",
            ) from wrong
        yield made
    next(running, None)  # lets go of the last values


def _called(network: Network, step: _Step, inputs: list[Tensor], values: Mapping[str, Tensor]) -> Any:
    assert step.call is not None
    layer = network._graph.by_name[step.name]
    if not isinstance(layer.op, Opaque):
        return evaluate(step.call, inputs, values)
    code = {THE_MODULE: _at(network, step.path)} if step.path else step.code
    with told(layer):
        made = evaluate(step.call, inputs, values, code)
    check_result(layer, made)
    return made


def _at(network: nn.Module, path: tuple[str, ...]) -> Any:
    """What stands at a path now: the user may have replaced a submodule, or a replica have its own."""
    container = reduce(lambda module, part: module._modules[part], path[:-1], network)  # type: ignore[arg-type,return-value]
    found = container._modules.get(path[-1])
    return getattr(container, path[-1]) if found is None else found


def _assemble(structure: Structure, outputs: Mapping[str, str], values: Mapping[str, Tensor]) -> Any:
    """The return value: output names replaced by their tensors."""

    def part(inner: Structure) -> Any:
        return _assemble(inner, outputs, values)

    if structure is None:
        return None
    if isinstance(structure, str):
        return values[outputs[structure]]
    if "namedtuple" in structure:
        fields = structure["fields"]
        return namedtuple(structure["namedtuple"], list(fields))(**{k: part(v) for k, v in fields.items()})
    ((kind, held),) = structure.items()
    if kind == "dict":
        return {key: part(inner) for key, inner in held.items()}
    return [part(inner) for inner in held] if kind == "list" else tuple(part(inner) for inner in held)


def values_of(
    network: Network, *inputs: Tensor, instead: Instead = lambda _, made: made
) -> Iterator[tuple[str, Tensor]]:
    """Run the network in its present mode and yield each layer's value as it is made, by the layer's name.

    Values are let go after their last reader unless the caller keeps them.

    Args:
        network: made by `build`.
        inputs: in the graph's order.
        instead: may hand readers something else than what a layer returned.
    """
    yield from _told(network, _bind(network._graph, inputs, {}), instead)


def graph_of(network: Network) -> Graph:
    """The graph that the network was built from."""
    return network._graph


def named_layers(network: Network) -> dict[str, nn.Module]:
    """The module that runs each layer, where one does, by the layer's name."""
    found = {name: _at(network, path) for name, path in network._paths.items()}
    return {name: module for name, module in found.items() if isinstance(module, nn.Module)}


def outputs_of(network: Network, *inputs: Tensor) -> dict[str, Tensor]:
    """What the network returns in its present mode, by output name."""
    values = _bind(network._graph, inputs, {})
    for _ in _told(network, values):
        pass
    outputs = network._graph.outputs
    return {name: values[outputs[name]] for name in output_names(network._plans[_mode(network)].returns)}


def load_weights(
    network: Network,
    read: Callable[[str], np.ndarray],
    aliases: Mapping[str, str] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Give the network its tensors; none of them shares memory with the arrays.

    Args:
        network: made by `build`.
        read: the array of a tensor, by its name in the state dict; shapes are those of `graph.tensors()`.
        aliases: tied tensors; a name -> the name whose tensor it shares. They stay tied.
        device: where the tensors go.
        dtype: floating-point tensors are converted to it; None keeps each as it is stored.

    Raises:
        CheckpointError: a tensor has another shape than the graph says.

    """
    state: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    for name, _, _, slot in network._graph.tensors():
        stored = (aliases or {}).get(name, name)
        if stored not in made:
            tensor = to_tensor(read(stored), device=device, dtype=dtype)
            trained = tensor.is_floating_point() or tensor.is_complex()
            made[stored] = nn.Parameter(tensor, requires_grad=trained) if slot.kind == "parameter" else tensor
        if made[stored].shape != slot.shape:
            raise CheckpointError(
                f"tensor `{name}` has the shape {list(made[stored].shape)}; the spec needs {list(slot.shape)}",
                "check that checkpoint and spec fit together",
            )
        state[name] = made[stored]
    for layer in network._graph.layers:
        if layer.op.is_module and layer.weights_of is None:
            state |= {tensor_name(layer.name, t.slot): state[tensor_name(t.layer, t.of)] for t in layer.tied}
    network.load_state_dict(state | _tied(network, state), strict=True, assign=True)
    real = next((t.dtype for t in state.values() if t.is_floating_point()), dtype)
    for module in network.modules():
        if isinstance(module, modules.Constant):
            module.to(device, real)


def _tied(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their other names inside of opaque modules, which tie them by themselves."""
    own = network.state_dict(keep_vars=True)
    names = {id(own[name]): name for name in state if name in own}
    return {name: state[names[id(t)]] for name, t in own.items() if name not in state and id(t) in names}
