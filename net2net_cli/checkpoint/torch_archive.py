"""What `torch.save` wrote, read without torch: a zip of a pickle and storages, or one pickle behind the other.

Storages are mapped, not read. Nothing is unpacked: what a file holds compressed, or at a place that it does not have,
is refused.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from net2net_cli.checkpoint.pickles import read_pickle
from net2net_cli.checkpoint.torch_records import DamagedPickleError, Storage, item_size

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file of torch before 1.6."""

_PROTOCOL = 1001
_MOST_ENTRIES = 1_000_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class TorchScriptError(Exception):
    """The archive is a program."""


@dataclass(frozen=True)
class Archive:
    """What a file holds.

    Attributes:
        content: what was saved, with `TensorRecord` for tensors.
        storages: key -> the bytes of a storage, as views of the mapped file.
        size: of the file, in bytes.
    """

    content: Any
    storages: Mapping[str, np.ndarray]
    size: int


def read_archive(path: Path) -> Archive:
    """Read a file of either format.

    Raises:
        PickleRefusedError: its pickle names what no state dict needs.
        DamagedPickleError: it breaks the format.
        TorchScriptError: it is a program.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _zipped(path, mapped) if mapped[:2] == b"PK" else _legacy(mapped)


def _zipped(path: Path, mapped: mmap.mmap) -> Archive:
    entries = _entries(path)
    main = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(main) != 1:
        raise DamagedPickleError("it has no `data.pkl`")
    root = main[0].removesuffix("data.pkl")
    if any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in entries):
        raise TorchScriptError
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(_bytes_of(mapped, order)[:8]) != b"little":
        raise DamagedPickleError("its numbers are stored with their last byte first")
    text = bytes(_bytes_of(mapped, entries[main[0]]))
    content = read_pickle(BytesIO(text), len(text))
    prefix = f"{root}data/"
    held = {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}
    return Archive(content, {key: _bytes_of(mapped, entry) for key, entry in held.items()}, len(mapped))


def _entries(path: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError) as error:
        raise DamagedPickleError(str(error)) from error
    names = {entry.filename: entry for entry in found}
    if len(names) < len(found) or len(found) > _MOST_ENTRIES:
        raise DamagedPickleError("two of its entries have one name")
    return names


def _bytes_of(mapped: mmap.mmap, entry: zipfile.ZipInfo) -> np.ndarray:
    """`(bytes,)` uint8: an entry's content, where it lies in the file."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
        raise DamagedPickleError("it is compressed, which `torch.save` never does")
    start = entry.header_offset
    if start < 0 or start + _LOCAL_HEADER.size > len(mapped):
        raise DamagedPickleError("an entry starts behind the end of the file")
    magic, name, extra = _LOCAL_HEADER.unpack_from(mapped, start)
    start += _LOCAL_HEADER.size + name + extra
    if magic != b"PK\x03\x04" or start + entry.file_size > len(mapped):
        raise DamagedPickleError("an entry ends behind the end of the file")
    return np.frombuffer(mapped, np.uint8, entry.file_size, start)


def _legacy(mapped: mmap.mmap) -> Archive:
    """Pickles of the magic number, the protocol, the machine, the content and the storages' keys; then these."""
    first = read_pickle(mapped, len(mapped))  # type: ignore[arg-type] # a mapped file is a file
    if first != MAGIC:
        raise DamagedPickleError("it is a pickle of something else")
    known: dict[str, Storage] = {}
    protocol, machine, content, keys = (read_pickle(mapped, len(mapped), known) for _ in range(4))  # type: ignore[arg-type]
    if protocol != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DamagedPickleError("its numbers are stored in no way that is known")
    if not isinstance(keys, list):
        raise DamagedPickleError("it has no list of storages")
    storages: dict[str, np.ndarray] = {}
    position = mapped.tell()
    for key in keys:
        if not isinstance(key, (str, int)) or len(mapped) - position < 8:
            raise DamagedPickleError("a storage is not there")
        count = int.from_bytes(mapped[position : position + 8], "little", signed=True)
        length = count * item_size(known[str(key)].dtype if str(key) in known else None)
        if count < 0 or length > len(mapped) - position - 8:
            raise DamagedPickleError("a storage ends behind the end of the file")
        storages[str(key)] = np.frombuffer(mapped, np.uint8, length, position + 8)
        position += 8 + length
    return Archive(content, storages, len(mapped))
