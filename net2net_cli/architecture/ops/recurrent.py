"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from net2net_cli.architecture.flow import Axes, Axis, Channels, Flow
from net2net_cli.architecture.ops.base import Op, TensorSlot, op
from net2net_cli.architecture.shapes import Batch, Shape, show

MOST_LAYERS = 1000
"""Of one module; the number comes from a file."""


@dataclass(frozen=True)
class Recurrent(Op):
    """A stack of recurrent layers: `(n, time, in)` -> `(n, time, directions · hidden)`.

    Each layer and direction creates its hidden units. The rows of its weights are `gates` blocks of them, all of which
    follow the same units; the columns of `weight_hh`, and of the next layer's `weight_ih`, read them. The module has
    one width for all layers and directions, so that they grow together.

    It starts at zero, or with the states that are its further inputs, `(layers · directions, n, hidden)`.

    The output is the sequence of the last layer's states, forward and backward side by side. What a module returns
    beside it, its final states, are slices of that sequence where they belong to the last layer. With `states` all of
    them stand behind the sequence, as further steps: of each layer its hidden state, then of each its cell state.
    Whatever unit of a layer they belong to has its copies where the last layer has them.

    Attributes:
        states: whether final states are returned too.
    """

    gates: ClassVar[int]
    signature: ClassVar[str] = "input hx cell"
    arity: ClassVar[int | None] = None
    optional: ClassVar[tuple[str, ...]] = ("hx", "cell")
    kept: ClassVar[tuple[str, ...]] = ("hidden",)
    """The states that each layer and direction goes on with."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    states: bool | None = field(default=None, kw_only=True)

    @classmethod
    def from_module(cls, module: Any) -> Self:
        if getattr(module, "proj_size", 0):
            raise ValueError("`proj_size` is not supported: leave it 0, and put a linear layer behind")
        return super().from_module(module)

    @classmethod
    def read_attribute(cls, module: Any, attribute: str) -> Any:
        if attribute == "states":  # PyTorch's modules always return them
            return getattr(module, "states", None) or None
        value = super().read_attribute(module, attribute)
        return float(value) if attribute == "dropout" else value

    def called_with(self, arguments: Mapping[str, Any]) -> Self:
        return super().called_with({name: value for name, value in arguments.items() if name not in self.optional})

    def check(self) -> None:
        super().check()
        if not 1 <= self.num_layers <= MOST_LAYERS:
            raise ValueError(f"it has {self.num_layers} layers; 1 to {MOST_LAYERS} are possible")

    @property
    def directions(self) -> int:
        """1, or 2 where it also runs backwards."""
        return 2 if self.bidirectional else 1

    @property
    def time(self) -> int:
        """The axis of the input along which it runs."""
        return 1 if self.batch_first else 0

    def parts(self) -> Iterator[tuple[int, str]]:
        """Every layer and direction in PyTorch's order: its layer, and the ending of its tensors' names."""
        for layer in range(self.num_layers):
            for ending in ("", "_reverse")[: self.directions]:
                yield layer, f"_l{layer}{ending}"

    @property
    def silent(self) -> tuple[str, ...]:  # type: ignore[override]
        """States that start at zero stay there where all that makes them in the last layer is zero."""
        last = [name for layer, name in self.parts() if layer == self.num_layers - 1]
        return tuple(f"{tensor}{name}" for name in last for tensor in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def tensors(self) -> dict[str, TensorSlot]:
        rows, hidden = self.gates * self.hidden_size, self.hidden_size
        found = {}
        for layer, name in self.parts():
            read = self.directions * hidden if layer else self.input_size
            found[f"weight_ih{name}"] = TensorSlot((rows, read), fan_in=hidden)
            found[f"weight_hh{name}"] = TensorSlot((rows, hidden), fan_in=hidden)
            if self.bias:
                found[f"bias_ih{name}"] = found[f"bias_hh{name}"] = TensorSlot((rows,), fan_in=hidden)
        return found

    def shape(self, *inputs: Shape) -> Shape:
        x, *initial = inputs
        if len(x) != 3 or x[2] != self.input_size:
            raise ValueError(f"its input needs three axes, the last of size {self.input_size}")
        steps, size = x[self.time], self.directions * self.hidden_size
        if isinstance(steps, Batch):
            raise ValueError("it runs along the batch axis: use `batch_first=True`, or transpose its input")
        start = (self.directions * self.num_layers, x[1 - self.time], self.hidden_size)
        if initial and initial != [start] * len(self.kept):
            states = " and ".join(f"{name} states" for name in self.kept)
            raise ValueError(f"its inputs are the sequence and, if it is given {states}, those of shape {show(start)}")
        steps += len(self.kept) * self.num_layers if self.states else 0
        return (x[0], steps, size) if self.batch_first else (steps, x[1], size)

    def flow(self, f: Flow, *inputs: Channels) -> Axes:
        x, *initial = inputs
        size, directions = self.hidden_size, self.directions
        f.mix(x.axes[self.time], "runs along it")
        units = {name: f.create(f"hidden{name}", 0, size) for _, name in self.parts()}
        if self.states or initial:
            self._aligned(f, units, initial)
        every = f.concat([(own, size) for own in units.values()])
        f.equal_parts(every, size=len(units) * size, parts=len(units))
        read, width = x.axes[2], self.input_size
        for layer in range(self.num_layers):
            names = [name for of, name in self.parts() if of == layer]
            for name in names:
                self._part(f, name, units[name], read, width)
            read, width = f.concat([(units[name], size) for name in names]), directions * size
        f.set(
            input_size=f.width(x.axes[2], self.input_size),
            hidden_size=f.width(read, directions * size) // directions,
        )
        axes = list(x.axes[:2])
        if self.states:
            axes[self.time] = None
        return (*axes, read)

    def _aligned(self, f: Flow, units: dict[str, Axis], initial: Sequence[Channels]) -> None:
        """Units that have their copies at the same places: those of all layers, and of both directions at the start."""
        names = [name for _, name in self.parts()]
        apart = 1 if initial else self.directions
        for state in initial:
            f.mix(state.axes[0], "starts each layer and direction with one of them")
        for direction in range(apart):
            alike = names[direction::apart]
            meeting = [units[name] for name in alike] + [state.axes[2] for state in initial]
            common = meeting[0]
            for axis in meeting[1:]:
                common = f.tie(common, axis, size=self.hidden_size)
            units.update(dict.fromkeys(alike, common))

    def _part(self, f: Flow, name: str, units: Axis, read: Axis, width: int) -> None:
        """One direction of one layer: the blocks of its rows follow its units, its columns read."""
        rows = self.gates * self.hidden_size
        blocks = f.concat([(units, self.hidden_size)] * self.gates)
        for tensor in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ())):
            f.carry(f"{tensor}{name}", 0, blocks, size=rows)
        f.consume(f"weight_ih{name}", 1, read, size=width, rows=0)
        f.consume(f"weight_hh{name}", 1, units, size=self.hidden_size, rows=0)


@op("LSTM", module="net2net_cli.runtime.modules.LSTM")
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    reads_modules = ("torch.nn.LSTM", "net2net_cli.runtime.modules.LSTM")
    gates = 4
    kept = ("hidden", "cell")


@op("GRU", module="net2net_cli.runtime.modules.GRU")
class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078)."""

    reads_modules = ("torch.nn.GRU", "net2net_cli.runtime.modules.GRU")
    gates = 3


@op("RNN", module="net2net_cli.runtime.modules.RNN")
class RNN(Recurrent):
    """Plain recurrent units (Elman 1990)."""

    reads_modules = ("torch.nn.RNN", "net2net_cli.runtime.modules.RNN")
    gates = 1

    nonlinearity: Literal["tanh", "relu"]
