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
class Layer:
    """One op at one place.

    Attributes:
        name: the module's path in the user's model; for layers without tensors, any unique name.
        inputs: names of layers or network inputs.
        weights_of: the layer whose tensors this one uses, where it has none of its own.
        when: `train` for layers that only training reaches.

    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    weights_of: str | None = None
    when: When = "always"

    @property
    def owner(self) -> str:
        """The layer that owns the tensors this one uses."""
        return self.weights_of or self.name

    def tensor_name(self, slot: str) -> str:
        """The name in the state dict; a plain parameter is a layer whose only tensor has the layer's own name."""
        return f"{self.owner}.{slot}" if slot else self.owner


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
            try:
                found[layer.name] = layer.op.shape(*(found[name] for name in (*layer.inputs, *layer.op.references())))
            except KeyError as missing:
                raise SpecError(f"layer `{layer.name}` reads {missing}, which no layer before it makes") from None
            except (ValueError, IndexError, TypeError, ArithmeticError, AssertionError) as wrong:
                given = ", ".join(show(found[name]) for name in layer.inputs)
                raise SpecError(
                    f"layer `{layer.name}` ({layer.op.name}) does not fit its input {given}: {wrong}"
                ) from None
        return found

    def tensors(self) -> Iterator[tuple[str, Layer, str, TensorSlot]]:
        """Every tensor once: its name in the state dict, the layer that owns it, the op's name for it, and its slot."""
        for layer in self.layers:
            if layer.weights_of is None:
                for key, slot in layer.op.tensors().items():
                    yield layer.tensor_name(key), layer, key, slot

    def output_values(self) -> set[str]:
        """The values that leave the network."""
        return set(self.outputs.values())
