"""Teachers that hide nothing, and checks that can see: a growth counts as exact only where a wrong one would show."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError

TOLERANCE = 1e-12
"""Of max |Δ| / standard deviation of the teacher's output, in float64."""

SENSITIVE = 1000 * TOLERANCE

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
DROPS = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), "p"),
    "StochasticDepth": "p",
    "MultiheadAttention": "dropout",
    "ScaledDotProductAttention": "dropout_p",
}
"""Modules that drop something in training, and where they keep how much."""


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
                if module.bias is not None:
                    module.bias.copy_(drawn(module.bias, -0.4, 0.4))
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
    drops = [(m, DROPS[type(m).__name__]) for m in model.modules() if type(m).__name__ in DROPS]
    before = [getattr(m, name) for m, name in drops]
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()} if mode == "train" else {}
    for module, attribute in drops:
        setattr(module, attribute, 0.0)
    try:
        with torch.no_grad():
            return list(tensors_in(model(*(x.clone() for x in inputs))))
    finally:
        for (module, attribute), p in zip(drops, before, strict=True):
            setattr(module, attribute, p)
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
        torch.set_num_threads(1)
        model = sensitive(model, *random_inputs(shapes, 8, seed=2))
        inputs = random_inputs(shapes, batch)
        net = Net2Net.from_module(copy.deepcopy(model), random_inputs(shapes, 2))
        expected = {mode: outputs(model, inputs, mode) for mode in ("eval", "train")}
        return cls(model, net, inputs, expected)

    @property
    def weighted(self) -> list[str]:
        """Layers that own tensors."""
        return [one.name for one in self.net.graph.layers if one.weights_of is None and one.op.tensors()]

    @property
    def growable(self) -> list[str]:
        """Layers with weights of their own that a width or a new layer may be asked for: all but norms and the like."""
        kinds = ("Conv", "Linear")
        return [name for name in self.weighted if self.net.graph.by_name[name].op.name.startswith(kinds)]


def check_growth(
    teacher: Teacher, student: Net2Net, grown: Sequence[str], *, train: bool = True, tolerance: float = TOLERANCE
) -> None:
    """Assert that a student returns what its teacher returns, and that this says something.

    Args:
        teacher: the original module and what it returned.
        student: grown from it.
        grown: the student's layers to scramble, each by itself: if the output hardly moves, the check is insensitive.
        train: whether both also agree in training mode.
        tolerance: the largest error that passes.
    """
    module = student.to_module(dtype=torch.float64)
    for mode in ("eval", "train") if train else ("eval",):
        found = error(teacher.expected[mode], outputs(module, teacher.inputs, mode))
        assert found <= tolerance, f"{grown} in {mode} mode: off by {found:.2g}"
    for layer in grown:
        moved = sensitivity(teacher, module, layer)
        assert moved >= 1000 * tolerance, f"insensitive: scrambling {layer} moves the output by {moved:.2g}"


def sensitivity(teacher: Teacher, module: nn.Module, layer: str) -> float:
    """How far the student's output moves when a layer's weights are replaced by noise, or its training-only output."""
    state = {n: t for n, t in module.state_dict().items() if n == layer or n.startswith(f"{layer}.")}
    saved = {n: t.clone() for n, t in state.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in state.values():
            if tensor.is_floating_point():
                spread = max(float(tensor.abs().mean()), 0.1)
                tensor.copy_(spread * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    try:
        return max(error(teacher.expected[m], outputs(module, teacher.inputs, m)) for m in ("eval", "train"))
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
