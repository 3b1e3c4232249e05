"""Options that several commands share, spelled once: they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from net2net_cli.cli.completion import complete_growth, complete_layer

Device = Literal["auto", "cpu", "cuda", "mps"]
SplitChoice = Literal["ownership", "random", "equal", "fresh"]
StartChoice = Literal["estimate", "identity"]
LevelChoice = Literal["proof", "outputs", "train"]
TypeChoice = Literal["float64", "float32", "float16", "bfloat16"]

WIDTHS_HELP = "Layer or glob, and its width: 128, 2x, 1.5x or +32. `*` stays within one part of a name, `**` crosses."


def path_argument(*, metavar: str, help: str) -> Any:  # noqa: A002 # typer's word
    """A file; whether it can be read is found out, and told better, when it is read."""
    return typer.Argument(metavar=metavar, help=help, readable=False)


def path_option(*names: str, metavar: str, help: str) -> Any:  # noqa: A002 # typer's word
    """Likewise."""
    return typer.Option(*names, metavar=metavar, help=help, readable=False)


Teacher = Annotated[Path, path_argument(metavar="TEACHER", help="Checkpoint to grow (.safetensors).")]
Widths = Annotated[
    list[str] | None, typer.Argument(metavar="LAYER=WIDTH", help=WIDTHS_HELP, autocompletion=complete_growth)
]
Layers = Annotated[
    list[str],
    typer.Argument(metavar="LAYER", help="Layers, globs, or residual blocks.", autocompletion=complete_layer),
]
Out = Annotated[Path | None, path_option("-o", "--out", metavar="FILE", help="Where the student goes (.safetensors).")]
Spec = Annotated[
    Path | None, path_option("--spec", metavar="FILE", help="The teacher's spec, if it is not in the checkpoint.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist; never the teacher.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Print the plan; write nothing.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw; same seed, same bytes.")]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where outputs are compared; auto: CUDA if there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Compare outputs before the student appears.")]
AllowNan = Annotated[bool, typer.Option("--allow-nan", help="Accept weights with NaN and infinities.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Import and run code that the spec names (opaque layers).")
]
Leaves = Annotated[
    list[str] | None,
    typer.Option("--leaf", metavar="MODULE", help="Keep a module as it is, untraced: a name or glob; repeatable."),
]
Split = Annotated[
    SplitChoice, typer.Option("--split", help="How copies share what read the original; fresh: new channels instead.")
]
RoundTo = Annotated[int, typer.Option("--round-to", min=1, metavar="N", help="Round widths up to a multiple of N.")]
WherePossible = Annotated[bool, typer.Option("--where-possible", help="Globs pass over what cannot grow.")]
Optimizer = Annotated[
    Path | None,
    path_option("--optimizer", metavar="FILE", help="Optimizer state of the teacher's training (.pt); grows too."),
]
Inputs = Annotated[
    Path | None, path_option("--inputs", metavar="PATH", help="A .safetensors or .npz file, or a folder of images.")
]


def examples(*lines: str) -> str:
    """An epilog that keeps its lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def settings(**extra: Any) -> dict[str, Any]:
    """What every command accepts."""
    return {"help_option_names": ["-h", "--help"], **extra}
