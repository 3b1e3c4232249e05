"""Modules that are kept as they are: which ones are meant, and what the user is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from net2net_cli.architecture.ops import REGISTRY
from net2net_cli.architecture.ops.opaque import Opaque
from net2net_cli.architecture.spec_values import nearest
from net2net_cli.errors import UsageError
from net2net_cli.growth.requests import glob_to_regex
from net2net_cli.runtime import adapters
from net2net_cli.runtime.drafts import Draft

_SHOWN = 3


def _public(name: str) -> str:
    """`torch.nn.Bilinear` for `torch.nn.modules.linear.Bilinear`."""
    last = name.rpartition(".")[2]
    return f"torch.nn.{last}" if name.startswith("torch.nn.modules.") else name


_READ = {"torch.Tensor.__getitem__"} | {
    name for op in REGISTRY.values() for name in (*op.functions, *map(_public, op.reads_modules))
}
"""What ops read, if it is called as they know it."""


def leaf_paths(model: nn.Module, leaves: Sequence[str]) -> frozenset[str]:
    """The modules that names and globs mean.

    Raises:
        UsageError: one means none.
    """
    paths = [path for path, _ in model.named_modules() if path]
    found: set[str] = set()
    for pattern in leaves:
        regex = glob_to_regex(pattern)
        matching = {path for path in paths if regex.fullmatch(path)}
        if not matching:
            hint = nearest(pattern, paths) or "a leaf is a submodule by its path, as in `blocks.0.mixer`, or a glob"
            raise UsageError(f"`{pattern}` names no module of this network", hint)
        found |= matching
    return frozenset(found)


def notes_on(model: nn.Module, drafts: Sequence[Draft], leaves: frozenset[str]) -> tuple[str, ...]:
    """What is kept as it is, a sentence for each line of the user's that calls it."""
    places: dict[tuple[str, str, bool], list[str]] = {}
    for draft in drafts:
        if isinstance(draft.op, Opaque):
            where = f"{Path(draft.where.file).name}:{draft.where.line}" if draft.where.file else draft.where.module
            what = adapters.dotted(type(model.get_submodule(draft.wish))) if draft.op.is_module else draft.op.spoken
            key = (_public(what), where, draft.op.is_module and draft.wish in leaves)
            places.setdefault(key, []).append(draft.wish if draft.op.is_module else "")
    return tuple(_note(*key, named) for key, named in places.items())


def _note(what: str, where: str, asked: bool, named: Sequence[str]) -> str:
    modules = [f"`{name}`" for name in dict.fromkeys(named) if name]
    more = f" and {len(modules) - _SHOWN} more" if len(modules) > _SHOWN else ""
    subject = f"{', '.join(modules[:_SHOWN])}{more} ({what}, {where})" if modules else f"`{what}` ({where})"
    verb, them = ("are", "them") if len(modules) > 1 else ("is", "it")
    said = "kept as asked" if asked else "not known as called here" if what in _READ else "not known"
    kept = "" if asked else ": kept as it is"
    lost = "; another process will not find what is defined in `__main__`" if what.startswith("__main__.") else ""
    return f"{subject} {verb} {said}{kept}, and what touches {them} cannot grow{lost}"
