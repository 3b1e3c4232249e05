"""Files of the safetensors library are read as it reads them; everything else is refused with the place named."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from safetensors.numpy import save, save_file

from net2net_cli.checkpoint.safetensors_file import TensorInfo, open_checkpoint
from net2net_cli.errors import CheckpointError, MachineError, UsageError

A: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}
GOOD = {"a": A, "b": B}


def raw(header: object, data: bytes = bytes(12)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write(folder: Path, content: bytes, name: str = "t.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_arrays_of_the_library_come_back_with_type_shape_and_value(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.arange(3, dtype=np.float16),
        "count": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 4), np.float64),
        "flags": np.array([True, False, True]),
    }
    save_file(arrays, tmp_path / "t.safetensors", {"format": "pt", "naïve": '"quoted"\n'})
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        assert checkpoint.metadata == {"format": "pt", "naïve": '"quoted"\n'}
        assert checkpoint.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            read = checkpoint.read(name)
            assert checkpoint.info(name) == TensorInfo.of(array)
            assert (read.dtype, read.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("torch_type", "numpy_type"),
    [
        (torch.bfloat16, ml_dtypes.bfloat16),
        (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
        (torch.float8_e5m2, ml_dtypes.float8_e5m2),
        (torch.uint16, np.uint16),
        (torch.complex64, np.complex64),
    ],
)
def test_types_that_numpy_lacks_or_rarely_meets_have_the_values_torch_wrote(
    tmp_path: Path, torch_type: torch.dtype, numpy_type: type
) -> None:
    tensor = torch.tensor([0.0, 1.0, 3.0, 448.0]).to(torch_type)
    safetensors.torch.save_file({"x": tensor}, tmp_path / "t.safetensors")
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        assert checkpoint.read("x").dtype == np.dtype(numpy_type)
        np.testing.assert_array_equal(checkpoint.read("x").astype(np.complex64), tensor.to(torch.complex64).numpy())


def test_an_array_is_read_only_and_outlives_the_checkpoint(tmp_path: Path) -> None:
    save_file({"x": np.ones(3, np.float32), "e": np.ones((0,), np.float32)}, tmp_path / "t.safetensors")
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        views = [checkpoint.read("x"), checkpoint.read("e")]
    for view in views:
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 0
    assert views[0].sum() == 3
    checkpoint.close()
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read("x")


def test_a_part_of_a_tensor_is_read_where_it_stands(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    save_file({"a": np.ones(3, np.uint8), "x": values}, tmp_path / "t.safetensors")
    part = np.empty(7, np.float32)
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        checkpoint.read_part("x", 20, part)
    np.testing.assert_array_equal(part, np.arange(20, 27))


@pytest.mark.parametrize("most", [1, 7, 24, 1 << 20])
def test_a_part_is_read_into_several_places_however_much_the_system_gives_at_a_time(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(5000, dtype=np.float32)
    save_file({"a": np.ones(3, np.uint8), "x": values}, tmp_path / "t.safetensors")
    sizes = [3, 0, 1, *[2] * 1500, 10]  # of more places than one call takes
    parts = [np.empty(size, np.float32) for size in sizes]
    whole = os.preadv

    def little(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        assert len(buffers) <= os.sysconf("SC_IOV_MAX")
        room = bytearray(min(most, sum(map(len, buffers))))
        rest = memoryview(room)[: whole(descriptor, [room], offset)]
        count = len(rest)
        for buffer in buffers:
            taken = rest[: len(buffer)]
            buffer[: len(taken)] = taken
            rest = rest[len(taken) :]
        return count

    monkeypatch.setattr(os, "preadv", little)
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        checkpoint.read_part("x", 20, *parts)
        np.testing.assert_array_equal(np.concatenate(parts), np.arange(20, 20 + sum(sizes)))
        monkeypatch.delattr(os, "preadv")
        checkpoint.read_part("x", 30, *parts)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(30, 30 + sum(sizes)))


def test_a_file_that_is_cut_short_while_it_is_read_is_told_and_ends_nothing(tmp_path: Path) -> None:
    """As by `cp` onto it; mapped, this would be a SIGBUS."""
    path = tmp_path / "t.safetensors"
    save_file({"x": np.ones(1 << 20, np.float32)}, path)
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, 1 << 20)
        with pytest.raises(CheckpointError, match="was cut short by another program while it was read") as caught:
            checkpoint.read("x")
    assert "run this again" in (caught.value.hint or "")


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_disk_that_goes_away_while_a_file_is_read_is_a_machine_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def gone(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "t.safetensors"
    save_file({"x": np.ones(3, np.float32)}, path)
    with open_checkpoint(path) as checkpoint:
        monkeypatch.setattr(os, "preadv", gone)
        for reading in (lambda: checkpoint.read("x"), checkpoint.sha256):
            with pytest.raises(MachineError, match="cannot read") as caught:
                reading()
            assert caught.value.hint


def test_a_system_without_positioned_reads_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"x": np.arange(1000.0)}, path)
    monkeypatch.delattr(os, "preadv")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        np.testing.assert_array_equal(checkpoint.read("x"), np.arange(1000.0))


def test_a_file_that_has_changed_since_it_was_opened_has_no_digest_any_more(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"x": np.ones(3, np.float32)}, path)
    with open_checkpoint(path) as checkpoint:
        checkpoint.sha256()
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\0\0\0\0")
        os.utime(path, ns=(0, checkpoint._state[1] + 1))  # as some time later
        with pytest.raises(CheckpointError, match="was changed by another program while it was read"):
            checkpoint.sha256()


def test_a_file_that_is_replaced_while_it_is_read_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({"x": np.ones(3, np.float32)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with open_checkpoint(path) as checkpoint:
        save_file({"x": np.zeros(3, np.float32)}, tmp_path / "new.safetensors")
        (tmp_path / "new.safetensors").replace(path)
        assert checkpoint.read("x").sum() == 3
        assert checkpoint.sha256() == digest


def test_an_unaligned_tensor_is_read(tmp_path: Path) -> None:
    header = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "b": {**A, "data_offsets": [1, 9]}}
    content = raw(header, b"\7" + np.array([1.5, -2], "<f4").tobytes())
    with open_checkpoint(write(tmp_path, content)) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("b"), [1.5, -2])


@pytest.mark.parametrize("header", [{}, {"__metadata__": {}}, {"__metadata__": None}, {"__metadata__": {"a": "b"}}])
def test_a_file_without_tensors_is_sound(tmp_path: Path, header: object) -> None:
    with open_checkpoint(write(tmp_path, raw(header, b""))) as checkpoint:
        assert checkpoint.tensors == {}


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_tied_tensors_of_save_model_are_read_under_both_names(tmp_path: Path) -> None:
    model = Tied()
    safetensors.torch.save_model(
        model, str(tmp_path / "t.safetensors"), {"author": "me", "embed.weight": "not an alias"}
    )
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        assert checkpoint.aliases == {"head.weight": "embed.weight"}
        assert checkpoint.info("head.weight").shape == (5, 3)
        np.testing.assert_array_equal(checkpoint.read("head.weight"), model.embed.weight.detach().numpy())


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    with (
        open_checkpoint(write(tmp_path, raw(GOOD))) as checkpoint,
        pytest.raises(CheckpointError, match=r"`fc\.weight`"),
    ):
        checkpoint.read("fc.weight")


def test_the_digest_is_that_of_the_whole_file_also_from_several_threads(tmp_path: Path) -> None:
    save_file({"x": np.arange(2_000_000, dtype=np.float32)}, tmp_path / "t.safetensors")
    digests: list[str] = []
    with open_checkpoint(tmp_path / "t.safetensors") as checkpoint:
        threads = [threading.Thread(target=lambda: digests.append(checkpoint.sha256())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(digests) == {hashlib.sha256((tmp_path / "t.safetensors").read_bytes()).hexdigest()}
    assert len(digests) == 3


def entry(**changes: object) -> dict[str, object]:
    return {"a": {**A, **changes}, "b": B}


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "0 bytes"),
    "shorter than a length": (b"\1\0\0", "3 bytes"),
    "header beyond the file": ((1000).to_bytes(8, "little") + b"{}", "cut short: its header has 1000 bytes, 2"),
    "header over the limit": ((1 << 40).to_bytes(8, "little") + b"{}", "claims 1099511627776 bytes"),
    "header length negative if signed": (b"\xff" * 8 + b"{}", "claims"),
    "not JSON": (raw(b'{"a": '), "not valid JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not UTF-8"),
    "lone surrogate": (raw(b'{"__metadata__": {"a": "\\ud800"}}', b""), "not UTF-8"),
    "NaN": (raw(b'{"a": NaN}'), "NaN"),
    "nested without end": (raw(b"[" * 100_000), "not valid JSON"),
    "endless integer": (raw(b'{"a": ' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "a list": (raw([]), "an object is needed"),
    "same tensor twice": (raw(b'{"a": {}, "a": {}}'), "'a' appears twice"),
    "metadata twice": (raw(b'{"__metadata__": {}, "__metadata__": {}}', b""), "appears twice"),
    "metadata a list": (raw({"__metadata__": []}, b""), "`__metadata__`"),
    "metadata a number": (raw({"__metadata__": {"epoch": 3}}, b""), "metadata `epoch` is 3"),
    "entry a number": (raw({"a": 1}), "tensor `a` has 1"),
    "no dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}), "tensor `a` has"),
    "unknown dtype": (raw(entry(dtype="Q4")), "dtype 'Q4', known are"),
    "dtype a list": (raw(entry(dtype=["F32"])), "tensor `a` has the dtype"),
    "negative shape": (raw(entry(shape=[-2])), r"tensor `a` has the shape \[-2\]"),
    "negative twice": (raw(entry(shape=[-1, -2])), "tensor `a` has the shape"),
    "shape of bool": (raw(entry(shape=[True, 2])), "tensor `a` has the shape"),
    "shape of float": (raw(entry(shape=[2.0])), "tensor `a` has the shape"),
    "shape a number": (raw(entry(shape=2)), "tensor `a` has the shape"),
    "too many dimensions": (raw(entry(shape=[1] * 32 + [2])), "at most 32"),
    "huge shape": (raw(entry(shape=[2**40, 2**40])), "which no memory holds"),
    "huge shape with a zero": (raw(entry(shape=[0, 2**64], data_offsets=[0, 0])), "which no memory holds"),
    "offsets backwards": (raw(entry(data_offsets=[8, 0])), "tensor `a` has -8 bytes"),
    "offsets negative": (raw(entry(data_offsets=[-8, 0])), "tensor `a` has the offsets"),
    "offsets of bool": (raw(entry(data_offsets=[False, 8])), "tensor `a` has the offsets"),
    "three offsets": (raw(entry(data_offsets=[0, 8, 9])), "tensor `a` has the offsets"),
    "size mismatch": (raw(entry(shape=[3])), r"tensor `a` has 8 bytes, F32 \[3\] needs 12"),
    "hole at the start": (raw({"a": {**A, "data_offsets": [4, 12]}}), "`a` starts at byte 4 and leaves a hole"),
    "hole": (raw({"a": A, "b": {**B, "data_offsets": [9, 13]}}, bytes(13)), "`b` starts at byte 9 and leaves a hole"),
    "overlap": (raw({"a": A, "b": {**B, "data_offsets": [4, 8]}}, bytes(8)), "`b` starts at byte 4 and overlaps `a`"),
    "data cut short": (raw(GOOD, bytes(11)), "cut short: the tensors take 12 bytes, 11"),
    "data left over": (raw(GOOD, bytes(13)), "1 bytes at the end"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_and_says_where(tmp_path: Path, case: str) -> None:
    content, message = MALFORMED[case]
    path = write(tmp_path, content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


STRICTER_THAN_THE_LIBRARY = {"too many dimensions"}  # numpy 1 has no more


@pytest.mark.parametrize("case", sorted(MALFORMED.keys() - STRICTER_THAN_THE_LIBRARY))
def test_the_library_refuses_what_we_refuse(case: str) -> None:
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(MALFORMED[case][0])  # type: ignore[no-untyped-call]


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The file with one byte of its header replaced by one that matters to JSON, or with one inserted."""
    end = 8 + int.from_bytes(content[:8], "little")
    place, char = int(random.integers(8, end)), random.choice(list(b'0123456789"{}[],:-.eFIU \\\xff'))
    if random.random() < 0.5:
        return content[:place] + bytes([char]) + content[place + 1 :]
    return (end - 7).to_bytes(8, "little") + content[8:place] + bytes([char]) + content[place:]


def test_of_randomly_damaged_files_those_are_refused_that_the_library_refuses(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "a": np.ones((2, 3), np.float32),
        "b": np.zeros(5, np.int8),
        "c": np.array(1, np.float16),
    }
    content, random = save(arrays, {"k": "v", "é": "x"}), np.random.default_rng(0)
    outcomes = set()
    for _ in range(500):
        broken = damaged(content, random)
        outcome = is_readable(write(tmp_path, broken))
        assert outcome == is_readable_by_the_library(broken), broken
        outcomes.add(outcome)
    assert outcomes == {True, False}


def is_readable(path: Path) -> bool:
    try:
        with open_checkpoint(path) as checkpoint:
            return all(checkpoint.read(name).shape == info.shape for name, info in checkpoint.tensors.items())
    except CheckpointError:
        return False


def is_readable_by_the_library(content: bytes) -> bool:
    try:
        safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        return False
    return True


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"PK\x03\x04" + bytes(60), "zip", "`.pt`"),
        (b"\x80\x02}q\x00." + bytes(60), "pickle", "`.pt`"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page", "download"),
    ],
)
def test_another_kind_of_file_is_recognised(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(write(tmp_path, content))
    assert hint in (caught.value.hint or "")


def test_a_header_whose_length_starts_like_a_pickle_is_none(tmp_path: Path) -> None:
    text = json.dumps(GOOD).encode().ljust(0x80)
    with open_checkpoint(write(tmp_path, raw(text))) as checkpoint:
        assert set(checkpoint.tensors) == {"a", "b"}


def test_no_file_a_folder_and_a_pipe_are_usage_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "no such file"), (".", "is a folder"), ("pipe", "not a regular file")):
        with pytest.raises(UsageError, match=message):
            open_checkpoint(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_machine_error(tmp_path: Path) -> None:
    path = write(tmp_path, raw(GOOD))
    path.chmod(0)
    with pytest.raises(MachineError, match="no permission"):
        open_checkpoint(path)
