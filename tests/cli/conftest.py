"""A small residual network on disk, made without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from channels.sketch import conv, layer, linear, make, network, norm

from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph


def residual() -> Graph:
    """conv1 and conv3 are coupled by the addition; conv2 is free; fc is the output."""
    return network(
        (3, 6, 6),
        layer("conv1", conv(3, 4, 3), "x"),
        layer("bn1", norm(4), "conv1"),
        layer("relu1", make("ReLU"), "bn1"),
        layer("block.conv2", conv(4, 6, 3), "relu1"),
        layer("block.relu2", make("ReLU"), "block.conv2"),
        layer("block.conv3", conv(6, 4, 1), "block.relu2"),
        layer("block.add", make("add"), "block.conv3", "relu1"),
        layer("pool", make("AdaptiveAvgPool2d", (1, 1)), "block.add"),
        layer("flat", make("rearrange", "n c 1 1 -> n c"), "pool"),
        layer("fc", linear(4, 5), "flat"),
    )


def weights(graph: Graph, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ones; variances are positive."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, _, key, slot in graph.tensors():
        values = np.asarray(rng.normal(size=slot.shape), dtype=np.float32)
        if slot.integer:
            values = np.zeros(slot.shape, dtype=np.int64)
        found[name] = np.abs(values) + np.float32(0.5) if key == "running_var" else values
    return found


@pytest.fixture(scope="session")
def _original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = residual()
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    Net2Net.from_tensors(graph, weights(graph)).save(path)
    return path


@pytest.fixture
def teacher(_original: Path, tmp_path: Path) -> Path:
    """A fresh copy, with its sidecar, in a folder of its own."""
    for file in (_original, _original.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    return tmp_path / _original.name


@pytest.fixture
def poison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `torch` cannot be imported."""
    folder = tmp_path_factory.mktemp("poison")
    (folder / "torch.py").write_text("raise ImportError('torch was imported')\n")
    return folder
