"""Random tensors for hand-written graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from net2net_cli.architecture.graph import Graph
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.growth.apply import Grown
from net2net_cli.growth.plan import Plan

Array = npt.NDArray[Any]


def random_tensors(graph: Graph, dtype: npt.DTypeLike = np.float32, *, seed: int = 0) -> dict[str, Array]:
    """Normal values, positive where they are variances; integers count."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for name, _, key, slot in graph.tensors():
        values = rng.normal(size=slot.shape)
        if key == "running_var":
            values = 0.5 + values**2
        found[name] = np.asarray(7, dtype=np.int64) if slot.integer else np.asarray(values).astype(dtype)
    return found


def grown_tensors(plan: Plan, tensors: dict[str, Array]) -> dict[str, Array]:
    """The student's tensors."""
    grown = Grown(plan, MemoryTensors(tensors, {}))
    return {name: grown.read(name) for name in plan.tensors}
