"""From a PyTorch module to a checkpoint with a spec."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from net2net_cli.cli.opening import open_network
from net2net_cli.cli.printing import Printer
from net2net_cli.cli.torch_needed import need_torch
from net2net_cli.errors import CheckpointError, InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from net2net_cli.runtime.importing import Imported


@dataclass(frozen=True, slots=True)
class Import:
    """What the user asked for."""

    source: str
    out: Path | None
    weights: Path | None
    kwargs: tuple[str, ...]
    inputs: tuple[str, ...]
    force: bool
    seed: int
    allow_nan: bool
    leaves: tuple[str, ...] = ()


def run_import(asked: Import, printer: Printer) -> None:
    """Trace, write, and say what came of it."""
    from net2net_cli.checkpoint.publish import Publication
    from net2net_cli.cli.inspect_report import head_payload, summary
    from net2net_cli.model import Net2Net

    if asked.out is None:
        raise UsageError("no place for the checkpoint was given", "add `-o teacher.safetensors`")
    kwargs = dict(map(parse_kwarg, asked.kwargs))
    Publication(
        asked.out, force=asked.force, teacher=asked.weights
    )  # refuses a place that cannot be, before the long work
    imported = _traced(asked, kwargs)
    if not asked.allow_nan:
        check_finite(imported.tensors, asked.weights)
    Net2Net.from_tensors(imported.graph, imported.tensors, aliases=imported.aliases).save(asked.out, force=asked.force)
    for note in imported.notes:
        printer.note(note)
    printer.say(f"wrote `{asked.out}` and `{asked.out.with_suffix('.json').name}`")
    payload = {**head_payload(open_network(asked.out, None, printer)), "notes": list(imported.notes)}
    printer.summary(summary(payload), payload)


def _traced(asked: Import, kwargs: Mapping[str, Any]) -> Imported:
    """The user's code may print, and may draw its weights at random."""
    with redirect_stdout(sys.stderr):
        need_torch()
        import torch

        from net2net_cli.runtime.importing import import_source

        torch.manual_seed(asked.seed)
        try:
            return import_source(
                asked.source,
                kwargs=kwargs,
                weights=asked.weights,
                inputs=list(asked.inputs),
                leaves=asked.leaves,
            )
        except SystemExit as left:
            raise InputError(
                f"`{asked.source}` ended the process (exit code {left.code}) instead of returning a module",
                'put what a script does behind `if __name__ == "__main__":`',
            ) from left


def parse_kwarg(text: str) -> tuple[str, Any]:
    """`name=value`, the value as Python writes it, `true`, `false` and `none` in any case, or else text.

    Raises:
        UsageError: it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"`--kwarg {text}` is not NAME=VALUE", "write for example `--kwarg num_classes=10`")
    words = {"true": True, "false": False, "none": None, "null": None}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def check_finite(tensors: Mapping[str, np.ndarray], weights: Path | None) -> None:
    """Refuse weights that hold NaN or infinities.

    Raises:
        CheckpointError: a tensor does.
    """
    from net2net_cli.model_file import all_finite

    bad = _first(name for name, array in tensors.items() if not all_finite(array))
    if bad is not None:
        where = f" of `{weights}`" if weights else ""
        raise CheckpointError(
            f"tensor `{bad}`{where} holds NaN or infinite values", "`--allow-nan` imports it all the same"
        )


def _first(names: Iterable[str]) -> str | None:
    return next(iter(names), None)
