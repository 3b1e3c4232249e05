"""What a growth is given beside a teacher: a bigger network, or a recipe."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import UntrustedCodeError, UsageError

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.growth.recipe import Instruction


def target_graph(target: str, kwargs: tuple[str, ...], teacher: Graph, *, leaves: tuple[str, ...] = ()) -> Graph:
    """The target's spec; a source is traced with inputs of the teacher's shape.

    Raises:
        UsageError: there is no such file, or arguments are given for one.
    """
    if not is_source(target):
        from net2net_cli.model_file import read_spec

        if kwargs or leaves:
            option = "--kwarg" if kwargs else "--leaf"
            raise UsageError(f"`{option}` is for a source, and the target is a file", "leave it out")
        return read_spec(Path(target))
    from net2net_cli.cli.importing import parse_kwarg
    from net2net_cli.cli.torch_needed import need_torch

    need_torch()
    from net2net_cli.runtime.importing import import_source

    inputs = [_input(i.shape, i.dtype) for i in teacher.inputs]
    made_with = dict(map(parse_kwarg, kwargs))
    with redirect_stdout(sys.stderr):  # the user's code may print
        return import_source(target, kwargs=made_with, inputs=inputs, leaves=leaves).graph


def is_source(target: str) -> bool:
    """Whether a target is code to be called, and not a file."""
    return ":" in target and not os.path.lexists(target)


def recipe_target(target: str, teacher: Graph, *, where: Path, trusted: bool) -> Graph:
    """The spec that a recipe's `like` names. A recipe is a file, and what it names is run only if it is trusted.

    Raises:
        UntrustedCodeError: it names code, and is not trusted.
        UsageError: there is no such file.
    """
    if is_source(target) and not trusted:
        raise UntrustedCodeError(
            f"to follow `{where}`, code that it names would be imported: `{target}`",
            "if you trust whoever wrote the recipe, add `--trust-code`; a spec (`bigger.json`) can be named instead",
        )
    if os.path.lexists(target) and not Path(target).is_file():  # a pipe may never say anything
        raise UsageError(f"`{target}`, which `{where}` names, is no regular file", "name a spec, as in `bigger.json`")
    return target_graph(target, (), teacher)


def read_recipe(path: Path) -> list[Instruction]:
    """The operations of a recipe file.

    Raises:
        UsageError: there is no such file.
        InputError: it is no recipe.
    """
    from net2net_cli.checkpoint.text_file import MOST_RECIPE_BYTES, read_text
    from net2net_cli.growth.recipe import parse_recipe

    return parse_recipe(read_text(path, MOST_RECIPE_BYTES), where=f"`{path}`")


def _input(shape: tuple[int | Batch, ...], dtype: str) -> str:
    return f"{'x'.join(str(n) for n in shape[1:])}:{dtype}"
