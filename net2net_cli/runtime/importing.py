"""From the user's own code and weights to a spec and tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.indices import lookup_limit
from net2net_cli.architecture.ops.noise import Noise
from net2net_cli.architecture.spec_values import nearest
from net2net_cli.architecture.trust import named_code
from net2net_cli.checkpoint.torch_file import load_state_dict
from net2net_cli.errors import CheckpointError, TraceError
from net2net_cli.runtime import adapters
from net2net_cli.runtime.arrays import to_array, to_tensor
from net2net_cli.runtime.build import Network, build, graph_of, load_weights
from net2net_cli.runtime.draws import Draws, shared
from net2net_cli.runtime.figures import difference
from net2net_cli.runtime.made_again import Source
from net2net_cli.runtime.running import flattened
from net2net_cli.runtime.sources import SAMPLES, default_input, example_input, find_callable, make_module
from net2net_cli.runtime.tolerance import RUN_TOLERANCES
from net2net_cli.runtime.trace import traced, unused_tensors
from net2net_cli.runtime.where import raised_at


@dataclass(frozen=True)
class Imported:
    """A traced network with its weights.

    Attributes:
        tensors: by name in the state dict; tied ones once.
        aliases: names whose tensor is stored under another name.
        notes: what was done that the user should know.
    """

    graph: Graph
    tensors: dict[str, np.ndarray]
    aliases: dict[str, str]
    notes: tuple[str, ...] = ()


SEEDS = (7_919, 104_729)
"""Under which the original and what was rebuilt are compared; a forward that sets a seed sets another one."""


def import_source(
    source: str,
    *,
    kwargs: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    inputs: Sequence[str] = (),
    leaves: Sequence[str] = (),
) -> Imported:
    """Call the user's code, load weights, trace.

    Args:
        source: `package.module:callable` or `file.py:callable`; the callable returns an `nn.Module`.
        kwargs: arguments for it.
        weights: a `.safetensors`, `.pt` or `.pth` file; without it the module keeps the weights it is made with.
        inputs: shapes without the batch, `3x224x224`, one for each argument of `forward`; `:int64` may follow.
        leaves: names or globs of modules that are kept as they are.

    Raises:
        UsageError: there is no such module or callable.
        CheckpointError: the weights do not fit.
        TraceError: the network cannot be expressed as a spec.
    """
    factory = find_callable(source)
    model = make_module(factory, source, dict(kwargs or {}), has_weights=weights is not None)
    notes = load_into(model, weights) if weights is not None else []
    texts = list(inputs) or [default_input(source, model)]
    example = tuple(example_input(text) for text in texts)
    try:
        name = source.rpartition(":")[2]
        found = import_module_weights(model, example, name=name, source=source, kwargs=kwargs, leaves=leaves)
    except TraceError as failed:
        if not inputs:
            failed.hint = (
                f"{failed.hint + '; ' if failed.hint else ''}inputs of {texts[0]} were tried: give yours with `--input`"
            )
        raise
    return Imported(found.graph, found.tensors, found.aliases, (*notes, *found.notes))


def import_module_weights(
    model: nn.Module,
    example: tuple[Tensor, ...],
    *,
    name: str,
    source: str,
    kwargs: Mapping[str, Any] | None = None,
    leaves: Sequence[str] = (),
) -> Imported:
    """Trace a module, copy its tensors, and check that the rebuilt network returns what it returns, in both modes.

    Raises:
        TraceError: the network cannot be expressed as a spec.
    """
    example = tuple(x.to(_device_of(model, x.device)) for x in example)
    found = traced(model, example, name=name, source=Source(source, dict(kwargs or {})), leaves=leaves)
    graph = found.graph
    state = model.state_dict(keep_vars=True)
    names = [n for n, *_ in graph.tensors()]
    missing = [n for n in names if n not in state]
    if missing:
        raise TraceError(
            f"`{missing[0]}` is no entry of the module's state dict", "register it as a parameter or buffer"
        )
    tensors = {n: to_array(state[n]) for n in names}
    aliases = _aliases(state, names)
    unused = [n for n in unused_tensors(model, graph) if n not in aliases]
    notes = list(found.notes)
    notes += [f"left out, because no output depends on it: {_listed(unused)}"] if unused else []
    rounding = check_rebuilt(model, graph, tensors, example)
    if rounding:
        notes.append(f"the rebuilt network agrees with the original to rounding ({rounding:.1e}), not bit for bit")
    return Imported(graph, tensors, aliases, tuple(notes))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{n}`" for n in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _aliases(state: Mapping[str, Any], kept: Sequence[str]) -> dict[str, str]:
    """Entries of the state dict that are the very tensor of a kept one."""
    by_identity = {id(state[name]): name for name in reversed(kept)}
    known = set(kept)
    return {n: by_identity[id(t)] for n, t in state.items() if n not in known and id(t) in by_identity}


def check_rebuilt(
    model: nn.Module, graph: Graph, tensors: Mapping[str, np.ndarray], example: tuple[Tensor, ...]
) -> float:
    """Run the module and the network rebuilt from its spec on the same inputs, in both modes and under one seed.

    Returns:
        the largest error, in standard deviations of an output: 0 but where the same operations on another layout of
        memory are rounded in another order.

    Raises:
        TraceError: they return different numbers.
    """
    rebuilt = build(graph, trust_code=True)  # it runs in this process already
    load_weights(rebuilt, tensors.__getitem__)
    rebuilt.to(_device_of(model, torch.device("cpu")))
    limits = [lookup_limit(graph, given.name, 2) for given in graph.inputs]
    inputs = tuple(_random_like(x, limit) for x, limit in zip(example, limits, strict=True))
    noisy = any(isinstance(layer.op, Noise) for layer in graph.layers)
    errors = []
    with adapters.preserved(model):
        if named_code(graph):
            _check_not_random(model.eval(), rebuilt.eval(), inputs)
        for mode in (False, True):
            for seed in SEEDS if noisy else SEEDS[:1]:  # numbers that were drawn once, and kept, are no noise
                original = _original_outputs(model.train(mode), inputs, seed)
                ours = _outputs(rebuilt.train(mode), inputs, seed)
                errors.append(_error(original, ours, "train" if mode else "eval"))
    return max(errors)


def _check_not_random(model: nn.Module, rebuilt: Network, inputs: tuple[Tensor, ...]) -> None:
    """Whether a network that holds what is not known returns the same under another seed, but for its own noise.

    Raises:
        TraceError: it does not.
    """
    noise = Draws(shared(rebuilt, rebuilt, {}, "eval"))
    if noise.values:
        model = copy.deepcopy(rebuilt, {id(graph_of(rebuilt)): graph_of(rebuilt)})
    outputs = []
    for seed in SEEDS:
        if noise.values:
            noise.prepare(model)
        outputs.append(_original_outputs(model, inputs, seed))
    first, second = outputs
    if any(not torch.equal(torch.nan_to_num(t), torch.nan_to_num(second[n])) for n, t in first.items()):
        raise TraceError(
            "what is kept as it is draws random numbers in evaluation too, so that outputs cannot be compared",
            "draw in training alone, where `self.training` is true",
        )


def _random_like(example: Tensor, limit: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (SAMPLES, *example.shape[1:])
    if example.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(example)
    integers = 2 if example.dtype == torch.bool else limit
    return torch.randint(0, integers, shape, generator=generator).to(example)


def _device_of(model: nn.Module, otherwise: torch.device) -> torch.device:
    """Where the module is; its first tensor tells."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), otherwise)


def _original_outputs(model: nn.Module, inputs: tuple[Tensor, ...], seed: int) -> dict[str, Tensor]:
    """What the user's module returns.

    Raises:
        TraceError: it fails on numbers like these, which tracing did not see since it needs none.
    """
    try:
        return _outputs(model, inputs, seed)
    except Exception as wrong:  # the user's forward may raise anything
        where = raised_at(wrong.__traceback__, "", type(model).__name__, _outputs.__name__)
        first = str(wrong).splitlines()[0].rstrip(".") if str(wrong) else ""
        raise where.error(
            f"`forward` fails on random inputs: {type(wrong).__name__.lstrip('_')}: {first}",
            "an import ends with a comparison on inputs from the normal distribution (integers: from the first rows of "
            "tables): let `forward` take such, or import the part of the network that does",
        ) from wrong


def _outputs(network: nn.Module, inputs: tuple[Tensor, ...], seed: int) -> dict[str, Tensor]:
    device = inputs[0].device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return {name: tensor.cpu() for name, tensor in flattened(network(*(x.clone() for x in inputs))).items()}


def _error(original: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor], mode: str) -> float:
    if original.keys() == rebuilt.keys():
        pairs = [(torch.nan_to_num(t), torch.nan_to_num(rebuilt[n])) for n, t in original.items()]
        if all(torch.equal(ours, theirs) for ours, theirs in pairs):
            return 0.0
        errors = [difference("", ours, theirs, class_axis=None).error for ours, theirs in pairs]
        if all(e <= RUN_TOLERANCES.get(t.dtype, 0.0) for e, (t, _) in zip(errors, pairs, strict=True)):
            return max(errors)
    raise TraceError(
        f"the network that was rebuilt from the trace does not return what the original returns in {mode} mode",
        "the module does something that tracing cannot see, such as changing a tensor in place through an alias, or "
        "using again what an earlier call has drawn",
    )


_OTHER_NETWORK = "is it the same network? `--kwarg` sets its arguments, as in `--kwarg num_classes=10`"


def load_into(model: nn.Module, weights: Path) -> list[str]:
    """Load a state dict strictly; returns what was unwrapped on the way.

    Raises:
        CheckpointError: a tensor is missing, is not known, or has another shape.
    """
    loaded = load_state_dict(weights)
    state = dict(loaded.tensors)
    state |= {gone: loaded.tensors[kept] for gone, kept in loaded.aliases.items()}
    own = model.state_dict(keep_vars=True)
    for name, tensor in own.items():
        if name not in state and (tied := _tied_name(own, name, state)) is not None:
            state[name] = state[tied]
        if name not in state:
            if name.endswith("num_batches_tracked"):  # checkpoints from before PyTorch 0.4.1 have none
                state[name] = np.zeros((), dtype=np.int64)
                continue
            close = nearest(name, [other for other in state if other not in own])
            raise CheckpointError(
                f"`{weights}` has no tensor `{name}`, which the network needs", close or _OTHER_NETWORK
            )
        if tuple(state[name].shape) != tuple(tensor.shape):
            raise CheckpointError(
                f"tensor `{name}` of `{weights}` has the shape {list(state[name].shape)}; "
                f"the network needs {list(tensor.shape)}",
                _OTHER_NETWORK,
            )
    extra = [name for name in state if name not in own]
    if extra:
        raise CheckpointError(f"`{weights}` holds {_listed(extra)}, which the network has not", _OTHER_NETWORK)
    model.load_state_dict(_tied_as_before(own, state, weights), strict=True, assign=True)
    return list(loaded.notes)


def _tied_name(own: Mapping[str, Tensor], name: str, state: Mapping[str, Any]) -> str | None:
    """Another name of the same tensor, under which the file has it."""
    return next((other for other, tensor in own.items() if tensor is own[name] and other in state), None)


def _tied_as_before(own: Mapping[str, Tensor], state: Mapping[str, np.ndarray], weights: Path) -> dict[str, Tensor]:
    """The file's tensors; what is one tensor in the network is one tensor again.

    Raises:
        CheckpointError: the file has different numbers for it.
    """
    first: dict[int, str] = {}
    made: dict[str, Tensor] = {}
    for name, tensor in own.items():
        kept = first.setdefault(id(tensor), name)
        if kept != name:
            if not np.array_equal(state[kept], state[name]):
                raise CheckpointError(
                    f"`{kept}` and `{name}` are one tensor in the network, and two different ones in `{weights}`",
                    "untie them in the network, or give the weights it was trained to",
                )
            made[name] = made[kept]
            continue
        loaded = to_tensor(state[name])
        trained = isinstance(tensor, nn.Parameter) and loaded.is_floating_point()
        made[name] = nn.Parameter(loaded, requires_grad=tensor.requires_grad) if trained else loaded
    return made
