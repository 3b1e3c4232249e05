"""Finding what is coupled, beside Torch-Pruning's dependency graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch_pruning
import torchvision

from benchmarks.timing import Row, medians, timed
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.channels.labels import Labels, find_labels
from net2net_cli.model import Net2Net

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet50": {},
    "densenet121": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
}


def measure_coupling(rounds: int) -> Iterator[Row]:
    """All coupled groups, from the text of a spec; the same of Torch-Pruning, from the module; and our tracing."""
    for name, options in NETWORKS.items():
        model = torchvision.models.get_model(name, weights=None, **options).eval()
        image = torch.zeros(1, 3, 224, 224)
        text = to_json_text(_trace(model, image))
        seconds = medians(
            {
                "spec": partial(timed, partial(_groups, text)),
                "torch-pruning": partial(timed, partial(_depend, model, image)),
                "trace": partial(timed, partial(_trace, model, image)),
            },
            rounds,
        )
        reference = seconds["torch-pruning"]
        yield Row(f"coupled groups of {name}", seconds["spec"], reference, "Torch-Pruning 1.6", 1.0)
        yield Row("  tracing it, once", seconds["trace"], reference, "Torch-Pruning 1.6", None)


def _groups(text: str) -> Labels:
    return find_labels(from_json_text(text, where="the spec"))


def _trace(model: torch.nn.Module, image: torch.Tensor) -> Graph:
    return Net2Net.from_module(model, image).graph


def _depend(model: torch.nn.Module, image: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_pruning.DependencyGraph().build_dependency(model, example_inputs=image)
