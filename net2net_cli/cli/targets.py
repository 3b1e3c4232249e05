"""What a growth is given beside a teacher: a bigger network, or a recipe."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from net2net_cli.architecture.graph import Graph
    from net2net_cli.growth.recipe import Instruction


def target_graph(target: str, kwargs: tuple[str, ...], teacher: Graph, *, leaves: tuple[str, ...] = ()) -> Graph:
    """The target's spec; a source is traced with inputs of the teacher's shape.

    Raises:
        UsageError: there is no such file, or arguments are given for one.
    """
    if ":" not in target or Path(target).exists():
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


def read_recipe(path: Path) -> list[Instruction]:
    """The operations of a recipe file.

    Raises:
        UsageError: there is no such file.
        InputError: it is no recipe.
    """
    from net2net_cli.checkpoint.os_errors import explain_os_error
    from net2net_cli.growth.recipe import parse_recipe

    try:
        return parse_recipe(path.read_text(encoding="utf-8"), where=f"`{path}`")
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except UnicodeDecodeError:
        raise InputError(f"`{path}` is no recipe: it is not UTF-8 text", "`net2net diff --recipe` prints one") from None


def _input(shape: tuple[int | Batch, ...], dtype: str) -> str:
    return f"{'x'.join(str(n) for n in shape[1:])}:{dtype}"
