"""Damage to JSON documents, as trees and as text."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fuzz.values import PATTERNS, anything, name, number

Path = tuple[Any, ...]


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """The paths to everything inside a document."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(node[key], (*path, key))


def at(node: Any, path: Path) -> Any:
    """What stands there."""
    for key in path:
        node = node[key]
    return node


def damaged(document: Any, chance: random.Random, *, times: int | None = None) -> Any:
    """A copy with one or a few things changed."""
    whole = copy.deepcopy(document)
    for _ in range(times or chance.choice([1, 1, 1, 2, 3, 8])):
        there = list(places(whole))
        if not there:
            return anything(chance)
        damage(whole, chance.choice(there), there, chance)
    return whole


def damage(whole: Any, path: Path, there: list[Path], chance: random.Random) -> None:
    """Change one place."""
    node, last = at(whole, path[:-1]), path[-1]
    match chance.randrange(10):
        case 0:
            del node[last]
        case 1:
            node[last] = copy.deepcopy(at(whole, chance.choice(there)))
        case 2:
            other = chance.choice(there)
            a, b = copy.deepcopy(node[last]), copy.deepcopy(at(whole, other))
            node[last] = b
            if other[: len(path)] != path and path[: len(other)] != other:
                with suppress(TypeError, KeyError, IndexError):  # what was put there may have no such place
                    at(whole, other[:-1])[other[-1]] = a
        case 3 if isinstance(node, list):
            if chance.random() < 0.5:
                chance.shuffle(node)
            else:
                node.insert(last, copy.deepcopy(node[last]))
        case 4 if isinstance(node, dict):
            node[name(chance)] = node.pop(last)
        case 5 if isinstance(node, dict):
            node[name(chance)] = anything(chance)
        case _:
            node[last] = changed(node[last], chance)


def changed(value: Any, chance: random.Random) -> Any:
    """A value like this one, or any other."""
    if chance.random() < 0.3:
        return anything(chance)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice([value + 1, value - 1, value * 2, -value, value + 0.5, str(value), number(chance)])
    if isinstance(value, float):
        return chance.choice([-value, 0, value * 1e300, number(chance)])
    if isinstance(value, str) and "->" in value:
        return pattern(value, chance)
    if isinstance(value, str):
        return chance.choice([value + name(chance), name(chance) + value, value[:-1], value.upper(), name(chance)])
    if isinstance(value, list):
        return chance.choice([value * 2, value[:-1], value[::-1], [value], [*value, anything(chance)]])
    return anything(chance)


def pattern(value: str, chance: random.Random) -> str:
    """An einops pattern that is wrong in a small way."""
    if chance.random() < 0.3:
        return chance.choice(PATTERNS)
    tokens = value.replace("(", " ( ").replace(")", " ) ").split()
    i = chance.randrange(len(tokens))
    match chance.randrange(4):
        case 0:
            del tokens[i]
        case 1:
            tokens.insert(i, chance.choice([*tokens, "1", "2", "(", ")", "...", "_", "n", "->", "\x1b", "ñ"]))
        case 2:
            tokens[i] = chance.choice([*tokens, "1", "0", "-1", "x" * 300])
        case _:
            chance.shuffle(tokens)
    return " ".join(tokens)


def as_text(document: Any, chance: random.Random) -> bytes:
    """A document as JSON, at times with what a dictionary cannot hold: a key twice, bytes that are not text."""
    try:
        text = json.dumps(document, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, None, 1]))
    except (ValueError, RecursionError):  # nested more deeply than Python writes
        text = "[" * 2000
    if chance.random() < 0.05 and text.startswith("{") and len(text) > 2:
        key = chance.choice(list(document) or [""])
        text = "{" + json.dumps(key) + ": " + json.dumps(number(chance)) + ", " + text[1:]
    data = text.encode("utf-8", "surrogatepass")
    return scribbled(data, chance) if chance.random() < 0.15 else data


TOKENS: list[bytes] = [
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-",
        b"00",
        b"0x1",
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 3000,
        b"]",
        b"}",
        b",",
    ),
    *(
        b'"',
        b"\\",
        b"\\u0000",
        b'"\\ud800"',
        b"\x00",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"/*",
        b"null",
    ),
]


def scribbled(data: bytes, chance: random.Random) -> bytes:
    """Bytes with a few cut, flipped, repeated or put in."""
    for _ in range(chance.choice([1, 1, 2, 5])):
        i = chance.randrange(len(data) + 1)
        j = min(len(data), i + chance.choice([1, 1, 2, 8, 100]))
        match chance.randrange(7):
            case 0:
                data = data[:i]
            case 1:
                data = data[:i] + data[j:]
            case 2:
                data = data[:j] + data[i:j] * chance.choice([1, 2, 50]) + data[j:]
            case 3:
                data = data[:i] + bytes([chance.randrange(256)]) + data[i + 1 :]
            case 4:
                data = data[:i] + bytes(b ^ (1 << chance.randrange(8)) for b in data[i:j]) + data[j:]
            case 5:
                data = data[:i] + chance.choice(TOKENS) + data[i:]
            case _:
                data = data + chance.randbytes(chance.choice([1, 7, 8, 1000]))
    return data
