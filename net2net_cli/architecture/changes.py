"""What differs between two networks, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from net2net_cli.architecture.cost import layer_parameters, width
from net2net_cli.architecture.graph import Graph, Layer
from net2net_cli.architecture.ops import attributes

Kind = Literal["wider", "narrower", "new", "gone", "other"]


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer that is not the same in both networks.

    Attributes:
        kind: `wider` or `narrower` if its own width changed; `new` or `gone`; `other` for a layer that follows one.
        width: before and after; None where there is no layer or no channel axis.
        parameters: before and after.
        attributes: name -> before and after, as far as they differ.
    """

    name: str
    op: str
    kind: Kind
    width: tuple[int | None, int | None]
    parameters: tuple[int, int]
    attributes: Mapping[str, tuple[Any, Any]]

    @property
    def makes_channels(self) -> bool:
        """Whether the layer has a width of its own, rather than that of its input."""
        kind = self.op.removeprefix("WeightNorm")
        return kind.startswith("Conv") or "Attention" in kind or kind in _MAKERS


_MAKERS = ("Linear", "Matrix", "Embedding", "LSTM", "GRU", "RNN")


def changes(before: Graph, after: Graph) -> list[LayerChange]:
    """Layers that differ, in the order of the later network; those that are gone come last."""
    found = [
        change for layer in after.layers if (change := _change(before, after, before.by_name.get(layer.name), layer))
    ]
    gone = [layer for layer in before.layers if layer.name not in after.by_name]
    return found + [change for layer in gone if (change := _change(before, after, layer, None))]


def _change(before: Graph, after: Graph, old: Layer | None, new: Layer | None) -> LayerChange | None:
    if (
        old is not None
        and new is not None
        and old.op == new.op
        and old.weights_of == new.weights_of
        and old.tied == new.tied
    ):
        return None
    layer = new or old
    assert layer is not None
    widths = (width(before, old) if old else None, width(after, new) if new else None)
    counts = (layer_parameters(old) if old else 0, layer_parameters(new) if new else 0)
    return LayerChange(layer.name, layer.op.name, _kind(old, new, widths), widths, counts, _attributes(old, new))


def _kind(old: Layer | None, new: Layer | None, widths: tuple[int | None, int | None]) -> Kind:
    if old is None:
        return "new"
    if new is None:
        return "gone"
    if widths[0] is None or widths[1] is None or widths[0] == widths[1]:
        return "other"
    return "wider" if widths[0] < widths[1] else "narrower"


def _attributes(old: Layer | None, new: Layer | None) -> dict[str, tuple[Any, Any]]:
    if old is None or new is None:
        return {}
    a, b = attributes(old.op), attributes(new.op)
    return {key: (a.get(key), b.get(key)) for key in (*a, *(k for k in b if k not in a)) if a.get(key) != b.get(key)}
