"""Recipes in TOML, and index files of sharded checkpoints."""

from __future__ import annotations

import json
import random
from typing import Any

from fuzz.documents import as_text, damaged, scribbled
from fuzz.values import anything, name

OPERATIONS: list[dict[str, Any]] = [
    {"name": "widen", "layers": {"conv1": "2x", "block.conv2": 9}, "seed": 3, "split": "random"},
    {"name": "widen", "layers": {"block.*": "+2"}, "where_possible": True, "round_to": 2, "noise": 0.01},
    {"name": "deepen", "layers": ["conv1"], "kernel": 3, "count": 2, "bn": "identity"},
    {"name": "deepen", "layers": ["block.conv2"]},
    {"name": "random-pad", "layers": {"conv1": 6}, "std": 0.1},
    {"name": "grow", "like": "in/bigger.json", "seed": 1},
]
LIKES = [
    "trap.py:PWNED",
    "trap:PWNED",
    "os:getcwd",
    "in/bigger.json",
    "/dev/zero",
    "/dev/stdin",
    "/etc/passwd",
    "in",
    "in/pipe",
]
WIDTHS: list[Any] = [
    "2x",
    "1.5x",
    "+1",
    "+0",
    "0x",
    "1e9x",
    "nanx",
    "infx",
    "-3",
    "2" * 400,
    "9" * 5000 + "x",
    2**40,
    0,
    -1,
    "١",
    "2 x",
]


def hostile_recipe(chance: random.Random) -> bytes:
    """Operations, some of them damaged."""
    operations = [dict(chance.choice(OPERATIONS)) for _ in range(chance.choice([1, 1, 2, 3, 30]))]
    for operation in operations:
        if "like" in operation and chance.random() < 0.5:
            operation["like"] = chance.choice(LIKES)
        if isinstance(operation.get("layers"), dict) and chance.random() < 0.5:
            operation["layers"] = {k: chance.choice(WIDTHS) for k in operation["layers"]}
    found = damaged({"operation": operations}, chance) if chance.random() < 0.7 else {"operation": operations}
    text = toml(found).encode("utf-8", "surrogatepass")
    return scribbled(text, chance) if chance.random() < 0.2 else text


def toml(document: Any) -> str:
    """As TOML, as far as it goes."""
    if not isinstance(document, dict):
        return plain(document)
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for entry in value:
                lines += [f"[[{bare(key)}]]", *(f"{bare(k)} = {plain(v)}" for k, v in entry.items())]
        else:
            lines.insert(0, f"{bare(key)} = {plain(value)}")
    return "\n".join(lines) + "\n"


def bare(key: Any) -> str:
    """A key, quoted where it has to be."""
    text = str(key)
    return text if text.isascii() and text.isidentifier() else quoted(text)


def plain(value: Any) -> str:
    """A value in line; the depth is bounded, so that making it cannot fail."""
    try:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{bare(k)} = {plain(v)}" for k, v in value.items()) + " }"
        if isinstance(value, list):
            return f"[{', '.join(map(plain, value))}]"
        if isinstance(value, str):
            return quoted(value)
        return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan") if value is not None else '"null"'
    except RecursionError:
        return "[" * 3000


def quoted(text: str) -> str:
    """A TOML text; JSON's escapes of lone surrogates are errors there, which is as well."""
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0)


def hostile_index(shards: dict[str, list[str]], chance: random.Random) -> bytes:
    """A `model.safetensors.index.json` whose map says where each tensor is, or claims to."""
    weight_map: dict[str, Any] = {tensor: shard for shard, tensors in shards.items() for tensor in tensors}
    document: dict[str, Any] = {"metadata": {"total_size": 1000}, "weight_map": weight_map}
    some = list(weight_map)
    match chance.randrange(8):
        case 0:
            for tensor in chance.sample(some, chance.choice([1, len(some)])):
                weight_map[tensor] = chance.choice(ELSEWHERE)
        case 1:
            weight_map[chance.choice(some)] = anything(chance)
        case 2:
            weight_map[name(chance)] = chance.choice([*shards, *ELSEWHERE])
        case 3:
            del weight_map[chance.choice(some)]
        case 4:
            weight_map[chance.choice(some)] = chance.choice(list(shards))
        case 5:
            document["metadata"] = anything(chance)
        case 6:
            return as_text(damaged(document, chance), chance)
        case _:
            return scribbled(json.dumps(document).encode(), chance)
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


ELSEWHERE = [
    *("../secret.safetensors", "/etc/passwd", "/dev/zero", "/dev/stdin", "..", ".", "", "sub/a.safetensors", "pipe"),
    *("C:\\x.safetensors", "..\\secret.safetensors", "./../secret.safetensors", "hostile.index.json", "no.safetensors"),
    *(
        "\x1b[31m.safetensors",
        "a\nb",
        "a\x00b",
        "[red]",
        "x" * 5000,
        "shard-1.safetensors/../../secret.safetensors",
        "~/x",
    ),
]
