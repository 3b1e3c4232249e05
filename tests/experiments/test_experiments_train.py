from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn

pytest.importorskip("lightning", reason="needs the extra: pip install '.[experiments]'")
pytest.importorskip("sklearn", reason="needs the extra: pip install '.[experiments]'")

from experiments import models, train
from net2net_cli import Net2Net
from net2net_cli.cli.main import app

DIGITS = ["--data", "digits", "--valid-images", "100", "--batch", "16", "--eval-every", "4", "--accelerator", "cpu"]


def net2net(*arguments: str) -> None:
    assert typer.main.get_command(app).main(list(arguments), standalone_mode=False) in (0, None)


def run(checkpoint: Path, out: Path, *more: str) -> dict[str, Any]:
    assert train.main(["--checkpoint", str(checkpoint), "-o", str(out), *DIGITS, *more]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def history(result: dict[str, Any]) -> list[dict[str, float]]:
    return [{name: value for name, value in e.items() if "seconds" not in name} for e in result["history"]]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrained") / "untrained.safetensors"
    assert models.main(["build", "tiny-inception", "--width", "0.5", "--size", "8", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def teacher(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    run(untrained, out, "--steps", "12", "--ema", "0.5", "--batch", "64")
    return out


def test_a_run_leaves_a_checkpoint_a_named_state_and_its_figures(teacher: Path) -> None:
    result = json.loads((teacher / "result.json").read_text())
    assert [entry["step"] for entry in result["history"]] == [0, 4, 8, 12]
    assert len(result["losses"]) == 12
    assert sum(result["losses"][-4:]) < sum(result["losses"][:4])
    model = Net2Net.load(teacher / "model.safetensors").to_module()
    saved = torch.load(teacher / "model.optim.pt", weights_only=True)
    kept = [name for group in saved["optimizer"]["param_groups"] for name in group["param_names"]]
    assert sorted(kept) == sorted(name for name, _ in model.named_parameters())
    assert saved["average"].keys() == model.state_dict().keys()
    with (teacher / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [entry["accuracy"] for entry in result["history"]]
    assert not (teacher / "state.ckpt").exists()


def test_a_run_that_was_cut_ends_as_one_that_was_not(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--steps", "10", "--save-every", "3", "--augment", "crop", "--dropout", "0.2", "--ema", "0.5"]
    whole = run(untrained, tmp_path / "whole", *more)
    one_step = train._one_step

    def cut(run: train.Run, *rest: Any) -> Any:
        if run.step == 8:
            raise KeyboardInterrupt
        return one_step(run, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(train, "_one_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run(untrained, tmp_path / "cut", *more)
    assert (tmp_path / "cut" / "state.ckpt").exists()
    again = run(untrained, tmp_path / "cut", *more)
    assert (again["losses"], history(again)) == (whole["losses"], history(whole))
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_is_done_is_not_done_again(untrained: Path, teacher: Path) -> None:
    before = (teacher / "model.safetensors").stat().st_mtime_ns
    run(untrained, teacher, "--steps", "12")
    assert (teacher / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("optim", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_a_student_of_equal_shares_with_grown_state_and_factors_learns_as_its_teacher_would_have(
    untrained: Path, tmp_path: Path, optim: str
) -> None:
    rate = "3e-3" if optim == "adamw" else "0.05"
    steady = ["--optim", optim, "--weight-decay", "0", "--final-lr", "1", "--lr", rate]
    run(untrained, tmp_path / "teacher", "--steps", "6", *steady)
    model, student = tmp_path / "teacher" / "model.safetensors", tmp_path / "student.safetensors"
    state = tmp_path / "teacher" / "model.optim.pt"
    growing = ("inception_*.**.conv*=2x", "--where-possible", "--split", "equal", "--optimizer", str(state))
    net2net("widen", str(model), *growing, "--quiet", "-o", str(student))
    again = [*steady, "--steps", "4", "--seed", "1"]
    further = run(model, tmp_path / "further", *again, "--optimizer", str(state))
    told = [
        "--optimizer",
        str(student.with_suffix(".optim.pt")),
        "--train-json",
        str(student.with_suffix(".train.json")),
    ]
    grown = run(student, tmp_path / "grown", *again, *told)
    assert grown["parameters"] > 2 * further["parameters"]
    assert grown["losses"] == pytest.approx(further["losses"], abs=2e-3)
    fresh = run(student, tmp_path / "fresh", *again, *told, "--state", "fresh")
    apart = [max(abs(a - b) for a, b in zip(r["losses"], further["losses"], strict=True)) for r in (fresh, grown)]
    assert apart[0] > 10 * apart[1]


def test_an_average_that_grew_with_the_student_is_what_is_judged(teacher: Path, tmp_path: Path) -> None:
    student = tmp_path / "student.safetensors"
    model, state = teacher / "model.safetensors", teacher / "model.optim.pt"
    wider = "inception_4a.branch1x1.conv=+3"
    net2net("widen", str(model), wider, "--quiet", "-o", str(student), "--optimizer", str(state))
    grown = run(
        student, tmp_path / "grown", "--steps", "1", "--ema", "0.5", "--optimizer", str(tmp_path / "student.optim.pt")
    )
    last = json.loads((teacher / "result.json").read_text())["history"][-1]
    assert grown["history"][0]["accuracy"] == last["accuracy"]
    assert grown["history"][0]["valid_loss"] == pytest.approx(last["valid_loss"], rel=1e-5)


def test_mixed_precision_clipping_and_tensorboard(untrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra: pip install '.[experiments]'")
    more = ["--precision", "bf16-mixed", "--clip", "1.0", "--tensorboard", "--steps", "4"]
    result = run(untrained, tmp_path, *more)
    assert result["history"][-1]["valid_loss"] == pytest.approx(run_plain(untrained, tmp_path), rel=0.05)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def run_plain(untrained: Path, tmp_path: Path) -> float:
    found: float = run(untrained, tmp_path / "plain", "--clip", "1.0", "--steps", "4")["history"][-1]["valid_loss"]
    return found


def test_a_state_that_is_not_there_is_told_without_a_traceback(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(untrained), "-o", str(tmp_path), *DIGITS, "--optimizer", str(tmp_path / "no.pt")]
    assert train.main(arguments) == 2
    assert "no.pt` cannot be read" in capsys.readouterr().err
    arguments = ["--checkpoint", str(tmp_path / "no.safetensors"), "-o", str(tmp_path), *DIGITS]
    assert train.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_pools_that_have_their_channels_last_return_the_same_to_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(5, 4, 1),
            nn.AvgPool2d(3, 1, 1),
            nn.Flatten(),
        ),
        nn.Linear(64, 2),
    )
    x = torch.randn(6, 3, 8, 8)
    grown = []
    for prepare in (lambda _: None, train.pool_channels_last):
        prepare(model)
        model.zero_grad()
        out = model(x)
        out.square().sum().backward()
        grown.append([out, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    # A gradient's sum over places may run in another order.
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in zip(*grown, strict=True))


def test_a_reset_network_keeps_its_shapes_and_nothing_else(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "reset.safetensors"
    assert models.main(["reset", str(teacher / "model.safetensors"), "--seed", "1", "-o", str(out)]) == 0
    before, after = (Net2Net.load(path).to_module() for path in (teacher / "model.safetensors", out))
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=True):
        if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d):
            assert old.weight.shape == new.weight.shape, name
            assert not torch.equal(old.weight, new.weight), name
        if isinstance(new, nn.BatchNorm2d):
            assert torch.equal(new.weight, torch.ones_like(new.weight))
            assert new.num_batches_tracked == 0
