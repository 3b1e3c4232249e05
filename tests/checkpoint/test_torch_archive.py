"""PyTorch files read without torch: the same as torch reads, and nothing that a file could do to its reader."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from net2net_cli.checkpoint.torch_file import load_state_dict
from net2net_cli.errors import CheckpointError

NUMBERS = struct.pack("<6f", *range(6))


def archive(path: Path, text: bytes, *, how: int = zipfile.ZIP_STORED, **storages: bytes) -> Path:
    """An archive as `torch.save` lays it out."""
    with zipfile.ZipFile(path, "w", how) as zipped:
        zipped.writestr("archive/data.pkl", text)
        for key, data in storages.items():
            zipped.writestr(f"archive/data/{key.removeprefix('s')}", data)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def plain(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], *, offset: int = 0, kind: str = "FloatStorage", key: str = "0"
) -> bytes:
    """Opcodes of a tensor."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + plain(6) + b"tQ"
    rest = plain(offset) + plain(shape) + plain(strides) + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def state(*entries: bytes) -> bytes:
    """Opcodes of a dictionary of these keys and values."""
    return b"\x80\x02}(" + b"".join(entries) + b"u."


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_state_dict(path)
    assert caught.value.hint
    assert len(caught.value.message) < 500


BASE = torch.arange(24, dtype=torch.float32)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_it_reads_what_torch_reads(tmp_path: Path, zipped: bool, protocol: int) -> None:
    saved = {
        "plain": BASE.reshape(2, 3, 4),
        "transposed": BASE.reshape(4, 6).t(),
        "part": BASE[5:9],
        "steps": BASE[::5],
        "repeated": BASE[:3].expand(4, 3),
        "one": torch.ones(1, 3, 1).transpose(0, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "negative": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
        "parameter": torch.nn.Parameter(BASE.double()[3:]),
        "_extra_state": {"a": (1, [2.5, None, True]), "size": torch.Size([1, 2]), "on": torch.device("cpu")},
        "epoch": 2**70,
        "bytes": b"\x00\xff",
        "set": {1, 2},
    }
    torch.save(saved, tmp_path / "t.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = load_state_dict(tmp_path / "t.pt")
    tensors = {name: value for name, value in saved.items() if isinstance(value, torch.Tensor)}
    assert set(found.tensors) == set(tensors)
    for name, value in tensors.items():
        expected = value.detach().resolve_neg().numpy()
        np.testing.assert_array_equal(found.tensors[name], expected)
        assert found.tensors[name].dtype == expected.dtype


def test_storages_are_looked_at_in_the_file_and_not_read_into_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000), "b": torch.ones(3)}, tmp_path / "t.pt")
    for array in load_state_dict(tmp_path / "t.pt").tensors.values():
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert type(array.base).__name__ in ("mmap", "memoryview")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save({"w": BASE}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    code = f"""
import sys, pathlib
from net2net_cli.checkpoint.torch_file import load_state_dict
for name in ("new.pt", "old.pt"):
    assert load_state_dict(pathlib.Path({str(tmp_path)!r}) / name).tensors["w"].sum() == 276
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "called",
    [
        *(
            "os system",
            "posix system",
            "builtins exec",
            "builtins getattr",
            "torch load",
            "torch zeros",
            "torch FloatTensor",
        ),
        *("torch.storage _load_from_bytes", "numpy.core.multiarray scalar", "torch._utils _rebuild_nothing"),
    ],
)
def test_what_is_not_needed_is_named_and_refused(tmp_path: Path, called: str) -> None:
    module, name = called.split()
    path = archive(tmp_path / "t.pt", state(text("w"), f"c{module}\n{name}\n".encode() + plain(("true",)) + b"R"))
    refused(path, f"names `{module}.{name}`; nothing of it was executed")


@pytest.mark.parametrize("size", [10**12, 10**9])
@pytest.mark.parametrize("kind", ["bytearray", "set", "complex"])
def test_calls_that_state_dicts_may_hold_are_not_made(tmp_path: Path, kind: str, size: int) -> None:
    call = f"cbuiltins\n{kind}\n".encode() + plain((size,)) + b"R"
    path = archive(tmp_path / "t.pt", state(text("w"), tensor((2, 3), (3, 1)), text("x"), call), s0=NUMBERS)
    found = load_state_dict(path)
    assert found.notes == ["not tensors, so passed over: `x`"]
    np.testing.assert_array_equal(found.tensors["w"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((7,), (1,), 0),
        ((6,), (1,), 1),
        ((2, 3), (4, 1), 0),
        ((2,), (2**40,), 0),
        ((1,), (1,), 2**62),
        ((2**62,), (1,), 0),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    path = archive(tmp_path / "t.pt", state(text("w"), tensor(shape, strides, offset=offset)), s0=NUMBERS)
    refused(path, "tensor `w` .* ends behind the numbers that are stored")


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**31, 2**31), (2**20,)])
def test_a_tensor_that_repeats_little_without_end_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = archive(tmp_path / "t.pt", state(text("w"), tensor(shape, (0,) * len(shape))), s0=NUMBERS)
    refused(path, "`w` .* is much larger than what is stored for it")


@pytest.mark.parametrize(
    "numbers", [((-1, 3), (3, 1)), ((2, 3), (-3, 1)), ((2,), (1, 1)), ((2**63,), (1,)), ((True,), (1,))]
)
def test_sizes_that_are_none_are_refused(tmp_path: Path, numbers: Any) -> None:
    refused(archive(tmp_path / "t.pt", state(text("w"), tensor(*numbers)), s0=NUMBERS), "damaged")


def test_a_storage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "t.pt", state(text("w"), tensor((2,), (1,), key="../0")), s0=NUMBERS)
    refused(path, "ends behind the numbers")


@pytest.mark.parametrize("entry", ["data.pkl", "storage"])
def test_what_is_compressed_is_not_unpacked(tmp_path: Path, entry: str) -> None:
    body = state(text("w"), tensor((2, 3), (3, 1)))
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as zipped:
        zipped.writestr("archive/data.pkl", body, zipfile.ZIP_DEFLATED if entry == "data.pkl" else zipfile.ZIP_STORED)
        zipped.writestr("archive/data/0", NUMBERS, zipfile.ZIP_DEFLATED if entry == "storage" else zipfile.ZIP_STORED)
    refused(tmp_path / "t.pt", "compressed, which `torch.save` never does")


@pytest.mark.parametrize(
    "key",
    [
        b")" + b"q\x00h\x00\x86" * 60,  # a tuple of twice the tuple before: its hash takes 2^60 steps
        b"(" + b")" + b"q\x00h\x00\x86" * 60 + b"t",
    ],
)
@pytest.mark.timeout(20)
def test_a_key_that_takes_for_ever_to_hash_is_not_hashed(tmp_path: Path, key: bytes) -> None:
    path = archive(tmp_path / "t.pt", state(text("w"), tensor((2, 3), (3, 1)), key, b"N"), s0=NUMBERS)
    assert load_state_dict(path).notes == ["not tensors, so passed over: `a key`"]


@pytest.mark.parametrize("opcodes", [b"]" * 10**6, b"}" * 10**6, b")\x85" * 10**6])
def test_a_pickle_that_makes_much_of_little_is_refused(tmp_path: Path, opcodes: bytes) -> None:
    refused(archive(tmp_path / "t.pt", state(text("a"), opcodes)), "makes more of little")


def test_a_tar_is_not_unpacked_though_its_first_name_looks_like_a_pickle(tmp_path: Path) -> None:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2).decode("latin-1")
    with tarfile.open(tmp_path / "t.pt", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        for name in (magic, "storages", "tensors"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    refused(tmp_path / "t.pt", "damaged")


@pytest.mark.parametrize("cut", range(0, 1000, 37))
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path, zipped: bool, cut: int) -> None:
    torch.save({"w": BASE, "b": BASE[:3]}, tmp_path / "t.pt", _use_new_zipfile_serialization=zipped)
    data = bytearray((tmp_path / "t.pt").read_bytes())
    data[cut % len(data)] ^= 0xFF
    (tmp_path / "t.pt").write_bytes(data)
    with suppress(CheckpointError):
        load_state_dict(tmp_path / "t.pt")
