"""Tensors that are read from a file in parts are those that are read whole, however their rows are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from growth.teachers import random_tensors
from growth.test_apply import GRAPHS, widened
from net2net_cli.checkpoint.memory import MemoryTensors
from net2net_cli.checkpoint.safetensors_file import OutgoingTensor, TensorInfo, open_checkpoint, write_checkpoint
from net2net_cli.errors import CheckpointError
from net2net_cli.growth import source
from net2net_cli.growth.apply import Grown, ReusedMemory
from net2net_cli.growth.plan import SPLITS, Split
from net2net_cli.growth.source import Source
from net2net_cli.model_file import FiniteTensors

ROWS = [[0], [3, 4, 5], [0, 0, 0], [2, 2, 3, 4, 4, 4, 5], [0, 1, 2, 3, 4, 5, 5], [5]]


@pytest.mark.parametrize("rows", ROWS)
def test_rows_that_are_read_to_where_they_stand_are_the_teachers(rows: list[int], tmp_path: Path) -> None:
    teacher = np.arange(60, dtype=np.float32).reshape(6, 5, 2)
    save_file({"other": np.ones(3, np.uint8), "x": teacher}, tmp_path / "t.safetensors")
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        for tensors in (checkpoint, FiniteTensors(checkpoint, "it")):
            found = Source(tensors, "x", whole_from=1 << 20).in_place(rows, np.empty)
            np.testing.assert_array_equal(found, teacher[rows])


def test_only_rows_that_are_long_are_read_one_by_one(tmp_path: Path) -> None:
    tensors = {"long": np.ones((4, source.LEAST_ROW // 4), np.float32), "short": np.ones((4, 5), np.float32)}
    save_file(tensors, tmp_path / "t.safetensors")
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        assert Source(checkpoint, "long", whole_from=1 << 20).reads_in_place(4)
        assert not Source(checkpoint, "long", whole_from=1).reads_in_place(4)
        assert not Source(checkpoint, "short", whole_from=1 << 20).reads_in_place(4)
    assert not Source(MemoryTensors(tensors, {}), "long", whole_from=1 << 20).reads_in_place(4)


def test_what_is_not_finite_is_found_in_rows_that_are_read_one_by_one(tmp_path: Path) -> None:
    teacher = np.ones((4, 3), np.float32)
    teacher[3, 2] = np.inf
    save_file({"x": teacher}, tmp_path / "t.safetensors")
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        read = Source(FiniteTensors(checkpoint, "it"), "x", whole_from=1 << 20)
        read.in_place([0, 0, 1, 2], np.empty)
        with pytest.raises(CheckpointError, match="holds NaN or infinite values"):
            read.in_place([2, 2, 3], np.empty)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [1, 300, 1 << 20])
def test_a_growth_of_a_file_is_the_growth_of_the_same_tensors_in_memory(
    name: str, split: Split, dtype: npt.DTypeLike, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows of any length read one by one, and blocks in memory that is used again."""
    monkeypatch.setattr(source, "LEAST_ROW", 1)
    plan = widened(name, split, seed=3)
    teacher = random_tensors(plan.teacher, dtype)
    path = tmp_path / "t.safetensors"
    write_checkpoint(path, [outgoing(key, values) for key, values in teacher.items()], {})
    memory = ReusedMemory(size)
    with open_checkpoint(path) as checkpoint:
        for tensor in plan.tensors:
            whole = Grown(plan, MemoryTensors(teacher, {})).read(tensor)
            blocks = b"".join(block.tobytes() for block in Grown(plan, checkpoint).blocks(tensor, memory))
            assert blocks == whole.tobytes(), tensor


def outgoing(name: str, values: npt.NDArray[Any]) -> OutgoingTensor:
    return OutgoingTensor(name, TensorInfo.of(values), lambda: iter([values]))
