"""From a kind and a number to a command and its files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fuzz.documents import as_text, damaged
from fuzz.headers import hostile_checkpoint, packed, parts
from fuzz.pickles import hostile_torch_file, saved
from fuzz.recipes import WIDTHS, hostile_index, hostile_recipe
from fuzz.sandbox import Case
from fuzz.seeds import SOURCE, Seed, residual, weights
from fuzz.values import anything, name
from net2net_cli import Net2Net
from net2net_cli.architecture.graph import Graph
from net2net_cli.architecture.shapes import concrete
from net2net_cli.architecture.spec_checks import channels_made
from net2net_cli.architecture.spec_file import from_json_text, to_json_text
from net2net_cli.checkpoint.lineage import LINEAGE_KEY, SPEC_KEY
from net2net_cli.errors import Net2NetError

OUT = "out/s.safetensors"


def spec(seeds: list[Seed], chance: random.Random) -> Case:
    """A damaged spec: alone, beside a checkpoint, inside it, or as a target."""
    seed = chance.choice(seeds)
    layer = chance.choice([*seed.layers, "**"])
    text = as_text(damaged(seed.spec, chance), chance)
    for _ in range(chance.choice([0, 30])):  # most damage is refused at once: look for some that is not
        graph = _read(text)
        fitting = checkpoint_of(graph) if graph else None
        if graph and fitting is not None:
            _put("in/h.safetensors", fitting)
            arguments = _looking_or_growing("in/h.safetensors", layer, chance, verified=False)
            return Case("spec", arguments, len(fitting), channels_made(graph))
        text = as_text(damaged(seed.spec, chance, times=1), chance)
    _put("in/h.json", text)
    _put("in/t.safetensors", seed.data)
    commands: list[tuple[str, ...]] = [
        *(("inspect", "in/h.json"), ("inspect", "in/h.json", "--all", "--json"), ("inspect", "in/h.json", layer)),
        *(("diff", "in/t.safetensors", "in/h.json"), ("export", "in/h.json", "--to", "python", "-o", "out/s.py")),
        *(
            ("grow", "in/t.safetensors", "--like", "in/h.json", "-n"),
            ("widen", "in/t.safetensors", "--like", "in/h.json", "-n"),
        ),
        ("widen", "in/t.safetensors", f"{layer}=2x", "--spec", "in/h.json", "--no-verify", "-o", OUT),
    ]
    graph = _read(text)
    return Case("spec", chance.choice(commands), len(text), 2 * channels_made(graph) if graph else 0)


def _read(text: bytes) -> Graph | None:
    """The graph of a damaged spec, if it can still be read."""
    try:
        return from_json_text(text.decode(), where="it")
    except (Net2NetError, ValueError):
        return None


def checkpoint_of(graph: Graph) -> bytes | None:
    """A checkpoint that fits a spec; with it, what is behind the reading is reached. None where it would be large."""
    tensors = weights(graph)
    if tensors is None:
        return None
    path = Path("in/made.safetensors")
    Net2Net.from_tensors(graph, tensors).save(path)
    data = path.read_bytes()
    path.unlink()
    path.with_suffix(".json").unlink()
    return data


def network(seeds: list[Seed], chance: random.Random) -> Case:
    """A damaged spec whose network is run."""
    seed = chance.choice(seeds)
    layer = chance.choice(seed.layers)
    for _ in range(20):
        graph = _read(as_text(damaged(seed.spec, chance, times=1), chance))
        fitting = checkpoint_of(graph) if graph and _elements(graph) <= MOST_ELEMENTS else None
        if fitting is not None:
            _put("in/h.safetensors", fitting)
            arguments = _looking_or_growing("in/h.safetensors", layer, chance, verified=True)
            return Case("network", arguments, len(fitting), runs_network=True)
    return spec(seeds, chance)


MOST_ELEMENTS = 10**6
"""Of all values of a network that is run: its time and memory are what the spec asks for, and are not judged."""


def _elements(graph: Graph) -> int:
    return sum(math.prod(concrete(shape, 8)) for shape in graph.shapes.values())


def _looking_or_growing(path: str, layer: str, chance: random.Random, *, verified: bool) -> tuple[str, ...]:
    """A command on a checkpoint; those that run the network only if it is to be `verified`."""
    if verified:
        run: list[tuple[str, ...]] = [
            ("widen", path, f"{layer}=2x", "-o", OUT),
            ("deepen", path, layer, "-o", OUT),
            *(("verify", path, path, "--json"), ("verify", path, path, "--level", "train")),
            ("verify", path, path, "--locate", "--report", "out/r.html"),
            ("export", path, "--to", "torch", "-o", "out/s.pt"),
        ]
        return chance.choice(run)
    width = chance.choice(["2x", "+1", "1.5x"])
    commands: list[tuple[str, ...]] = [
        *(("inspect", path), ("inspect", path, "--all", "--json"), ("inspect", path, layer), ("inspect", path, "**")),
        *(("widen", path, f"{layer}={width}", "-n"), ("widen", path, f"{layer}={width}", "--no-verify", "-o", OUT)),
        *(("widen", path, "**=2x", "--where-possible", "--no-verify", "-o", OUT), ("deepen", path, layer, "-n")),
        *(("deepen", path, layer, "--no-verify", "-o", OUT), ("random-pad", path, f"{layer}=+1", "-o", OUT)),
        ("verify", "in/t.safetensors", path, "--level", "proof"),
        *(("diff", path, path), ("diff", path, path, "--recipe"), ("export", path, "--to", "python", "-o", "out/s.py")),
    ]
    return chance.choice(commands)


def header(seeds: list[Seed], chance: random.Random) -> Case:
    """A damaged safetensors file, as a teacher, a student or weights."""
    if chance.random() < 0.25:
        return as_weights("header", hostile_checkpoint(plain_checkpoint(), chance), "w.safetensors")
    seed = chance.choice(seeds)
    data = hostile_checkpoint(seed.data, chance)
    _put("in/h.safetensors", data)
    _put("in/t.safetensors", seed.data)
    if chance.random() < 0.2:
        more: list[tuple[str, ...]] = [
            *(("diff", "in/t.safetensors", "in/h.safetensors"), ("verify", "in/t.safetensors", "in/h.safetensors")),
            *(
                ("export", "in/h.safetensors", "--to", "torch", "-o", "out/s.pt"),
                ("verify", "in/h.safetensors", "in/t.safetensors"),
            ),
            *(
                ("diff", "in/t.safetensors", "in/h.safetensors", "--recipe"),
                ("widen", "in/t.safetensors", "--like", "in/h.safetensors", "-n"),
            ),
        ]
        return Case("header", chance.choice(more), len(data))
    return Case(
        "header", _looking_or_growing("in/h.safetensors", chance.choice(seed.layers), chance, verified=False), len(data)
    )


def state() -> dict[str, torch.Tensor]:
    """The state dict of `SOURCE`'s network."""
    norm = {"bn.weight": torch.ones(2), "bn.bias": torch.zeros(2), "bn.running_mean": torch.zeros(2)}
    more = {"bn.running_var": torch.ones(2), "bn.num_batches_tracked": torch.tensor(0)}
    first = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.zeros(2)}
    return {**first, **norm, **more, "out.weight": torch.eye(2), "out.bias": torch.zeros(2)}


def plain_checkpoint(some: dict[str, torch.Tensor] | None = None) -> bytes:
    """The same as safetensors, without a spec."""
    header: dict[str, Any] = {}
    body = b""
    for key, tensor in (some or state()).items():
        data = tensor.numpy().tobytes()
        kind = "F32" if tensor.is_floating_point() else "I64"
        header[key] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return packed(header, body)


def as_weights(kind: str, data: bytes, file: str, *, unread: tuple[str, ...] = ()) -> Case:
    _put("in/net.py", SOURCE.encode())
    _put(f"in/{file}", data)
    arguments = ("import", "in/net.py:Net", "--input", "3", "--weights", f"in/{file}", "-o", "out/t.safetensors")
    place = str(Path("in/net.py"))
    return Case(kind, arguments, len(data), trusted=(place, str(Path(place).resolve())), unread=unread)


def torch_file(seeds: list[Seed], chance: random.Random) -> Case:
    """A hostile `.pt` file, as weights."""
    data = hostile_torch_file(state(), chance)
    return as_weights("torch file", data, chance.choice(["w.pt", "w.pt", "w.pth", "w.bin", "w.safetensors"]))


def index(seeds: list[Seed], chance: random.Random) -> Case:
    """A hostile index of shards, as weights; and hostile shards behind a sound one."""
    tensors = state()
    names = list(tensors)
    shards = {f"shard-{i}.safetensors": names[i::2] for i in range(2)}
    for file, held in shards.items():
        data = plain_checkpoint({key: tensors[key] for key in held})
        _put(f"in/{file}", hostile_checkpoint(data, chance) if chance.random() < 0.1 else data)
    if chance.random() < 0.1:
        Path("in/shard-1.safetensors").unlink()
        instead = Path("in/shard-1.safetensors")
        match chance.randrange(3):
            case 0:
                instead.mkdir()
            case 1:
                instead.symlink_to(instead.name)
            case _:
                instead.symlink_to("/dev/zero")
    _put("secret.safetensors", plain_checkpoint())
    unread = (str(Path("secret.safetensors").resolve()), "/etc/passwd", "/dev/zero")
    file = chance.choice(["model.safetensors.index.json", "w.json"])
    return as_weights("index", hostile_index(shards, chance), file, unread=unread)


def optimizer(seeds: list[Seed], chance: random.Random) -> Case:
    """A damaged state of an optimizer, as it would grow with a teacher."""
    seed = seeds[0]
    header, _ = parts(seed.data)
    named = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    parameters = {name: shape for name, shape in named.items() if "running" not in name and "num_batches" not in name}
    kept = {i: {"momentum_buffer": torch.ones(shape)} for i, shape in enumerate(parameters.values())}
    group = {"lr": 0.1, "params": list(range(len(parameters))), "param_names": list(parameters)}
    document = {"optimizer": {"state": kept, "param_groups": [group]}, "epoch": 3}
    data = saved(damaged(document, chance))
    _put("in/t.safetensors", seed.data)
    _put("in/o.pt", data)
    how = chance.choice([("-n",), ("--no-verify", "-o", OUT)])
    return Case("optimizer", ("widen", "in/t.safetensors", "conv1=2x", "--optimizer", "in/o.pt", *how), len(data))


def recipe(seeds: list[Seed], chance: random.Random) -> Case:
    """A hostile recipe."""
    _put("in/t.safetensors", seeds[0].data)
    _put("in/bigger.json", to_json_text(residual(8, 9)).encode())
    text = hostile_recipe(chance)
    _put("in/r.toml", text)
    how = chance.choice([("-n",), ("-n", "--json"), ("--no-verify", "-o", OUT)])
    return Case("recipe", ("apply", "in/t.safetensors", "in/r.toml", *how), len(text))


def lineage(seeds: list[Seed], chance: random.Random) -> Case:
    """A student whose metadata tell another history."""
    seed = seeds[1]
    header, body = parts(seed.data)
    metadata = header["__metadata__"]
    history = json.loads(metadata[LINEAGE_KEY])
    text = as_text(damaged(history, chance), chance)
    metadata[LINEAGE_KEY] = text.decode("utf-8", "replace")
    if chance.random() < 0.1:
        metadata[SPEC_KEY] = as_text(damaged(seed.spec, chance), chance).decode("utf-8", "replace")
    data = packed(header, body)
    _put("in/h.safetensors", data)
    _put("in/t.safetensors", seeds[0].data)
    commands: list[tuple[str, ...]] = [
        *(
            ("inspect", "in/h.safetensors"),
            ("inspect", "in/h.safetensors", "--json"),
            ("diff", "in/t.safetensors", "in/h.safetensors"),
        ),
        *(("diff", "in/t.safetensors", "in/h.safetensors", "--recipe"), ("widen", "in/h.safetensors", "conv1=9", "-n")),
        *(("verify", "in/t.safetensors", "in/h.safetensors", "--level", "proof", *how) for how in ((), ("--json",))),
        ("widen", "in/h.safetensors", "conv1=9", "--no-verify", "-o", OUT),
    ]
    return Case("lineage", chance.choice(commands), len(data))


def arguments(seeds: list[Seed], chance: random.Random) -> Case:
    """Hostile names and widths on the command line."""
    seed = chance.choice(seeds)
    _put("in/t.safetensors", seed.data)
    layer = (
        chance.choice([chance.choice(seed.layers), name(chance).replace("\0", "")]).encode("utf-8", "replace").decode()
    )
    width = str(chance.choice([*WIDTHS, anything(chance)])).replace("\0", "").encode("utf-8", "replace").decode()
    commands: list[tuple[str, ...]] = [
        *(("widen", "in/t.safetensors", f"{layer}={width}", "-n"), ("deepen", "in/t.safetensors", layer, "-n")),
        *(("inspect", "in/t.safetensors", layer), ("random-pad", "in/t.safetensors", f"{layer}:{width}=2x", "-n")),
        *(("widen", "in/t.safetensors", f"{layer}={width}", "--no-verify", "-o", OUT),),
        ("export", "in/t.safetensors", "--to", "python", "--class-name", layer, "-o", "out/s.py"),
    ]
    return Case("arguments", chance.choice(commands), len(seed.data))


def _put(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


KINDS: dict[str, Callable[[list[Seed], random.Random], Case]] = {
    "spec": spec,
    "header": header,
    "torch file": torch_file,
    "recipe": recipe,
    "index": index,
    "lineage": lineage,
    "optimizer": optimizer,
    "arguments": arguments,
    "network": network,
}

TURNS = [
    *("spec", "header", "torch file", "recipe", "spec", "header", "torch file", "index", "spec", "header", "lineage"),
    *("torch file", "recipe", "spec", "arguments", "network", "optimizer"),
]
"""The kinds in the order in which they take turns; the most common files come most often."""


def prepare(seeds: list[Seed], seed: int, number: int) -> Case:
    """The files and the command of an input, in the present folder."""
    kind = TURNS[number % len(TURNS)]
    return KINDS[kind](seeds, random.Random(f"{seed} {number}"))


WIDEN_RECIPE = b'[[operation]]\nname = "widen"\nlayers = { conv1 = "2x" }\n'


def sound(seeds: list[Seed]) -> list[tuple[str, Callable[[], Case]]]:
    """For each command a sound case, which tells what it takes by itself."""

    def files() -> None:
        _put("in/t.safetensors", seeds[0].data)
        _put("in/s.safetensors", seeds[1].data)
        _put("in/bigger.json", to_json_text(residual(8, 9)).encode())
        _put("in/r.toml", WIDEN_RECIPE)

    out = "-o out/s.safetensors"
    lines = [
        *("inspect in/t.safetensors", "inspect in/t.safetensors conv1", f"widen in/t.safetensors conv1=2x {out}"),
        *(f"widen in/t.safetensors conv1=2x --no-verify {out}", f"deepen in/t.safetensors conv1 {out}"),
        *(f"random-pad in/t.safetensors conv1=9 {out}", "grow in/t.safetensors --like in/bigger.json -n"),
        *(f"apply in/t.safetensors in/r.toml --no-verify {out}", "verify in/t.safetensors in/s.safetensors"),
        *("diff in/t.safetensors in/s.safetensors --recipe", "diff in/t.safetensors in/s.safetensors"),
        *("export in/t.safetensors --to python -o out/s.py", "export in/t.safetensors --to torch -o out/s.pt"),
    ]

    def command(line: str) -> Case:
        files()
        return Case("sound", tuple(line.split()), 0)

    found: list[tuple[str, Callable[[], Case]]] = [(line.split()[0], lambda line=line: command(line)) for line in lines]  # type: ignore[misc]
    return [*found, ("import", lambda: as_weights("sound", saved(state()), "w.pt"))]
