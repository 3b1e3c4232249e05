"""Optimizer states that do not go with their teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cli.conftest import residual

from messages.example import Area, Example

WIDEN = "net2net widen teacher.safetensors conv1=2x --optimizer optim.pt --no-verify -o student.safetensors"
SHAPES = {name: slot.shape for name, _, _, slot in residual().tensors() if slot.kind == "parameter"}


def state(key: str = "momentum_buffer") -> dict[str, Any]:
    """What SGD with momentum keeps of the teacher's parameters."""
    kept = {number: {key: torch.ones(shape)} for number, shape in enumerate(SHAPES.values())}
    return {"state": kept, "param_groups": [{"params": list(range(len(SHAPES))), "param_names": list(SHAPES)}]}


def saved(row: str, change: Callable[[dict[str, Any]], Any], key: str = "momentum_buffer") -> Example:
    """A state in which something was changed; or what `change` returns."""

    def write(folder: Path) -> None:
        document = state(key)
        torch.save(change(document) or document, folder / "optim.pt")

    return Example(WIDEN, before=write, row=row)


def group(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Other entries of the group of parameters; None takes one away."""

    def change(document: dict[str, Any]) -> None:
        found = document["param_groups"][0]
        found.update(changes)
        for name in [name for name, value in changes.items() if value is None]:
            del found[name]

    return change


def other_shape(document: dict[str, Any]) -> None:
    document["state"][0]["momentum_buffer"] = torch.ones(9, 3, 3, 3)


def no_number(document: dict[str, Any]) -> None:
    document["state"][99] = document["state"].pop(0)


AREAS = (
    Area(
        "training",
        "Optimizer states",
        3,
        f"Each of these files was given as `{WIDEN}`.",
        (
            saved("the weights of a network", lambda _: {"fc.weight": torch.ones(2, 2)}),
            saved("an optimizer built from `model.parameters()`", group(param_names=None)),
            saved("fewer parameters", group(params=[0, 1])),
            saved("parameters of another name", group(param_names=[f"net.{name}" for name in SHAPES])),
            saved("one parameter twice", group(params=[0] * len(SHAPES))),
            saved("a parameter of another shape", other_shape),
            saved("a state of parameter 99", no_number),
            saved("a state of Adagrad", lambda _: None, key="sum"),
            saved("a date", lambda document: {"optimizer": document, "when": complex(1, 2)}),
            Example(
                WIDEN, before=lambda here: (here / "optim.pt").write_text("momentum: 0.9\n"), row="no PyTorch file"
            ),
        ),
        rows="what the file holds",
    ),
)
