"""Checkpoints in several files, found by their index; and indexes that point elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from net2net_cli.checkpoint.torch_file import load_state_dict
from net2net_cli.errors import CheckpointError, UsageError

A, B = np.arange(3, dtype=np.float32), np.ones((2, 2), dtype=np.float32)
NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def index(folder: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": weight_map}))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with two of them, beside a file that is nobody's business."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"module.a": A}, folder / NAMES[0])
    save_file({"module.b": B}, folder / NAMES[1])
    save_file({"module.b": B}, tmp_path / "secret.safetensors")
    return folder


def test_each_tensor_comes_from_its_shard_and_a_common_prefix_is_taken_off(shards: Path) -> None:
    found = load_state_dict(index(shards, {"module.b": NAMES[1], "module.a": NAMES[0]}))
    np.testing.assert_array_equal(found.tensors["a"], A)
    np.testing.assert_array_equal(found.tensors["b"], B)
    assert found.notes == ["the prefix `module.` was taken off every name"]


def test_shards_may_be_pytorch_files_with_tied_tensors(tmp_path: Path) -> None:
    weight = torch.ones(2)
    torch.save({"x": weight, "y": weight}, tmp_path / "pytorch_model-1.bin")
    torch.save({"z": torch.zeros(1)}, tmp_path / "pytorch_model-2.bin")
    weight_map = {"y": "pytorch_model-1.bin", "x": "pytorch_model-1.bin", "z": "pytorch_model-2.bin"}
    found = load_state_dict(index(tmp_path, weight_map, "pytorch_model.bin.index.json"))
    assert set(found.tensors) == {"x", "z"}
    assert found.aliases == {"y": "x"}


def test_a_cache_of_links_can_be_read(shards: Path) -> None:
    (shards / NAMES[0]).rename(shards / "blob")
    (shards / NAMES[0]).symlink_to("blob")
    assert set(load_state_dict(index(shards, {"module.a": NAMES[0]})).tensors) == {"a"}


@pytest.mark.parametrize(
    "file",
    [
        *("../secret.safetensors", "/etc/passwd", "..", ".", "", "sub/a.safetensors", "..\\secret.safetensors", "C:x"),
        *("a\nb", "a\x00b", "\x1b[31m", "model.safetensors.index.json", "x" * 256, None, 3, ["a"], {"a": 1}),
    ],
)
def test_an_index_cannot_point_anywhere_else(shards: Path, file: Any) -> None:
    with pytest.raises(CheckpointError, match=r"`module\.b` is in .* is no file name") as caught:
        load_state_dict(index(shards, {"module.a": NAMES[0], "module.b": file}))
    assert caught.value.hint


def test_a_shard_that_is_not_there_or_lacks_a_tensor_is_named(shards: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.safetensors`: no such file"):
        load_state_dict(index(shards, {"module.a": "gone.safetensors"}))
    with pytest.raises(CheckpointError, match=r"00002-of-00002.* has no tensor `module\.a`"):
        load_state_dict(index(shards, {"module.a": NAMES[1]}))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 10**5, "\x00", '"\\ud800"']
)
def test_what_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(CheckpointError, match="is no index of shards") as caught:
        load_state_dict(tmp_path / "w.json")
    assert caught.value.hint
