"""Coupled groups for people: which layers grow together, and which op couples them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from net2net_cli.channels.labels import Labels
from net2net_cli.channels.unions import Ints


@dataclass(frozen=True, slots=True)
class Member:
    """A layer that grows with another one, and why."""

    layer: str
    why: str


class Groups:
    """Which layers make, carry and read the channels of which others.

    A layer *makes* channels where it has a width of its own; norms and the like *follow*; consumers *read*.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.layers = [layer.name for layer in labels.graph.layers if layer.weights_of is None]
        self._row = {name: i for i, name in enumerate(self.layers)}
        own = {name: axis for name in self.layers if (axis := labels.output_axis(name)) is not None}
        self.widths: dict[str, Ints] = own
        found = labels.found
        carried = [(p[0], a) for p, a in found.places.items() if p not in found.created and p not in found.readers]
        made = self._incidence(own.items())
        follows = self._incidence((n, a) for n, a in carried if a is not None and n in self._row)
        reading = [(layer.owner, found.places[p]) for p, layers in found.readers.items() for layer in layers]
        reads = self._incidence((name, a) for name, a in reading if a is not None)
        # (layers, layers): whether the first one's own channels are among those of the second.
        self._makes, self._follows, self._reads = (made @ other.T > 0 for other in (made, follows, reads))
        creators = {name for name, _, _ in found.created}
        ops = {layer.name: layer.op for layer in labels.graph.layers}
        self._depthwise = {n for n in self.layers if getattr(ops[n], "depthwise", False) and n not in creators}

    def _incidence(self, pairs: Iterable[tuple[str, Ints]]) -> npt.NDArray[np.float32]:
        """`(layers, classes)`: 1 where a layer has channels of the class."""
        matrix = np.zeros((len(self.layers), max(1, self.labels.classes)), dtype=np.float32)
        for name, axis in pairs:
            matrix[self._row[name], self.labels.group[axis]] = 1.0
        return matrix

    def _meeting(self, layer: str, others: npt.NDArray[np.bool_]) -> list[str]:
        return [self.layers[i] for i in np.flatnonzero(others[self._row[layer]]) if self.layers[i] != layer]

    def followers(self, layer: str) -> list[str]:
        """Layers that carry its channels, and grow with them: norms, depthwise convolutions, PReLU."""
        makers = set(self._meeting(layer, self._makes))
        return [name for name in self._meeting(layer, self._follows) if name not in makers]

    def readers(self, layer: str) -> list[str]:
        """Layers whose weights read its channels."""
        return self._meeting(layer, self._reads)

    def members(self, layer: str) -> list[Member]:
        """Layers with a width of their own that grow with it, each with the op that couples it."""
        reasons = self._reasons(layer)
        return [Member(name, reasons.get(name, "shares its channels")) for name in self._meeting(layer, self._makes)]

    @cached_property
    def _owner(self) -> Ints:
        """`(labels,)`: the layer that made each label, directly or through a rearrangement, or −1."""
        owner = np.full(max(1, self.labels.found.count), -1, dtype=np.int64)
        for (name, _, _), made in self.labels.found.created.items():
            owner[made] = self._row.get(name, -1)
        for nested in (*self.labels.found.nested, *reversed(self.labels.found.nested)):
            whole, factor = nested.whole, nested.factor
            spread = np.broadcast_to(owner[factor][None, :, None], whole.shape)
            owner[whole] = np.where(owner[whole] < 0, spread, owner[whole])
            owner[factor] = np.where(owner[factor] < 0, owner[whole].max(axis=(0, 2)), owner[factor])
        return owner

    @cached_property
    def _edges(self) -> dict[int, list[tuple[int, str]]]:
        """Which layers each layer was tied to, and by what."""
        edges: dict[int, list[tuple[int, str]]] = {}
        found = self.labels.found
        for tie in (*found.ties, *found.same_count):
            pairs = np.stack([self._owner[np.ravel(tie.a)], self._owner[np.ravel(tie.b)]])
            for a, b in np.unique(pairs, axis=1).T.tolist():
                if a >= 0 and b >= 0 and a != b:
                    why = f"`{tie.layer.name}` {tie.why}"
                    edges.setdefault(a, []).append((b, why))
                    edges.setdefault(b, []).append((a, why))
        return edges

    def _reasons(self, layer: str) -> dict[str, str]:
        """For each layer that is reached from this one over ties: the last tie on the shortest way."""
        start = self._row[layer]
        reasons: dict[int, str] = {start: ""}
        if layer in self._depthwise:
            makers = [self._row[name] for name in self._meeting(layer, self._makes)]
            reasons |= dict.fromkeys(makers, f"`{layer}` is depthwise: each filter follows its channel")
        waiting = deque(reasons)
        while waiting:
            for other, why in self._edges.get(waiting.popleft(), []):
                if other not in reasons:
                    reasons[other] = why
                    waiting.append(other)
        named = {self.layers[i]: why for i, why in reasons.items()}
        for name in self._depthwise:
            if name not in named:
                named[name] = "it is depthwise: each filter follows its channel"
        return named
