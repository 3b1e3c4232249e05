"""What is killed: a command, and what stood in its student's place before."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.large import RandomTensors, large_network
from net2net_cli.model import Net2Net
from net2net_cli.model_file import Origin

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
PYTHON = [sys.executable, "-m", "net2net_cli"]
RECIPE = """\
[[operation]]
name = "widen"
layers = {"%s" = "1.25x"}

[[operation]]
name = "deepen"
layers = ["%s"]
"""
LARGE_SOURCE = """\
from torch import nn

def net():
    return nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(%d)])
"""


Words = list[str | Path]
"""Of a command line."""


@dataclass(frozen=True)
class Scenario:
    """One command, killed again and again.

    Attributes:
        command: all but the place of the student and `--force`.
        older: another command, whose student stands in the place before; None for an empty place.
        share: how many kills it gets for one of the others.
    """

    name: str
    command: Words
    older: Words | None = None
    share: float = 1.0

    def run(self, out: Path) -> list[str]:
        """The whole command line, for a student in `out`."""
        return [*map(str, [*PYTHON, *self.command, "--quiet", "-o", out]), *(["--force"] if self.older else [])]

    def run_older(self, out: Path) -> list[str] | None:
        """The command line of the student that stands there before."""
        return None if self.older is None else [*map(str, [*PYTHON, *self.older, "--quiet", "-o", out])]


def on_samples(folder: Path) -> list[Scenario]:
    """The four commands that write students; some with their check, some in the place of an older student."""
    teacher, lenet = SAMPLES / "resnet.safetensors", SAMPLES / "lenet5.safetensors"
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE % ("layer*.*.conv1", "layer1.1"))
    widen: Words = ["widen", teacher, "**=2x", "--where-possible"]
    older: Words = ["widen", teacher, "layer1.0.conv1=2x", "--no-verify"]
    importing: Words = ["import", "net2net_cli.networks:lenet5", "--input", "1x28x28", "--weights", lenet]
    return [
        Scenario("widen", [*widen, "--no-verify"]),
        Scenario("widen, replacing", [*widen, "--no-verify"], older),
        Scenario("deepen", ["deepen", teacher, "layer1.1", "layer2.1", "--no-verify"]),
        Scenario("deepen, replacing", ["deepen", teacher, "layer1.1", "--no-verify"], older),
        Scenario("apply", ["apply", teacher, recipe, "--no-verify"]),
        Scenario("apply, replacing", ["apply", teacher, recipe, "--no-verify"], older),
        Scenario("import", importing, share=0.4),
        Scenario("import, replacing", importing, older, share=0.2),
        Scenario("widen, compared", widen, share=0.2),
        Scenario("apply, compared, replacing", ["apply", teacher, recipe], older, share=0.2),
    ]


def on_large(folder: Path, gib: float) -> list[Scenario]:
    """The same on a checkpoint of `gib` GiB."""
    teacher, recipe, source = folder / "teacher.safetensors", folder / "recipe.toml", folder / "large_source.py"
    graph = large_network(gib)
    if not teacher.exists():
        Net2Net(graph, RandomTensors(graph), Origin({}, {}, (), str)).save(teacher)
    recipe.write_text(RECIPE % ("linears.*.first", "linears.0.second"))
    source.write_text(LARGE_SOURCE % max(1, round(gib * 16)))
    options = ["--no-verify", "--allow-nan"]
    older: Words = ["import", "net2net_cli.networks:lenet5", "--input", "1x28x28"]
    return [
        Scenario("widen", ["widen", teacher, "**.first=1.25x", *options]),
        Scenario("widen, replacing", ["widen", teacher, "**.first=1.25x", *options], older),
        Scenario("deepen", ["deepen", teacher, "linears.0.second", *options]),
        Scenario("apply", ["apply", teacher, recipe, *options]),
        Scenario("import", ["import", f"{source}:net", "--input", "4096"], share=0.5),
    ]
