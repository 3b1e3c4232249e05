"""Whatever broke a rule once, small: tried by every `make test`."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fuzz.headers import packed, parts
from fuzz.kinds import as_weights, checkpoint_of, plain_checkpoint, state
from fuzz.pickles import STORAGE, mapping, tar, tensor, text, zipped
from fuzz.sandbox import Case
from fuzz.seeds import Seed
from net2net_cli.architecture.spec_file import from_json_text
from net2net_cli.checkpoint.lineage import LINEAGE_KEY

Make = Callable[[list[Seed]], Case]


def of(seeds: list[Seed], name: str) -> Seed:
    """The seed of that name."""
    return next(seed for seed in seeds if seed.name == name)


def layer_of(document: Any, name: str) -> dict[str, Any]:
    """A layer of a spec."""
    found: dict[str, Any] = next(layer for layer in document["layers"] if layer["name"] == name)
    return found


def edited(
    seeds: list[Seed], layer: str, attributes: dict[str, Any], *, seed: str = "residual", drop: bool = False
) -> Case:
    """A look at a spec, `in/h.json`, in which a layer has other attributes beside its own, or instead (`drop`)."""
    document = copy.deepcopy(of(seeds, seed).spec)
    found = layer_of(document, layer)
    for key in [key for key in found if drop and key not in ("name", "inputs")]:
        del found[key]
    found.update(attributes)
    data = json.dumps(document).encode()
    Path("in/h.json").write_bytes(data)
    return Case("past", ("inspect", "in/h.json"), len(data))


def built(seeds: list[Seed], *arguments: str, change: Callable[[Any], None]) -> Case:
    """A command on a checkpoint, `in/h.safetensors`, whose spec was changed and whose tensors fit it."""
    document = copy.deepcopy(of(seeds, "residual").spec)
    change(document)
    data = checkpoint_of(from_json_text(json.dumps(document), where="it"))
    assert data is not None
    Path("in/h.safetensors").write_bytes(data)
    return Case("past", arguments, len(data), runs_network=True)


def weights(_: list[Seed], data: bytes, file: str = "w.pt") -> Case:
    """An import with these weights."""
    return as_weights("past", data, file)


def recipe(seeds: list[Seed], lines: str) -> Case:
    """The recipe applied."""
    Path("in/t.safetensors").write_bytes(of(seeds, "residual").data)
    Path("in/r.toml").write_text(lines, encoding="utf-8")
    return Case("past", ("apply", "in/t.safetensors", "in/r.toml", "-n"), len(lines))


def command(seeds: list[Seed], *arguments: str) -> Case:
    """A command on a sound checkpoint."""
    Path("in/t.safetensors").write_bytes(of(seeds, "residual").data)
    return Case("past", arguments, 0)


def history(seeds: list[Seed], *arguments: str, change: Callable[[Any], Any]) -> Case:
    """A command on a student, `in/h.safetensors`, whose lineage was edited."""
    header, body = parts(of(seeds, "student").data)
    steps = json.loads(header["__metadata__"][LINEAGE_KEY])
    header["__metadata__"][LINEAGE_KEY] = change(steps) or json.dumps(steps)
    data = packed(header, body)
    Path("in/h.safetensors").write_bytes(data)
    return Case("past", arguments, len(data))


def index(_: list[Seed], file: str) -> Case:
    """An import by an index that names this file for all tensors; one that nobody may read lies outside."""
    data = json.dumps({"weight_map": dict.fromkeys(state(), file)}).encode()
    Path("secret.safetensors").write_bytes(plain_checkpoint())
    unread = (str(Path("secret.safetensors").resolve()),)
    return as_weights("past", data, "w.json", unread=unread)


def _negative_eps(document: Any) -> None:
    layer_of(document, "bn1")["eps"] = -1e-5


def _infinite(steps: Any) -> str:
    return json.dumps(steps).replace('"seed": 0', '"seed": 0, "more": 1e999').replace('"split"', '"x": 1e999, "split"')


def _layers_is_a_number(steps: Any) -> None:
    steps[0]["arguments"]["layers"] = 5


def _escapes(steps: Any) -> None:
    steps[0]["operation"] = "\x1b[2J\u202ewiden"


WIDEN = '[[operation]]\nname = "widen"\nlayers = {{ conv1 = "{}" }}\n'
DEEPEN = '[[operation]]\nname = "deepen"\nlayers = ["conv1"]\ncount = 67108865\n'
GROW = '[[operation]]\nname = "grow"\nlike = "{}"\n'
ENCODER = "TransformerEncoderLayer"
ENDLESS = {"op": "RNN", "input_size": 6, "hidden_size": 6, "num_layers": 2**40, "nonlinearity": "tanh"}
ENDLESS |= {"bias": True, "batch_first": True, "dropout": 0.0, "bidirectional": False}
NESTED_KEY = b")" + b"q\x00h\x00\x86" * 60
BYTES = bytes(50 << 20)
WEIGHT = text("fc.weight") + tensor("0", (2, 3), (3, 1))

PAST: dict[str, tuple[int, Make]] = {
    "width that no channel counter holds": (
        2,
        lambda s: command(s, "widen", "in/t.safetensors", f"conv1={'2' * 400}", "-n"),
    ),
    "factor that is infinite": (2, partial(recipe, lines=WIDEN.format("9" * 5000 + "x"))),
    "number with too many digits for Python": (
        3,
        partial(recipe, lines='[[operation]]\nname = "widen"\nseed = ' + "9" * 5000),
    ),
    "recipe that deepens without end": (2, partial(recipe, lines=DEEPEN)),
    "recipe that names code": (3, partial(recipe, lines=GROW.format("trap.py:PWNED"))),
    "recipe that names a module": (3, partial(recipe, lines=GROW.format("trap:PWNED"))),
    "recipe that names a device without an end": (2, partial(recipe, lines=GROW.format("/dev/zero"))),
    "recipe that names a pipe that says nothing": (2, partial(recipe, lines=GROW.format("in/pipe"))),
    "recipe with a key of control characters": (
        3,
        partial(recipe, lines='[[operation]]\nname = "widen"\n"a\\tb" = 1\n'),
    ),
    "attribute of a name that turns text around": (3, lambda s: edited(s, "relu1", {"\u202eabc": 1})),
    "attribute of a name that fills the screen": (3, lambda s: edited(s, "relu1", {"[" * 9000: 1})),
    "value of a name that turns text around": (3, lambda s: edited(s, "relu1", {"op": "\u2028\x1b[31m"})),
    "heads that do not divide the width": (3, lambda s: edited(s, "self_attn", {"num_heads": 3}, seed=ENCODER)),
    "no heads": (3, lambda s: edited(s, "self_attn", {"num_heads": 0}, seed=ENCODER)),
    "axis of a norm that is not there": (
        3,
        lambda s: edited(s, "relu1", {"op": "normalize", "p": 2, "dim": 9, "eps": 1}),
    ),
    "softmax over channels that are not there": (3, lambda s: edited(s, "fc", {"op": "Softmax2d"}, drop=True)),
    "recurrent layers without an end": (3, lambda s: edited(s, "relu1", ENDLESS, drop=True)),
    "more channels than memory": (3, lambda s: edited(s, "conv1", {"out_channels": 2**26})),
    "eps that torch refuses": (
        3,
        lambda s: built(s, "verify", "in/h.safetensors", "in/h.safetensors", change=_negative_eps),
    ),
    "history with an infinity": (
        3,
        lambda s: history(
            s, "widen", "in/h.safetensors", "conv1=9", "--no-verify", "-o", "out/s.safetensors", change=_infinite
        ),
    ),
    "history whose layers are a number": (
        0,
        lambda s: history(s, "inspect", "in/h.safetensors", change=_layers_is_a_number),
    ),
    "history that clears the screen": (0, lambda s: history(s, "inspect", "in/h.safetensors", change=_escapes)),
    "layer of control characters": (2, lambda s: command(s, "deepen", "in/t.safetensors", "a\tb\u202e\x1b[31m", "-n")),
    "class of control characters": (
        2,
        lambda s: command(
            s, "export", "in/t.safetensors", "--to", "python", "--class-name", "a\u200b", "-o", "out/s.py"
        ),
    ),
    "index that leaves its folder": (3, partial(index, file="../secret.safetensors")),
    "index that names a folder": (3, partial(index, file="..")),
    "pickle: repeated to 8 GB": (
        3,
        lambda s: weights(
            s, zipped(mapping([(text("fc.weight"), tensor("0", (2**16, 2**15), (0, 0)))]), {"0": STORAGE})
        ),
    ),
    "pickle: a negative size": (
        3,
        lambda s: weights(s, zipped(mapping([(text("fc.weight"), tensor("0", (-1, 3), (3, 1)))]), {"0": STORAGE})),
    ),
    "pickle: a compressed storage": (
        3,
        lambda s: weights(s, zipped(mapping([(WEIGHT, b"")]), {"0": BYTES}, how=zipfile.ZIP_DEFLATED)),
    ),
    "pickle: a compressed program": (
        3,
        lambda s: weights(s, zipped(mapping([(WEIGHT, b"")]) + BYTES, {"0": STORAGE}, how=zipfile.ZIP_DEFLATED)),
    ),
    "pickle: a key that takes 2^60 steps": (
        3,
        lambda s: weights(s, zipped(mapping([(WEIGHT, NESTED_KEY + b"N")]), {"0": STORAGE})),
    ),
    "pickle: a tar that would be unpacked": (3, lambda s: weights(s, tar("\udc80\x02", link=True))),
    "pickle: names of control characters": (
        3,
        lambda s: weights(s, zipped(mapping([(text("\x1b[31m\ufeffa"), b"N")]), {})),
    ),
}
"""What it was -> the exit code that it has to have now, and what makes it."""
