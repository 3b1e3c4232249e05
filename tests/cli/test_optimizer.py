"""`--optimizer`: what a training run saved grows with the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cli.running import expects, leftovers, run
from net2net_cli import Net2Net
from net2net_cli.networks import small_resnet


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def trained(teacher: Path, make: Callable[[Any], torch.optim.Optimizer], *, named: bool = True) -> dict[str, Any]:
    """What a training script saves after a few steps: the optimizer, the weights, an average of them, an epoch."""
    torch.manual_seed(0)
    model: Any = Net2Net.load(teacher).to_module()
    optimizer = make(model.named_parameters() if named else model.parameters())
    average: Any = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
    saved = {"optimizer": optimizer.state_dict(), "ema": average.state_dict(), "epoch": 3}
    return saved if named else {**saved, "model": model.state_dict()}


@pytest.fixture
def saved(teacher: Path, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.optim.pt"
    torch.save(trained(teacher, momentum), path)
    return path


def test_state_averages_and_a_hand_off_are_written_beside_the_student(
    teacher: Path, saved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student.safetensors"
    done = run("widen", teacher, "block.conv2=9", "--optimizer", saved, "-o", out, "--split", "random")
    assert done.code == 0, done
    assert "student.optim.pt`, what a training script should know in" in done.err
    assert leftovers(tmp_path) == [f"student.{end}" for end in ("json", "optim.pt", "safetensors", "train.json")]
    grown, before = (torch.load(p, weights_only=True) for p in (out.with_suffix(".optim.pt"), saved))
    assert grown["epoch"] == 3
    student = Net2Net.load(out).to_module()
    own = momentum(student.named_parameters())
    own.load_state_dict(grown["optimizer"])
    assert {tuple(p.shape) for p in own.state} == {tuple(p.shape) for p in student.parameters()}
    assert grown["optimizer"]["param_groups"][0]["param_names"] == [n for n, _ in student.named_parameters()]
    average, model = (torch.optim.swa_utils.AveragedModel(m) for m in (student, Net2Net.load(teacher).to_module()))
    average.load_state_dict(grown["ema"])
    model.load_state_dict(before["ema"])
    x = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        assert torch.allclose(average.eval()(x), model.eval()(x), rtol=0, atol=1e-5)
    told = json.loads(out.with_suffix(".train.json").read_text())
    assert told["rule"] == "sgd"
    assert told["parameters"]["block.conv2.weight"]["lr_factor"] == {"adam": 1.0, "sgd": 1.5}
    assert set(told["parameters"]) == {"block.conv2.weight", "block.conv2.bias", "block.conv3.weight"}


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, momentum])
def test_known_optimizers_load_what_was_grown(teacher: Path, tmp_path: Path, make: Any) -> None:
    saved, out = tmp_path / "teacher.pt", tmp_path / "student.safetensors"
    torch.save(trained(teacher, make), saved)
    recipe = tmp_path / "teacher.toml"
    recipe.write_text(
        '[[operation]]\nname = "widen"\nlayers = { conv1 = "2x" }\n'
        '[[operation]]\nname = "deepen"\nlayers = ["block.conv2"]\n'
    )
    assert run("apply", teacher, recipe, "--optimizer", saved, "-o", out, "--no-verify").code == 0
    model: Any = Net2Net.load(out).to_module()
    optimizer = make(model.named_parameters())
    optimizer.load_state_dict(torch.load(out.with_suffix(".optim.pt"), weights_only=True)["optimizer"])
    new = {n for n, p in model.named_parameters() if p not in optimizer.state}
    assert new
    assert new == {n for n, *_ in Net2Net.load(out).graph.tensors()} - {
        n for n, *_ in Net2Net.load(teacher).graph.tensors()
    }
    model(torch.randn(4, 3, 6, 6)).square().mean().backward()
    optimizer.step()


def test_a_state_dict_beside_it_names_the_parameters_of_an_optimizer_that_knows_numbers_alone(
    teacher: Path, tmp_path: Path
) -> None:
    saved, out = tmp_path / "teacher.pt", tmp_path / "student.safetensors"
    document = trained(teacher, momentum, named=False)
    torch.save(document, saved)
    assert run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", out).code == 0
    torch.save({"optimizer": document["optimizer"]}, saved)
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", out, "--force")
    expects(done, 3, "says the optimizer's parameters by number alone", "model.named_parameters()")


def test_state_of_another_network_is_refused_naming_parameter_and_shape(
    teacher: Path, saved: Path, tmp_path: Path
) -> None:
    wide = tmp_path / "teacher-wide.safetensors"
    assert run("widen", teacher, "block.conv2=9", "-o", wide, "--no-verify").code == 0
    done = run("widen", wide, "conv1=2x", "--optimizer", saved, "-o", tmp_path / "student.safetensors")
    expects(done, 3, "`momentum_buffer` of `block.conv2.weight`", "saved with this checkpoint")
    assert "has the shape [6, 4, 3, 3], the teacher's parameter has the shape [9, 4, 3, 3]" in done.err
    assert leftovers(tmp_path) == []


def test_an_unknown_optimizer_is_refused_and_the_student_can_be_had_without(teacher: Path, tmp_path: Path) -> None:
    saved = tmp_path / "teacher.pt"
    torch.save(trained(teacher, torch.optim.Adagrad), saved)
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", tmp_path / "student.safetensors")
    expects(done, 3, "keeps `sum` of `conv1.weight`, and no rule says how that grows", "leave out `--optimizer`")
    assert leftovers(tmp_path) == []


def test_a_file_without_an_optimizer_and_one_that_is_no_training_file(teacher: Path, tmp_path: Path) -> None:
    saved, out = tmp_path / "teacher.pt", tmp_path / "student.safetensors"
    torch.save({"model": nn.Linear(2, 2).state_dict()}, saved)
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", out)
    expects(done, 3, "holds no optimizer state", "`optimizer.state_dict()`")
    done = run("widen", teacher, "conv1=2x", "--optimizer", teacher, "-o", out)
    expects(done, 3, "is not a PyTorch file", "torch.save")
    done = run("widen", teacher, "conv1=2x", "--optimizer", tmp_path / "none.pt", "-o", out)
    expects(done, 2, "none.pt", "")
    assert leftovers(tmp_path) == []


def test_files_that_are_there_are_replaced_by_force_alone(teacher: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "student.safetensors"
    out.with_suffix(".train.json").write_text("mine")
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", out)
    expects(done, 2, "student.train.json` exists", "--force")
    assert run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", out, "--force").code == 0
    assert json.loads(out.with_suffix(".train.json").read_text())["format"] == "net2net-training"


def test_a_student_that_differs_brings_no_files_with_it(
    teacher: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from net2net_cli.errors import OutputsDifferError

    def differ(*_: object, **__: object) -> None:
        raise OutputsDifferError("the outputs differ")

    monkeypatch.setattr(Net2Net, "verify", differ)
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", tmp_path / "student.safetensors")
    assert done.code == 1
    assert leftovers(tmp_path) == []


def test_the_example_of_the_readme_goes_on_training(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "train.json" in block]
    saved = tmp_path / "teacher.optim.pt"
    torch.save(trained(teacher, torch.optim.AdamW), saved)
    out = tmp_path / "student.safetensors"
    assert run("widen", teacher, "block.conv2=2x", "--optimizer", saved, "-o", out, "--split", "equal").code == 0
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"model": Net2Net.load(out).to_module()}
    exec(example, names)
    model, optimizer = names["model"], names["optimizer"]
    rates = {group["param_names"][0]: group["lr"] for group in optimizer.param_groups}
    assert rates["block.conv2.weight"] == rates["fc.weight"] == 1e-3
    assert rates["block.conv3.weight"] == 5e-4
    assert set(optimizer.state) == set(model.parameters())
    model(torch.randn(4, 3, 6, 6)).square().mean().backward()
    optimizer.step()
    assert {int(kept["step"]) for kept in optimizer.state.values()} == {4}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("params", [0, torch.ones(2)], "has 2 parameters"),
        ("params", [torch.ones(2)] * 10, "are damaged"),
        ("param_names", ["conv1.weight"] * 10, "are damaged"),
        ("param_names", ["nothing"] * 10, "has state of `nothing`, no parameter of the teacher"),
    ],
)
def test_a_damaged_state_is_refused(
    teacher: Path, saved: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    document = torch.load(saved, weights_only=True)
    document["optimizer"]["param_groups"][0][key] = value
    torch.save(document, saved)
    done = run("widen", teacher, "conv1=2x", "--optimizer", saved, "-o", tmp_path / "student.safetensors")
    expects(done, 3, message, "")
    assert leftovers(tmp_path) == []


def test_a_repeated_block_begins_without_state_in_the_groups_of_its_like(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = small_resnet()
    parts = [[(n, p) for n, p in model.named_parameters() if (p.ndim > 1) == wide] for wide in (True, False)]
    optimizer = torch.optim.AdamW([{"params": part} for part in parts])
    model(torch.randn(4, 1, 28, 28)).square().mean().backward()
    optimizer.step()
    teacher, saved, out = (tmp_path / n for n in ("teacher.safetensors", "o.pt", "student.safetensors"))
    Net2Net.from_module(model, torch.zeros(2, 1, 28, 28)).save(teacher)
    torch.save(optimizer.state_dict(), saved)
    assert run("deepen", teacher, "layer2.1", "--optimizer", saved, "-o", out).code == 0
    grown = torch.load(out.with_suffix(".optim.pt"), weights_only=True)
    shapes = {n: p.shape for n, p in Net2Net.load(out).to_module().named_parameters()}
    names = [group["param_names"] for group in grown["param_groups"]]
    assert [{len(shapes[n]) > 1 for n in members} for members in names] == [{True}, {False}]
    known = {n for n, _ in model.named_parameters()}
    assert {[*names[0], *names[1]][number] for number in grown["state"]} == known
    told = json.loads(out.with_suffix(".train.json").read_text())["parameters"]
    assert {n for n, one in told.items() if one["new"]} == set(shapes) - known != set()
