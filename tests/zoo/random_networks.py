"""Networks that nobody would write, drawn at random: whatever a trace reads has to be grown exactly, or refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

Size = tuple[int, ...]
"""Of a value, without the batch."""

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12)
ACTIVATIONS = ("ReLU", "GELU", "SiLU", "LeakyReLU", "Tanh", "Sigmoid", "Hardswish", "ELU", "ReLU6", "Mish", "Softplus")


@dataclass(frozen=True)
class Step:
    """One value: a module of `torch.nn`, or one of `FUNCTIONS`, applied to earlier values.

    Attributes:
        op: name of the module or function; `Block` for a network within the network.
        inputs: numbers of earlier values; 0 … are the network's inputs.
        how: arguments of the module or function.
        weights_of: the number of the step whose module is used again.
    """

    op: str
    inputs: tuple[int, ...]
    how: Mapping[str, Any] = field(default_factory=dict)
    weights_of: int | None = None


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, c = x.shape[:2]
    return x.view(n, groups, c // groups, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _heads(x: Tensor, heads: int) -> Tensor:
    n, t, c = x.shape
    q = x.view(n, t, heads, c // heads).transpose(1, 2)
    mixed = torch.softmax(q @ q.transpose(-2, -1), dim=-1) @ q
    return mixed.transpose(1, 2).reshape(n, t, c)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "add_": lambda x, y: x.clone().add_(y),
    "add_in_place": lambda x, y: x.add_(y),  # whatever reads x later reads the sum
    "relu_": lambda x: torch.relu_(x * 1.0),
    "maximum": torch.maximum,
    "scale": lambda x, by: x * by,
    "rsub": lambda x, by: by - x,
    "abs": torch.abs,
    "sigmoid": torch.sigmoid,
    "cat": lambda *xs, dim: torch.cat(xs, dim),
    "chunk": lambda x, chunks, dim, index: torch.chunk(x, chunks, dim)[index],
    "split": lambda x, sizes, dim, index: torch.split(x, list(sizes), dim)[index],
    "slice": lambda x, start, stop: x[:, start:stop],
    "slice_from_end": lambda x, start: x[:, -start:],
    "every_other": lambda x: x[:, ::2],
    "select": lambda x, index: x[:, index],
    "narrow": lambda x, start, length: x.narrow(1, start, length),
    "shuffle": _shuffle,
    "flatten": lambda x: torch.flatten(x, 1),
    "view": lambda x: x.reshape(x.shape[0], -1),
    "tokens": _tokens,
    "heads": _heads,
    "transpose": lambda x, a, b: x.transpose(a, b),
    "permute": lambda x, order: x.permute(*order),
    "unflatten": lambda x, sizes: x.view(x.shape[0], *sizes),
    "mean": lambda x, dim, keepdim: x.mean(dim, keepdim=keepdim),
    "amax": lambda x, dim, keepdim: x.amax(dim, keepdim=keepdim),
    "sum": lambda x, dim, keepdim: x.sum(dim, keepdim=keepdim),
    "var": lambda x, dim, keepdim: x.var(dim, keepdim=keepdim, unbiased=False),
    "softmax": lambda x, dim: torch.softmax(x, dim),
    "normalize": lambda x, dim: F.normalize(x, dim=dim),
    "pad": lambda x, pad, value: F.pad(x, list(pad), value=value),
    "unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "squeeze": lambda x, dim: x.squeeze(dim),
    "expand": lambda x, sizes: x.expand(-1, *sizes),
    "matmul": operator.matmul,
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
}


class RandomNetwork(nn.Module):
    """Runs steps; a `Parameter` step owns a tensor of its own."""

    def __init__(self, shapes: Sequence[Size], steps: Sequence[Step], outputs: Sequence[int]) -> None:
        super().__init__()
        self.shapes, self.steps, self.outputs = tuple(shapes), tuple(steps), tuple(outputs)
        for number, step in enumerate(steps, start=len(shapes)):
            if step.op == "Parameter":
                self.register_parameter(f"p{number}", nn.Parameter(torch.randn(step.how["size"])))
            elif step.weights_of is None and step.op not in FUNCTIONS:
                self.add_module(f"m{number}", _module(step))

    def forward(self, *inputs: Tensor) -> Any:
        values: list[Tensor] = list(inputs)
        for step in self.steps:
            values.append(self.run(len(values), step, [values[i] for i in step.inputs]))
        found = [values[i] for i in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)

    def run(self, number: int, step: Step, inputs: Sequence[Tensor]) -> Tensor:
        if step.op == "Parameter":
            own: Tensor = getattr(self, f"p{number}")
            return own
        if step.op in FUNCTIONS:
            return FUNCTIONS[step.op](*inputs, **step.how)
        made: Tensor = self.get_submodule(f"m{number if step.weights_of is None else step.weights_of}")(*inputs)
        return made

    def __repr__(self) -> str:
        lines = [
            f"  {i}: {s.op}{s.inputs} {dict(s.how)}" + (f" weights of {s.weights_of}" if s.weights_of else "")
            for i, s in enumerate(self.steps, start=len(self.shapes))
        ]
        return "\n".join([f"inputs {self.shapes}", *lines, f"outputs {self.outputs}"])


class Drawing:
    """A network in the making: steps so far, and the size of every value."""

    def __init__(self, rng: np.random.Generator, inputs: Sequence[Size] = ()) -> None:
        self.rng = rng
        self.steps: list[Step] = []
        self.sizes: list[Size] = list(inputs)
        if not inputs:
            spatial = self.one_of([(6, 5), (4, 4), (8,), (5, 7), (6,), (4, 6), ()])
            self.sizes.append((self.one_of((1, 2, 3, 5)), *spatial))
            if rng.random() < 0.15:
                self.sizes.append((self.one_of((1, 3)), *spatial))
        self.inputs = len(self.sizes)
        self.used: set[int] = set()
        self.has_batch = [True] * self.inputs

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def maybe(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def divisor(self, *numbers: int) -> int:
        return int(self.one_of([d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]))

    def dim(self, axis: int, rank: int) -> int:
        """An axis, counted from either end."""
        return axis if self.maybe() else axis - rank

    def emit(self, op: str, *inputs: int, weights_of: int | None = None, **how: Any) -> int:
        """Append a step, if it can be run; returns its value's number.

        Raises:
            RuntimeError: PyTorch cannot run it, or its value is too large.
        """
        step = Step(op, inputs, how, weights_of)
        number = len(self.sizes)
        if op == "Parameter":
            size: Size = tuple(how["size"])
        else:
            size = self._size(number, step)
        if prod(size) > 1500 or not size or 0 in size:
            raise RuntimeError("too large")
        self.steps.append(step)
        self.sizes.append(size)
        self.has_batch.append(op != "Parameter")
        self.used |= set(inputs)
        return number

    def _size(self, number: int, step: Step) -> Size:
        network = RandomNetwork((), (), ())
        values = [torch.zeros((2, *self.sizes[i]) if self.has_batch[i] else self.sizes[i]) for i in step.inputs]
        if step.op not in FUNCTIONS:
            made = step if step.weights_of is None else self.steps[step.weights_of - self.inputs]
            network.add_module(f"m{number if step.weights_of is None else step.weights_of}", _module(made))
            network.eval()
        with torch.no_grad():
            return tuple(network.run(number, step, values).shape[1:])

    def step(self) -> None:
        """One draw, which may come to nothing."""
        weights = np.array([w for _, w in DRAWS])
        try:
            DRAWS[int(self.rng.choice(len(DRAWS), p=weights / weights.sum()))][0](self)
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError):
            return

    def pick(self, rank: int | None = None) -> int:
        """A value, rather a late or an unused one."""
        able = [i for i in range(len(self.sizes)) if self.has_batch[i] and (rank is None or len(self.sizes[i]) == rank)]
        if not able:
            raise RuntimeError("no such value")
        unused = [i for i in able if i not in self.used and i >= self.inputs]
        if unused and self.maybe(0.7):
            return int(self.one_of(unused))
        return int(self.one_of(able[-4:] if self.maybe(0.8) else able))

    def partner(self, x: int) -> int:
        """Another value of the same size, or one that broadcasts to it."""
        size = self.sizes[x]
        able = [i for i, s in enumerate(self.sizes) if self.has_batch[i] and i != x and _fits(s, size)]
        if not able:
            raise RuntimeError("no partner")
        return int(self.one_of(able))


def _module(step: Step) -> nn.Module:
    made: nn.Module = RandomNetwork(**step.how) if step.op == "Block" else getattr(nn, step.op)(**step.how)
    return made


def _fits(size: Size, onto: Size) -> bool:
    return len(size) == len(onto) and all(a in (1, b) for a, b in zip(size, onto, strict=True))


def convolution(d: Drawing) -> int:
    x = d.pick()
    channels, *space = d.sizes[x]
    if not space:
        return d.emit("Linear", x, in_features=channels, out_features=d.one_of(WIDTHS), bias=d.maybe(0.8))
    rank, out = len(space), d.one_of(WIDTHS)
    groups = d.divisor(channels, out) if d.maybe(0.35) else 1
    if d.maybe(0.15):
        groups, out = channels, channels * d.one_of((1, 1, 2, 3))
    kernel, dilation = d.one_of((1, 3, 3)), d.one_of((1, 1, 1, 2))
    how = {
        "in_channels": channels,
        "out_channels": out,
        "kernel_size": kernel,
        "dilation": dilation,
        "groups": groups,
        "bias": d.maybe(0.8),
        "stride": d.one_of((1, 1, 1, 2)),
        "padding": dilation * (kernel // 2),
    }
    if d.maybe(0.15):
        return d.emit(f"ConvTranspose{rank}d", x, **how)
    if d.maybe(0.1):
        how["padding_mode"] = d.one_of(("circular", "replicate", "reflect"))
    return d.emit(f"Conv{rank}d", x, **how)


def layer_used_again(d: Drawing) -> int:
    kinds = ("Conv", "Linear", "BatchNorm", "PReLU", "GroupNorm", "Block")
    able = [i for i, s in enumerate(d.steps, start=d.inputs) if s.weights_of is None and s.op.startswith(kinds)]
    if not able:
        raise RuntimeError("nothing to use again")
    number, x = d.one_of(able), d.pick()
    step = d.steps[number - d.inputs]
    if len(d.sizes[x]) != len(d.sizes[step.inputs[0]]):
        raise RuntimeError("a convolution would take the batch for channels")
    return d.emit(step.op, x, weights_of=number)


def normalisation(d: Drawing) -> int:
    x = d.pick()
    channels, *space = d.sizes[x]
    rank = max(len(space), 1)
    kind = d.one_of(("BatchNorm", "BatchNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm"))
    if kind == "BatchNorm":
        return d.emit(f"BatchNorm{rank}d", x, num_features=channels, affine=d.maybe(0.9))
    if kind == "GroupNorm":
        return d.emit("GroupNorm", x, num_groups=d.divisor(channels), num_channels=channels)
    if kind == "InstanceNorm":
        if prod(space) < 4:
            raise RuntimeError("too small")
        track = d.maybe(0.3)
        return d.emit(f"InstanceNorm{rank}d", x, num_features=channels, affine=d.maybe(), track_running_stats=track)
    last = int(d.rng.integers(1, len(space) + 2))
    if prod(d.sizes[x][-last:]) < 3:
        raise RuntimeError("too small")
    return d.emit("LayerNorm", x, normalized_shape=d.sizes[x][-last:], elementwise_affine=d.maybe(0.8))


def activation(d: Drawing) -> int:
    x = d.pick()
    which = d.one_of((*ACTIVATIONS, "PReLU", "ReLU", "ReLU", "relu_", "abs", "GLU", "Dropout", "scale", "rsub"))
    if which in ("relu_", "abs"):
        return d.emit(which, x)
    if which in ("scale", "rsub"):
        return d.emit(which, x, by=d.one_of((0.5, 2, -1.5)))
    if which == "PReLU":
        return d.emit(which, x, num_parameters=d.one_of((1, d.sizes[x][0])))
    if which == "GLU":
        return d.emit(which, x, dim=d.dim(1, len(d.sizes[x]) + 1))
    if which in ("ReLU", "SiLU", "ELU") and d.maybe(0.3):
        return d.emit(which, x, inplace=True)
    return d.emit(which, x, p=0.3) if which == "Dropout" else d.emit(which, x)


def pooling(d: Drawing) -> int:
    x = d.pick()
    rank = len(d.sizes[x]) - 1
    if rank < 1:
        raise RuntimeError("no space")
    kind = d.one_of(("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "interpolate", "Upsample"))
    if kind == "interpolate":
        return d.emit(kind, x)
    if kind == "Upsample":
        return d.emit(kind, x, scale_factor=2)
    if kind.startswith("Adaptive"):
        return d.emit(f"{kind}{rank}d", x, output_size=d.one_of((1, 2)))
    return d.emit(f"{kind}{rank}d", x, kernel_size=d.one_of((2, 3)), stride=d.one_of((1, 2)), padding=1)


def arithmetic(d: Drawing) -> int:
    x = d.pick()
    y = d.partner(x)
    op = d.one_of(("add", "add", "sub", "mul", "maximum", "add_", "add_in_place"))
    inputs = (x, y) if op.startswith("add_") or d.maybe() else (y, x)
    return d.emit(op, *inputs)


def residual(d: Drawing) -> int:
    """Back to the width of an earlier value, and added to it."""
    x = d.pick()
    size = d.sizes[x]
    inner = d.one_of(WIDTHS)
    if len(size) == 1:
        y = d.emit("Linear", x, in_features=size[0], out_features=inner)
        y = d.emit("Linear", d.emit(d.one_of(ACTIVATIONS), y), in_features=inner, out_features=size[0])
    else:
        kind, how = f"Conv{len(size) - 1}d", {"kernel_size": 3, "padding": 1}
        y = d.emit(kind, x, in_channels=size[0], out_channels=inner, **how)
        y = d.emit(kind, d.emit(d.one_of(ACTIVATIONS), y), in_channels=inner, out_channels=size[0], **how)
    return d.emit("add", x, y)


def block(d: Drawing) -> int:
    """A residual block as a module of its own: layers of any kind, one that restores the shape, and perhaps more."""
    x = d.pick()
    size = d.sizes[x]
    inner = Drawing(d.rng, (size,))
    for _ in range(d.one_of((1, 2, 4))):
        inner.step()
    y = inner.pick(len(size))
    if len(size) == 1:
        y = inner.emit("Linear", y, in_features=inner.sizes[y][0], out_features=size[0])
    else:
        channels = {"in_channels": inner.sizes[y][0], "out_channels": size[0]}
        y = inner.emit(f"Conv{len(size) - 1}d", y, kernel_size=3, padding=1, **channels)
    if inner.sizes[y] != size:
        raise RuntimeError("another size")
    if d.maybe(0.4):
        y = inner.emit(f"BatchNorm{max(len(size) - 1, 1)}d", y, num_features=size[0])
    which = d.one_of(("plain", "plain", "scaled", "dropped", "activated", "gated"))
    if which == "scaled":
        y = inner.emit("mul", y, inner.emit("Parameter", size=(size[0], *(1 for _ in size[1:]))))
    elif which == "gated":
        y = inner.emit("mul", y, inner.emit("sigmoid", y))
    elif which != "plain":
        y = inner.emit("Dropout", y, p=0.2) if which == "dropped" else inner.emit(d.one_of(ACTIVATIONS), y)
    out = inner.emit("add", *((0, y) if d.maybe() else (y, 0)))
    if d.maybe(0.4):
        out = inner.emit(d.one_of(("ReLU", "ReLU6", "SiLU")), out)
    return d.emit("Block", x, shapes=(size,), steps=tuple(inner.steps), outputs=(out,))


def gate(d: Drawing) -> int:
    """Squeeze and excite, a gate of one channel, or a gate made by a mean or maximum over channels."""
    x = d.pick()
    channels, *space = d.sizes[x]
    if not space:
        raise RuntimeError("no space")
    kind = f"Conv{len(space)}d"
    every = tuple(range(2, len(space) + 2)) if d.maybe() else tuple(range(-len(space), 0))
    which = d.one_of(("excite", "one", "over channels", "over both"))
    if which == "excite":
        y = d.emit("mean", x, dim=every, keepdim=True)
        y = d.emit(kind, y, in_channels=channels, out_channels=d.one_of((channels, channels, 1)), kernel_size=1)
    elif which == "one":
        y = d.emit(kind, x, in_channels=channels, out_channels=1, kernel_size=1)
    else:
        op = d.one_of(("mean", "amax"))
        y = d.emit(op, x, dim=d.dim(1, len(space) + 2) if which == "over channels" else (1, *every), keepdim=True)
    return d.emit(d.one_of(("mul", "add")), x, d.emit("sigmoid", y))


def joining(d: Drawing) -> int:
    x = d.pick()
    size = d.sizes[x]
    axis = 1 if d.maybe(0.8) else int(d.rng.integers(1, len(size) + 1))
    other = [*size[: axis - 1], *size[axis:]]
    able = [i for i, s in enumerate(d.sizes) if d.has_batch[i] and [*s[: axis - 1], *s[axis:]] == other]
    parts = [d.one_of(able) for _ in range(d.one_of((1, 1, 2)))]
    return d.emit("cat", *d.rng.permutation([x, *parts]).tolist(), dim=d.dim(axis, len(size) + 1))


def cutting(d: Drawing) -> int:
    x = d.pick()
    channels, rank = d.sizes[x][0], len(d.sizes[x]) + 1
    if channels < 2:
        raise RuntimeError("one channel")
    dim, start = d.dim(1, rank), int(d.rng.integers(channels))
    which = d.one_of(("chunk", "split", "slice", "slice_from_end", "narrow", "every_other", "select", "gated"))
    if which in ("chunk", "gated"):
        chunks = d.divisor(channels) if d.maybe(0.9) else 2
        first = d.emit("chunk", x, chunks=chunks, dim=dim, index=0)
        if which == "chunk" or chunks == 1:
            return first
        return d.emit("mul", first, d.emit("sigmoid", d.emit("chunk", x, chunks=chunks, dim=dim, index=1)))
    if which == "split":
        at = int(d.rng.integers(1, channels))
        first, last = (d.emit(which, x, sizes=(at, channels - at), dim=dim, index=i) for i in (0, 1))
        return d.emit("cat", last, first, dim=dim) if d.maybe(0.3) else first
    if which == "slice":
        return d.emit(which, x, start=start, stop=int(d.rng.integers(start + 1, channels + 1)))
    if which == "slice_from_end":
        return d.emit(which, x, start=start + 1)
    if which == "narrow":
        return d.emit(which, x, start=start, length=int(d.rng.integers(1, channels - start + 1)))
    return d.emit(which, x) if which == "every_other" else d.emit(which, x, index=d.one_of((start, -1)))


def rearranging(d: Drawing) -> int:
    which = d.one_of(("shuffle", "ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "flatten", "view", "unflatten"))
    if which.startswith("Pixel"):
        x = d.pick(3)
        return d.emit(which, x, **{"upscale_factor" if which == "PixelShuffle" else "downscale_factor": 2})
    x = d.pick()
    channels = d.sizes[x][0]
    if which in ("shuffle", "ChannelShuffle"):
        return d.emit(which, x, groups=d.divisor(channels))
    if which == "unflatten":
        parts = d.divisor(channels)
        sizes = (parts, channels // parts) if d.maybe() else (channels // parts, parts)
        return d.emit(which, x, sizes=(*sizes, *d.sizes[x][1:])) if len(d.sizes[x]) < 3 else d.emit("flatten", x)
    return d.emit(which, x)


def tokens(d: Drawing) -> int:
    """Channels last, or layers that act on other axes than the channels."""
    which = d.one_of(("tokens", "transpose", "mixing", "last", "heads", "permute", "bn on tokens"))
    if which == "tokens":
        return d.emit(which, d.pick(3))
    if which == "transpose":
        x = d.pick(d.one_of((2, 3)))
        a, b = d.one_of([(1, 2), (-1, -2), (1, -1)])
        return d.emit(which, x, a=a, b=b)
    if which == "permute":
        order = [0, *(1 + d.rng.permutation(3)).tolist()]
        return d.emit(which, d.pick(3), order=tuple(order))
    if which == "heads":
        x = d.pick(2)
        return d.emit(which, x, heads=d.divisor(d.sizes[x][1]))
    x = d.pick(2)
    last = d.sizes[x][-1]
    if which == "bn on tokens":
        y = d.emit("Linear", x, in_features=last, out_features=d.one_of(WIDTHS))
        return d.emit("ReLU", d.emit("BatchNorm1d", y, num_features=d.sizes[x][0]))
    if which == "mixing":
        return d.emit("Linear", x, in_features=last, out_features=last if d.maybe() else d.one_of(WIDTHS))
    turned = d.emit("transpose", x, a=1, b=2)
    return d.emit(
        "transpose", d.emit("Linear", turned, in_features=d.sizes[x][0], out_features=d.one_of(WIDTHS)), a=1, b=2
    )


def reduction(d: Drawing) -> int:
    x = d.pick()
    rank = len(d.sizes[x]) + 1
    axis = int(d.rng.integers(1, rank))
    which = d.one_of(("mean", "amax", "mean", "softmax", "sum", "var", "normalize", "matmul"))
    if which in ("softmax", "normalize"):
        return d.emit(which, x, dim=d.dim(axis, rank))
    if which == "matmul":
        if len(d.sizes[x]) != 2:
            raise RuntimeError("no matrix")
        return d.emit(which, x, d.emit("transpose", x, a=1, b=2))
    keep = d.maybe() or rank == 2
    return d.emit(which, x, dim=d.dim(axis, rank), keepdim=keep)


def parameter(d: Drawing) -> int:
    """A tensor of the network's own, added or multiplied."""
    x = d.pick()
    size = tuple(n if d.maybe(0.6) else 1 for n in d.sizes[x])
    if d.maybe():
        size = (1, *size)
    elif d.maybe(0.3):
        size = size[int(d.rng.integers(len(size))) :]
    op = d.one_of(("add", "mul"))
    p = d.emit("Parameter", size=size)
    return d.emit(op, x, p) if d.maybe(0.7) else d.emit(op, p, x)


def padding(d: Drawing) -> int:
    x = d.pick()
    ahead = [0, 0] * (len(d.sizes[x]) - 1)
    amounts = d.one_of([(0, 1), (1, 2), (2, 0), (0, 3)])
    return d.emit("pad", x, pad=(*ahead, *amounts), value=d.one_of((0.0, 0.0, 0.5)))


def axes(d: Drawing) -> int:
    x = d.pick()
    which = d.one_of(("unsqueeze", "squeeze", "expand"))
    size = d.sizes[x]
    if which == "unsqueeze" and len(size) < 3:
        return d.emit(which, x, dim=d.one_of((1, len(size) + 1, -1)))
    ones = [i for i, n in enumerate(size) if n == 1]
    if not ones:
        raise RuntimeError("no axis of size 1")
    at = d.one_of(ones)
    if which == "squeeze" and len(size) > 1:
        return d.emit(which, x, dim=d.dim(at + 1, len(size) + 1))
    return d.emit("expand", x, sizes=tuple(3 if i == at else -1 for i in range(len(size))))


DRAWS: tuple[tuple[Callable[[Drawing], int], float], ...] = (
    (convolution, 6),
    (normalisation, 2.5),
    (activation, 4),
    (pooling, 1.5),
    (arithmetic, 2.5),
    (residual, 1),
    (block, 0.8),
    (gate, 1),
    (joining, 1.5),
    (cutting, 1.5),
    (rearranging, 1.5),
    (tokens, 1.5),
    (reduction, 0.7),
    (parameter, 1.2),
    (padding, 0.5),
    (axes, 0.7),
    (layer_used_again, 0.8),
)


def random_network(seed: int, *, length: int | None = None) -> RandomNetwork:
    """The network of that seed, with drawn weights."""
    rng = np.random.default_rng(seed)
    d = Drawing(rng)
    wanted = length or int(rng.integers(4, 16))
    convolution(d)
    for _ in range(8 * wanted):
        if len(d.steps) >= wanted:
            break
        d.step()
    outputs = _finish(d)
    torch.manual_seed(seed)
    return RandomNetwork(d.sizes[: d.inputs], d.steps, outputs)


def _finish(d: Drawing) -> list[int]:
    """Every value that nothing reads is read out; one in ten leaves the network as it is."""
    outputs = []
    for x in range(len(d.sizes)):
        if x in d.used or x < d.inputs or not d.has_batch[x]:
            continue
        if d.maybe(0.1):
            outputs.append(x)
            continue
        if len(d.sizes[x]) == 1 or d.maybe():
            flat = x if len(d.sizes[x]) == 1 else d.emit("flatten", x)
            outputs.append(d.emit("Linear", flat, in_features=d.sizes[flat][0], out_features=3))
        else:
            how = {"in_channels": d.sizes[x][0], "out_channels": 1, "kernel_size": 1}
            outputs.append(d.emit(f"Conv{len(d.sizes[x]) - 1}d", x, **how))
    return outputs or [len(d.sizes) - 1]
