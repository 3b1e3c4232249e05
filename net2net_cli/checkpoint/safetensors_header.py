"""The header of a safetensors file: parsed with every check, and written.

Format: 8 bytes little-endian header length, the header in JSON, the tensors' bytes. The header maps each tensor's name
to `{"dtype", "shape", "data_offsets"}` and may hold strings under `__metadata__`
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import ml_dtypes
import numpy as np

from net2net_cli.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_HEADER_BYTES = 100_000_000  # the library's limit as well
METADATA = "__metadata__"
_MAX_DIMENSIONS = 32  # numpy 1's limit
_MAX_BYTES = 2**63
_DAMAGED = "the file is damaged or was not written as safetensors; copy, download or export it again"

# In the order in which the safetensors library ranks them; it stores tensors in the reverse of it, so that each is
# aligned to its own size.
NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "I16": np.dtype(np.int16),
    "U16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
    "F32": np.dtype(np.float32),
    "C64": np.dtype(np.complex64),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "U64": np.dtype(np.uint64),
}
_RANK = {name: rank for rank, name in enumerate(NUMPY_DTYPES)}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Type and shape of a stored tensor; `dtype` is safetensors' name for it (`F32`, `BF16`, …)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The dtype as numpy has it, with `ml_dtypes` for bfloat16 and float8."""
        return NUMPY_DTYPES[self.dtype]

    @classmethod
    def of(cls, array: np.ndarray) -> TensorInfo:
        """The info of an array; `KeyError` where safetensors has no such dtype."""
        return cls(_NAMES[array.dtype], array.shape)


_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: what is stored, and at which offset behind the header each tensor starts."""

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    offsets: dict[str, int]


def storage_order(infos: Mapping[str, TensorInfo]) -> list[str]:
    """The names in the order in which their bytes are stored: largest items first, then by name."""
    return sorted(infos, key=lambda name: (-_RANK[infos[name].dtype], name.encode()))


def encode_header(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Length and header for tensors that follow each other in the order of `infos`, padded to 8 bytes."""
    entries: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name, info in infos.items():
        end = start + info.nbytes
        entries[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def decode_header(path: Path, text: bytes, data_bytes: int) -> Header:
    """Parse the header of `path`, which is followed by `data_bytes` bytes.

    Raises:
        CheckpointError: the header breaks the format; the message names the tensor.
    """
    entries = _parse_json(path, text)
    metadata = _check_metadata(path, entries.pop(METADATA, None))
    tensors: dict[str, TensorInfo] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in entries.items():
        tensors[name], spans[name] = _check_entry(path, name, entry)
    _check_layout(path, spans, data_bytes)
    return Header(metadata, tensors, {name: start for name, (start, _) in spans.items()})


def fail(path: Path, problem: str, hint: str = _DAMAGED) -> NoReturn:
    """Raise the `CheckpointError` for a file that breaks the format."""
    raise CheckpointError(f"`{path}` is not a sound safetensors file: {problem}", hint)


def _parse_json(path: Path, text: bytes) -> dict[str, object]:
    """The header as a dictionary; duplicate keys, NaN, lone surrogates and other JSON than an object are refused."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} appears twice")
            found[key] = value
        return found

    def no_constant(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        entries = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=no_constant)
        json.dumps(entries, ensure_ascii=False).encode()  # a lone surrogate could be read, but not written again
    except UnicodeError as error:
        fail(path, f"the header is not UTF-8 ({error})")
    except (ValueError, RecursionError) as error:
        fail(path, f"the header is not valid JSON ({error})")
    if not isinstance(entries, dict):
        fail(path, f"the header is a JSON {type(entries).__name__}, an object is needed")
    return entries


def _check_metadata(path: Path, metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        fail(path, f"`{METADATA}` is {metadata!r:.60}, an object is needed")
    for key, value in metadata.items():
        if not isinstance(value, str):
            fail(path, f"metadata `{key}` is {value!r:.60}, a string is needed")
    return metadata


def _check_entry(path: Path, name: str, entry: object) -> tuple[TensorInfo, tuple[int, int]]:
    """Info and (start, end) of one tensor, which must agree with each other."""
    needed = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or not needed <= entry.keys():
        found = sorted(entry) if isinstance(entry, dict) else f"{entry!r:.60}"
        fail(path, f"tensor `{name}` has {found}, {sorted(needed)} are needed")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY_DTYPES:
        known = ", ".join(reversed(NUMPY_DTYPES))
        fail(path, f"tensor `{name}` has the dtype {dtype!r:.60}, known are {known}", "convert it to a known dtype")
    if not _is_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        fail(path, f"tensor `{name}` has the shape {shape!r:.100}, at most {_MAX_DIMENSIONS} integers ≥ 0 are needed")
    info = TensorInfo(dtype, tuple(shape))
    if math.prod(max(length, 1) for length in shape) * info.numpy_dtype.itemsize >= _MAX_BYTES:
        fail(path, f"tensor `{name}` has the shape {shape!r:.100}, which no memory holds")
    if not _is_sizes(span) or len(span) != 2:
        fail(path, f"tensor `{name}` has the offsets {span!r:.100}, two integers ≥ 0 are needed")
    if span[1] - span[0] != info.nbytes:
        fail(path, f"tensor `{name}` has {span[1] - span[0]} bytes, {dtype} {shape} needs {info.nbytes}")
    return info, (span[0], span[1])


def _is_sizes(value: object) -> bool:
    # JSON's `true` is an int to Python
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_layout(path: Path, spans: Mapping[str, tuple[int, int]], data_bytes: int) -> None:
    """The tensors must follow each other without holes or overlaps and end where the file ends."""
    position, last = 0, None
    for name, (start, end) in _by_position(spans):
        if start != position:
            fault = "overlaps" if start < position else "leaves a hole behind"
            fail(path, f"tensor `{name}` starts at byte {start} and {fault} {_place(last)}, which ends at {position}")
        position, last = end, name
    if position > data_bytes:
        fail(path, f"it is cut short: the tensors take {position} bytes, {data_bytes} are there")
    if position < data_bytes:
        fail(path, f"{data_bytes - position} bytes at the end belong to no tensor")


def _by_position(spans: Mapping[str, tuple[int, int]]) -> Iterable[tuple[str, tuple[int, int]]]:
    return sorted(spans.items(), key=lambda item: item[1])


def _place(name: str | None) -> str:
    return "the header" if name is None else f"`{name}`"
