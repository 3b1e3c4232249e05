"""Optimizers by parameter groups, learning rates by step, and the state that a grown network brings along."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from experiments.errors import ExperimentError


@dataclass(frozen=True)
class Schedule:
    """Warm-up from 0 in a straight line, then half a cosine from 1 down to `end`.

    Attributes:
        steps: of the whole training.
        warmup: steps of the warm-up.
        end: what is left of the learning rate at the last step.
    """

    steps: int
    warmup: int = 0
    end: float = 0.0

    def at(self, step: int) -> float:
        """What the learning rate is multiplied by in a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        along = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def factors_from(path: Path | None, optimizer: str) -> dict[str, float]:
    """Learning-rate factors of parameters, as `net2net` writes them into `STUDENT.train.json`."""
    if path is None:
        return {}
    rule = "sgd" if optimizer == "sgd" else "adam"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        return {name: float(entry["lr_factor"][rule]) for name, entry in told.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExperimentError(
            f"`{path}` cannot be read as learning-rate factors: {error}", "`net2net … --optimizer FILE` writes it"
        ) from error


def parameter_groups(
    model: nn.Module, rate: float, decay: float, factors: Mapping[str, float], optimizer: str
) -> list[dict[str, Any]]:
    """One group for each factor; norms and biases do not decay.

    AdamW takes its decay times the learning rate, so the decay is divided by the factor; SGD's is part of the gradient
    and needs no more.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        factor = factors.get(name, 1.0)
        weight_decay = decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, weight_decay / factor), []).append((name, parameter))
    return [
        {"params": params, "lr": rate * factor, "peak": rate * factor, "weight_decay": weight_decay}
        for (factor, weight_decay), params in groups.items()
    ]


def build_optimizer(kind: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov's momentum, fused."""
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate is its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def read_saved(path: Path) -> dict[str, Any]:
    """What `train.py` saved beside a checkpoint, or `net2net` grew from it: `optimizer`, and perhaps `average`."""
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, UnpicklingError) as error:
        hint = "give STUDENT.optim.pt, or `--state fresh`"
        raise ExperimentError(f"`{path}` cannot be read: {str(error).splitlines()[0]}", hint) from error
    if "optimizer" not in saved:
        raise ExperimentError(f"`{path}` holds no `optimizer`", "give STUDENT.optim.pt, or `--state fresh`")
    return saved


def restore_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], path: Path) -> None:
    """Give each parameter the state that was kept under its name; those without begin with none.

    Raises:
        ExperimentError: a state has not the shape of its parameter, or a name belongs to none.
    """
    names = [name for group in saved["param_groups"] for name in group["param_names"]]
    kept = {names[number]: state for number, state in saved["state"].items()}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if not (state := kept.pop(name, None)):
                continue
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                    found, needed = list(value.shape), list(parameter.shape)
                    raise ExperimentError(
                        f"`{path}` keeps `{key}` of `{name}` in the shape {found}; the parameter has {needed}",
                        "grow the state together with the checkpoint: `net2net widen … --optimizer FILE`",
                    )
            optimizer.state[parameter] = {key: _placed(value, parameter, key) for key, value in state.items()}
    if kept:
        raise ExperimentError(
            f"`{path}` keeps a state of `{next(iter(kept))}`, which is no parameter of the checkpoint",
            "give the file that `net2net … --optimizer` wrote beside this checkpoint",
        )


def _placed(value: Any, parameter: nn.Parameter, key: str) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if key == "step":
        return value.to(parameter.device)
    return value.to(parameter.device, parameter.dtype, copy=True).contiguous()
