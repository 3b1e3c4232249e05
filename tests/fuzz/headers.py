"""Safetensors files that lie: about lengths, places, shapes and types, or by their names."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from fuzz.documents import as_text, damaged, scribbled
from fuzz.values import anything, name, number


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a sound file."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header, data[8 + length :]


def joined(header: bytes, body: bytes, *, length: int | None = None) -> bytes:
    """A file of a header, sound or not, and a body."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def packed(header: Any, body: bytes) -> bytes:
    """A file with this header."""
    return joined(json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass"), body)


LENGTHS = [0, 1, 7, 8, 2**16, 10**8, 10**8 + 1, 2**31, 2**40 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def hostile_checkpoint(data: bytes, chance: random.Random) -> bytes:
    """A sound file made unsound, or sound but strange."""
    header, body = parts(data)
    match chance.randrange(8):
        case 0:
            text = json.dumps(header).encode()
            length = chance.choice([*LENGTHS, len(text) - 1, len(text) + 1, len(text) + len(body), len(data)])
            return joined(text, body, length=length)
        case 1:
            return scribbled(data, chance)
        case 2:
            return joined(scribbled(json.dumps(header).encode(), chance), body)
        case 3:
            return packed(
                header, chance.choice([b"", body[:-1], body + b"\0", body[: len(body) // 2], scribbled(body, chance)])
            )
        case 4 | 5:
            return packed(lying(header, chance), body)
        case 6:
            return joined(as_text(damaged(header, chance), chance), body)
        case _:
            return packed(extended(header, chance), body)


DTYPES = ["F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "F6_E2M3", "f32", "", "\x1b[31m"]


def lying(header: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One tensor's entry is wrong in a way that has been used against other readers."""
    whole = copy.deepcopy(header)
    names = [n for n in whole if n != "__metadata__"]
    if not names:
        return whole
    entry, other = whole[chance.choice(names)], whole[chance.choice(names)]
    start, end = entry["data_offsets"]
    match chance.randrange(9):
        case 0:
            entry["data_offsets"] = [start + chance.choice([-4, 4, 1]), end]
        case 1:
            entry["data_offsets"] = copy.copy(other["data_offsets"])
        case 2:
            entry["data_offsets"] = [number(chance), number(chance)]
        case 3:
            entry["data_offsets"] = [end, start]
        case 4:
            entry["shape"] = [
                chance.choice([2**32, 2**33, 2**63, 2**16, 0, 1]) for _ in range(chance.choice([1, 2, 4, 33]))
            ]
        case 5:
            entry["shape"] = [*entry["shape"], chance.choice([1, 0, -1, 2, True, 1.0, "1", None])]
        case 6:
            entry["dtype"] = chance.choice(DTYPES)
        case 7:
            entry["dtype"], entry["shape"] = other["dtype"], other["shape"]
        case _:
            entry[chance.choice(list(entry))] = anything(chance)
    return whole


def extended(header: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Names and metadata that somebody else might believe."""
    whole = copy.deepcopy(header)
    names = [n for n in whole if n != "__metadata__"]
    metadata = whole.setdefault("__metadata__", {})
    match chance.randrange(6):
        case 0 if names:
            old = chance.choice(names)
            whole[name(chance)] = whole.pop(old)
        case 1:
            whole[name(chance)] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        case 2 if names:
            metadata[name(chance)] = chance.choice(names)  # as tied tensors are written
        case 3 if names:
            metadata[chance.choice(names)] = chance.choice(names)
        case 4 if names:
            gone = chance.choice(names)
            metadata[gone] = chance.choice(names)
            whole.pop(gone)
        case _:
            metadata[name(chance)] = chance.choice([name(chance), "x" * 10_000, anything(chance)])
    return whole
