"""Running a network on given inputs: a copy of it on the device, what it returns on the host."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from net2net_cli.architecture.graph import Mode
from net2net_cli.architecture.shapes import Batch as BatchAxis
from net2net_cli.errors import MachineError, SpecError, UsageError
from net2net_cli.runtime.build import Network, graph_of, outputs_of
from net2net_cli.runtime.draws import Draws, seed_of
from net2net_cli.runtime.machine import explained, full_precision, out_of_memory, release_memory

Batch: TypeAlias = tuple[Tensor, ...]
Outputs: TypeAlias = dict[str, Tensor]

GRADIENT = "grad("
"""How the names of gradients begin: `grad(x)`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How networks are run.

    Attributes:
        device: where.
        dtype: floating-point inputs and, without `autocast`, parameters are converted to it.
        mode: `train` takes batch statistics and, in float64, the gradients of the inputs beside the outputs.
        autocast: keep parameters and inputs in float32 and let PyTorch choose the operations that `dtype` is for.

    """

    device: torch.device
    dtype: torch.dtype = torch.float64
    mode: Mode = "eval"
    autocast: bool = False

    @property
    def gradients(self) -> bool:
        """Whether gradients of the inputs are taken: where rounding does not flip what is near a ReLU's zero."""
        return self.mode == "train" and self.dtype == torch.float64

    @property
    def stored(self) -> torch.dtype:
        """The type of parameters and inputs."""
        return torch.float32 if self.autocast else self.dtype

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context in which a network is called."""
        return torch.autocast(self.device.type, dtype=self.dtype) if self.autocast else nullcontext()


def run(network: nn.Module, inputs: Sequence[Batch], setting: Setting, draws: Draws, limit: int) -> tuple[Outputs, int]:
    """What a network returns, on the host, all batches joined; in training mode also `grad(x)` for each input `x`.

    Where the device's memory does not suffice, batches are split in halves until it does; not in training mode, where
    a batch has statistics of its own.

    Args:
        network: is copied, not changed.
        inputs: batches, each a tuple of the arguments of `forward`.
        setting: how to run it.
        draws: what is drawn at random.
        limit: samples that are run at once, at most.

    Returns:
        outputs by name, and the limit at which they fitted.

    Raises:
        MachineError: the device failed or has not enough memory.
        UsageError: a batch is too small for statistics.

    """
    device = setting.device
    with explained(device), full_precision(), seeded(device):
        copied = converted(network, device, setting.stored).train(setting.mode == "train")
        draws.prepare(copied)
        while (found := _tried(copied, inputs, setting, limit)) is None:
            release_memory(device)
            limit //= 2
        del copied
        release_memory(device)
    return found, limit


def _tried(network: nn.Module, inputs: Sequence[Batch], setting: Setting, limit: int) -> Outputs | None:
    """All outputs, or None where memory did not suffice but smaller batches might do."""
    try:
        return _collected(network, inputs, setting, limit)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or (setting.mode == "eval" and limit <= 1):
            raise
        if setting.mode == "train":
            raise MachineError(
                f"`{setting.device}` has not enough memory for this batch, which in training mode cannot be split: "
                "its statistics are those of the whole batch",
                "use a smaller `--batch`, or `--level outputs`",
            ) from error
    return None  # outside of the handler, which would keep the tensors of the failed run alive


def _collected(network: nn.Module, inputs: Sequence[Batch], setting: Setting, limit: int) -> Outputs:
    collected: dict[str, list[Tensor]] = {}
    for batch in inputs:
        for piece in pieces(network, batch, limit):
            arguments = [x.to(setting.device, setting.stored if x.is_floating_point() else x.dtype) for x in piece]
            for name, value in _called(network, arguments, setting).items():
                collected.setdefault(name, []).append(value.detach().cpu())
    return {name: torch.cat(parts) if parts[0].ndim else torch.stack(parts) for name, parts in collected.items()}


def _called(network: nn.Module, arguments: Sequence[Tensor], setting: Setting) -> Outputs:
    try:
        if setting.gradients:
            return _with_gradients(network, arguments)
        with torch.no_grad(), setting.arithmetic():
            return forward(network, arguments)
    except (ValueError, SpecError) as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError("one value in a channel has no statistics to train with", "use `--batch 2` or more") from error


def forward(network: nn.Module, arguments: Sequence[Tensor]) -> Outputs:
    """What a network returns in its present mode, by name."""
    return outputs_of(network, *arguments) if isinstance(network, Network) else flattened(network(*arguments))


def _with_gradients(network: nn.Module, arguments: Sequence[Tensor]) -> Outputs:
    """Outputs, and for each floating-point input the gradient of ⟨outputs, noise⟩, as `grad(x)`."""
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in zip(input_names(network, arguments), arguments, strict=True)
        if x.is_floating_point()
    }
    with torch.enable_grad():
        copies = iter([x.clone() for x in leaves.values()])  # a network may change its input, but not a leaf
        made = forward(network, [next(copies) if x.is_floating_point() else x for x in arguments])
        seen = [_projected(name, value) for name, value in made.items() if value.requires_grad]
    if not leaves or not seen:
        return made
    found = torch.autograd.grad(
        sum(seen[1:], seen[0]),
        list(leaves.values()),
        allow_unused=True,
        materialize_grads=True,
    )
    return made | {f"{GRADIENT}{name})": gradient for name, gradient in zip(leaves, found, strict=True)}


def _projected(name: str, value: Tensor) -> Tensor:
    """⟨output, noise⟩; the noise is standard normal and depends on the output's name and shape alone."""
    real = torch.view_as_real(value) if value.is_complex() else value
    generator = torch.Generator().manual_seed(seed_of("output", name))
    noise = torch.randn(real.shape, generator=generator, dtype=torch.float64)
    return (real * noise.to(real.device, real.dtype)).sum()


def input_names(network: nn.Module, arguments: Sequence[Tensor]) -> list[str]:
    """Names of the arguments of `forward`; their places, for a module that is not ours."""
    if isinstance(network, Network):
        return [given.name for given in graph_of(network).inputs]
    return [str(i) for i in range(len(arguments))]


def samples(network: nn.Module, batch: Batch) -> int:
    """How many samples a batch holds."""
    sizes = [x.shape[axis] // times for x, axis, times in _batch_axes(network, batch) if axis is not None]
    return min(sizes, default=1)


def pieces(network: nn.Module, batch: Batch, limit: int) -> Iterator[Batch]:
    """The batch in pieces of so many samples at most; an argument without a batch axis goes with each of them."""
    count = samples(network, batch)
    for start in range(0, count, limit):
        size = min(limit, count - start)
        yield tuple(
            x if axis is None or size == count else x.narrow(axis, start * times, size * times)
            for x, axis, times in _batch_axes(network, batch)
        )


def some(network: nn.Module, batch: Batch, first: int, most: int) -> Batch:
    """At most so many samples of a batch, beginning with the one of that number and going round."""
    count = samples(network, batch)
    chosen = torch.tensor([(first + i) % count for i in range(min(most, count))])
    return tuple(
        x if axis is None else x.index_select(axis, (chosen[:, None] * times + torch.arange(times)).flatten())
        for x, axis, times in _batch_axes(network, batch)
    )


def _batch_axes(network: nn.Module, batch: Batch) -> list[tuple[Tensor, int | None, int]]:
    """For each argument the axis that holds the samples, if one does, and how many of its slices make one sample."""
    if not isinstance(network, Network):
        return [(x, 0 if x.ndim else None, 1) for x in batch]
    found = []
    for x, given in zip(batch, graph_of(network).inputs, strict=True):
        axis = next((i for i, size in enumerate(given.shape) if isinstance(size, BatchAxis)), None)
        size = given.shape[axis] if axis is not None else 1
        found.append((x, axis, size.times if isinstance(size, BatchAxis) else 1))
    return found


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """What is drawn at random is the same for every network; the caller's generators are left as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def converted(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy on the device, its floating-point tensors converted; only the device holds a second set of tensors."""
    memo: dict[int, Any] = {}
    if isinstance(network, Network):
        memo[id(graph_of(network))] = graph_of(network)
    for tensor in (*network.parameters(), *network.buffers()):
        new = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        memo[id(tensor)] = nn.Parameter(new, requires_grad=False) if isinstance(tensor, nn.Parameter) else new
    # What a hook computes before each call, as older weight norm does, is computed again.
    computed = (t for m in network.modules() for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf)
    memo |= {id(tensor): tensor.detach() for tensor in computed}
    return copy.deepcopy(network, memo)


def flattened(value: Any, name: str = "") -> Outputs:
    """Tensors in what a module returned, by name: a single one is `out`, others bear their keys, fields or places."""
    if isinstance(value, Tensor):
        return {name or "out": value}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    parts: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        parts = value
    elif isinstance(value, (list, tuple)):
        parts = dict(enumerate(value))
    found: Outputs = {}
    for key, part in parts.items():
        found |= flattened(part, f"{name}.{key}" if name else str(key))
    return found
