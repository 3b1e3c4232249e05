from __future__ import annotations

import json
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.chains import Arm, Growth, Node, arms, nodes, rules
from experiments.models import NETWORKS, make, widths
from experiments.profiles import PROFILES, QUICK, RATES, Profile
from net2net_cli.growth.plan import SPLITS


@pytest.mark.parametrize("name", PROFILES)
def test_everything_is_made_once_and_behind_what_it_needs(name: str) -> None:
    made: set[Path] = set()
    for node in nodes(PROFILES[name], 0, Path("out")):
        assert node.target not in made
        assert set(node.needs) <= made
        made.add(node.target)
        read = {Path(word) for c in node.commands for word in c if word.endswith("model.safetensors")}
        assert {path.with_name("result.json") for path in read} <= made


def test_students_are_verified_unless_they_cannot_be_exact() -> None:
    for node in nodes(QUICK, 0, Path("out")):
        grown = [command for command in node.commands if command[:1] == ("net2net",)]
        if grown:
            exact = "random-pad" not in grown[0] and "--noise" not in grown[0]
            assert [command[1] for command in grown[1:]] == (["verify"] if exact else [])


def test_another_split_adds_its_arms_with_and_without_dropout() -> None:
    without = {arm.name for arm in arms(QUICK, ("ownership", "equal"))}
    assert {arm.name for arm in arms(QUICK, ("ownership", "equal", "fresh"))} - without == {
        "split-fresh",
        "dropout-fresh",
    }


def test_students_take_as_many_steps_once_as_twice_and_early_as_late() -> None:
    found: dict[str, Arm] = {arm.name: arm for arm in arms(QUICK)}
    assert found["twice-first"].steps + found["twice"].steps == found["once"].steps
    early = found["early-teacher"].steps + found["early"].steps
    assert early == found["teacher"].steps + found["wider-grown-1.0"].steps
    assert isinstance(found["early"].start, Growth)


def test_widths_are_those_of_the_wider_network() -> None:
    found = widths("tiny-resnet", 0.5, 1.0, 14)
    assert found["conv1"] == 16
    assert found["layer3.0.conv2"] == 64
    assert "fc" not in found


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_give_a_number_for_each_class(network: str) -> None:
    import torch

    with torch.device("meta"):
        assert make(network, 0.5, 7, 3, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_makes_rules_name_every_command(tmp_path: Path) -> None:
    found = nodes(QUICK, 1, tmp_path)
    (tmp_path / "rules.mk").write_text(rules(found, tmp_path))
    shown = subprocess.run(
        ["make", "-n", "-f", str(tmp_path / "rules.mk"), f"{tmp_path}/all"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.count("-m experiments.train") == len(arms(QUICK))
    assert shown.count("net2net widen") + shown.count("net2net random-pad") + shown.count("net2net deepen") == sum(
        command[0] == "net2net" and command[1] != "verify" for node in found for command in node.commands
    )


def test_what_fails_ends_only_what_needs_it_and_is_told_at_the_end(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra: pip install '.[experiments]'")
    from experiments.errors import ExperimentError
    from experiments.run import make_all

    def node(name: str, command: tuple[str, ...], *needs: str) -> Node:
        return Node(tmp_path / name, tuple(tmp_path / need for need in needs), (command,))

    building = ("python", "-m", "experiments.models", "build", "tiny-inception", "--size", "8", "-o")
    wrong = ("python", "-m", "experiments.models", "reset", str(tmp_path / "absent"), "-o", str(tmp_path / "wrong"))
    good = node("good.safetensors", (*building, str(tmp_path / "good.safetensors")))
    with pytest.raises(ExperimentError, match=r"exit code 2 from: .* reset"):
        make_all([node("wrong", wrong), node("behind", wrong, "wrong"), good])
    assert good.target.exists()


def made_up(folder: Path) -> None:
    """Results of all arms: accuracies that rise in a line, to ends that the arm's name and the seed decide."""
    for seed in (0, 1, 2):
        for arm in arms(QUICK):
            end = 0.8 + zlib.crc32(arm.name.encode()) % 50 / 1000 + seed / 500
            history = []
            for step in (0, 30, arm.steps):
                done = step / arm.steps
                judged = {"step": step, "accuracy": end * (0.5 + done / 2), "valid_loss": 1.2 - end * done}
                history.append({**judged, "seconds": step / 10, "cpu_seconds": step / 20})
            machine = {"device": "a processor, 2 cores", "threads": 1, "processes": 1, "torch": "2"}
            told: dict[str, Any] = {
                "history": history,
                "losses": [1.0] * arm.steps,
                "parameters": 9,
                "machine": machine,
            }
            place = folder / f"seed{seed}" / arm.name
            place.mkdir(parents=True)
            (place / "result.json").write_text(json.dumps(told))
    (folder / "profile.json").write_text(json.dumps({"profile": "quick", "splits": list(SPLITS)}))


def test_the_document_has_every_question_and_is_the_same_from_the_same_results(tmp_path: Path) -> None:
    for needed in ("scipy", "matplotlib", "optuna"):
        pytest.importorskip(needed, reason="needs the extra: pip install '.[experiments]'")
    from experiments import plots, report, stats, tables

    made_up(tmp_path / "results")
    document = tmp_path / "docs" / "EXPERIMENTS.md"
    assert report.main([str(tmp_path / "results"), "--document", str(document)]) == 0
    text = document.read_text()
    for title in ("the claim", "learning rate", "Optimizer state", "How copies share", "Deeper", "Exploration", "Once"):
        assert title in text
    beside = sorted(path.name for path in (tmp_path / "docs" / "experiments").iterdir())
    drawn = [part.split(")")[0] for part in text.split("](experiments/")[1:]]
    assert beside == sorted([*drawn, "results.json.xz"])
    assert "**The profile asks for 5 seeds.**" in text
    assert "$ net2net widen results/seed0/teacher/model.safetensors" in text
    results = stats.read_results(tmp_path / "results")
    again = tmp_path / "again.svg"
    plots.draw(results, tables.EXPLORE, again, teacher="scratch-wider", figure="accuracy")
    assert again.read_text() == (tmp_path / "docs" / "experiments" / "explore.svg").read_text()


def test_no_results_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("scipy", "matplotlib", "optuna"):
        pytest.importorskip(needed, reason="needs the extra: pip install '.[experiments]'")
    from experiments import report

    assert report.main([str(tmp_path)]) == 2
    assert "has no results yet" in capsys.readouterr().err


def small() -> Profile:
    data = "--data digits --size 8 --valid-images 50 --train-images 100"
    training = "--batch 8 --eval-every 100 --accelerator cpu"
    return replace(QUICK, size=8, data=data, training=training, teacher=2, scratch=2, student=1, early=1, warmup=1)


def test_the_runner_makes_what_is_missing_and_no_more(tmp_path: Path) -> None:
    for package in ("lightning", "optuna", "sklearn"):
        pytest.importorskip(package, reason="needs the extra: pip install '.[experiments]'")
    from experiments.run import make_all
    from experiments.sweep import needed

    wanted = needed(small(), 0, tmp_path, tmp_path / "seed0" / "pad-0.1" / "result.json")
    make_all(wanted)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed0/*/*")}
    assert {path.parent.name for path in before if path.name == "result.json"} == {"teacher", "pad-0.1"}
    make_all(wanted)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed0/*/*")} == before


@pytest.mark.slow
def test_the_sweep_looks_at_every_point_and_names_the_best(tmp_path: Path) -> None:
    for package in ("lightning", "optuna", "sklearn"):
        pytest.importorskip(package, reason="needs the extra: pip install '.[experiments]'")
    from experiments.sweep import sweep

    found = sweep(small(), [0], tmp_path)
    trials: Any = found["trials"]
    assert {(trial["rate"], trial["state"]) for trial in trials} == {(r, s) for r in RATES for s in ("grown", "fresh")}
    assert found["accuracy"] == max(trial["accuracy"] for trial in trials)
