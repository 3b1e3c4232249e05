"""Teachers that hide nothing, and measures that see: a growth counts as exact only where a wrong one would show."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.architecture.ops.conv import Weighted
from net2net_cli.errors import GrowthRefusedError

TOLERANCE = 1e-12
"""Of max |Δ| / standard deviation of the teacher's output, in float64."""

ROUNDINGS = 4
"""So many times as far as rounding alone moves the teacher's output a student may be from it; where that is more."""

SENSITIVE = 1000 * TOLERANCE
"""How far scrambling a layer must move the output at least, for a check of that layer to count."""

MODES = ("eval", "train")

NORMS = (
    *(nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm),
    nn.RMSNorm,
)
DROPS = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), ("p",)),
    "StochasticDepth": ("p",),
    **dict.fromkeys(("MultiheadAttention", "LSTM", "GRU", "RNN"), ("dropout",)),
    "ScaledDotProductAttention": ("dropout_p",),
    **dict.fromkeys(
        ("ShiftedWindowAttention", "ShiftedWindowAttentionV2", "ShiftedWindowAttention3d"),
        ("dropout", "attention_dropout"),
    ),
}
"""Classes that draw at random in training, and where they keep the probabilities."""


def sensitive(model: nn.Module, *inputs: Tensor, seed: int = 0) -> nn.Module:
    """The model in float64, changed so that every layer matters to what it returns.

    Batch-norm statistics are measured on the inputs and then jittered; norms' weights, and parameters that are zero or
    tiny throughout, are redrawn.
    """
    generator = torch.Generator().manual_seed(seed)
    model = model.double()

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, NORMS) and module.weight is not None:
                module.weight.copy_(drawn(module.weight, 0.6, 1.4))
                if isinstance(bias := getattr(module, "bias", None), Tensor):
                    bias.copy_(drawn(bias, -0.4, 0.4))
            for parameter in module.parameters(recurse=False):
                if parameter.abs().max() < 1e-3:
                    parameter.copy_(drawn(parameter, -0.3, 0.3))
        _measure(model, inputs)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.1 * drawn(buffer, -1, 1) * buffer.std(correction=0)
            if name.endswith("running_var"):
                buffer *= drawn(buffer, 0.7, 1.4)
    return model.eval()


def _measure(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Statistics of every batch norm as the cumulative mean of one pass in training mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for module in norms:
        module.momentum = None
        module.reset_running_stats()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()(*(x.clone() for x in inputs))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum


def random_inputs(shapes: Sequence[tuple[int, ...]], batch: int, seed: int = 1) -> tuple[Tensor, ...]:
    """One tensor of noise for each shape, behind a batch axis."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn((batch, *s), generator=generator, dtype=torch.float64) for s in shapes)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor of what a module returned, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)


def outputs(model: nn.Module, inputs: Sequence[Tensor], mode: str) -> list[Tensor]:
    """What a model returns in a mode; with dropout and stochastic depth at 0 in training, which leaves no trace."""
    model.train(mode == "train")
    drops = [(m, name) for m in model.modules() for name in DROPS.get(type(m).__name__, ())]
    before = [getattr(m, name) for m, name in drops]
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()} if mode == "train" else {}
    for module, name in drops:
        setattr(module, name, 0.0)
    try:
        with torch.no_grad():
            return list(tensors_in(model(*(x.clone() for x in inputs))))
    finally:
        for (module, name), p in zip(drops, before, strict=True):
            setattr(module, name, p)
        for name, buffer in kept.items():
            model.get_buffer(name).copy_(buffer)


def error(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> float:
    """Largest difference over all outputs, each in standard deviations of the teacher's; NaN counts as infinite."""
    assert [t.shape for t in teacher] == [s.shape for s in student]
    worst = max(float((t - s).abs().max() / t.std()) for t, s in zip(teacher, student, strict=True))
    return worst if worst == worst else float("inf")


@dataclass
class Teacher:
    """A network to grow: the original module, its import, and what it returns on some inputs."""

    module: nn.Module
    net: Net2Net
    inputs: tuple[Tensor, ...]
    expected: dict[str, list[Tensor]]

    @classmethod
    def of(cls, model: nn.Module, shapes: Sequence[tuple[int, ...]], *, batch: int = 4) -> Teacher:
        return cls.on(model, random_inputs(shapes, batch), random_inputs(shapes, 8, seed=2))

    @classmethod
    def on(cls, model: nn.Module, inputs: tuple[Tensor, ...], measured: tuple[Tensor, ...] | None = None) -> Teacher:
        """A teacher for given inputs; statistics of batch norms are measured on others, if given."""
        torch.set_num_threads(1)
        model = sensitive(model, *(measured or inputs))
        # Before the import, so that what is expected is the original's, whatever the import might do to it.
        expected = {mode: outputs(model, inputs, mode) for mode in MODES}
        net = Net2Net.from_module(model.eval(), tuple(x[:2] for x in inputs))
        return cls(model, net, inputs, expected)

    @cached_property
    def tolerance(self) -> float:
        """What a student may be off by: `TOLERANCE`, or more where rounding alone moves the teacher further.

        A hundred batch norms over a few values make of an input's last place what many exact students are off by.
        """
        moved = max(self._rounding(seed, mode) for seed in range(3) for mode in MODES)
        return min(max(TOLERANCE, ROUNDINGS * moved), SENSITIVE / 10)

    def _rounding(self, seed: int, mode: str) -> float:
        """How far the output moves when each number of the inputs moves by its last place, up, down or not at all."""
        generator = torch.Generator().manual_seed(seed)
        eps = torch.finfo(torch.float64).eps
        steps = [torch.randint(-1, 2, x.shape, generator=generator) for x in self.inputs]
        given = zip(self.inputs, steps, strict=True)
        moved = [x * (1 + eps * step.to(x)) if x.is_floating_point() else x for x, step in given]
        return error(self.expected[mode], outputs(self.module, moved, mode))

    def to(self, dtype: torch.dtype) -> Teacher:
        """What it is given and returned, in another type; the module stays."""
        expected = {mode: [t.to(dtype) for t in found] for mode, found in self.expected.items()}
        return Teacher(self.module, self.net, tuple(x.to(dtype) for x in self.inputs), expected)

    @property
    def weighted(self) -> list[str]:
        """Layers that own tensors."""
        return [one.name for one in self.net.graph.layers if one.weights_of is None and one.op.tensors()]

    @property
    def growable(self) -> list[str]:
        """Layers with weights of their own that a width or a new layer may be asked for: all but norms and the like."""
        return [name for name in self.weighted if isinstance(self.net.graph.by_name[name].op, Weighted)]


def sensitivity(teacher: Teacher, module: nn.Module, layer: str, *, enough: float = math.inf) -> float:
    """How far the student's output moves when a layer's weights are replaced by noise, or its training-only output.

    Args:
        teacher: the original module and what it returned.
        module: the student; left as it was.
        layer: a layer with tensors.
        enough: where the output of one input moves as far as this in eval mode, nothing else is tried.
    """
    state = {n: t for n, t in module.state_dict().items() if n == layer or n.startswith(f"{layer}.")}
    saved = {n: t.clone() for n, t in state.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in state.values():
            if tensor.is_floating_point():
                spread = max(float(tensor.abs().mean()), 0.1)
                tensor.copy_(spread * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    try:
        if math.isfinite(enough):
            first = tuple(x[:1] for x in teacher.inputs)
            with suppress(ValueError):  # group norms refuse a single value
                moved = error([t[:1] for t in teacher.expected["eval"]], outputs(module, first, "eval"))
                if moved >= enough:
                    return moved
        moved = error(teacher.expected["eval"], outputs(module, teacher.inputs, "eval"))
        if moved >= enough:
            return moved
        return max(moved, error(teacher.expected["train"], outputs(module, teacher.inputs, "train")))
    finally:
        with torch.no_grad():
            for n, t in state.items():
                t.copy_(saved[n])


WIDTHS = ("+1", "1.5x", "2x")


def cause(net: Net2Net, refusal: GrowthRefusedError) -> str:
    """Why a growth was refused; layers without tensors, whose names are nobody's contract, go by their op."""

    def name(match: re.Match[str]) -> str:
        layer = net.graph.by_name.get(match[1])
        return match[0] if layer is None or layer.op.tensors() else f"`{layer.op.name}`"

    return re.sub(r"`([^`]+)`", name, refusal.message.partition(": ")[2])


def new_layers(teacher: Net2Net, student: Net2Net) -> list[str]:
    """Layers with tensors of their own that the teacher has not."""
    every = [one.name for one in student.graph.layers if one.weights_of is None and one.op.tensors()]
    return [name for name in every if name not in teacher.graph.by_name]
