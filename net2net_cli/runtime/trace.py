"""From a `torch.nn.Module` to a graph: the one entry to tracing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from net2net_cli.architecture.graph import Graph, Mode
from net2net_cli.errors import Net2NetError, TraceError
from net2net_cli.runtime import adapters
from net2net_cli.runtime.assemble import assemble
from net2net_cli.runtime.drafts import Recorded
from net2net_cli.runtime.guards import check_module
from net2net_cli.runtime.hints import hint_for
from net2net_cli.runtime.leaves import leaf_paths, notes_on
from net2net_cli.runtime.lower import lower
from net2net_cli.runtime.made_again import Remaking, Source
from net2net_cli.runtime.modes import merge
from net2net_cli.runtime.seen import MetaFailedError
from net2net_cli.runtime.tracer import Tracer, leaf_hint
from net2net_cli.runtime.where import raised_at


@dataclass(frozen=True, slots=True)
class Traced:
    """A graph, and what the user should know about it.

    Attributes:
        notes: what is kept as it is, as sentences.
    """

    graph: Graph
    notes: tuple[str, ...]


def trace(model: nn.Module, example_inputs: tuple[Tensor, ...], *, name: str, source: str) -> Graph:
    """What a network computes, without notes and without leaves; see `traced`."""
    return traced(model, example_inputs, name=name, source=Source(source)).graph


def traced(
    model: nn.Module, example_inputs: tuple[Tensor, ...], *, name: str, source: Source, leaves: Sequence[str] = ()
) -> Traced:
    """What a network computes, in evaluation and in training.

    The model is afterwards what it was: attributes, buffers, training flags, random states.

    Args:
        model: any module whose forward is one fixed computation; its tensors are never written to.
        example_inputs: one tensor for each argument of `forward`, batch first; the batch size does not matter.
        name: of the network.
        source: where it comes from, for people, and to make modules again that are not known.
        leaves: names or globs of modules that are kept as they are.

    Raises:
        UsageError: no module has such a name.
        TraceError: the network cannot be said in a spec; the message holds the user's source line.

    """
    check_module(model)
    if not example_inputs or any(x.ndim == 0 for x in example_inputs):
        raise TraceError("an example input has no axes", "give one tensor for each argument, its batch axis first")
    modes: tuple[Mode, ...] = ("eval", "train")
    kept, remaking = leaf_paths(model, leaves), Remaking(source)
    with adapters.preserved(model):
        evaluation, training = (_record(model, example_inputs, mode, kept, remaking) for mode in modes)
    merged = merge(evaluation, training)
    notes = notes_on(model, merged.drafts, kept)
    graph = assemble(
        merged,
        name=name,
        source=source.text,
        dtypes=[str(x.dtype).removeprefix("torch.") for x in example_inputs],
        reserved=[path for path, _ in model.named_modules() if path] + list(model.state_dict()),
    )
    return Traced(graph, notes)


def unused_tensors(model: nn.Module, graph: Graph) -> list[str]:
    """Names in the model's state dict that no layer of the graph uses: a student's checkpoint will not have them.

    Names that share a tensor with one that is used are used.
    """
    kept = {name for name, *_ in graph.tensors()}
    state = model.state_dict(keep_vars=True)
    used = {id(state[name]) for name in kept if name in state}
    return [name for name, tensor in state.items() if name not in kept and id(tensor) not in used]


def _record(
    model: nn.Module, inputs: tuple[Tensor, ...], mode: Mode, leaves: frozenset[str], remaking: Remaking
) -> Recorded:
    """One mode; without values where that works, which costs next to nothing."""
    for meta in (True, False):
        tracer = Tracer(model, inputs, meta=meta, leaves=leaves)
        with suppress(MetaFailedError):
            with adapters.preserved(model):  # a forward may leave what was traced in the model
                model.train(mode == "train")
                graph = _recorded(tracer, mode)
            return lower(model, tracer, graph, mode, remaking)
    raise AssertionError("a run with values asked for one with values")


def _recorded(tracer: Tracer, mode: Mode) -> fx.Graph:
    torch.default_generator.manual_seed(adapters.SEED)  # preserved around it; other devices keep theirs
    before = adapters.random_states()
    try:
        with torch.enable_grad():  # so that the user's own `no_grad` is seen
            graph = tracer.record()
    except (Net2NetError, MetaFailedError):
        raise
    except Exception as wrong:  # the user's forward may raise anything
        raise _explained(wrong, tracer) from wrong
    if adapters.random_states() != before:
        raise TraceError(
            f"`forward` draws random numbers by itself in {mode} mode, and what it does would depend on them",
            "use `torch.randn_like(x)`, `torch.nn.Dropout` or `torchvision.ops.StochasticDepth`",
        )
    return graph


def _explained(wrong: Exception, tracer: Tracer) -> TraceError:
    """An exception of the user's forward, with the user's line."""
    module, kind = tracer.failed_in or ("", type(tracer.runs.model).__name__)
    where = raised_at(wrong.__traceback__, module, kind, Tracer.record.__name__)
    first = str(wrong).splitlines()[0] if str(wrong) else ""
    otherwise = (
        "if the line needs a tensor's values, or asks whether its argument is a `torch.Tensor`, write it without"
    )
    called = first.partition("(")[0]
    return where.error(
        f"`forward` cannot be traced: {type(wrong).__name__}: {first}", hint_for(called) or leaf_hint(module, otherwise)
    )
