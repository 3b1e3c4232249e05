"""A network as data: layers in order, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from net2net_cli.architecture.ops.base import Op, TensorSlot
from net2net_cli.architecture.shapes import Shape, show
from net2net_cli.errors import SpecError

Mode: TypeAlias = Literal["eval", "train"]
When: TypeAlias = Literal["always", "train"]

Structure: TypeAlias = Any
"""What `forward` returns, as JSON: an output's name, null, `{"tuple": […]}`, `{"list": […]}`, `{"dict": {…}}` or
`{"namedtuple": "TypeName", "fields": {…}}`, nested."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """An argument of `forward`."""

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Tie:
    """A tensor of a layer that is a tensor of another layer: an output layer that reads its embedding's table.

    Attributes:
        slot: the layer's own name for it.
        layer: whose it is.
        of: that layer's name for it.

    """

    slot: str
    layer: str
    of: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One op at one place.

    Attributes:
        name: the module's path in the user's model; for layers without tensors, any unique name.
        inputs: names of layers or network inputs.
        weights_of: the layer whose tensors this one uses, where it has none of its own.
        when: `train` for layers that only training reaches.
        tied: tensors that belong to other layers, which may do something else with them.

    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    weights_of: str | None = None
    when: When = "always"
    tied: tuple[Tie, ...] = ()

    @property
    def owner(self) -> str:
        """The layer that owns the tensors this one uses."""
        return self.weights_of or self.name

    def home(self, slot: str) -> tuple[str, str]:
        """The layer that owns a tensor which this one uses, and that layer's name for it."""
        return next(((tie.layer, tie.of) for tie in self.tied if tie.slot == slot), (self.owner, slot))

    def place(self, slot: str, axis: int) -> tuple[str, str, int]:
        """An axis of a tensor that it uses: the layer that owns the tensor, that layer's name for it, the axis."""
        return (*self.home(slot), axis)

    def own_tensors(self) -> dict[str, TensorSlot]:
        """The tensors that belong to this layer and no other, by the op's names for them."""
        if self.weights_of is not None:
            return {}
        borrowed = {tie.slot for tie in self.tied}
        return {slot: found for slot, found in self.op.tensors().items() if slot not in borrowed}

    def tensor_name(self, slot: str) -> str:
        """The name in the state dict; a plain parameter is a layer whose only tensor has the layer's own name."""
        return tensor_name(*self.home(slot))


def tensor_name(layer: str, slot: str) -> str:
    """The name of a layer's tensor in the state dict."""
    return f"{layer}.{slot}" if slot else layer


@dataclass(frozen=True)
class Graph:
    """A network. Layers stand in an order in which they can run.

    Attributes:
        outputs: output name -> the value it holds.
        returns: what `forward` returns in each mode, built of output names.

    """

    name: str
    source: str
    inputs: tuple[NetworkInput, ...]
    layers: tuple[Layer, ...]
    outputs: Mapping[str, str]
    returns: Mapping[Mode, Structure] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def readers(self) -> dict[str, list[Layer]]:
        """For each value, the layers that take it as an input or read its size, in order."""
        found: dict[str, list[Layer]] = {name: [] for name in [i.name for i in self.inputs] + list(self.by_name)}
        for layer in self.layers:
            for value in dict.fromkeys((*layer.inputs, *layer.op.references())):
                found[value].append(layer)
        return found

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value.

        Raises:
            SpecError: a layer does not fit its inputs.

        """
        found: dict[str, Shape] = {i.name: i.shape for i in self.inputs}
        for layer in self.layers:
            given = [found[name] for name in (*layer.inputs, *layer.op.references())]
            try:
                found[layer.name] = layer.op.shape(*given)
            except (ValueError, LookupError, TypeError, ArithmeticError, AssertionError) as wrong:
                shapes = ", ".join(show(found[name]) for name in layer.inputs)
                raise SpecError(
                    f"layer `{layer.name}` ({layer.op.name}) does not fit its input {shapes}: {_reason(wrong)}",
                    "correct its attributes or what it reads; `net2net schema` prints what they may be",
                ) from None
        return found

    def tensors(self) -> Iterator[tuple[str, Layer, str, TensorSlot]]:
        """Every tensor once: its name in the state dict, the layer that owns it, the op's name for it, and its slot."""
        return iter(self._tensors)

    @cached_property
    def _tensors(self) -> tuple[tuple[str, Layer, str, TensorSlot], ...]:
        owned = ((layer, key, slot) for layer in self.layers for key, slot in layer.own_tensors().items())
        return tuple((layer.tensor_name(key), layer, key, slot) for layer, key, slot in owned)

    def shares_tensors(self, name: str) -> bool:
        """Whether a layer uses tensors of another one, or another one its."""
        layer = self.by_name[name]
        if layer.weights_of is not None or layer.tied:
            return True
        return any(other.weights_of == name or any(t.layer == name for t in other.tied) for other in self.layers)

    def output_values(self) -> set[str]:
        """The values that leave the network."""
        return set(self.outputs.values())


def _reason(wrong: Exception) -> str:
    """What an op found, in its own words; Python's own are no help to anyone who wrote a spec."""
    foreign = not isinstance(wrong, ValueError) or str(wrong).startswith("zip()")
    return "its attributes need other axes than its input has" if foreign else str(wrong)
