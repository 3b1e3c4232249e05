"""`net2net apply`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from net2net_cli.cli import options as o

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net

EXAMPLES = o.examples(
    "net2net apply teacher.safetensors recipe.toml -o student.safetensors",
    "net2net diff teacher.safetensors student.safetensors --recipe > recipe.toml",
)


def apply(
    teacher: o.Teacher,
    recipe: Annotated[Path, o.path_argument(metavar="RECIPE", help="Operations, as `diff --recipe` prints them.")],
    out: o.Out = None,
    optimizer: o.Optimizer = None,
    spec: o.Spec = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    seed: o.Seed = 0,
    device: o.DeviceOption = "auto",
    verify: o.Verify = True,
    allow_nan: o.AllowNan = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Do several operations in one pass, as a recipe says.

    Each operation of the recipe holds its own seed; `--seed` is that of the inputs on which outputs are compared.
    """
    from net2net_cli.cli.growing import Growth, grow
    from net2net_cli.cli.printing import Printer
    from net2net_cli.cli.targets import read_recipe, recipe_target

    steps = read_recipe(recipe)

    def operation(network: Net2Net) -> Net2Net:
        return network.apply(steps, lambda like: recipe_target(like, network.graph, where=recipe, trusted=trust_code))

    printer = Printer(quiet, verbose, json)
    asked = Growth(
        *(teacher, out, spec, force, dry_run, device, verify, allow_nan, seed, printer, trust_code), optimizer=optimizer
    )
    grow(asked, operation)
