"""Sound files to start from: many small networks, so that a damaged spec reaches every op."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from channels.sketch import conv, layer, linear, make, network, norm

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.spec_file import to_json_text

SOURCE = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.bn, self.out = nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, x):
        return self.out(self.bn(self.fc(x)).relu())
"""


@dataclass(frozen=True)
class Seed:
    """A sound checkpoint: its bytes, and its spec as a document."""

    name: str
    data: bytes
    spec: Any
    layers: tuple[str, ...]


def residual(wide: int = 4, inner: int = 6) -> Graph:
    """A small network with an addition, a batch norm and a flattening."""
    return network(
        (3, 6, 6),
        layer("conv1", conv(3, wide, 3), "x"),
        layer("bn1", norm(wide), "conv1"),
        layer("relu1", make("ReLU"), "bn1"),
        layer("block.conv2", conv(wide, inner, 3), "relu1"),
        layer("block.relu2", make("ReLU"), "block.conv2"),
        layer("block.conv3", conv(inner, wide, 1), "block.relu2"),
        layer("block.add", make("add"), "block.conv3", "relu1"),
        layer("pool", make("AdaptiveAvgPool2d", (1, 1)), "block.add"),
        layer("flat", make("rearrange", "n c 1 1 -> n c"), "pool"),
        layer("fc", linear(wide, 5), "flat"),
    )


def weights(graph: Graph, *, most: int = 1 << 20) -> dict[str, np.ndarray] | None:
    """Tensors that fit a graph; None where they would be large."""
    slots = [(name, key, slot) for name, _, key, slot in graph.tensors()]
    if sum(int(np.prod(slot.shape, dtype=object)) for _, _, slot in slots) > most:
        return None
    chance = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for name, key, slot in slots:
        values = np.asarray(chance.normal(size=slot.shape), dtype=np.float32)
        found[name] = (
            np.zeros(slot.shape, np.int64) if slot.integer else np.abs(values) + 1 if key == "running_var" else values
        )
    return found


def seed_of(name: str, model: Net2Net, folder: Path) -> Seed:
    """A model as its file holds it."""
    path = folder / f"{name}.safetensors"
    model.save(path, force=True)
    owners = tuple(dict.fromkeys(layer.name for _, layer, *_ in model.graph.tensors()))
    return Seed(name, path.read_bytes(), json.loads(to_json_text(model.graph)), owners)


def make_seeds(folder: Path, *, every: bool) -> list[Seed]:
    """The residual network, a student of it (which has a lineage), and small networks of many kinds.

    Args:
        folder: to write them in.
        every: all networks of the zoo, instead of a few of them.
    """
    graph = residual()
    tensors = weights(graph)
    assert tensors is not None
    first = Net2Net.from_tensors(graph, tensors)
    found = [seed_of("residual", first, folder)]
    grown = Net2Net.load(folder / "residual.safetensors").widen({"conv1": 6}).deepen(["block.conv2"])
    found.append(seed_of("student", grown, folder))
    found += [seed_of(name, model, folder) for name, model in _zoo(every=every)]
    return found


FEW = ("Gated", "DictOutputs", "TransformerEncoderLayer")
"""Of all networks, those that the tests start from: a gate, named outputs, attention."""


def _zoo(*, every: bool) -> list[tuple[str, Net2Net]]:
    from zoo.networks import ENTRIES

    found = []
    for name, entry in ENTRIES.items():
        if every or name in FEW:
            torch.manual_seed(0)
            example = tuple(torch.randn(2, *shape) for shape in entry.shapes)
            found.append((name, Net2Net.from_module(entry.make(), example, name=name)))
    if every:
        found += _attentions()
    for name, module, shape in _modules():
        if every or name in FEW:
            words = torch.zeros(2, *shape, dtype=torch.int64) if name == "Words" else torch.randn(2, *shape)
            found.append((name, Net2Net.from_module(module, words, name=name)))
    return found


def _attentions() -> list[tuple[str, Net2Net]]:
    from zoo import attentions
    from zoo.test_maxvit import maxvit
    from zoo.test_mvit import CLIP, mvit
    from zoo.test_swin import SHAPES, swin

    wanted = [(kind, swin(kind), SHAPES[kind]) for kind in SHAPES]
    wanted += [("MaxVit", maxvit(), (3, 32, 32)), ("MViT1", mvit(1), CLIP), ("MViT2", mvit(2), CLIP)]
    wanted += [(name, spelling.network(), attentions.SHAPES[0]) for name, spelling in attentions.SPELLINGS.items()]
    return [(name, Net2Net.from_module(module, torch.randn(2, *shape), name=name)) for name, module, shape in wanted]


def _modules() -> list[tuple[str, torch.nn.Module, tuple[int, ...]]]:
    from torch import nn

    words = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    return [
        ("TransformerEncoderLayer", nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (3, 4)),
        ("Words", words, (4,)),
        ("Recurrent", Recurrent(), (3, 4)),
    ]


class Recurrent(torch.nn.Module):
    """An LSTM and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = torch.nn.LSTM(4, 5, batch_first=True), torch.nn.GRU(5, 3, batch_first=True)
        self.fc = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """All steps."""
        y, _ = self.lstm(x)
        z, _ = self.gru(y)
        return self.fc(z)
