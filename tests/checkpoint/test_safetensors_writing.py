"""What we write is what the safetensors library would have written; failures say what is needed."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

from net2net_cli.checkpoint.safetensors_file import OutgoingTensor, TensorInfo, open_checkpoint, write_checkpoint
from net2net_cli.errors import ExitCode, MachineError, Net2NetError


def outgoing(name: str, array: np.ndarray, rows: int = 1) -> OutgoingTensor:
    def blocks() -> Iterator[np.ndarray]:
        if array.ndim == 0:
            yield array
        for start in range(0, len(array) if array.ndim else 0, rows):
            yield np.ascontiguousarray(array[start : start + rows])

    return OutgoingTensor(name, TensorInfo.of(array), blocks)


def some_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "z.weight": random.normal(size=(5, 3, 2)).astype(np.float32),
        "a.bias": random.normal(size=5).astype(np.float16),
        "num_batches_tracked": np.array(3, np.int64),
        "empty": np.zeros((0, 7), np.float32),
        "é": np.array([True, False, True]),
        "double": random.normal(size=(2, 2)),
    }


def test_the_bytes_of_a_tiny_file(tmp_path: Path) -> None:
    tensors = [outgoing("b", np.array([1, 2], np.uint8)), outgoing("a", np.array([[1.5]], np.float32))]
    write_checkpoint(tmp_path / "t", tensors, {"k": 'v"'})
    assert (tmp_path / "t").read_bytes() == (
        b"\x88\0\0\0\0\0\0\0"
        b'{"__metadata__":{"k":"v\\""},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}} '
        b"\0\0\xc0\x3f\x01\x02"
    )


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"é": '\n"\x7f/\u2028'}])
def test_the_library_writes_the_same_bytes(tmp_path: Path, metadata: dict[str, str]) -> None:
    arrays = some_arrays()
    write_checkpoint(tmp_path / "ours", [outgoing(name, array) for name, array in arrays.items()], metadata)
    theirs = safetensors.numpy.save(arrays, metadata or None)
    assert (tmp_path / "ours").read_bytes() == theirs


def test_the_order_of_tensors_and_the_size_of_blocks_do_not_show(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_checkpoint(tmp_path / "a", [outgoing(name, array, 1) for name, array in arrays.items()], {"x": "1", "y": "2"})
    reverse = [outgoing(name, array, 4) for name, array in reversed(arrays.items())]
    write_checkpoint(tmp_path / "b", reverse, {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16])
def test_safe_open_reads_small_floats_as_torch_has_them(tmp_path: Path, kind: type) -> None:
    values = np.array([[0, 1, -2.5], [0.25, 96, -0.0]])
    tensors = [outgoing("x", values.astype(kind)), outgoing("scalar", np.array(1.5, kind))]
    write_checkpoint(tmp_path / "t", tensors, {"format": "pt"})
    with safe_open(tmp_path / "t", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        expected = torch.from_numpy(values.astype(kind).astype(np.float32))
        assert torch.equal(file.get_tensor("x").float(), expected)
        assert file.get_tensor("scalar").shape == ()
        assert file.get_slice("x")[1:].shape == (1, 3)


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_load_model_is_strict_on_a_model_with_tied_weights_and_integer_buffers(tmp_path: Path) -> None:
    source, target = Tied(), Tied()
    source.norm(torch.randn(4, 3))
    state = {name: tensor.numpy() for name, tensor in source.state_dict().items() if name != "head.weight"}
    tensors = [outgoing(name, array) for name, array in state.items()]
    write_checkpoint(tmp_path / "t", tensors, {"format": "pt", "head.weight": "embed.weight"})
    safetensors.torch.load_model(target, tmp_path / "t", strict=True)  # raises on any name missing or left over
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
    with open_checkpoint(tmp_path / "t") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("head.weight"), state["embed.weight"])


def test_a_mapped_teacher_is_copied_through_byte_for_byte(tmp_path: Path) -> None:
    safetensors.numpy.save_file(some_arrays(), tmp_path / "teacher", {"format": "pt"})
    with open_checkpoint(tmp_path / "teacher") as teacher:
        tensors = [
            OutgoingTensor(name, info, lambda name=name: iter([teacher.read(name)]))  # type: ignore[misc]
            for name, info in teacher.tensors.items()
        ]
        write_checkpoint(tmp_path / "student", tensors, teacher.metadata)
    assert (tmp_path / "student").read_bytes() == (tmp_path / "teacher").read_bytes()


def test_blocks_are_asked_for_one_at_a_time_and_reported(tmp_path: Path) -> None:
    reusable, log = np.zeros((1, 4), np.float32), []

    def blocks() -> Iterator[np.ndarray]:
        for row in range(3):
            reusable[...] = row
            log.append(-row)
            yield reusable

    tensor = OutgoingTensor("x", TensorInfo("F32", (3, 4)), blocks)
    write_checkpoint(tmp_path / "t", [tensor], {}, on_bytes=log.append)
    assert log == [0, 16, -1, 16, -2, 16]
    expected = np.repeat(np.arange(3, dtype=np.float32), 4).reshape(3, 4)
    np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "t")["x"], expected)


def test_raw_bytes_may_stand_for_a_tensor(tmp_path: Path) -> None:
    raw = np.array([1.5], np.float32).view(np.uint8)
    write_checkpoint(tmp_path / "t", [OutgoingTensor("x", TensorInfo("F32", (1,)), lambda: iter([raw]))], {})
    assert safetensors.numpy.load_file(tmp_path / "t")["x"] == [1.5]


def test_late_metadata_is_filled_in_after_the_tensors(tmp_path: Path) -> None:
    events: list[str] = []

    def digest() -> str:
        events.append("late")
        return '["' + "f" * 64 + '"]'

    tensors = [outgoing(name, array) for name, array in some_arrays().items()]
    placeholder = '["' + "0" * 64 + '"]'
    write_checkpoint(
        tmp_path / "late",
        tensors,
        {"a": "1", "sha": placeholder, "z": "2"},
        late={"sha": digest},
        on_bytes=lambda _: events.append("bytes"),
    )
    write_checkpoint(tmp_path / "known", tensors, {"a": "1", "sha": digest(), "z": "2"})
    assert events.index("late") == events.count("bytes")
    assert (tmp_path / "late").read_bytes() == (tmp_path / "known").read_bytes()


@pytest.mark.parametrize("value", ["short", '"' * 64])  # the quotes are as many, but longer in JSON
def test_late_metadata_of_another_length_is_our_bug(tmp_path: Path, value: str) -> None:
    with pytest.raises(AssertionError, match="exactly as long"):
        write_checkpoint(tmp_path / "t", [], {"sha": "0" * 64}, late={"sha": lambda: value})


@pytest.mark.parametrize(
    "block",
    [np.zeros(2, np.float32), np.zeros(4, np.float32), np.zeros(3, np.int32), np.zeros(6, np.float32)[::2]],
    ids=["too few", "too many", "other type", "strided"],
)
def test_blocks_that_are_not_the_tensor_are_our_bug(tmp_path: Path, block: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="x"):
        write_checkpoint(tmp_path / "t", [OutgoingTensor("x", TensorInfo("F32", (3,)), lambda: iter([block]))], {})


def test_a_name_given_twice_is_our_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unique"):
        write_checkpoint(tmp_path / "t", [outgoing("x", np.zeros(1)), outgoing("x", np.zeros(1))], {})


def test_a_system_that_writes_in_parts_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write_all(file, memoryview(data)[:5]))
    arrays = some_arrays()
    write_checkpoint(tmp_path / "t", [outgoing(name, array) for name, array in arrays.items()], {})
    monkeypatch.undo()
    assert (tmp_path / "t").read_bytes() == safetensors.numpy.save(arrays)


@pytest.mark.parametrize(
    ("code", "message", "exit_code"),
    [
        (errno.ENOSPC, r"disk full: the file needs 4\.\d kB, .* free in", ExitCode.MACHINE),
        (errno.EDQUOT, "quota", ExitCode.MACHINE),
        (errno.EIO, "input/output error", ExitCode.MACHINE),
        (errno.EFBIG, "4.1 kB", ExitCode.MACHINE),
        (errno.ENODEV, "no such device", ExitCode.MACHINE),
    ],
)
def test_a_failing_write_says_what_was_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str, exit_code: ExitCode
) -> None:
    def failing(file: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(Net2NetError, match=message) as caught:
        write_checkpoint(tmp_path / "t", [outgoing("x", np.zeros(1000, np.float32))], {})
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (errno.EACCES, ExitCode.MACHINE),
        (errno.EPERM, ExitCode.MACHINE),
        (errno.EROFS, ExitCode.MACHINE),
        (errno.ENAMETOOLONG, ExitCode.USAGE),
        (errno.ENOENT, ExitCode.USAGE),
        (errno.EISDIR, ExitCode.USAGE),
    ],
)
def test_a_file_that_cannot_be_made_ends_the_command_with_the_right_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, exit_code: ExitCode
) -> None:
    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(Net2NetError) as caught:
        write_checkpoint(tmp_path / "t", [], {})
    assert caught.value.exit_code == exit_code
    assert caught.value.hint


def test_too_little_space_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 3_000_000))
    with pytest.raises(MachineError, match=r"disk full: the file needs 8\.0 MB, 3\.0 MB free"):
        write_checkpoint(tmp_path / "t", [outgoing("x", np.zeros(10**6))], {})
    assert not (tmp_path / "t").exists()


def test_a_disk_that_is_full_only_on_closing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def failing(file: int) -> None:
        close(file)
        raise OSError(errno.ENOSPC, "late")

    monkeypatch.setattr(os, "close", failing)
    with pytest.raises(MachineError, match="disk full"):
        write_checkpoint(tmp_path / "t", [outgoing("x", np.zeros(3))], {})
