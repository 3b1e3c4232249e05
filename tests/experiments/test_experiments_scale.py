"""Slow: a real kill, several processes, and the largest profile on a few made-up images."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

for needed in ("lightning", "optuna", "tensorboard", "sklearn"):
    pytest.importorskip(needed, reason="needs the extra: pip install '.[experiments]'")

from experiments.chains import Command, nodes  # noqa: E402  # behind the skip
from experiments.profiles import IMAGENET  # noqa: E402
from experiments.run import with_words  # noqa: E402
from experiments.sweep import needed as needed_nodes  # noqa: E402

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

pytestmark = pytest.mark.slow


def start(command: Command | list[str]) -> subprocess.Popen[bytes]:
    """As a shell would, with this interpreter."""
    words = [*command]
    begin = [sys.executable, "-m", "net2net_cli"] if words[0] == "net2net" else [sys.executable]
    return subprocess.Popen([*begin, *words[1:]], env=ENVIRONMENT, cwd=ROOT)


def finish(command: Command | list[str]) -> None:
    assert start(command).wait() == 0


def result(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrained") / "untrained.safetensors"
    build = ["build", "tiny-inception", "--width", "0.5", "--size", "8", "-o", str(path)]
    finish(["python", "-m", "experiments.models", *build])
    return path


def test_a_training_that_was_killed_ends_with_the_bytes_of_one_that_was_not(untrained: Path, tmp_path: Path) -> None:
    words = ["python", "-m", "experiments.train", "--checkpoint", str(untrained), "--accelerator", "cpu"]
    words += ["--steps", "60", "--save-every", "10", "--augment", "crop", "--dropout", "0.1", "--eval-every", "50"]
    finish([*words, "-o", str(tmp_path / "whole")])
    running = start([*words, "-o", str(tmp_path / "cut")])
    while not (tmp_path / "cut" / "state.ckpt").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended by itself: {running.wait(timeout=0.01)}")
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "cut" / "result.json").exists()
    finish([*words, "-o", str(tmp_path / "cut")])
    assert result(tmp_path / "cut")["losses"] == result(tmp_path / "whole")["losses"]
    cut, whole = (tmp_path / part / "model.safetensors" for part in ("cut", "whole"))
    assert cut.read_bytes() == whole.read_bytes()
    cut_state, whole_state = (torch.load(path.with_name("model.optim.pt"))["optimizer"] for path in (cut, whole))
    assert cut_state["param_groups"] == whole_state["param_groups"]
    torch.testing.assert_close(cut_state["state"], whole_state["state"], rtol=0, atol=0)


def test_two_processes_train_one_network_and_judge_every_image_once(untrained: Path, tmp_path: Path) -> None:
    words = ["python", "-m", "experiments.train", "--checkpoint", str(untrained), "--accelerator", "cpu"]
    words += ["--steps", "20", "--eval-every", "10", "--batch", "32", "--valid-images", "101"]
    finish([*words, "--devices", "2", "--strategy", "ddp", "-o", str(tmp_path / "two")])
    finish([*words, "-o", str(tmp_path / "one")])
    two, one = result(tmp_path / "two"), result(tmp_path / "one")
    assert two["machine"]["processes"] == 2
    assert two["history"][0]["accuracy"] == one["history"][0]["accuracy"]
    assert two["history"][0]["valid_loss"] == pytest.approx(one["history"][0]["valid_loss"], rel=1e-6)
    # The same images, but each process normalises its half by statistics of its own.
    assert two["losses"] == pytest.approx(one["losses"], rel=0.2)
    assert two["losses"][-1] < two["losses"][0]


def test_torchrun_starts_it_as_it_starts_others(untrained: Path, tmp_path: Path) -> None:
    words = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    words += ["experiments.train", "--checkpoint", str(untrained), "--accelerator", "cpu", "--devices", "2"]
    finish([*words, "--strategy", "ddp", "--steps", "2", "-o", str(tmp_path / "out")])
    assert result(tmp_path / "out")["machine"]["processes"] == 2


@pytest.mark.timeout(900)
def test_the_imagenet_profile_runs_as_it_is_written_on_a_few_images_with_two_processes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "images" / part / name
            place.mkdir(parents=True)
            for number in range(8):
                Image.fromarray(draw.integers(0, 256, (80, 72, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
    words = (
        f"--data-dir {tmp_path / 'images'} --size 64 --batch 4 --workers 1 --eval-every 2 --eval-at 1 --save-every 1"
    )
    words += " --accelerator cpu --devices 2 --strategy ddp --lr 1e-3"
    small = replace(IMAGENET, teacher=2, scratch=2, student=2, early=1, warmup=1)
    out = tmp_path / "results"
    target = out / "seed0" / "wider-grown-0.1" / "result.json"
    made = needed_nodes(with_words(small, words), 0, out, target)
    for node in made:
        node.target.parent.mkdir(parents=True, exist_ok=True)
        for command in node.commands:
            finish(command)
    found = result(target.parent)
    assert found["machine"]["processes"] == 2
    assert [entry["step"] for entry in found["history"]] == [0, 1, 2]
    assert list((target.parent / "tensorboard").glob("events.*"))
    assert len(nodes(IMAGENET, 0, out)) > len(made)
