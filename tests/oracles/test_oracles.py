"""Verification must say no: each of nine mutations is caught at every level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.running import run
from zoo.growing import Teacher, sensitivity

from net2net_cli import Net2Net
from oracles.mutations import MUTATIONS, Student, applies
from oracles.networks import ORACLES, Oracle

LEVELS = ("proof", "outputs", "train")

CASES = [
    pytest.param(name, mutation, id=f"{name}-{mutation.__name__}")
    for name, oracle in ORACLES.items()
    for mutation in MUTATIONS
    if applies(mutation, oracle)
]


@dataclass(frozen=True)
class Pair:
    """Files of a teacher and of the students that were grown from it."""

    oracle: Oracle
    teacher: Path
    students: dict[str, Path]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {name: made(oracle, tmp_path_factory.mktemp(name)) for name, oracle in ORACLES.items()}


def made(oracle: Oracle, folder: Path) -> Pair:
    """A sensitive teacher in float32, and its students: wider by each split, and deeper."""
    torch.manual_seed(0)
    teacher = Teacher.of(oracle.make(), [oracle.shape], batch=8)
    net = Net2Net.from_module(teacher.module.float(), torch.zeros(2, *oracle.shape))
    net.save(folder / "teacher.safetensors")
    loaded = Net2Net.load(folder / "teacher.safetensors")
    students = {
        "ownership": loaded.widen(oracle.wide),
        "equal": loaded.widen(oracle.wide, split="equal"),
        "fresh": loaded.widen(oracle.fresh, split="fresh"),
        "deeper": loaded.deepen(oracle.deep, batch_norm="identity"),
    }
    for name, student in students.items():
        student.save(folder / f"{name}.safetensors")
    return Pair(oracle, folder / "teacher.safetensors", {n: folder / f"{n}.safetensors" for n in students})


@pytest.mark.parametrize("name", ORACLES)
def test_every_layer_of_the_oracles_is_seen(name: str) -> None:
    torch.manual_seed(0)
    teacher = Teacher.of(ORACLES[name].make(), [ORACLES[name].shape], batch=8)
    for layer in teacher.weighted:
        assert sensitivity(teacher, teacher.net.to_module(dtype=torch.float64), layer) > 1e-3, layer


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ORACLES)
def test_what_was_not_spoilt_passes(pairs: dict[str, Pair], name: str, level: str) -> None:
    for student, path in pairs[name].students.items():
        done = run("verify", pairs[name].teacher, path, "--level", level)
        if level == "train" and student == "deeper" and pairs[name].oracle.statistics:
            assert done.code == 1  # an inserted batch norm is no identity for the statistics of a batch
            assert "batch norm" in done.err
        else:
            assert done.code == 0, done


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "mutation"), CASES)
def test_a_mutation_is_caught(
    pairs: dict[str, Pair],
    name: str,
    mutation: Callable[[Student, Oracle], None],
    level: str,
    tmp_path: Path,
) -> None:
    pair = pairs[name]
    for path in pair.students.values():
        student = Student(path)
        mutation(student, pair.oracle)
        spoilt = tmp_path / path.name
        student.write(spoilt)
        done = run("verify", pair.teacher, spoilt, "--level", level)
        assert done.code == 1, done
        assert done.err.count("error: ") == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ORACLES)
def test_a_zero_that_lets_a_new_channel_in_is_caught(
    pairs: dict[str, Pair], name: str, level: str, tmp_path: Path
) -> None:
    student = Student(pairs[name].students["fresh"])
    weight = student.tensors[pairs[name].oracle.reader]
    unread = np.flatnonzero(~weight[0].reshape(weight.shape[1], -1).any(axis=1))
    weight[0, unread[0]] = 1e-3
    student.write(tmp_path / "spoilt.safetensors")
    assert run("verify", pairs[name].teacher, tmp_path / "spoilt.safetensors", "--level", level).code == 1


def test_a_file_that_is_only_taken_apart_and_written_again_passes(pairs: dict[str, Pair], tmp_path: Path) -> None:
    for name, path in pairs["residual"].students.items():
        again = tmp_path / f"{name}.safetensors"
        Student(path).write(again)
        assert run("verify", pairs["residual"].teacher, again).code == 0
