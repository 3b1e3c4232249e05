"""Whatever is done to a spec, reading it gives a graph that can be written again, or a `SpecError`."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops import REGISTRY, Input, SizeOf
from net2net_cli.architecture.shapes import Batch
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.errors import SpecError

PLANTS: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 2**31 - 1, 2**40, -(2**70), 1.5, -0.5, 1e300),
    *("", "n", "4n", "x", "inf", "a.b", "same", "\x00", "n c h w -> n (c h w)", "n (c a) h w -> n c (a h) w", "train"),
    *([], [1], [0, 0], [-1, -1], [1, 2, 3], ["x"], {}, {"size_of": "x", "axis": 1}, {"g": 2}),
]


def op(name: str, *args: Any, **attributes: Any) -> Any:
    return REGISTRY[name](*args, **attributes)


def document() -> Any:
    layers = (
        Layer("conv", op("Conv2d", 4, 4, (3, 3), (1, 1), "same", (1, 1), 2, True, "zeros"), ("x",)),
        Layer("conv_1", op("Conv2d", 4, 4, (3, 3), (1, 1), "same", (1, 1), 2, True, "zeros"), ("conv",), "conv"),
        Layer("up", op("ConvTranspose2d", 4, 4, (2, 2), (2, 2), (0, 0), (1, 1), 1, True, "zeros", (0, 0)), ("conv_1",)),
        Layer("half", op("AvgPool2d", (2, 2), (2, 2)), ("up",)),
        Layer("split", op("split", (1, 3), 1, 1), ("half",)),
        Layer("cat", op("cat", 1), ("split", "x")),
        Layer("pad", op("pad", (0, 0, 0, 0, 0, 1)), ("cat",)),
        Layer("norm", op("GroupNorm", 2, 8, 1e-5, True), ("pad",)),
        Layer("size", op("interpolate", size=(SizeOf("x", 2), 4)), ("norm",)),
        Layer("shuffle", op("rearrange", "n (g c) h w -> n (c g h w)", {"g": 2}), ("size",)),
        Layer("p", op("Parameter", (1, 128)), ()),
        Layer("wide", op("expand", (2, -1)), ("p",)),
        Layer("fc", op("Linear", 128, 3, True), ("shuffle",)),
        Layer("sum", op("opaque", "function", "torch:cumsum", ("n", 3), (Input(0), (1, True)), {"dim": 1}), ("fc",)),
    )
    returns: dict[Any, Any] = {"eval": "out", "train": {"namedtuple": "T", "fields": {"a": {"list": ["out", None]}}}}
    graph = Graph("n", "s", (NetworkInput("x", (Batch(), 4, 4, 4)),), layers, {"out": "fc"}, returns)
    return json.loads(to_json_text(graph))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything inside a document."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(node[key], (*path, key))


def damage(whole: Any, chance: random.Random) -> None:
    *outer, last = chance.choice(list(places(whole)))
    node = whole
    for key in outer:
        node = node[key]
    match chance.randrange(4):
        case 0 if type(node[last]) is int:
            node[last] += chance.choice([-1, 1, 10])
        case 1:
            del node[last]
        case 2 if isinstance(node, list):
            chance.shuffle(node)
        case _:
            node[last] = copy.deepcopy(chance.choice(PLANTS))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_spec_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    read = 0
    for _ in range(150):
        whole = document()
        for _ in range(chance.choice([1, 1, 2, 3])):
            damage(whole, chance)
        try:
            graph = from_json_text(json.dumps(whole), where="`f.json`")
        except SpecError:
            continue
        read += 1
        assert from_json_text(to_json_text(graph), where="`f.json`") == graph
    assert 0 < read < 150
