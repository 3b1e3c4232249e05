from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.errors import ExperimentError
from experiments.optim import (
    Schedule,
    build_optimizer,
    factors_from,
    parameter_groups,
    read_saved,
    restore_state,
    set_rate,
)


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    schedule = Schedule(steps=110, warmup=10, end=0.1)
    assert [schedule.at(step) for step in (0, 4, 9)] == pytest.approx([1 / 11, 5 / 11, 10 / 11])
    assert [schedule.at(step) for step in (10, 60, 110)] == pytest.approx([1.0, 0.1 + 0.9 / 2, 0.1])


def test_a_factor_multiplies_the_learning_rate_and_divides_the_decay_of_matrices_alone() -> None:
    groups = parameter_groups(nn.Linear(3, 2), 0.5, 0.1, {"weight": 0.25}, "adamw")
    told = {group["params"][0][0]: (group["lr"], group["weight_decay"]) for group in groups}
    assert told == {"weight": (0.125, 0.4), "bias": (0.5, 0.0)}


def test_factors_are_those_of_the_optimizers_rule(tmp_path: Path) -> None:
    path = tmp_path / "student.train.json"
    path.write_text(json.dumps({"parameters": {"fc.weight": {"lr_factor": {"adam": 0.5, "sgd": 2.0}}}}))
    assert factors_from(path, "adamw") == {"fc.weight": 0.5}
    assert factors_from(path, "sgd") == {"fc.weight": 2.0}
    assert factors_from(None, "sgd") == {}
    path.write_text("{}")
    with pytest.raises(ExperimentError, match="cannot be read as learning-rate factors"):
        factors_from(path, "sgd")


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_an_optimizer_with_other_groups_goes_on_from_a_saved_state(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(8, 4)

    def steps(optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    optimizer = build_optimizer(kind, parameter_groups(model, 1e-2, 0.0, {}, kind), 0.9)
    steps(optimizer, 3)
    path = tmp_path / "saved.pt"
    torch.save({"optimizer": optimizer.state_dict()}, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps(optimizer, 3)
    unbroken = {name: value.clone() for name, value in model.state_dict().items()}

    model.load_state_dict(before)
    factors = {"2.weight": 1.0 + 1e-12, "0.bias": 1.0 - 1e-12}  # other groups, in another order, of the same rates
    again = build_optimizer(kind, parameter_groups(model, 1e-2, 0.0, factors, kind), 0.9)
    assert len(again.param_groups) > len(optimizer.param_groups)
    restore_state(again, read_saved(path)["optimizer"], path)
    set_rate(again, 1.0)
    steps(again, 3)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, unbroken[name], rtol=0, atol=1e-7)


def test_a_state_of_other_shapes_or_names_is_refused(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(5, 2)
    optimizer = build_optimizer("adamw", parameter_groups(model, 1e-2, 0.0, {}, "adamw"), 0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "saved.pt"
    saved = optimizer.state_dict()
    wider = build_optimizer("adamw", parameter_groups(other, 1e-2, 0.0, {}, "adamw"), 0.9)
    with pytest.raises(
        ExperimentError, match=r"`exp_avg` of `weight` in the shape \[2, 3\]; the parameter has \[2, 5\]"
    ):
        restore_state(wider, saved, path)
    without = build_optimizer("adamw", parameter_groups(nn.Linear(3, 2, bias=False), 1e-2, 0.0, {}, "adamw"), 0.9)
    with pytest.raises(ExperimentError, match="`bias`, which is no parameter"):
        restore_state(without, saved, path)
    torch.save({}, path)
    with pytest.raises(ExperimentError, match="holds no `optimizer`"):
        read_saved(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_saved(path)
